"""`atw predict`: for each video one JSON object on a line, or a few lines in words."""

import json
import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

from atw.extras.predict.predictor import load
from atw.extras.predict.told import told
from atw.terminal import console
from atw.videos.decode import BadVideoError

log = logging.getLogger("atw")


def predict(
    videos: Sequence[Path],
    folder: Path,
    *,
    device: str,
    threads: int,
    top: int = 5,
    window_seconds: float | None = None,
    stride_seconds: float | None = None,
    segments: bool = False,
    picture: Path | None = None,
    as_json: bool = True,
) -> int:
    """Print each video's prediction as soon as it is known; return how many videos could not be used.

    A video that is bad, or for which the disk has no room, has `error`, the reason, in place of a prediction.

    Args:
        videos: paths.
        folder: of a split, with its networks.
        device: as in `load`.
        threads: CPU threads.
        top: classes to name.
        window_seconds: length of windows; None for none.
        stride_seconds: from window to window; None is half a window.
        segments: whether to find when the video shows which class.
        picture: picture or film to make of the one video, `.png` or `.mp4`.
        as_json: whether to print a line of JSON, else words.
    """
    if picture:
        from atw.extras.predict.drawn import render  # Matplotlib is slow to import
    torch.set_num_threads(threads)
    predictor = load(folder, device=device, threads=threads)
    bad = 0
    for video in videos:
        try:
            prediction = predictor.predict(
                video, window_seconds=window_seconds, stride_seconds=stride_seconds, segments=segments
            )
        except (BadVideoError, OSError) as error:
            bad += 1
            reason = _disk_reason(error) if isinstance(error, OSError) else str(error)
            log.warning("%s cannot be used: %s", video, reason)
            if as_json:
                _print({"video": str(video), "error": reason})
            continue
        if as_json:
            _print(prediction.to_json(top=top))
        else:
            console().print(told(prediction, top=top))
        if picture:
            render(prediction, video, picture)
    return bad


def _disk_reason(error: OSError) -> str:
    """In words: decoded videos lie in temporary files, and another video may need fewer of them."""
    where = error.filename or f"temporary files in {tempfile.gettempdir()}"
    return f"{error.strerror or error}: {where}; free some space there, or name another folder in TMPDIR"


def _print(content: dict[str, object]) -> None:
    # ASCII: a file's name need not be text, and the terminal need not know every character.
    print(json.dumps(content, allow_nan=False), flush=True)
