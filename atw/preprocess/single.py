"""Flow of a single video as a shard of its own, threads working on pairs of frames."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from atw import flow as tvl1
from atw.config import RECIPES, FieldSettings, Flow, FlowShards, Preprocess, Warp, WarpedShards
from atw.files import InputError
from atw.flow import SMALLEST_SIDE_PX
from atw.preprocess import streams
from atw.preprocess.shard import describe, header
from atw.preprocess.spool import Spool
from atw.shards import SINGLE, Entry, create
from atw.terminal import meter
from atw.videos.decode import Audit, BadVideoError, Frame, read

log = logging.getLogger("atw")
_LARGEST_BOUND_PX = 1000.0


@dataclass(frozen=True, kw_only=True)
class Choice:
    """How to compute and store the flow.

    Args:
        preset: of TV-L1, one of `atw.flow.PRESETS`.
        backend: of `atw.flow.estimate`.
        bound: px; displacements beyond it are clipped.
        picture_stream: the one to take of several, counted from 0 without cover pictures.
        warped: take the camera's motion out (stream `warped`).
        threads: pairs of frames worked on at the same time.

    Raises:
        InputError: an impossible value, or a backend that cannot run here.
    """

    preset: str = "opencv4"
    backend: str = "auto"
    bound: float = 20.0
    picture_stream: int = 0
    warped: bool = False
    threads: int = 1

    def __post_init__(self) -> None:
        if self.preset not in tvl1.PRESETS:
            raise InputError(f"unknown flow preset {self.preset!r}; choose one of {', '.join(tvl1.PRESETS)}")
        tvl1.resolve_backend(self.backend)
        if not 0 < self.bound <= _LARGEST_BOUND_PX:
            raise InputError(f"the bound is {self.bound} px; give a number above 0 and up to {_LARGEST_BOUND_PX:g}")

    @property
    def stream(self) -> str:
        """The stream of the shard."""
        return "warped" if self.warped else "flow"


def write_flow(video: Path, out: Path, choice: Choice, *, size: tuple[int, int] | None = None) -> Entry:
    """Write the flow of `video` as a shard `out` that holds nothing else; returns its row of the index.

    `size` is the working width and height in px, None for that of the video. At equal size the fields are those of the
    workflow's shards. The video is decoded twice, first to see whether all of it can be, and never whole in memory. A
    file at `out` is replaced once the new one is whole.

    Raises InputError for a video that cannot be used, with the reason, and for an impossible size.
    """
    audit = look_through(video, choice.picture_stream)
    for said in (*audit.repaired, *audit.notes):
        log.info("%s: %s", video.name, said)
    width, height = size or (audit.width, audit.height)
    if min(width, height) < SMALLEST_SIDE_PX:
        raise InputError(
            f"flow of {video} at {width} x {height} px is not possible; "
            f"choose a width and a height of at least {SMALLEST_SIDE_PX} px"
        )
    backend = tvl1.resolve_backend(choice.backend)
    settings = _settings(choice, width, height)
    entry = Entry(video=video.name, label="")
    describe(entry, audit)
    with (
        create(out, header(settings, SINGLE, backend)) as writer,
        meter(f"flow of {video.name}", "pairs", audit.decoded - 1) as progress,
    ):
        job = streams.Job(
            threads=lambda: choice.threads,
            count=lambda pairs: progress.advance(pairs, steps=pairs),
            room=lambda: Spool(out.parent),
        )
        frames = decoded(video, width, height, choice.picture_stream)
        if isinstance(settings, WarpedShards):
            items = streams.warped_to_items(frames, settings, job, None, entry)
        else:
            items = streams.flow_to_items(frames, settings, job)
        items.describe(entry)
        writer.add(entry, items.encoded, audit.edges)
    return entry


def look_through(video: Path, picture_stream: int = 0) -> Audit:
    """Decode a video once and say what was found.

    Raises InputError with the reason if it cannot be used.
    """
    audit = Audit()
    for _ in _read(video, audit, width=SMALLEST_SIDE_PX, height=SMALLEST_SIDE_PX, picture_stream=picture_stream):
        pass
    return audit


def decoded(video: Path, width: int, height: int, picture_stream: int = 0) -> Iterator[Frame]:
    """The frames of a video at the working size, uint8 [height, width, 3] BGR; errors as in `look_through`."""
    return _read(video, Audit(), width=width, height=height, picture_stream=picture_stream)


def _read(video: Path, audit: Audit, **given: int) -> Iterator[Frame]:
    limits = Preprocess()
    try:
        yield from read(video, audit, max_pixels=limits.max_pixels, max_frames=limits.max_frames, **given)
    except BadVideoError as reason:
        raise InputError(f"video {video} cannot be used: {reason}") from None


def _settings(choice: Choice, width: int, height: int) -> FlowShards | WarpedShards:
    """As in the shards of a dataset, apart from the names of members, which there are none of."""
    preprocess = FieldSettings(width=width, height=height, shards=1, picture_stream=choice.picture_stream)
    flow = Flow.model_validate({"preset": choice.preset, "backend": choice.backend, "bound": choice.bound})
    common = {"dataset": SINGLE, "shard": SINGLE, "preprocess": preprocess, "flow": flow}
    recipes = {name: RECIPES[name] for name in ("flow", "warped")}
    if choice.warped:
        return WarpedShards.model_validate(common | {"recipes": recipes, "stream": "warped", "warp": Warp()})
    return FlowShards.model_validate(common | {"recipes": {"flow": recipes["flow"]}, "stream": "flow"})
