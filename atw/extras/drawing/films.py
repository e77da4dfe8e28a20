"""Films of ours, .mp4 files: each picture is shown when and for as long as its frame is in the video it is from."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from atw.files import atomic_path
from atw.terminal import meter
from atw.videos.times import Times

_ENCODERS = (("libx264", {"crf": "18", "preset": "fast"}), ("mpeg4", {"qscale": "3"}))  # the latter is FFmpeg's own
_TICKS = 60_000  # a second; MPEG-4 allows 65,535
_LONGEST_TICKS = 2**31 - 1  # of one picture


def write_film(out: Path, pictures: Iterator[NDArray[np.uint8]], times: Times, *, what: str) -> None:
    """Write BGR pictures, all of one even size, as H.264 where there is an encoder of it; `what` names the progress.

    There may be fewer pictures than `times` has frames.
    """
    ticks = np.rint(times.edges * _TICKS).astype(np.int64)
    lengths = np.clip(np.diff(ticks), 1, _LONGEST_TICKS)  # two frames at one moment follow each other
    begins = np.concatenate([[0], np.cumsum(lengths)]).tolist()
    codec, options = next((name, options) for name, options in _ENCODERS if name in av.codecs_available)
    with (
        atomic_path(out) as temporary,
        av.open(str(temporary), "w", format="mp4") as film,
        meter(f"{what} {out.name}", "frames", times.frames) as progress,
    ):
        stream: Any = film.add_stream(codec, rate=_rate(times), options=options)
        stream.pix_fmt, stream.codec_context.time_base = "yuv420p", Fraction(1, _TICKS)
        last_of = dict(zip(begins[:-1], lengths.tolist(), strict=True))

        def mux(frame: av.VideoFrame | None) -> None:
            for packet in stream.encode(frame):
                packet.duration = last_of[packet.pts]
                film.mux(packet)

        for number, picture in enumerate(pictures):
            if number == 0:
                stream.height, stream.width = picture.shape[:2]
            frame = av.VideoFrame.from_ndarray(picture, format="bgr24")
            frame.pts, frame.time_base = begins[number], Fraction(1, _TICKS)
            mux(frame)
            progress.advance(1)
        mux(None)


def _rate(times: Times) -> Fraction:
    """For the encoder's own reckoning of bits and buffers; what is shown when is in the times."""
    return min(max(Fraction(times.frames / times.seconds).limit_denominator(1001), Fraction(1)), Fraction(1000))
