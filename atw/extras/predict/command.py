"""`atw predict`: one JSON object a line for each video on stdout."""

import json
import logging
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from atw.extras.predict.prediction import Prediction
from atw.extras.predict.predictor import load
from atw.files import InputError
from atw.videos.decode import BadVideoError

log = logging.getLogger("atw")


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """What is asked for beside the labels.

    Args:
        top: classes to name.
        window_seconds: length of windows; None for none.
        stride_seconds: from window to window; None is half a window.
        render: picture or film to make, `.png` or `.mp4`.
    """

    top: int = 5
    window_seconds: float | None = None
    stride_seconds: float | None = None
    render: Path | None = None


def predict(videos: Sequence[Path], folder: Path, wishes: Wishes, *, device: str, threads: int) -> int:
    """Print a line of JSON for each video as soon as it is known; returns how many videos could not be used.

    A video that is bad, or for which the disk has no room, has `error`, the reason, in place of a prediction.
    """
    if wishes.render:
        if len(videos) != 1:
            raise InputError(f"--render shows one video, and {len(videos)} are given; give one")
        _check_render(wishes.render, videos[0])
    torch.set_num_threads(threads)
    predictor = load(folder, device=device, threads=threads)
    bad = 0
    for video in videos:
        try:
            prediction = predictor.predict(
                video, window_seconds=wishes.window_seconds, stride_seconds=wishes.stride_seconds
            )
        except (BadVideoError, OSError) as error:
            bad += 1
            reason = _disk_reason(error) if isinstance(error, OSError) else str(error)
            log.warning("%s cannot be used: %s", video, reason)
            _print({"video": str(video), "error": reason})
            continue
        _print(prediction.to_json(top=wishes.top))
        if wishes.render:
            _render(prediction, video, wishes.render)
    return bad


def _disk_reason(error: OSError) -> str:
    """In words: what a video is decoded to lies in temporary files, and another video may need fewer of them."""
    where = error.filename or f"temporary files in {tempfile.gettempdir()}"
    return f"{error.strerror or error}: {where}; free some space there, or name another folder in TMPDIR"


def _check_render(out: Path, video: Path) -> None:
    from atw.extras.predict.render import check_render  # Matplotlib is slow to import, and only pictures need it

    check_render(out, video)


def _render(prediction: Prediction, video: Path, out: Path) -> None:
    from atw.extras.predict.render import render

    render(prediction, video, out)


def _print(content: dict[str, object]) -> None:
    # ASCII: a file's name need not be text, and the terminal need not know every character.
    print(json.dumps(content, allow_nan=False), flush=True)
