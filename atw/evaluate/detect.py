"""Detections from attention: where in a video its classes are shown. M snippets, G parts of the time, K classes.

The signal of class k at snippet i says how much the snippet speaks for the class:

    s_ik = M w_i p_ik

w are the attention weights, which sum to 1, so that M w_i is 1 where the attention is uniform; p is the softmax of the
snippet's class scores. It is the weighted class activation of STPN (Nguyen et al. 2018), with probabilities in place of
activations. Several crops are averaged. A snippet stands for the time that is nearer to its middle than to that of any
other. The streams' signals are added with the weights of the fusion, over the parts of the time that the snippets of
all streams cut.

The signal of a class is scaled to u = (s - min s) / (max s - min s) over the video, so that thresholds and scores are
alike in all videos. What is above a threshold is a candidate. Its score is

    P_k (mean of u inside - mean of u around)

with P the probabilities of the whole video, and around being a quarter of the candidate's length on either side, the
outer-inner contrast of AutoLoc (Shou et al. 2018). The mean inside alone would rank the shortest candidate of each peak
first, however little of the action it covers. If the video has nothing around a candidate, the mean there is 0.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from atw.config import Detect
from atw.evaluate.detection_files import Detection
from atw.evaluate.kits import Segments, seconds_shared

_AROUND = 0.25  # of the length of a candidate, on either side


class Signal(NamedTuple):
    """What a video says of each class over time.

    Args:
        edges: [G + 1] seconds between the parts of the time, never falling.
        values: [G, K] signal in each part.
    """

    edges: NDArray[np.float64]
    values: NDArray[np.float64]


def signal_of(seconds: Segments, attention: NDArray[np.floating], snippet_logits: NDArray[np.floating]) -> Signal:
    """The signal of one video and stream.

    Args:
        seconds: [M, 2] start and end of each snippet, in the order of time.
        attention: [crops, M] weights.
        snippet_logits: [crops, M, K].
    """
    middles = seconds.mean(axis=1)
    edges = np.concatenate([seconds[:1, 0], (middles[:-1] + middles[1:]) / 2, seconds[-1:, 1]])
    weights = len(seconds) * attention.astype(np.float64)  # [crops, M]
    values = (weights[..., None] * softmax(snippet_logits.astype(np.float64), axis=-1)).mean(axis=0)  # [M, K]
    return Signal(edges, values)


def fuse_signals(signals: Mapping[str, Signal], weights: Mapping[str, float]) -> Signal:
    """The mean by weight of the streams' signals, from the first start to the last end.

    Args:
        signals: by stream.
        weights: by stream, above 0; a stream without a weight takes no part.
    """
    edges = np.unique(np.concatenate([signals[stream].edges for stream in weights]))
    middles = (edges[:-1] + edges[1:]) / 2
    total = np.zeros(())
    for stream, weight in weights.items():
        of_stream = signals[stream]
        # A stream that starts later or ends earlier than another keeps its first or last value.
        parts = np.searchsorted(of_stream.edges[1:-1], middles, side="right")
        total = total + weight * of_stream.values[parts]
    return Signal(edges, total / sum(weights.values()))


def detect(
    signal: Signal, probabilities: NDArray[np.floating], classes: Sequence[str], settings: Detect
) -> list[Detection]:
    """The detections of one video, from the highest score down.

    Args:
        signal: of a stream or of the fusion.
        probabilities: [K] of the whole video.
        classes: K names.
        settings: which candidates there are, and which stay.
    """
    found: list[Detection] = []
    if signal.edges[0] == signal.edges[-1]:
        return found  # no time in which anything could be shown
    for k in np.flatnonzero(probabilities >= settings.class_score).tolist():
        scaled = _scaled(signal.values[:, k])
        segments = _candidates(scaled, signal.edges, settings)
        scores = probabilities[k] * _contrast(scaled, signal.edges, segments)
        for i in _kept(segments, scores, settings.suppress):
            start, end = segments[i].tolist()
            found.append(Detection(label=classes[k], score=float(scores[i]), segment=(start, end)))
    return sorted(found, key=lambda one: -one.score)


def _scaled(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """From 0 to 1, [G]; 1 everywhere if all values are equal."""
    spread = np.ptp(values)
    scaled: NDArray[np.float64] = (values - values.min()) / spread if spread else np.ones_like(values)
    return scaled


def _candidates(scaled: NDArray[np.float64], edges: NDArray[np.float64], settings: Detect) -> Segments:
    """Each different segment in which the signal is above a threshold, [n, 2], after short gaps are closed."""
    found = [np.empty((0, 2))]
    for threshold in settings.thresholds:
        changes = np.diff(np.concatenate([[False], scaled >= threshold, [False]]).astype(np.int8))
        starts, ends = edges[np.flatnonzero(changes == 1)], edges[np.flatnonzero(changes == -1)]
        apart = starts[1:] - ends[:-1] >= settings.merge
        starts, ends = starts[np.append(True, apart)], ends[np.append(apart, True)]
        long = ends - starts >= settings.shortest
        found.append(np.stack([starts[long], ends[long]], axis=1))
    return np.unique(np.concatenate(found), axis=0)


def _contrast(scaled: NDArray[np.float64], edges: NDArray[np.float64], segments: Segments) -> NDArray[np.float64]:
    """Mean of the signal inside of each segment, less the mean around it: [n]."""
    until = np.append(0, np.cumsum(scaled * np.diff(edges)))  # the integral up to each edge

    def integral(start: NDArray[np.float64], end: NDArray[np.float64]) -> NDArray[np.float64]:
        between: NDArray[np.float64] = np.interp(end, edges, until) - np.interp(start, edges, until)
        return between

    start, end = segments.T
    margin = _AROUND * (end - start)
    first, last = np.maximum(start - margin, edges[0]), np.minimum(end + margin, edges[-1])
    inside, around = integral(start, end), (start - first) + (last - end)
    outside = integral(first, last) - inside
    mean_outside = np.divide(outside, around, out=np.zeros_like(outside), where=around > 0)
    contrast: NDArray[np.float64] = inside / (end - start) - mean_outside
    return contrast


def _kept(segments: Segments, scores: NDArray[np.float64], suppress: float) -> list[int]:
    """Non-maximum suppression: rows of the segments that overlap no better one by more than `suppress`."""
    kept: list[int] = []
    lengths = segments[:, 1] - segments[:, 0]
    common = seconds_shared(segments, segments)
    overlaps = common / (lengths[:, None] + lengths - common)
    for row in np.argsort(-scores, kind="stable").tolist():
        if not (overlaps[row, kept] > suppress).any():
            kept.append(row)
    return kept
