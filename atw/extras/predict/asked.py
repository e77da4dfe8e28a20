"""What `atw predict` is asked for, looked at before PyTorch loads for seconds."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

from atw.config import STREAMS
from atw.datasets.folder import EXTENSIONS
from atw.datasets.scan import identity, is_extra, unreadable
from atw.files import InputError

RENDERED = (".mp4", ".png")


def asked_videos(paths: Sequence[Path]) -> list[Path]:
    """Return the videos, with those in a folder, at any depth, in place of the folder.

    Raises:
        InputError: a folder has no video.
    """
    found: list[Path] = []
    for path in paths:
        if not path.is_dir():
            found.append(path)
            continue
        inside = sorted(_files(path))
        if not inside:
            raise InputError(f"{path} has no video: no file in it ends in one of {', '.join(EXTENSIONS)}")
        found += inside
    return found


def _files(root: Path) -> Iterator[Path]:
    """Files named like videos below a folder; links are followed, but not to a folder that was seen."""

    def refuse(error: OSError) -> NoReturn:
        raise unreadable(str(error.filename), error)

    seen = set()
    for place, folders, files in os.walk(root, followlinks=True, onerror=refuse):
        own = identity(place)
        if own in seen:
            folders.clear()
            continue
        seen.add(own)
        folders[:] = sorted(name for name in folders if not is_extra(name))
        yield from (Path(place, name) for name in files if name.lower().endswith(EXTENSIONS) and not is_extra(name))


def check_render(out: Path, videos: Sequence[Path]) -> None:
    """Raise InputError for a file that is neither .png nor .mp4, that is the video, or for several videos."""
    if len(videos) != 1:
        raise InputError(f"--render shows one video, and {len(videos)} are given; give one")
    if out.suffix.lower() not in RENDERED:
        raise InputError(f"--render {out} must be an {' or a '.join(RENDERED)} file; change its name")
    if out.resolve() == videos[0].resolve():
        raise InputError(f"--render {out} is the video itself; choose another name")


def model_files(folder: Path) -> dict[str, Path]:
    """Return the network of each stream in the folder of a split.

    Raises:
        InputError: there is no such folder, or no network in it.
    """
    if not folder.exists():
        raise InputError(f"{folder} does not exist; give the folder of a trained split, as results/ucf101/split1")
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder; give that of a split, as results/ucf101/split1")
    files = {stream: folder / stream / "model.pt" for stream in STREAMS}
    paths: dict[str, Path] = {stream: path for stream, path in files.items() if path.is_file()}
    if not paths:
        raise InputError(f"{folder} has no rgb/model.pt, flow/model.pt or warped/model.pt; give the folder of a split")
    return paths
