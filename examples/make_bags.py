"""Join short clips into long videos of which one part shows the action, to try attention on real untrimmed video.

    python examples/make_bags.py data/fightsurv fight data/bags5 --clips 5

The folder has clips, and lists split1.csv, split2.csv, ... with the columns path, label and subset. Each clip of the
class begins one bag: at a random place among `clips` - 1 clips of the other classes of the same split and subset. For
each of them, another bag has clips of other classes only. The result has the same lists, with the columns action_first
and action_last for the evaluation. A configuration of kind folder with `lists: data/bags5/split{split}.csv` reads it.
"""

import argparse
import csv
import functools
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

Line = dict[str, str | int]
WIDTH, HEIGHT, FPS = 320, 240, 25  # of all bags: clips differ


@functools.cache
def read_clip(path: Path) -> list[bytes]:
    """Return the frames of a clip as JPEG files of HEIGHT x WIDTH, at FPS frames per second: the nearest in time."""
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    seconds = np.array([float(frame.time or 0) for frame in frames])
    wanted = np.arange(seconds[0], seconds[-1] + 1e-9, 1 / FPS)
    nearest = np.abs(seconds[:, None] - wanted).argmin(axis=0)
    images = [frame.to_ndarray(width=WIDTH, height=HEIGHT, format="bgr24") for frame in frames]
    jpegs = [cv2.imencode(".jpg", image, (cv2.IMWRITE_JPEG_QUALITY, 95))[1].tobytes() for image in images]
    return [jpegs[number] for number in nearest]


def write_bag(path: Path, clips: list[list[bytes]]) -> None:
    """Write clips one after the other as Motion-JPEG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuvj420p"
        for number, jpeg in enumerate(frame for clip in clips for frame in clip):
            packet = av.Packet(jpeg)
            packet.stream, packet.time_base, packet.pts, packet.dts = stream, Fraction(1, FPS), number, number
            packet.is_keyframe = True
            container.mux(packet)


def make_bags(source: Path, listing: Path, label: str, out: Path, *, clips: int, seed: int) -> list[Line]:
    """Write the bags of one split; return the lines of its list."""
    with listing.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    lines: list[Line] = []
    for subset in ("train", "test"):
        shown = [row["path"] for row in rows if row["subset"] == subset and row["label"] == label]
        others = [row["path"] for row in rows if row["subset"] == subset and row["label"] != label]
        if not shown or len(others) < clips:
            raise SystemExit(f"{listing}: {subset} needs clips of {label}, and at least {clips} of other classes")
        for number, path in enumerate(shown):
            rng = np.random.default_rng([seed, subset == "test", number])
            place = int(rng.integers(clips))
            around = rng.choice(others, clips - 1, replace=False).tolist()
            without = rng.choice(others, clips, replace=False).tolist()
            for name, members in ((label, [*around[:place], path, *around[place:]]), (f"no_{label}", without)):
                read = [read_clip(source / member) for member in members]
                video = f"{listing.stem}/{name}/{subset}_{number:03d}.avi"
                write_bag(out / video, read)
                line: Line = {"path": video, "label": name, "subset": subset, "action_first": "", "action_last": ""}
                if name == label:
                    first = sum(map(len, read[:place]))
                    line |= {"action_first": first, "action_last": first + len(read[place]) - 1}
                lines.append(line)
    return lines


def main() -> None:
    """Write the bags of every split of a folder."""
    parser = argparse.ArgumentParser(description="Join short clips into long videos of which one part shows a class.")
    parser.add_argument("source", type=Path, help="folder of the clips and their lists, split1.csv and so on")
    parser.add_argument("label", help="the class that one clip of a bag shows")
    parser.add_argument("out", type=Path, help="new folder for the bags and their lists")
    parser.add_argument("--clips", type=int, default=5, help="clips per bag")
    parser.add_argument("--seed", type=int, default=0, help="of places and neighbours")
    given = parser.parse_args()
    if given.clips < 2:
        parser.error("--clips: a bag has at least 2 clips")
    if given.out.exists():
        parser.error(f"{given.out} exists; name a new folder")
    listings = sorted(given.source.glob("split*.csv"))
    if not listings:
        parser.error(f"{given.source} has no split1.csv")
    for listing in listings:
        lines = make_bags(given.source, listing, given.label, given.out, clips=given.clips, seed=given.seed)
        with (given.out / listing.name).open("w", newline="", encoding="utf-8") as stream:
            table = csv.DictWriter(stream, fieldnames=list(lines[0]), lineterminator="\n")
            table.writeheader()
            table.writerows(lines)
        print(f"{given.out / listing.name}: {len(lines)} bags of {given.clips} clips")


if __name__ == "__main__":
    main()
