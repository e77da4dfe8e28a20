"""Clips of UCF-101 and HMDB-51 through decoder, flow, warped flow and shards at 340 x 256, against independent code.

The clips stand beside the repository in `shared/data`; where they do not, rendered clips of the demo take their place.
"""

from pathlib import Path

import cv2
import numpy as np
import pytest

from atw import config
from atw.datasets import Dataset
from atw.extras.demo.render import render_clip, write_clip
from atw.flow import PRESETS, estimate
from atw.preprocess.shard import make
from atw.shards import Shard, dequantise

SHARED = Path(__file__).parents[3] / "shared" / "data"
CLIPS = {
    "ucf101/ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi": 164,
    "ucf101/SoccerJuggling/v_SoccerJuggling_g23_c01.avi": 240,
    "hmdb51/cartwheel/hmdb51_Turnk_r_Pippi_Michel_cartwheel_f_cm_np2_le_med_6.avi": 83,
    "hmdb51/wave/RATRACE_wave_f_nm_np1_fr_goo_37.avi": 72,  # its metadata is not UTF-8
}


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, int]]:
    """The folder of the clips, and the frames that each has."""
    if SHARED.is_dir():
        return SHARED, CLIPS
    folder = tmp_path_factory.mktemp("clips")
    counts = {}
    for label in ("wave", "jump", "spin", "bow"):
        frames = render_clip(label, seed=1).frames
        write_clip(folder / f"{label}/{label}.avi", frames)
        counts[f"{label}/{label}.avi"] = len(frames)
    return folder, counts


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory, collection: tuple[Path, dict[str, int]]) -> dict[str, Shard]:
    root, counts = collection
    folder = tmp_path_factory.mktemp("shards")
    subsets = ["train", "test"] * 2
    rows = [f"{video},any,{subset}\n" for video, subset in zip(counts, subsets, strict=True)]
    (folder / "split1.csv").write_text("path,label,subset\n" + "".join(rows), encoding="utf-8")
    given = {"kind": "folder", "root": str(root), "lists": str(folder / "split1.csv")}
    given |= {"preprocess": {"shards": 1}, "flow": {"preset": "fast"}}
    plan = config.load({"datasets": {"clips": given}})
    dataset = Dataset(config.location(plan, "clips"))
    opened = {}
    for stream in config.STREAMS:
        settings = config.shard_settings(plan, "clips", stream)
        settings = settings.of_shard("00000", dataset.members_digest("00000", 1))
        flow = folder / "flow.h5" if stream == "warped" else None
        make(folder / f"{stream}.h5", settings, dataset, flow_path=flow, threads=2)
        opened[stream] = Shard(folder / f"{stream}.h5")
    return opened


def decode_independently(path: Path) -> list[np.ndarray]:
    capture = cv2.VideoCapture(str(path))
    frames = []
    while True:
        more, frame = capture.read()
        if not more:
            return frames
        frames.append(cv2.resize(frame, (340, 256), interpolation=cv2.INTER_LINEAR))


@pytest.mark.timeout(600)
def test_counts_and_frames(shards: dict[str, Shard], collection: tuple[Path, dict[str, int]]) -> None:
    root, counts = collection
    for entry, flow, warped in zip(*(shards[stream].entries for stream in config.STREAMS), strict=True):
        assert entry.count == counts[entry.video]
        assert flow.count == warped.count == entry.count - 1
        expected = decode_independently(root / entry.video)
        assert len(expected) == entry.count
        numbers = [0, entry.count // 2, entry.count - 1]
        for number, stored in zip(numbers, shards["rgb"].frames(entry, numbers), strict=True):
            difference = np.abs(stored[..., ::-1].astype(int) - expected[number])
            assert difference.mean() < 3  # what JPEG of quality 95 leaves


@pytest.mark.timeout(600)
def test_flow_is_opencvs(shards: dict[str, Shard], collection: tuple[Path, dict[str, int]]) -> None:
    root, _ = collection
    step = 40 / 255  # pixels a level at a bound of 20
    for entry in shards["flow"].entries:
        frames = [cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY) for frame in decode_independently(root / entry.video)]
        for number in (1, entry.count // 2):
            stored = dequantise(shards["flow"].fields(entry, [number]), 20)[0]
            pair = [frame[None] for frame in frames[number : number + 2]]
            reference = estimate(*pair, config.Flow(preset="fast", backend="opencv"))[0]
            assert np.abs(stored - np.clip(reference, -20, 20)).mean() < 0.5 * step
    assert shards["flow"].header.flow["iterations"] == PRESETS["fast"].iterations


@pytest.mark.timeout(600)
def test_warped_flow_holds_less_camera_motion(shards: dict[str, Shard]) -> None:
    for flow, warped in zip(shards["flow"].entries, shards["warped"].entries, strict=True):
        before = dequantise(shards["flow"].fields(flow, range(flow.count)), 20)
        after = dequantise(shards["warped"].fields(warped, range(warped.count)), 20)
        # The median over the image is the background's, and so the camera's.
        assert np.abs(np.median(after, axis=(2, 3))).mean() <= np.abs(np.median(before, axis=(2, 3))).mean() + 0.02
        assert warped.accepted > 0.5
