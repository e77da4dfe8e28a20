"""Pictures of the flow of a video: a film beside its frames, or a contact sheet."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from atw.extras.drawing import films
from atw.extras.drawing.flow_wheel import disc, flow_to_colours
from atw.files import InputError, atomic_path
from atw.preprocess.single import decoded
from atw.shards import Shard, dequantise
from atw.videos.decode import Frame

Picture = NDArray[np.uint8]  # BGR, [height, width, 3]

SUFFIXES = (".mp4", ".png")
SHEET_FIELDS = 16
_SHEET_COLUMNS = 4
_PERCENTILE = 99.0
_LEAST_FULL_PX = 1.0  # otherwise the noise of a still video would have full colours
_FILM_HEIGHTS = (240, 720)
_TILE_WIDTH = 300
_HEADER_HEIGHT = 96


def check_paths(video: Path, flow: Path | None, preview: Path | None) -> None:
    """Raise InputError if the preview is neither .mp4 nor .png, or if two of the files are the same."""
    if preview and preview.suffix.lower() not in SUFFIXES:
        raise InputError(f"the preview {preview} must be an {' or a '.join(SUFFIXES)} file; change its name")
    paths = [path.resolve() for path in (video, flow, preview) if path]
    if len(set(paths)) < len(paths):
        raise InputError(f"video, --out and --preview are not all different files: {', '.join(map(str, paths))}")


def write_preview(video: Path, flow: Path, out: Path) -> None:
    """Draw the flow of a video, which is the first video of the shard `flow`.

    An .mp4 shows every frame beside its field; a .png shows up to 16 frames, spread over the video, above their fields.
    A legend says which length has the full colour: the 99th percentile over the video, at least 1 px.
    """
    with Shard(flow) as shard:
        full_px = full_length(shard)
        if out.suffix.lower() == ".mp4":
            _write_film(video, shard, out, full_px)
        else:
            picture = _sheet(video, shard, full_px)
            with atomic_path(out) as temporary:
                temporary.write_bytes(cv2.imencode(".png", picture)[1].tobytes())


def full_length(shard: Shard) -> float:
    """Return the length (px, rounded up to tenths) that 99% of the vectors of the first video do not exceed."""
    bound = shard.header.bound
    counts = np.zeros(4096, np.int64)
    longest = 1.5 * bound  # more than the diagonal of 1.41 bounds
    for field in _fields(shard):
        counts += np.histogram(np.hypot(*field), len(counts), (0, longest))[0]
    bins = 1 + np.searchsorted(np.cumsum(counts), _PERCENTILE / 100 * counts.sum())
    return max(_LEAST_FULL_PX, float(np.ceil(bins / len(counts) * longest * 10)) / 10)


def _fields(shard: Shard) -> Iterator[NDArray[np.float32]]:
    """Yield the fields of the first video in px, [2, H, W]."""
    entry = shard.entries[0]
    for number in range(entry.count):
        yield dequantise(shard.fields(entry, [number])[0], shard.header.bound)


def _frames(video: Path, shard: Shard) -> Iterator[Frame]:
    """Yield the frames that the fields were computed from."""
    height, width = shard.header.height, shard.header.width
    return decoded(video, width, height, shard.header.settings["preprocess"]["picture_stream"])


def _write_film(video: Path, shard: Shard, out: Path, full_px: float) -> None:
    films.write_film(out, _pairs(video, shard, full_px), shard.times(shard.entries[0]), what="preview")


def _pairs(video: Path, shard: Shard, full_px: float) -> Iterator[Picture]:
    """Yield each frame beside the field that starts from it."""
    height, width = shard.header.height, shard.header.width
    rows = _even(np.clip(height, *_FILM_HEIGHTS))
    columns = _even(width * rows / height)
    legend = _legend(max(48, rows // 5), full_px)
    for frame, field in zip(_frames(video, shard), _fields(shard), strict=False):
        colours = _resized(_coloured(field, full_px), columns, rows)
        _paste(colours, legend, colours.shape[0] - len(legend), columns - legend.shape[1])
        yield np.hstack([_resized(frame, columns, rows), colours])


def _sheet(video: Path, shard: Shard, full_px: float) -> Picture:
    entry = shard.entries[0]
    height, width = shard.header.height, shard.header.width
    shown = sorted(set(np.linspace(0, entry.count - 1, SHEET_FIELDS).round().astype(int).tolist()))
    rows = max(1, round(_TILE_WIDTH * height / width))
    tiles = []
    pairs = zip(pairwise(_frames(video, shard)), _fields(shard), strict=False)
    for number, ((frame, _), field) in enumerate(pairs):
        if number in shown:
            tile = np.vstack([_resized(image, _TILE_WIDTH, rows) for image in (frame, _coloured(field, full_px))])
            _write(tile, f"{number} - {number + 1}", (6, 18))
            tiles.append(tile)
    columns = min(_SHEET_COLUMNS, len(tiles))
    blank = np.zeros_like(tiles[0])
    tiles += [blank] * (-len(tiles) % columns)
    body = np.vstack([np.hstack(tiles[first : first + columns]) for first in range(0, len(tiles), columns)])
    return np.vstack([_header(shard, len(shown), body.shape[1], full_px), body])


def _header(shard: Shard, shown: int, width: int, full_px: float) -> Picture:
    entry, used = shard.entries[0], shard.header.flow
    header = np.zeros((_HEADER_HEIGHT, width, 3), np.uint8)
    lines = (
        entry.video.encode("ascii", "replace").decode(),
        f"{shard.stream}, {shown} of {entry.count} fields",
        f"{shard.header.width} x {shard.header.height} px, {used['backend']}",
        f"full colour: {full_px:.1f} px",
    )
    for number, line in enumerate(lines):
        _write(header, line, (6, 20 + 22 * number))
    legend = _legend(_HEADER_HEIGHT, full_px)
    _paste(header, legend, 0, width - legend.shape[1])
    return header


def _coloured(field: NDArray[np.float32], full_px: float) -> Picture:
    return np.ascontiguousarray(flow_to_colours(field, full_px=full_px)[..., ::-1])


def _legend(side: int, full_px: float) -> Picture:
    """Draw the wheel on black, with the length at its rim."""
    legend = np.ascontiguousarray(disc(side)[..., ::-1])
    _write(legend, f"{full_px:.1f} px", (side // 6, side // 2 + 4), scale=side / 200)
    return legend


def _paste(picture: Picture, patch: Picture, row: int, column: int) -> None:
    picture[row : row + patch.shape[0], column : column + patch.shape[1]] = patch


def _write(picture: Picture, text: str, place: tuple[int, int], *, scale: float = 0.5) -> None:
    """Write in white with a dark outline, which is legible on everything."""
    for colour, thickness in (((0, 0, 0), 3), ((255, 255, 255), 1)):
        cv2.putText(picture, text, place, cv2.FONT_HERSHEY_SIMPLEX, scale, colour, thickness, cv2.LINE_AA)


def _resized(image: Picture, columns: int, rows: int) -> Picture:
    shrinks = image.shape[0] > rows or image.shape[1] > columns
    resized: Picture = cv2.resize(image, (columns, rows), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return resized


def _even(side: float) -> int:
    """Round to an even number, which H.264 with 4:2:0 chroma requires."""
    return max(2, 2 * round(side / 2))
