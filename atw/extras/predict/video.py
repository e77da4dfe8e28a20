"""What is classified: a file, or frames in memory; both give frames at the working size, and their times."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from atw.config import FieldSettings, FrameSettings
from atw.files import InputError
from atw.videos.decode import Audit, Frame, expected_times, read_as_configured
from atw.videos.fit import fit_to, resize
from atw.videos.times import NO_TIMES, Times

# A film of a day at 60 frames a second; a limit only so that a hostile file ends.
_MAX_FRAMES = 86_400 * 60


class Video(Protocol):
    """Frames at the working size, the same every time."""

    @property
    def name(self) -> str:
        """For messages."""

    def expected_times(self, size: FrameSettings | FieldSettings) -> Times | None:
        """Say when the frames are shown, as far as that is known without decoding."""

    def read(self, audit: Audit, size: FrameSettings | FieldSettings) -> Iterator[Frame]:
        """Yield all frames, and fill in `audit`, see `atw.videos.decode.read`."""


class FileVideo:
    """A video file; limits on pixels are those of training."""

    def __init__(self, path: Path) -> None:
        self.path, self.name = path, path.name

    def expected_times(self, size: FrameSettings | FieldSettings) -> Times | None:
        """Say when the frames are shown, by the packets of the file."""
        return expected_times(
            self.path, max_pixels=size.max_pixels, max_frames=_MAX_FRAMES, picture_stream=size.picture_stream
        )

    def read(self, audit: Audit, size: FrameSettings | FieldSettings) -> Iterator[Frame]:
        """Decode the file."""
        return read_as_configured(self.path, audit, size.model_copy(update={"max_frames": _MAX_FRAMES}))


def check_rate(fps: float) -> None:
    """Raise InputError for what is no rate of frames."""
    if not 0 < fps < math.inf:
        raise InputError(f"fps is {fps}: frames in memory need their rate, in frames per second")


@dataclass(frozen=True, eq=False)
class FramesInMemory:
    """Frames of a camera or of another program.

    Args:
        frames: uint8 [T, H, W, 3], RGB.
        fps: frames per second.

    Raises:
        InputError: the frames are something else, or fewer than two.
    """

    frames: NDArray[np.uint8]
    fps: float
    name: str = "frames in memory"

    def __post_init__(self) -> None:
        shape = self.frames.shape
        if self.frames.dtype != np.uint8 or self.frames.ndim != 4 or shape[-1] != 3 or len(self.frames) < 2:
            raise InputError(
                f"frames are {self.frames.dtype} {list(shape)}; give uint8 [T, H, W, 3], RGB, of at least two frames"
            )
        check_rate(self.fps)

    def expected_times(self, size: FrameSettings | FieldSettings) -> Times:
        """Say when the frames are shown, by their rate."""
        return Times.of(NO_TIMES, frames=len(self.frames), fps=self.fps)

    def read(self, audit: Audit, size: FrameSettings | FieldSettings) -> Iterator[Frame]:
        """Yield the frames, as if they had been decoded."""
        audit.decoded, audit.fps = len(self.frames), self.fps
        audit.height, audit.width = self.frames.shape[1:3]
        for frame in self.frames:
            yield fit_to(np.ascontiguousarray(frame[..., ::-1]), size.width, size.height, size.fit, resize)
