"""The strip below the pictures of a film: what is said of the moment, bars of segments, and the attention over time."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from atw.evaluate.scores import Curve
from atw.extras.drawing import COLOURS_ON_DARK
from atw.extras.drawing.scored_videos import lanes

Colour = tuple[int, int, int]
LEAST_WIDTH_PX = 320
_LINE_PX = 24
_BAR_PX = 12
_CHART_PX = 96
_MARGIN_PX = 8
_LEGEND_PX = 8  # between two names
_WHITE, _GREY, _LIGHT_GREY = (255, 255, 255), (110, 110, 110), (180, 180, 180)


class Bars(NamedTuple):
    """Bars of one kind, in as few rows as they need: name in the legend, BGR colour, start and end of each (s)."""

    name: str
    colour: Colour
    segments: Sequence[tuple[float, float]]


class Strip:
    """The strip of one film; all but text and cursor is drawn once.

    Args:
        curves: attention over time by stream, drawn as multiples of the average weight.
        kinds: of bars, from above.
        seconds: length of the film.
        width: of its pictures, at least `LEAST_WIDTH_PX` is taken.
    """

    def __init__(self, curves: Mapping[str, Curve], kinds: Sequence[Bars], *, seconds: float, width: int) -> None:
        self._seconds = seconds
        bars, rows = [], 0
        for kind in kinds:
            of = lanes(kind.segments)
            bars += [(rows + lane, segment, kind.colour) for lane, segment in zip(of, kind.segments, strict=True)]
            rows += len({*of})
        self._base = _LINE_PX + _BAR_PX * rows + _CHART_PX
        self._still = np.zeros((self._base + _LINE_PX, max(width, LEAST_WIDTH_PX), 3), np.uint8)
        for row, segment, colour in bars:
            top = _LINE_PX + _BAR_PX * row
            start, end = map(self._column, segment)
            cv2.rectangle(self._still, (start, top + 2), (end, top + _BAR_PX - 2), colour, cv2.FILLED)
        names = self._draw_curves(curves)
        self._draw_legend([*names, *((kind.name, kind.colour) for kind in kinds), ("average", _GREY)])

    def _draw_curves(self, curves: Mapping[str, Curve]) -> list[tuple[str, Colour]]:
        relative = {name: weights * len(weights) for name, (_, weights) in curves.items()}
        highest = 1.1 * max(float(weights.max()) for weights in relative.values())
        average = self._base - round(_CHART_PX / highest)
        cv2.line(self._still, (0, average), (self._still.shape[1], average), _GREY, 1)
        names = []
        for name, weights in relative.items():
            red, green, blue = bytes.fromhex(COLOURS_ON_DARK[name][1:])
            columns = [self._column(moment) for moment in curves[name][0]]
            rows = self._base - np.rint(weights / highest * _CHART_PX).astype(int)
            points = np.column_stack([columns, rows]).astype(np.int32)
            cv2.polylines(self._still, [points], False, (blue, green, red), 2, cv2.LINE_AA)
            names.append((name, (blue, green, red)))
        return names

    def _draw_legend(self, names: Sequence[tuple[str, Colour]]) -> None:
        left = _MARGIN_PX
        for name, colour in names:
            left += _write(self._still, name, (left, self._base + _LINE_PX - 7), colour, scale=0.4) + _LEGEND_PX

    def _column(self, moment: float) -> int:
        return round(moment / self._seconds * (self._still.shape[1] - 1))

    def below(self, picture: NDArray[np.uint8], moment: float, text: str) -> NDArray[np.uint8]:
        """Return the picture above the strip with a cursor at a moment (seconds) and a text: all sides even."""
        strip = self._still.copy()
        _write(strip, text, (_MARGIN_PX, _LINE_PX - 7), _WHITE)
        column = self._column(moment)
        cv2.line(strip, (column, _LINE_PX), (column, self._base), _WHITE, 1)
        side = strip.shape[1] - picture.shape[1]
        wide = cv2.copyMakeBorder(picture, 0, 0, side // 2, side - side // 2, cv2.BORDER_CONSTANT)
        return np.vstack([wide, strip])


def _write(picture: NDArray[np.uint8], text: str, place: tuple[int, int], colour: Colour, *, scale: float = 0.5) -> int:
    """Write a text, smaller if the picture ends before it, and return its width; OpenCV's letters are ASCII."""
    plain = text.encode("ascii", "replace").decode()
    room = picture.shape[1] - place[0]
    scale *= min(1, room / max(cv2.getTextSize(plain, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)[0][0], 1))
    cv2.putText(picture, plain, place, cv2.FONT_HERSHEY_SIMPLEX, scale, colour, 1, cv2.LINE_AA)
    return int(cv2.getTextSize(plain, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)[0][0])
