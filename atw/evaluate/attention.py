"""What the attention of scored videos is like, and how well it finds their actions.

Shapes: V videos, M snippets.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from rich.table import Table
from scipy.special import entr

from atw.data.actions import interval_auc, mass_inside
from atw.evaluate.metrics import OMITTED, Record
from atw.evaluate.scores import Scores


class Localisation(Record):
    """How well a number per snippet finds the actions.

    Args:
        auc: area under the ROC curve, see `interval_auc`; None if no video has snippets inside and outside.
        mass_inside: share of a video's numbers, by their sum, that lies inside its actions; mean over the videos.
        pointing: share of the videos in which the largest number lies inside an action (Zhang et al. 2018); of several
            largest, each counts its part.
    """

    auc: float | None
    mass_inside: float
    pointing: float


class KnownActions(Record):
    """How well a stream finds the actions of the videos whose actions are known.

    Args:
        videos: number of these videos.
        share: of their snippets that lies inside an action: `mass_inside` and `pointing` of uniform weights.
        weights: of the consensus, averaged over the crops.
        probability: of the predicted class in each snippet. An average has nothing else to find actions with.
    """

    videos: int
    share: float
    weights: Localisation
    probability: Localisation


class StreamAttention(Record):
    """What the weights of a stream's consensus are like, averaged over the videos and crops.

    Args:
        entropy: - sum of w log w, as a share of the largest possible one, log M: 1 if all snippets weigh the same, 0 if
            one has all the weight.
        peak: the largest weight, as a multiple of the mean weight 1/M.
        flat: share of the videos in which all snippets weigh exactly the same.
        actions: how well they are found; None if none is known.
    """

    entropy: float
    peak: float
    flat: float
    actions: KnownActions | None = OMITTED


def stream_attention(scores: Scores) -> StreamAttention:
    """Describe the attention of a stream."""
    weights, snippets = scores.attention.astype(np.float64), scores.snippets[:, None]
    largest = np.log(np.maximum(snippets, 2))  # a single snippet has the entropy 0 = log 1; it counts as uniform
    entropy = np.where(snippets > 1, entr(weights).sum(axis=2) / largest, 1)
    return StreamAttention(
        entropy=float(entropy.mean()),
        peak=float((weights.max(axis=2) * snippets).mean()),
        flat=float(scores.flat.mean()),
        actions=_known_actions(scores),
    )


def _known_actions(scores: Scores) -> KnownActions | None:
    inside, counted = scores.actions.locate(scores.seconds, scores.own)
    rows = counted.any(axis=1)
    if not rows.any():
        return None
    inside, counted = inside[rows], counted[rows]
    return KnownActions(
        videos=len(inside),
        share=float(((inside & counted).sum(axis=1) / counted.sum(axis=1)).mean()),
        weights=localisation(scores.attention.mean(axis=1)[rows], inside, counted),
        probability=localisation(scores.probability[rows], inside, counted),
    )


def localisation(values: NDArray[np.float32], inside: NDArray[np.bool_], counted: NDArray[np.bool_]) -> Localisation:
    """Say how well numbers of snippets [V, M] find the actions; each video has snippets that count, see `locate`."""
    known = np.where(counted, values, -np.inf)
    largest = known == known.max(axis=1, keepdims=True)
    return Localisation(
        auc=interval_auc(values, inside, counted),
        mass_inside=float(mass_inside(values, inside, counted).mean()),
        pointing=float(((largest & inside).sum(axis=1) / largest.sum(axis=1)).mean()),
    )


def found_actions(attention: Mapping[str, StreamAttention]) -> Table | None:
    """Return how well each stream finds the known actions, as a table for the terminal; None if none is known."""
    known = {stream: one.actions for stream, one in attention.items() if one.actions}
    if not known:
        return None
    first = next(iter(known.values()))
    table = Table(title=f"known actions of {first.videos} videos; inside: the share that is; largest: how often it is")
    for name in ("stream", "snippets inside", "weights", "inside", "largest", "class probability", "inside", "largest"):
        table.add_column(name, justify="left" if name == "stream" else "right")
    for stream, found in known.items():
        numbers = [(one.auc, one.mass_inside, one.pointing) for one in (found.weights, found.probability)]
        cells = [("" if auc is None else f"{auc:.3f}", f"{mass:.1%}", f"{hits:.1%}") for auc, mass, hits in numbers]
        table.add_row(stream, f"{found.share:.1%}", *cells[0], *cells[1])
    return table
