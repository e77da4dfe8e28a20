"""When each frame of a video is shown: as its file says, or at an even rate where it does not.

Second 0 is the first frame that is shown, whatever the file's own clock says then.
"""

from dataclasses import dataclass, field
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

USUAL_FPS = 25.0  # frames a second, assumed where a file does not say
Source = Literal["file", "rate", "assumed"]
_HELD_BACK = 16  # frames at most that a codec stores in another order than they are shown
_UNEVEN_SHARE = 0.05  # of the times between frames; beyond it the frame rate is variable
_PAUSES = 2  # or so few of them in a short video: there frames are missing, or the camera stood still
NO_TIMES: NDArray[np.float64] = np.empty(0)
_EVEN = 0.01  # the mean rate and the one of the header are the same within this share


@dataclass(frozen=True, eq=False)
class Times:
    """When each of n frames is shown.

    Args:
        edges: float64 [n + 1], seconds, never falling: frame i is shown from edges[i] to edges[i + 1].
        source: `file` for its presentation times, `rate` where it gives only a frame rate, `assumed` where it gives
            neither and `USUAL_FPS` stands in.
    """

    edges: NDArray[np.float64]
    source: Source

    @classmethod
    def of(cls, edges: NDArray[np.float64], *, frames: int, fps: float) -> Self:
        """From the edges of a file, or from its rate where they are empty, or from neither where the rate is 0."""
        if len(edges):
            return cls(edges, "file")
        return cls(np.arange(frames + 1) / (fps or USUAL_FPS), "rate" if fps else "assumed")

    @property
    def frames(self) -> int:
        """How many there are."""
        return len(self.edges) - 1

    @property
    def seconds(self) -> float:
        """From the first frame to the end of the last."""
        return float(self.edges[-1])

    def middle(self, first: NDArray[np.integer], last: NDArray[np.integer]) -> NDArray[np.float64]:
        """The middle of the stretches from frame `first` to the end of frame `last`, seconds."""
        middles: NDArray[np.float64] = (self.edges[first] + self.edges[last + 1]) / 2
        return middles

    def stretch(self, first: int, last: int) -> tuple[float, float]:
        """Start and end of the time for which frames `first` to `last` are shown, seconds."""
        return float(self.edges[first]), float(self.edges[last + 1])

    def of_frame(self, number: int) -> float:
        """The middle of the time for which a frame is shown, seconds."""
        return float(self.edges[number] + self.edges[number + 1]) / 2

    def of_field(self, number: int) -> float:
        """When the second of the two frames of a flow field takes the place of the first, seconds."""
        return float(self.edges[number + 1])

    def nearest(self, seconds: NDArray[np.float64]) -> NDArray[np.int64]:
        """The edge that is nearest to each moment; halfway between two it is the later one."""
        halfway = (self.edges[:-1] + self.edges[1:]) / 2
        nearest: NDArray[np.int64] = np.searchsorted(halfway, seconds + 1e-9, side="right")
        return nearest


@dataclass
class Clock:
    """Collects the presentation times of frames in the order in which they are shown.

    Args:
        shown: seconds on the file's own clock, nan where a frame has no time.
        lasts: seconds for which the latest of them is shown, 0 where unknown.
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
        """When the first frame is shown on the file's own clock, and the edges as in `Times`.

        No edges where a frame has no time, or where the times contradict the order of the frames.
        """
        times = np.array(self.shown, np.float64)
        order = np.argsort(times, kind="stable")
        # AVI, and whatever was copied from it, counts places in the file: the same numbers in another order.
        displaced = np.abs(order - np.arange(len(times)))
        if len(times) < 2 or not np.isfinite(times).all() or displaced.max() > _HELD_BACK:
            return 0.0, NO_TIMES
        rising = times[order]
        last = self.lasts if self.lasts > 0 else float(np.median(np.diff(rising)))
        edges: NDArray[np.float64] = np.append(rising, rising[-1] + last) - rising[0]
        return (float(rising[0]), edges) if edges[-1] > 0 else (0.0, NO_TIMES)

    def gaps(self) -> tuple[bool, int]:
        """Whether the frame rate is variable, and how many frames would fill the gaps where it is not."""
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
    """Frames a second over a whole video; `given` by its header, 0 for none, where the times agree with it."""
    if not len(edges):
        return given
    mean = (len(edges) - 1) / float(edges[-1])
    return given if given and abs(mean - given) <= _EVEN * given else mean
