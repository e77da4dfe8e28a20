"""The snippets that a prediction looks at, and the passes over the video that compute them."""

import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from atw.extras.predict.items import VideoItems, blocks_of
from atw.extras.predict.windows import Span
from atw.terminal import meter
from atw.videos.decode import Audit, BadVideoError
from atw.videos.times import USUAL_FPS, Times

log = logging.getLogger("atw")


@dataclass(frozen=True, eq=False)
class SnippetPlan:
    """Different snippets [U, L] of a stream, and the places of some among them.

    Args:
        snippets: of all spans.
        places: [M] of each span's own.
        dense: [D] of those that segments are found with; none if segments are not asked for.
    """

    snippets: NDArray[np.int64]
    places: list[NDArray[np.int64]]
    dense: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class VideoPlan:
    """The spans of a video, and by stream the snippets of them."""

    spans: list[Span]
    streams: dict[str, SnippetPlan]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, VideoPlan) or self.spans != other.spans:
            return False
        pairs = zip(self.streams.values(), other.streams.values(), strict=True)
        return all(
            np.array_equal(one.snippets, two.snippets)
            and np.array_equal(one.dense, two.dense)
            and all(map(np.array_equal, one.places, two.places))
            for one, two in pairs
        )


def compute(name: str, items: VideoItems, plan: Callable[[Times], VideoPlan]) -> tuple[Audit, VideoPlan]:
    """Compute the items of a video's snippets in one pass over it; in another if its packets promised other frames.

    Raises:
        BadVideoError: the video cannot be used; a note of the error names it.
    """
    try:
        return _in_few_passes(name, items, plan)
    except BadVideoError as error:
        error.add_note(f"The video is {name}.")
        raise


def _in_few_passes(name: str, items: VideoItems, plan: Callable[[Times], VideoPlan]) -> tuple[Audit, VideoPlan]:
    times, before = items.expected_times(), None
    while True:
        plans = None
        if times and times.frames > 1:  # of fewer, no flow can be planned
            with contextlib.suppress(BadVideoError):  # raised below if it is so of the true times
                plans = plan(times)
        wanted = {stream: set(one.snippets.ravel().tolist()) for stream, one in plans.streams.items()} if plans else {}
        log.info("%s: %s", name, f"flow, then scores; {len(plans.spans) - 1} windows" if plans else "counting frames")
        with meter(f"flow of {name}, in runs of frames", "pairs", len(list(blocks_of(wanted)))) as progress:
            audit = items.compute(wanted, progress)
        if before and audit.sha256 != before.sha256:
            raise BadVideoError("the file was changed while it was read")
        actual = plan(audit.times)
        if plans == actual:
            return audit, actual
        times, before = audit.times, audit


def report(name: str, audit: Audit) -> None:
    """Log what was repaired or noted in a video."""
    for said in (*audit.repaired, *audit.notes):
        log.info("%s: %s", name, said)
    if audit.times.source == "assumed":
        log.warning("%s gives neither times nor a frame rate: seconds are at %g frames/s", name, USUAL_FPS)
