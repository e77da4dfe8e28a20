"""Flow of a single video as a shard of its own, threads working on pairs of frames."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from atw import flow as tvl1
from atw.config import FlowShards, Preprocess, WarpedShards, shard_recipes
from atw.errors import printable
from atw.files import InputError
from atw.flow import SMALLEST_SIDE_PX
from atw.preprocess.resources import Resources, Spool
from atw.preprocess.shard import header
from atw.preprocess.streams import fill_in, to_items
from atw.shards import SINGLE, Entry, create
from atw.terminal import meter
from atw.videos.decode import Audit, BadVideoError, Frame, read

log = logging.getLogger("atw")


@dataclass(frozen=True, kw_only=True)
class FlowOptions:
    """How to compute and store the flow of a single video.

    Args:
        preset: of TV-L1, as `flow.preset`.
        backend: as `flow.backend`.
        bound: px; displacements beyond it are clipped.
        picture_stream: the one to take of several, counted from 0 without cover pictures.
        size: working width and height in px; None for those of the video.
        warped: take the camera's motion out (stream `warped`).
        threads: pairs of frames worked on at the same time.

    Raises:
        InputError: a value that the settings of the workflow do not allow, or a backend that cannot run here.
    """

    preset: str = "opencv4"
    backend: str = "auto"
    bound: float = 20.0
    picture_stream: int = 0
    size: tuple[int, int] | None = None
    warped: bool = False
    threads: int = 1

    def __post_init__(self) -> None:
        self.shard_settings(*self.size or (SMALLEST_SIDE_PX, SMALLEST_SIDE_PX))
        tvl1.resolve_backend(self.backend)

    def shard_settings(self, width: int, height: int) -> FlowShards | WarpedShards:
        """Return settings as those of a dataset's shards, apart from the digest of members, of which there are none."""
        values = {
            "dataset": SINGLE,
            "shard": SINGLE,
            "recipes": shard_recipes("warped" if self.warped else "flow"),
            "preprocess": {"width": width, "height": height, "shards": 1, "picture_stream": self.picture_stream},
            "flow": {"preset": self.preset, "backend": self.backend, "bound": self.bound},
        }
        try:
            return (
                WarpedShards.model_validate(values | {"warp": {}}) if self.warped else FlowShards.model_validate(values)
            )
        except ValidationError as error:
            first = error.errors()[0]
            name, message = first["loc"][-1], first["msg"].replace("Input should", "it should")
            option = str(name).replace("_", "-")
            raise InputError(f"{name} is {first['input']!r}, but {message}; change --{option}") from None


def write_flow(video: Path, out: Path, options: FlowOptions) -> Entry:
    """Write the flow of `video` as a shard `out` that holds nothing else; return its row of the index.

    At equal size the fields are those of the workflow's shards. The video is decoded twice, first to see whether all of
    it can be, and never whole in memory. A file at `out` is replaced once the new one is whole.

    Raises:
        InputError: the video cannot be used, with the reason, or it is too small or too large.
    """
    audit = Audit()
    for _ in _read(video, audit, SMALLEST_SIDE_PX, SMALLEST_SIDE_PX, options.picture_stream):
        pass
    for message in (*audit.repaired, *audit.notes):
        log.info("%s: %s", video.name, message)
    width, height = options.size or (audit.width, audit.height)
    settings = options.shard_settings(width, height)
    entry = Entry(video=printable(video.name), label="")
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
