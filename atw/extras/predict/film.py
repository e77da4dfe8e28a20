"""The film of a prediction: the video, its label and probability, and attention over time with a line at the moment."""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from atw.extras.drawing import COLOURS, films
from atw.extras.predict.prediction import Prediction
from atw.videos.decode import Frame

_LINE_PX = 24
_CHART_PX = 96
_LEAST_WIDTH_PX = 320
_MARGIN_PX = 8
_WHITE, _GREY = (255, 255, 255), (110, 110, 110)


def write_film(prediction: Prediction, frames: Iterator[Frame], out: Path) -> None:
    """Write an .mp4 file: each frame (BGR, all of one even size) above its label and the attention of all streams.

    The label is that of the window whose middle is nearest where there are windows, else that of the video.
    """
    films.write_film(out, _pictures(prediction, frames), prediction.times, what="film")


def _pictures(prediction: Prediction, frames: Iterator[Frame]) -> Iterator[Frame]:
    chart: NDArray[np.uint8] | None = None
    for number, frame in enumerate(frames):
        if chart is None:
            chart = draw_chart(prediction, max(frame.shape[1], _LEAST_WIDTH_PX))
        yield compose(prediction, frame, chart, number)


def compose(prediction: Prediction, frame: Frame, chart: NDArray[np.uint8], number: int) -> NDArray[np.uint8]:
    """A picture of the film: the frame above the chart, the label of the moment, and a line at it."""
    below = chart.copy()
    seconds = prediction.times.of_frame(number)
    probabilities = _nearest(prediction, seconds)
    best = int(probabilities.argmax())
    # OpenCV's letters are ASCII.
    name = prediction.classes[best].encode("ascii", "replace").decode()
    _write(below, f"{name}  {probabilities[best]:.2f}", (_MARGIN_PX, _LINE_PX - 7), _WHITE)
    column = _column(seconds, prediction, chart.shape[1])
    cv2.line(below, (column, _LINE_PX), (column, _LINE_PX + _CHART_PX), _WHITE, 1)
    side = chart.shape[1] - frame.shape[1]
    wide = cv2.copyMakeBorder(frame, 0, 0, side // 2, side - side // 2, cv2.BORDER_CONSTANT)
    return np.vstack([wide, below])


def draw_chart(prediction: Prediction, width: int) -> NDArray[np.uint8]:
    """The part below the frames, without what changes: curves in multiples of the average weight, and a legend."""
    chart = np.zeros((2 * _LINE_PX + _CHART_PX, width, 3), np.uint8)
    relative = {name: one.attention * len(one.attention) for name, one in prediction.streams.items()}
    highest = 1.1 * max(float(weights.max()) for weights in relative.values())
    base = _LINE_PX + _CHART_PX
    average = base - round(_CHART_PX / highest)
    cv2.line(chart, (0, average), (width, average), _GREY, 1)
    place = _MARGIN_PX
    for name, weights in relative.items():
        colour = _bgr(COLOURS[name])
        columns = [_column(seconds, prediction, width) for seconds in prediction.streams[name].seconds]
        rows = base - np.rint(weights / highest * _CHART_PX).astype(int)
        points = np.column_stack([columns, rows]).astype(np.int32)
        cv2.polylines(chart, [points], False, colour, 2, cv2.LINE_AA)
        _write(chart, name, (place, base + _LINE_PX - 7), colour)
        place += 62
    _write(chart, "grey: average", (place + _MARGIN_PX, base + _LINE_PX - 7), (180, 180, 180), scale=0.4)
    return chart


def _nearest(prediction: Prediction, seconds: float) -> NDArray[np.float64]:
    if not prediction.windows:
        return prediction.probabilities
    nearest = min(prediction.windows, key=lambda window: abs((window.start_seconds + window.end_seconds) / 2 - seconds))
    return nearest.probabilities


def _column(seconds: float, prediction: Prediction, width: int) -> int:
    return round(seconds / prediction.times.seconds * (width - 1))


def _write(
    picture: NDArray[np.uint8], text: str, place: tuple[int, int], colour: tuple[int, int, int], *, scale: float = 0.5
) -> None:
    cv2.putText(picture, text, place, cv2.FONT_HERSHEY_SIMPLEX, scale, colour, 1, cv2.LINE_AA)


def _bgr(colour: str) -> tuple[int, int, int]:
    red, green, blue = bytes.fromhex(colour[1:])
    return blue, green, red
