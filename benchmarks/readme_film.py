"""A film of `results/{run}/{split}/films` as the small moving picture of README.

    python -m benchmarks.readme_film results/demo/split1/films/FILM.mp4 docs/pictures/film.webp

At most so many frames are shown, each for the time of those that are left out after it.
"""

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import av
from PIL import Image

from atw.files import atomic_path

MOST_FRAMES = 90
QUALITY = 50  # of WebP, 0 to 100


def main(arguments: Sequence[str]) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.readme_film", description=__doc__.splitlines()[0])
    parser.add_argument("film", type=Path, help="a film of atw, .mp4")
    parser.add_argument("out", type=Path, help="animated picture to write, .webp")
    options = parser.parse_args(arguments)
    try:
        with av.open(str(options.film)) as film:
            rate = film.streams.video[0].average_rate
            frames = [frame.to_image() for frame in film.decode(video=0)]
    except (OSError, av.FFmpegError) as error:
        print(f"benchmarks.readme_film: {options.film} cannot be read: {error}", file=sys.stderr)
        return 2
    step = math.ceil(len(frames) / MOST_FRAMES)
    write(options.out, frames[::step], milliseconds=round(1000 * step / float(rate or 25)))
    print(f"wrote {options.out}, {options.out.stat().st_size // 1000} kB", file=sys.stderr)
    return 0


def write(out: Path, frames: list[Image.Image], *, milliseconds: int) -> None:
    """Write frames as an animated WebP that never ends, each shown for so long."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(out) as temporary:
        frames[0].save(
            temporary,
            format="WEBP",
            save_all=True,
            append_images=frames[1:],
            duration=milliseconds,
            loop=0,
            quality=QUALITY,
            method=6,
        )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
