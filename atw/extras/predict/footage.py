"""Frames, flow and warped flow of a new video, computed where snippets lie only, encoded as shards hold them.

A network has seen JPEG images and quantised flow, so a new video takes the same way through the same functions. Encoded
items lie in a temporary file: at 340 x 256 px some 30 kB a frame and 11 kB a field, at most once for each frame and
field of the video. In memory are the frames of one block of pairs, and 100 bytes or so for each item.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from atw.config import FlowShards, FrameShards, ShardSettings, WarpedShards
from atw.data.augment import Crop, cut_snippets
from atw.flow import SMALLEST_SIDE_PX
from atw.preprocess import streams
from atw.shards import Entry, decode_field, decode_frame, encode_frame, places_of
from atw.terminal import Meter
from atw.videos.decode import Audit, BadVideoError, Frame, read

# A film of a day at 60 frames a second; a limit only so that a hostile file ends.
_MAX_FRAMES = 86_400 * 60
_BLOCK_PAIRS = 48

Run = tuple[int, int]
"""First position of consecutive fields, and how many they are."""


@dataclass(frozen=True)
class Recipe:
    """How the items of a video are computed.

    Args:
        settings: by stream, those of the shards of training, with a flow backend that runs here and without masks.
        threads: pairs of frames worked on at the same time.
    """

    settings: Mapping[str, ShardSettings]
    threads: int

    def read(self, video: Path, audit: Audit, *, small: bool = False) -> Iterator[Frame]:
        """The frames at the working size, or as small as can be; limits on pixels are those of training."""
        preprocess = next(iter(self.settings.values())).preprocess
        side = SMALLEST_SIDE_PX
        size = (side, side) if small else (preprocess.width, preprocess.height)
        return read(
            video,
            audit,
            width=size[0],
            height=size[1],
            max_pixels=preprocess.max_pixels,
            max_frames=_MAX_FRAMES,
            picture_stream=self.picture_stream,
        )

    @property
    def picture_stream(self) -> int:
        """Which stream of pictures of a file with several."""
        return next(iter(self.settings.values())).preprocess.picture_stream

    def examine(self, video: Path) -> Audit:
        """Decode the video once and say what it is.

        Raises:
            BadVideoError: it cannot be used.
        """
        audit = Audit()
        for _ in self.read(video, audit, small=True):
            pass
        return audit


class Footage:
    """Encoded items of one video by stream and position, in a file that is open for reading and writing."""

    def __init__(self, file: IO[bytes], recipe: Recipe) -> None:
        self._file = file
        self._recipe = recipe
        self._places: dict[tuple[str, int], tuple[int, int]] = {}

    def compute(self, video: Path, audit: Audit, wanted: Mapping[str, Iterable[int]], progress: Meter) -> None:
        """Compute what is wanted of a video in one pass over it.

        Args:
            video: path.
            audit: what `Recipe.examine` found.
            wanted: by stream, the numbers of frames (rgb) or fields (flow, warped).
            progress: is told of each block of pairs, see `runs`.

        Raises:
            BadVideoError: the file is another one by now.
        """
        again = Audit()
        images = set(wanted.get("rgb", ()))
        blocks = runs(pairs_of(wanted))
        block = next(blocks, None)
        held: list[Frame] = []
        rgb = self._recipe.settings.get("rgb")
        for number, frame in enumerate(self._recipe.read(video, again)):
            if isinstance(rgb, FrameShards) and number in images:
                self._put("rgb", number, [encode_frame(frame, rgb.preprocess.jpeg_quality)])
            if block is None or number < block[0]:
                continue
            held.append(frame)
            if number == sum(block):
                self._add_fields(held, block[0])
                progress.advance(block[1])
                block = next(blocks, None)
                held = [frame] if block and block[0] == number else []
        if again.sha256 != audit.sha256 or again.decoded != audit.decoded:
            raise BadVideoError("the file was changed while it was read")

    def _add_fields(self, frames: Sequence[Frame], first: int) -> None:
        """Flow and warped flow of consecutive frames, the first of which is the frame `first`."""
        job = streams.Job(threads=lambda: self._recipe.threads)
        for stream, settings in self._recipe.settings.items():
            if isinstance(settings, WarpedShards):
                known = None
                if settings.warp.matches != "tracks":
                    found = streams.flow_to_items(frames, settings, job).encoded
                    known = _Fields(list(found), frames[0].shape[:2])
                items = streams.warped_to_items(frames, settings, job, known, Entry(video="", label=""))
                self._put(stream, first, items.encoded)
            elif isinstance(settings, FlowShards):
                self._put(stream, first, streams.flow_to_items(frames, settings, job).encoded)

    def _put(self, stream: str, first: int, items: Iterable[bytes]) -> None:
        place = self._file.seek(0, 2)
        for number, item in enumerate(items, start=first):
            self._file.write(item)
            self._places[stream, number] = (place, len(item))
            place += len(item)

    def _item(self, stream: str, number: int) -> bytes:
        place, length = self._places[stream, number]
        self._file.seek(place)
        return self._file.read(length)

    def snippets(self, stream: str, stacks: NDArray[np.int64], crops: Sequence[Crop], size: int) -> NDArray[np.uint8]:
        """Crops of snippets as `atw.data.reader.Shards` gives them: uint8 [len(crops), M, C, S, S].

        `stacks` [M, L] are the positions of each snippet; L is 1 for rgb.
        """
        return cut_snippets(self._items(stream, stacks), crops, shape=stacks.shape, size=size, stream=stream)

    def _items(self, stream: str, stacks: NDArray[np.int64]) -> Iterator[tuple[list[int], NDArray[np.uint8]]]:
        preprocess = self._recipe.settings[stream].preprocess
        shape = (2, preprocess.height, preprocess.width)
        for number, places in places_of(stacks.ravel()).items():
            item = self._item(stream, number)
            yield places, decode_frame(item) if stream == "rgb" else decode_field(item, shape)


class _Fields:
    """The fields of one block as warped flow asks for them."""

    def __init__(self, encoded: Sequence[bytes], size: tuple[int, ...]) -> None:
        self._encoded, self._size = encoded, size

    def fields(self, _: Entry, numbers: Sequence[int], /) -> NDArray[np.uint8]:
        return np.stack([decode_field(self._encoded[number], (2, *self._size)) for number in numbers])


def pairs_of(wanted: Mapping[str, Iterable[int]]) -> list[int]:
    """The fields that any of the flow streams wants, in order."""
    return sorted({number for stream in ("flow", "warped") for number in wanted.get(stream, ())})


def runs(positions: Sequence[int], *, longest: int = _BLOCK_PAIRS) -> Iterator[Run]:
    """Cut rising positions into runs of consecutive ones, of `longest` at most."""
    first = 0
    for place in range(1, len(positions) + 1):
        ends = place == len(positions) or positions[place] != positions[place - 1] + 1
        if ends or place - first == longest:
            yield positions[first], place - first
            first = place
