"""A prediction for people: `.png`, frames with attention and labels, or `.mp4`, the video with both."""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from atw.extras.drawing import films
from atw.extras.drawing.figures import PREDICTION_FRAMES, WindowProbabilities, write_prediction_picture
from atw.extras.drawing.strip import Bars, Strip
from atw.extras.predict.asked import check_render
from atw.extras.predict.prediction import Prediction
from atw.videos.decode import Audit, Frame, read

_HEIGHTS_PX = (240, 720)
_THUMBNAIL_PX = 200
_TOP = 5
_SEGMENTS = (233, 180, 86)  # BGR


def render(prediction: Prediction, video: Path, out: Path) -> None:
    """Draw a prediction of `video` as `out`.

    Raises:
        BadVideoError: the video cannot be read any more.
        InputError: `out` has another ending, or cannot be written.
    """
    check_render(out, [video])
    if out.suffix.lower() == ".mp4":
        rows = int(np.clip(prediction.height, *_HEIGHTS_PX))
        films.write_film(out, _pictures(prediction, _frames(prediction, video, rows)), prediction.times, what="film")
    else:
        _write_picture(prediction, video, out)


def _frames(prediction: Prediction, video: Path, rows: int) -> Iterator[Frame]:
    """All frames, BGR, `rows` px high and of the video's own shape; sides are even, as H.264 wants them."""
    height = 2 * round(rows / 2)
    width = max(16, 2 * round(height * prediction.width / prediction.height / 2))
    return read(
        video,
        Audit(),
        width=width,
        height=height,
        max_pixels=prediction.width * prediction.height,
        max_frames=prediction.frames,
        picture_stream=prediction.picture_stream,
    )


# The picture


def _write_picture(prediction: Prediction, video: Path, out: Path) -> None:
    shown = np.linspace(0, prediction.frames - 1, PREDICTION_FRAMES + 2).round().astype(int)[1:-1]
    images: list[tuple[float, NDArray[np.uint8]]] = []
    for number, frame in enumerate(_frames(prediction, video, _THUMBNAIL_PX)):
        copies = int(np.count_nonzero(shown == number))
        image = np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), np.uint8)
        images += [(prediction.times.of_frame(number), image)] * copies
    order = np.argsort(-prediction.probabilities, kind="stable")[:_TOP]
    write_prediction_picture(
        out,
        f"{Path(prediction.video).name}: {prediction.label}",
        seconds=prediction.times.seconds,
        images=images,
        curves={name: (stream.seconds, stream.attention) for name, stream in prediction.streams.items()},
        labels=[(prediction.classes[k], float(prediction.probabilities[k])) for k in order],
        windows=_windows(prediction) if prediction.windows else None,
        segments=[(one.label, one.segment) for one in prediction.segments[:_TOP] if one.segment],
    )


def _windows(prediction: Prediction) -> WindowProbabilities:
    """The classes that are likely in some window, most likely first."""
    probabilities = np.array([window.probabilities for window in prediction.windows])  # [windows, K]
    order = np.argsort(-probabilities.max(axis=0), kind="stable")[:_TOP]
    return WindowProbabilities(
        np.array([window.start_seconds for window in prediction.windows]),
        np.array([window.end_seconds for window in prediction.windows]),
        tuple(prediction.classes[k] for k in order),
        probabilities[:, order],
    )


# The film


def _pictures(prediction: Prediction, frames: Iterator[Frame]) -> Iterator[NDArray[np.uint8]]:
    """Each frame above the label of the moment and the attention of all streams.

    The label is that of the best segment at the moment if segments were asked for, or of the window whose middle is
    nearest, else that of the video.
    """
    segments = [one.segment for one in prediction.segments[:_TOP] if one.segment]
    strip: Strip | None = None
    for number, frame in enumerate(frames):
        if strip is None:
            curves = {name: (stream.seconds, stream.attention) for name, stream in prediction.streams.items()}
            rows = [Bars("segments", _SEGMENTS, segments)] if segments else []
            strip = Strip(curves, rows, seconds=prediction.times.seconds, width=frame.shape[1])
        moment = prediction.times.of_frame(number)
        yield strip.below(frame, moment, _label_at(prediction, moment))


def _label_at(prediction: Prediction, seconds: float) -> str:
    if prediction.segments:
        shown = (one for one in prediction.segments if one.segment and one.segment[0] <= seconds < one.segment[1])
        return next((f"{one.label}  {one.score:.2f}" for one in shown), "")
    probabilities = prediction.probabilities
    if prediction.windows:
        middle = {(window.start_seconds + window.end_seconds) / 2: window for window in prediction.windows}
        probabilities = middle[min(middle, key=lambda moment: abs(moment - seconds))].probabilities
    best = int(probabilities.argmax())
    return f"{prediction.classes[best]}  {probabilities[best]:.2f}"
