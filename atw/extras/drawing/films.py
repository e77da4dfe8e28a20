"""Films that keep the times of the frames they are made from: .mp4 files, and small ones inside a page."""

import io
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from atw.files import atomic_path
from atw.terminal import meter
from atw.videos.times import Times

ENCODERS = (("libx264", {"crf": "18", "preset": "fast"}), ("mpeg4", {"qscale": "3"}))  # mpeg4 is FFmpeg's own
SMALL_ENCODER = "libvpx-vp9"
_SMALL = {"crf": "40", "b": "0", "deadline": "realtime", "cpu-used": "7", "threads": "1"}
_TICKS = 60_000  # per second; MPEG-4 allows 65,535
_LONGEST_TICKS = 2**30  # of one picture, five hours; MPEG-4 counts the sum of several in 31 bits


def write_film(out: Path, pictures: Iterator[NDArray[np.uint8]], times: Times, *, what: str) -> None:
    """Write a film in which each picture is shown as long as its frame, as H.264 if FFmpeg has an encoder for it.

    Args:
        out: path of the film.
        pictures: BGR, all of one even size; at most one per frame.
        times: of the frames.
        what: verb phrase for the progress.
    """
    with (
        atomic_path(out) as temporary,
        av.open(str(temporary), "w", format="mp4") as film,
        meter(f"{what} {out.name}", "frames", times.frames) as progress,
    ):
        codec, options = next((name, options) for name, options in ENCODERS if name in av.codecs_available)

        def counted() -> Iterator[NDArray[np.uint8]]:
            for picture in pictures:
                yield picture
                progress.advance(1)

        _encode(film, codec, options, counted(), times)


def small_film(pictures: Iterable[NDArray[np.uint8]], times: Times) -> bytes:
    """Encode pictures as a small WebM film, as VP9, which every browser plays; equal pictures give equal bytes.

    Args:
        pictures: BGR, all of one even size; at most one per frame.
        times: of the frames.

    Returns:
        nothing, b"", if FFmpeg has no encoder for VP9.
    """
    if SMALL_ENCODER not in av.codecs_available:
        return b""
    content = io.BytesIO()
    with av.open(content, "w", format="webm", options={"fflags": "+bitexact"}) as film:
        _encode(film, SMALL_ENCODER, _SMALL, pictures, times)
    return content.getvalue()


def _encode(
    film: Any, codec: str, options: dict[str, str], pictures: Iterable[NDArray[np.uint8]], times: Times
) -> None:
    ticks = np.rint(times.edges * _TICKS).astype(np.int64)
    lengths = np.clip(np.diff(ticks), 1, _LONGEST_TICKS)  # frames at the same time follow each other
    starts = np.concatenate([[0], np.cumsum(lengths)]).tolist()
    length_of = dict(zip(starts[:-1], lengths.tolist(), strict=True))
    # The encoder plans bits and buffers by the rate; the times alone decide what is shown when.
    rate = min(max(Fraction(times.frames / times.seconds).limit_denominator(1001), Fraction(1)), Fraction(1000))
    stream: Any = film.add_stream(codec, rate=rate, options=options)
    stream.pix_fmt, stream.codec_context.time_base = "yuv420p", Fraction(1, _TICKS)

    def encode(frame: av.VideoFrame | None) -> None:
        for packet in stream.encode(frame):
            packet.duration = length_of[packet.pts]
            film.mux(packet)

    for number, picture in enumerate(pictures):
        if number == 0:
            stream.height, stream.width = picture.shape[:2]
        frame = av.VideoFrame.from_ndarray(picture, format="bgr24")
        frame.pts, frame.time_base = starts[number], Fraction(1, _TICKS)
        encode(frame)
    encode(None)
