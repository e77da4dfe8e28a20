"""The prediction for a video, for programs and as JSON."""

import sys
from dataclasses import dataclass
from html import escape
from importlib import import_module

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from atw.evaluate.detection_files import Detection
from atw.extras.drawing import COLOURS
from atw.files import InputError
from atw.terminal import console
from atw.videos.times import Times

FORMAT = 1
_DIGITS = 6
_DRAWN_PX = (480, 90)


@dataclass(frozen=True, eq=False)
class StreamPrediction:
    """The scores of a whole video by one stream, from M snippets.

    Args:
        logits: float64 [K], averaged over the crops, as `video_logits` of scores.h5.
        seconds: float64 [M], the middle of each snippet.
        attention: float64 [M], weight of each snippet, averaged over the crops; sums to 1.
    """

    logits: NDArray[np.float64]
    seconds: NDArray[np.float64]
    attention: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class WindowPrediction:
    """Probabilities [K] of a part of a video, which the fused streams look at by itself."""

    start_seconds: float
    end_seconds: float
    probabilities: NDArray[np.float64]


@dataclass(frozen=True, eq=False, repr=False)
class Prediction:
    """The classes of a video, as the networks of a split see it.

    Args:
        video: path as it was given.
        classes: K names.
        probabilities: float64 [K], of the fused streams; they sum to 1 and are not calibrated.
        streams: by name.
        windows: in order of time; empty unless asked for.
        segments: when the video shows which class, from the highest score down; empty unless asked for.
        fps: frames per second on average; 25 is assumed if the file does not say.
        times: when each frame is shown.
        start: when the first frame is shown on the file's own clock, seconds.
        picture_stream: which stream of pictures was used, if the file has several.
        width: px, as shown.
        height: px.
        repaired: faults of the file that could be mended, in words.
        notes: peculiarities of the file that are no faults, in words.
    """

    video: str
    classes: tuple[str, ...]
    probabilities: NDArray[np.float64]
    streams: dict[str, StreamPrediction]
    windows: list[WindowPrediction]
    segments: list[Detection]
    fps: float
    times: Times
    start: float
    picture_stream: int
    width: int
    height: int
    repaired: list[str]
    notes: list[str]

    @property
    def frames(self) -> int:
        """How many frames were decoded."""
        return self.times.frames

    @property
    def label(self) -> str:
        """The most probable class."""
        return self.classes[int(self.probabilities.argmax())]

    def top(self, k: int = 5) -> list[tuple[str, float]]:
        """The `k` most probable classes with their probabilities, the most probable first; InputError below 1."""
        if k < 1:
            raise InputError(f"the {k} most probable classes are none; ask for 1 or more")
        return _ranked(self.classes, self.probabilities, k)

    def __repr__(self) -> str:
        best = ", ".join(f"{label} {probability:.2f}" for label, probability in self.top(3))
        return f"<Prediction of {self.video}, {self.times.seconds:.1f} s: {best}>"

    def _repr_html_(self) -> str:
        """For notebooks."""
        rows = "".join(f"<tr><td>{escape(label)}</td><td>{p:.2f}</td></tr>" for label, p in self.top())
        return f"<table><caption>{escape(self.video)}</caption>{rows}</table>{self._attention_svg()}"

    def _attention_svg(self) -> str:
        """The attention of each stream over the length of the video, as a drawing for notebooks."""
        width, height = _DRAWN_PX
        highest = max(float(one.attention.max()) * len(one.attention) for one in self.streams.values())
        lines, names = [], []
        for name, one in self.streams.items():
            across = one.seconds / self.times.seconds * width
            up = height - one.attention * len(one.attention) / highest * (height - 4)
            points = [f"{x:.1f},{y:.1f}" for x, y in zip(across, up, strict=True)]
            drawn = f'fill="none" stroke="{COLOURS[name]}" stroke-width="2" stroke-linecap="round"'
            lines.append(f'<polyline points="{" ".join([*points, points[-1]])}" {drawn}/>')  # one point alone is seen
            names.append(f'<span style="color: {COLOURS[name]}">{name}</span>')
        return (
            f'<svg width="{width}" height="{height}" role="img" aria-label="attention over time">{"".join(lines)}</svg>'
            f"<div>attention of {', '.join(names)} over {self.times.seconds:.1f} s</div>"
        )

    def show(self) -> None:
        """Show classes and attention: drawn in a notebook, in words elsewhere. For use within loops and functions."""
        shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
        if hasattr(shell, "kernel"):
            import_module("IPython.display").display(self)
        else:
            from atw.extras.predict.told import told  # which reads predictions

            console().print(told(self, top=5))

    def to_json(self, *, top: int = 5) -> dict[str, object]:
        """Plain values, with the `top` most probable classes each."""
        return {
            "format": FORMAT,
            "video": self.video,
            "frames": self.frames,
            "fps": self.fps,
            "fps_known": self.times.source != "assumed",
            "times": self.times.source,
            "seconds": round(self.times.seconds, _DIGITS),
            "start_seconds": round(self.start, _DIGITS),
            "width": self.width,
            "height": self.height,
            "repaired": self.repaired,
            "notes": self.notes,
            "labels": top_labels(self.classes, self.probabilities, top),
            "streams": {
                name: {
                    "labels": top_labels(self.classes, softmax(stream.logits), top),
                    "attention": {
                        "seconds": _rounded(stream.seconds),
                        "weight": _rounded(stream.attention),
                    },
                }
                for name, stream in self.streams.items()
            },
            "windows": [
                {
                    "start_seconds": round(window.start_seconds, _DIGITS),
                    "end_seconds": round(window.end_seconds, _DIGITS),
                    "labels": top_labels(self.classes, window.probabilities, top),
                }
                for window in self.windows
            ],
            "segments": [
                {
                    "label": one.label,
                    "start_seconds": round(one.segment[0], _DIGITS),
                    "end_seconds": round(one.segment[1], _DIGITS),
                    "score": round(one.score, _DIGITS),
                }
                for one in self.segments
                if one.segment
            ],
        }


def top_labels(classes: tuple[str, ...], probabilities: NDArray[np.float64], top: int) -> list[dict[str, str | float]]:
    """The most probable classes with rounded probabilities, for JSON."""
    ranked = _ranked(classes, probabilities, top)
    return [{"label": label, "probability": round(probability, _DIGITS)} for label, probability in ranked]


def _ranked(classes: tuple[str, ...], probabilities: NDArray[np.float64], top: int) -> list[tuple[str, float]]:
    """The most probable classes in falling order; equal ones in the order of `classes`."""
    order = np.argsort(-probabilities, kind="stable")[:top]
    return [(classes[k], float(probabilities[k])) for k in order]


def _rounded(values: NDArray[np.float64]) -> list[float]:
    return [round(value, _DIGITS) for value in values.tolist()]
