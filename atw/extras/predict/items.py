"""Frames, flow and warped flow of a new video, computed only where snippets lie, and encoded as shards hold them.

A network has seen JPEG images and quantised flow, so a new video goes through the functions of `atw.preprocess.streams`
too. Encoded items lie in a temporary file: at 340 x 256 px some 30 kB per frame and 11 kB per field, at most once for
each frame and field of the video. In memory are the frames of one block of pairs, and 100 bytes or so for each item.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import IO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from atw.config import FlowShards, ShardSettings, WarpedShards
from atw.data.augment import Crop, cut_snippets
from atw.extras.predict.video import Video
from atw.preprocess.resources import Resources
from atw.preprocess.streams import Items, flow_to_items, to_items, warped_to_items
from atw.shards import Entry, decode_field, decode_frame, places_of
from atw.terminal import Meter
from atw.videos.decode import Audit, Frame
from atw.videos.times import Times

_BLOCK_PAIRS = 48
# Only masks depend on a row of the index, and a new video has none.
_NO_ENTRY = Entry(video="", label="")


class PairBlock(NamedTuple):
    """Consecutive fields, or the pairs of frames that they are computed from."""

    first: int
    pairs: int


class VideoItems:
    """Encoded items of one video by stream and position.

    Args:
        video: whose items.
        settings: by stream, those of the shards of training, with a flow backend that runs here and without masks.
        threads: pairs of frames that are worked on at the same time.
        file: open for reading and writing, for the items.
    """

    def __init__(self, video: Video, settings: Mapping[str, ShardSettings], *, threads: int, file: IO[bytes]) -> None:
        self._video = video
        self._settings = settings
        self._preprocess = next(iter(settings.values())).preprocess  # all streams have frames of one size
        self._resources = Resources(threads=lambda: threads)
        self._file = file
        self._places: dict[tuple[str, int], tuple[int, int]] = {}

    def expected_times(self) -> Times | None:
        """Say when the video's frames are shown, as far as that is known without decoding, see `decode`."""
        return self._video.expected_times(self._preprocess)

    def compute(self, wanted: Mapping[str, Iterable[int]], progress: Meter) -> Audit:
        """Compute the wanted items in one pass over the video, and return what was found of it.

        Items of a pass before are forgotten. Wanted ones beyond the video's end are passed over.

        Args:
            wanted: by stream, the numbers of frames (rgb) or fields (flow, warped).
            progress: is told of each of the `blocks_of` pairs.

        Raises:
            BadVideoError: it cannot be used.
        """
        self._places.clear()
        self._file.truncate(0)
        audit, images = Audit(), set(wanted.get("rgb", ()))
        blocks = blocks_of(wanted)
        block = next(blocks, None)
        held: list[Frame] = []
        for number, frame in enumerate(self._video.read(audit, self._preprocess)):
            if number in images:
                self._add("rgb", number, to_items([frame], self._settings["rgb"], self._resources, _NO_ENTRY))
            if block is None or number < block.first:
                continue
            held.append(frame)
            if number == block.first + block.pairs:
                self._add_fields(block.first, held)
                progress.advance(block.pairs)
                block = next(blocks, None)
                held = [frame] if block and block.first == number else []
        return audit

    def snippets(self, stream: str, stacks: NDArray[np.int64], crops: Sequence[Crop], size: int) -> NDArray[np.uint8]:
        """Crops of snippets as `atw.data.reader.Shards` gives them: uint8 [len(crops), M, C, S, S].

        `stacks` [M, L] are the positions of each snippet; L is 1 for rgb.
        """
        items = ((places, self._item(stream, number)) for number, places in places_of(stacks.ravel()).items())
        return cut_snippets(items, crops, shape=stacks.shape, size=size, stream=stream)

    def _add_fields(self, first: int, frames: Sequence[Frame]) -> None:
        """Compute the fields of consecutive frames, the first of which has the number `first`."""
        flow, warped, known = self._settings.get("flow"), self._settings.get("warped"), None
        if isinstance(flow, FlowShards):
            known = flow_to_items(frames, flow, self._resources)
            self._add("flow", first, known)
        if isinstance(warped, WarpedShards):
            if warped.warp.matches != "tracks" and not (isinstance(flow, FlowShards) and flow.flow == warped.flow):
                known = flow_to_items(frames, warped, self._resources)
            stored = partial(_decode_fields, list(known.encoded), (2, *frames[0].shape[:2])) if known else None
            self._add("warped", first, warped_to_items(frames, warped, self._resources, _NO_ENTRY, stored))

    def _add(self, stream: str, first: int, items: Items) -> None:
        place = self._file.seek(0, 2)
        for number, item in enumerate(items.encoded, start=first):
            self._file.write(item)
            self._places[stream, number] = (place, len(item))
            place += len(item)

    def _item(self, stream: str, number: int) -> NDArray[np.uint8]:
        place, length = self._places[stream, number]
        self._file.seek(place)
        item = self._file.read(length)
        if stream == "rgb":
            return decode_frame(item)
        return decode_field(item, (2, self._preprocess.height, self._preprocess.width))


def _decode_fields(encoded: Sequence[bytes], shape: tuple[int, ...], numbers: Sequence[int]) -> NDArray[np.uint8]:
    """Return fields of one block, as warped flow asks for them."""
    return np.stack([decode_field(encoded[number], shape) for number in numbers])


def blocks_of(wanted: Mapping[str, Iterable[int]], *, longest: int = _BLOCK_PAIRS) -> Iterator[PairBlock]:
    """The fields that any flow stream wants, by stream, as blocks of consecutive ones, `longest` at most."""
    positions = sorted({number for stream in ("flow", "warped") for number in wanted.get(stream, ())})
    first = 0
    for place in range(1, len(positions) + 1):
        ends = place == len(positions) or positions[place] != positions[place - 1] + 1
        if ends or place - first == longest:
            yield PairBlock(positions[first], place - first)
            first = place
