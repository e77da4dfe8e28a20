"""A prediction in words, for a terminal."""

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from atw.extras.predict.prediction import Prediction

_UNSURE = 0.5  # a most probable class below this, or
_CLOSE = 0.1  # one that is so little ahead of the next
_SHARP = 1.5  # times the mean weight: below this, a stream looks at everything alike


def told(prediction: Prediction, *, top: int) -> RenderableType:
    """Return the most probable classes with their probabilities, when to look, and a word where that is unsure."""
    labels = Table.grid(padding=(0, 2, 0, 0))
    for label, probability in prediction.top(top):
        labels.add_row(Text(f"  {label}"), Text(f"{probability:.2f}"))
    lines = [*_when(prediction), *_windows(prediction), *_doubts(prediction)]
    title = Text(f"{prediction.video}: {prediction.label}, {prediction.times.seconds:.1f} s", "bold")
    return Group(title, labels, *(Text(f"  {line}") for line in lines))


def _when(prediction: Prediction) -> list[str]:
    """When the video shows which class, or where the streams look."""
    if prediction.segments:
        return [
            f"{one.segment[0]:.1f} to {one.segment[1]:.1f} s: {one.label} ({one.score:.2f})"
            for one in prediction.segments
            if one.segment
        ]
    looks = []
    for name, stream in prediction.streams.items():
        place = int(stream.attention.argmax())
        if stream.attention[place] >= _SHARP / len(stream.attention):
            looks.append(f"{name} at {stream.seconds[place]:.1f} s")
    return [f"attention highest: {', '.join(looks)}" if looks else "attention: all moments alike"]


def _windows(prediction: Prediction) -> list[str]:
    return [
        f"window {window.start_seconds:.1f} to {window.end_seconds:.1f} s: "
        f"{prediction.classes[window.probabilities.argmax()]} ({window.probabilities.max():.2f})"
        for window in prediction.windows
    ]


def _doubts(prediction: Prediction) -> list[str]:
    first, second = np.sort(prediction.probabilities)[::-1][:2]
    if first >= _UNSURE and first - second >= _CLOSE:
        return []
    return ["unsure: such a probability is often wrong; several videos of one scene tell more than one"]
