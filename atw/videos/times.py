"""When each frame of a video is shown: by the times in its file, or at an even rate if it has none.

Second 0 is the first frame that is shown, whatever the file's own clock says then.
"""

from dataclasses import dataclass, field
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

USUAL_FPS = 25.0  # frames per second, assumed if a file states none
Source = Literal["file", "rate", "assumed"]
_HELD_BACK = 16  # frames at most that a codec stores in another order than they are shown
_UNEVEN_SHARE = 0.05  # of the times between frames; beyond it the frame rate is variable
_PAUSES = 2  # so few uneven times are pauses even in a short video: frames are missing, or the camera was stopped
NO_TIMES: NDArray[np.float64] = np.empty(0)
_EVEN = 0.01  # the mean rate and the one of the header are the same within this share


@dataclass(frozen=True, eq=False)
class Times:
    """When each of n frames is shown.

    Args:
        edges: float64 [n + 1], seconds, never falling: frame i is shown from edges[i] to edges[i + 1].
        source: `file` for its presentation times, `rate` if it gives only a frame rate, `assumed` if it gives neither
            and `USUAL_FPS` stands in.
    """

    edges: NDArray[np.float64]
    source: Source

    @classmethod
    def of(cls, edges: NDArray[np.float64], *, frames: int, fps: float) -> Self:
        """Make times from the edges of a file, from its rate if they are empty, or from neither if the rate is 0."""
        if len(edges):
            return cls(edges, "file")
        return cls(np.arange(frames + 1) / (fps or USUAL_FPS), "rate" if fps else "assumed")

    @property
    def frames(self) -> int:
        """The number of frames."""
        return len(self.edges) - 1

    @property
    def seconds(self) -> float:
        """The time from the first frame to the end of the last."""
        return float(self.edges[-1])

    def middle(self, first: NDArray[np.integer], last: NDArray[np.integer]) -> NDArray[np.float64]:
        """Return the middle of each stretch from frame `first` to the end of frame `last`, seconds."""
        middles: NDArray[np.float64] = (self.edges[first] + self.edges[last + 1]) / 2
        return middles

    def stretch(self, first: int, last: int) -> tuple[float, float]:
        """Return start and end of the time in which frames `first` to `last` are shown, seconds."""
        return float(self.edges[first]), float(self.edges[last + 1])

    def of_frame(self, number: int) -> float:
        """Return the middle of the time in which a frame is shown, seconds."""
        return float(self.edges[number] + self.edges[number + 1]) / 2

    def of_field(self, number: int) -> float:
        """Return when the second frame of a flow field's pair replaces the first, seconds."""
        return float(self.edges[number + 1])

    def nearest(self, seconds: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return the number of the edge nearest to each moment, the later one halfway between two."""
        halfway = (self.edges[:-1] + self.edges[1:]) / 2
        nearest: NDArray[np.int64] = np.searchsorted(halfway, seconds + 1e-9, side="right")
        return nearest


@dataclass
class Clock:
    """Collects the presentation times of frames in the order in which they are shown.

    Args:
        shown: seconds on the file's own clock, nan if a frame has no time.
        lasts: seconds for which the latest frame is shown, 0 if unknown.
    """

    shown: list[float] = field(default_factory=list)
    lasts: float = 0.0
    _latest: float = -np.inf

    def add(self, seconds: float | None, lasts: float) -> None:
        """Add the next frame."""
        self.shown.append(np.nan if seconds is None else seconds)
        if seconds is not None and seconds >= self._latest:
            self._latest, self.lasts = seconds, lasts

    def timeline(self) -> tuple[float, NDArray[np.float64]]:
        """Return when the first frame is shown on the file's own clock, and the edges as in `Times`.

        There are no edges if a frame has no time, or if the times contradict the order of the frames.
        """
        times = np.array(self.shown, np.float64)
        order = np.argsort(times, kind="stable")
        # AVI, and files copied from it, number the places in the file: the same numbers in another order.
        displaced = np.abs(order - np.arange(len(times)))
        if len(times) < 2 or not np.isfinite(times).all() or displaced.max() > _HELD_BACK:
            return 0.0, NO_TIMES
        rising = times[order]
        last = self.lasts if self.lasts > 0 else float(np.median(np.diff(rising)))
        edges: NDArray[np.float64] = np.append(rising, rising[-1] + last) - rising[0]
        return (float(rising[0]), edges) if edges[-1] > 0 else (0.0, NO_TIMES)

    def gaps(self) -> tuple[bool, int]:
        """Return whether the frame rate is variable and, if not, how many frames would fill the gaps."""
        times = np.array(self.shown, np.float64)
        times = times[np.isfinite(times)]
        if len(times) < 3:
            return False, 0
        gaps = np.diff(np.sort(times))
        usual = np.median(gaps)
        # Matroska rounds to whole milliseconds; AVI files of constant rate skip a place now and then.
        uneven = np.abs(gaps - usual) > 0.5 * usual + 0.002
        if np.sum(uneven) > max(_PAUSES, _UNEVEN_SHARE * len(uneven)):
            return True, 0
        return False, max(0, round(float(np.sum(gaps[uneven] / max(usual, 1e-6) - 1))))


def mean_rate(edges: NDArray[np.float64], given: float) -> float:
    """Return the frames per second of a whole video: the header's `given` rate (0: none) if the times agree with it."""
    if not len(edges):
        return given
    mean = (len(edges) - 1) / float(edges[-1])
    return given if given and abs(mean - given) <= _EVEN * given else mean
