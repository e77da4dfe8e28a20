"""Flow of a single video as a shard of its own, threads working on pairs of frames."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from atw import flow as tvl1
from atw.config import FieldSettings, Flow, FlowShards, Preprocess, Warp, WarpedShards, shard_recipes
from atw.files import InputError
from atw.flow import SMALLEST_SIDE_PX
from atw.preprocess.resources import Resources, Spool
from atw.preprocess.shard import header
from atw.preprocess.streams import fill_in, to_items
from atw.shards import SINGLE, Entry, create
from atw.terminal import meter
from atw.videos.decode import Audit, BadVideoError, Frame, read

log = logging.getLogger("atw")
_LARGEST_BOUND_PX = 1000.0


@dataclass(frozen=True, kw_only=True)
class FlowOptions:
    """How to compute and store the flow of a single video.

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

    def shard_settings(self, width: int, height: int) -> FlowShards | WarpedShards:
        """Return settings as those of a dataset's shards, apart from the digest of members, of which there are none."""
        preprocess = FieldSettings(width=width, height=height, shards=1, picture_stream=self.picture_stream)
        flow = Flow.model_validate({"preset": self.preset, "backend": self.backend, "bound": self.bound})
        recipes = shard_recipes("warped" if self.warped else "flow")
        common = {"dataset": SINGLE, "shard": SINGLE, "recipes": recipes, "preprocess": preprocess, "flow": flow}
        if self.warped:
            return WarpedShards.model_validate(common | {"warp": Warp()})
        return FlowShards.model_validate(common)


def write_flow(video: Path, out: Path, options: FlowOptions, *, size: tuple[int, int] | None = None) -> Entry:
    """Write the flow of `video` as a shard `out` that holds nothing else; return its row of the index.

    `size` is the working width and height in px, None for that of the video. At equal size the fields are those of the
    workflow's shards. The video is decoded twice, first to see whether all of it can be, and never whole in memory. A
    file at `out` is replaced once the new one is whole.

    Raises:
        InputError: the video cannot be used, with the reason, or the size is impossible.
    """
    audit = Audit()
    for _ in _read(video, audit, SMALLEST_SIDE_PX, SMALLEST_SIDE_PX, options.picture_stream):
        pass
    for message in (*audit.repaired, *audit.notes):
        log.info("%s: %s", video.name, message)
    width, height = size or (audit.width, audit.height)
    if min(width, height) < SMALLEST_SIDE_PX:
        raise InputError(
            f"flow of {video} at {width} x {height} px is not possible; "
            f"choose a width and a height of at least {SMALLEST_SIDE_PX} px"
        )
    settings = options.shard_settings(width, height)
    entry = Entry(video=video.name, label="")
    with (
        create(out, header(settings, SINGLE, tvl1.resolve_backend(options.backend))) as writer,
        meter(f"flow of {video.name}", "pairs", audit.decoded - 1) as progress,
    ):
        resources = Resources(
            threads=lambda: options.threads,
            count=lambda pairs: progress.advance(pairs, steps=pairs),
            storage=lambda: Spool(out.parent),
        )
        items = to_items(decoded(video, width, height, options.picture_stream), settings, resources, entry)
        fill_in(entry, audit, items)
        writer.add(entry, items.encoded, audit.edges)
    return entry


def decoded(video: Path, width: int, height: int, picture_stream: int = 0) -> Iterator[Frame]:
    """Yield the frames of a video at the working size, uint8 [height, width, 3] BGR.

    Raises:
        InputError: the video cannot be used, with the reason.
    """
    return _read(video, Audit(), width, height, picture_stream)


def _read(video: Path, audit: Audit, width: int, height: int, picture_stream: int) -> Iterator[Frame]:
    limits = Preprocess()
    try:
        yield from read(
            video,
            audit,
            width=width,
            height=height,
            max_pixels=limits.max_pixels,
            max_frames=limits.max_frames,
            picture_stream=picture_stream,
        )
    except BadVideoError as reason:
        raise InputError(f"video {video} cannot be used: {reason}") from None
