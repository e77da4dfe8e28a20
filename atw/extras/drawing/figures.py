"""Still pictures drawn by Matplotlib: the attention of some videos, and a prediction."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.gridspec import GridSpec
from numpy.typing import NDArray

from atw.errors import printable
from atw.evaluate.scores import Curve
from atw.extras.drawing import COLOURS, shortened
from atw.extras.drawing.scored_videos import heading
from atw.files import InputError, atomic_path
from atw.videos.times import Source

PREDICTION_FRAMES = 6  # columns of the picture of a prediction
_DASHES = {"rgb": "-", "flow": "--", "warped": "-."}  # tell the streams apart without colour too
_DPI = 120
_LEAST_TOP = 2.0  # puts flat attention in the middle
_COLUMNS = 4
_BLOCK_INCHES = 2.9
_ACTION_COLOUR = "#F0E442"
_BAR_COLOUR = "#56B4E9"


@dataclass(frozen=True, eq=False)
class ShownFrame:
    """A frame with its number, the middle of the time it is shown, its attention weight and its RGB image [H, W, 3]."""

    number: int
    seconds: float
    weight: float
    image: NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class VideoAttention:
    """The attention of one video, as the picture shows it.

    Args:
        video: id.
        label: its class.
        predicted: the class that the fused streams give it.
        seconds: its length.
        times: where the seconds come from, see `atw.videos.times.Times`.
        flat: whether all weights of the stream above the frames are equal.
        highest: the frames with the highest weights, falling; if flat, frames of the first half.
        lowest: the frames with the lowest weights, rising; if flat, frames of the second half.
        curves: attention over time by stream.
        actions: start and end of each action in seconds, as far as they are known.
    """

    video: str
    label: str
    predicted: str
    seconds: float
    times: Source
    flat: bool
    highest: list[ShownFrame]
    lowest: list[ShownFrame]
    curves: dict[str, Curve]
    actions: list[tuple[float, float]]


@dataclass(frozen=True, eq=False)
class WindowProbabilities:
    """Probabilities [windows, classes] of the named classes in windows from `starts` to `ends` (seconds)."""

    starts: NDArray[np.float64]
    ends: NDArray[np.float64]
    classes: tuple[str, ...]
    probabilities: NDArray[np.float64]


def write_attention_picture(videos: Sequence[VideoAttention], stream: str, out: Path) -> None:
    """Draw a block per video as a .png file, with frames on the left and weights over time on the right.

    `stream` is the one whose weights stand above the frames.
    """
    figure = Figure(figsize=(12, _BLOCK_INCHES * len(videos)), layout="constrained")
    blocks = figure.subfigures(len(videos), 1, squeeze=False)[:, 0]
    for block, video in zip(blocks, videos, strict=True):
        _draw_video(block, video, stream)
    save(figure, out)


def _draw_video(block: SubFigure, video: VideoAttention, stream: str) -> None:
    block.suptitle(f"{heading(video.label, video.predicted)}   ({video.video})", fontsize=10, parse_math=False)
    grid = block.add_gridspec(2, 2 * _COLUMNS)
    for row, (name, frames) in enumerate((("highest", video.highest), ("lowest", video.lowest))):
        for column, frame in enumerate(frames):
            axes = block.add_subplot(grid[row, column])
            _draw_image(axes, frame.image, f"w = {frame.weight:.3f}, {frame.seconds:.2f} s")
            if column == 0:
                title = f"{'all equal' if video.flat else name} ({stream})"
                style: dict[str, Any] = {"rotation": 90, "ha": "right", "va": "center", "fontsize": 8}
                axes.text(-0.06, 0.5, title, transform=axes.transAxes, color=COLOURS[stream], **style)
    axes = block.add_subplot(grid[:, _COLUMNS:])
    for number, (start, end) in enumerate(video.actions):
        name = "_" * (number > 0) + "action"  # one line of the legend; Matplotlib leaves out names that begin with _
        axes.axvspan(start, end, color=_ACTION_COLOUR, alpha=0.35, linewidth=0, label=name, zorder=0)
    _draw_attention(axes, video.curves, seconds=video.seconds)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, fontsize=8)


def write_prediction_picture(
    out: Path,
    title: str,
    *,
    seconds: float,
    images: Sequence[tuple[float, NDArray[np.uint8]]],
    curves: Mapping[str, Curve],
    labels: Sequence[tuple[str, float]],
    windows: WindowProbabilities | None = None,
    segments: Sequence[tuple[str, tuple[float, float]]] = (),
) -> None:
    """Draw a prediction as a .png file: frames, attention over time, windows, and the most probable classes.

    Args:
        out: path of the picture.
        title: stands above everything.
        seconds: length of the video.
        images: up to `PREDICTION_FRAMES` times with RGB images [H, W, 3].
        curves: attention over time by stream.
        labels: classes with their probabilities, the most probable first.
        windows: probabilities over time.
        segments: classes with start and end in seconds, behind the attention.
    """
    heights = [1.1, 1.6] + ([0.25 + 0.22 * len(windows.classes)] if windows else [])
    figure = Figure(figsize=(11, 1.2 + 1.35 * sum(heights)), layout="constrained")
    figure.suptitle(printable(title), fontsize=12, parse_math=False)
    grid = GridSpec(len(heights), PREDICTION_FRAMES + 2, figure=figure, height_ratios=heights)
    for column, (shown_at, image) in enumerate(images):
        _draw_image(figure.add_subplot(grid[0, column]), image, f"{shown_at:.2f} s")
    _draw_labels(figure.add_subplot(grid[:2, PREDICTION_FRAMES:]), labels)
    attention = figure.add_subplot(grid[1, :PREDICTION_FRAMES])
    _draw_attention(attention, curves, seconds=seconds)
    for label, (start, end) in segments:
        attention.axvspan(start, end, color=_ACTION_COLOUR, alpha=0.25, linewidth=0, zorder=0)
        place = attention.get_xaxis_transform()
        attention.text(start, 0.97, shortened(label), transform=place, fontsize=7, va="top", parse_math=False)
    attention.legend(loc="upper center", bbox_to_anchor=(0.5, 1.16), ncols=3, frameon=False, fontsize=8)
    if windows:
        axes = figure.add_subplot(grid[2, :PREDICTION_FRAMES], sharex=attention)
        mesh = _draw_windows(axes, windows)
        figure.colorbar(mesh, ax=axes, label="probability", location="right", aspect=8)
    save(figure, out)


def _draw_labels(axes: Axes, labels: Sequence[tuple[str, float]]) -> None:
    axes.barh(np.arange(len(labels)), [probability for _, probability in labels], color=_BAR_COLOUR, height=0.6)
    for place, (label, probability) in enumerate(labels):
        text = f"{shortened(label)}  {probability:.3f}"
        axes.text(0.02, place - 0.38, text, fontsize=9, va="bottom", parse_math=False)
    axes.set_ylim(len(labels) - 0.4, -0.9)
    axes.set_xlim(0, 1)
    axes.set_yticks([])
    axes.set_xlabel("probability")
    axes.spines[["top", "right", "left"]].set_visible(False)


def _draw_windows(axes: Axes, windows: WindowProbabilities) -> Any:
    """Draw the probability of each class in each window; a later window covers an earlier one. Return the colours."""
    mesh: Any = None
    for start, end, row in zip(windows.starts, windows.ends, windows.probabilities, strict=True):
        edges = np.arange(len(row) + 1) - 0.5
        mesh = axes.pcolormesh([start, end], edges, row[:, None], cmap="cividis", vmin=0, vmax=1)
    names = [shortened(name) for name in windows.classes]
    axes.set_yticks(np.arange(len(names)), labels=names, fontsize=8, parse_math=False)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlabel("time (s), each window by itself")
    return mesh


def _draw_attention(axes: Axes, curves: Mapping[str, Curve], *, seconds: float) -> None:
    """Draw the weights of each stream over time, in multiples of the average weight 1/M."""
    for stream, (times, weights) in curves.items():
        axes.plot(times, weights * len(weights), _DASHES[stream], color=COLOURS[stream], label=stream, linewidth=1.6)
    axes.axhline(1, color="0.6", linewidth=0.8, zorder=0)
    axes.set_xlim(0, seconds)
    highest = max(float(weights.max()) * len(weights) for _, weights in curves.values())
    axes.set_ylim(0, max(_LEAST_TOP, 1.05 * highest))
    axes.set_xlabel("time (s)")
    axes.set_ylabel("attention (1 = average)")
    axes.spines[["top", "right"]].set_visible(False)


def _draw_image(axes: Axes, image: NDArray[np.uint8], title: str) -> None:
    axes.imshow(image)
    axes.set_axis_off()
    axes.set_title(title, fontsize=8, pad=3, parse_math=False)


def save(figure: Figure, out: Path) -> None:
    """Write a .png file; equal figures give equal bytes.

    Raises:
        InputError: `out` has another suffix, or cannot be written.
    """
    if out.suffix.lower() != ".png":
        raise InputError(f"the picture {out} must be a .png file; change its name")
    with atomic_path(out) as temporary:
        figure.savefig(temporary, format="png", dpi=_DPI, metadata={"Software": None})
