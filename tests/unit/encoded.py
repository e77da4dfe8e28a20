"""Videos that tests encode themselves, in every container and codec that datasets come in."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from atw.videos.decode import Audit, BadVideoError, read

Image = NDArray[np.uint8]
Sound = dict[str, tuple[bytes, list[Image]]]  # undamaged videos by their names in BASES: bytes and frames

COUNT = 40
WIDTH, HEIGHT = 96, 64
BASES = {  # name: encoder, options of the container
    "mpeg4.avi": ("mpeg4", {}),
    "mjpeg.avi": ("mjpeg", {}),
    "mpeg4.mp4": ("mpeg4", {"movflags": "faststart"}),
    "h264.mp4": ("libx264", {"movflags": "faststart"}),
    "h264.mkv": ("libx264", {}),
    "vp9.webm": ("libvpx-vp9", {}),
    "mpeg2.ts": ("mpeg2video", {}),
    "h264.ts": ("libx264", {}),
}
ENCODERS = {
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8"},
    "libx264": {"x264-params": "mbtree=0"},  # its macroblock tree depends on what was in memory before
}
LIMITS = {"max_pixels": 4096 * 2304, "max_frames": 100_000}
NEVER_HANGS = pytest.mark.timeout(30)  # nothing that a file holds may make the decoder hang


def encode(
    path: Path,
    frames: Sequence[Image],
    codec: str,
    times: list[int] | None = None,
    *,
    rate: int = 25,
    title: str = "",
    **options: str,
) -> bytes:
    """A video with a key frame in twelve; `times` are those of the frames, in 1 / rate s."""
    # The same bytes everywhere, so that the same damage hits the same place: no random ids, one thread.
    with av.open(str(path), "w", options={"fflags": "bitexact", **options}) as output:
        if title:
            output.metadata["title"] = title
        stream: Any = output.add_stream(codec, rate=rate)
        stream.thread_count = 1
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.gop_size, stream.bit_rate = 12, 1_000_000
        stream.options = ENCODERS.get(codec, {})
        for number, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(image, format="bgr24")
            frame.time_base, frame.pts = Fraction(1, rate), times[number] if times else number
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path.read_bytes()


def decode(path: Path, **changed: Any) -> tuple[list[Image], Audit]:
    """All frames at 96 x 64 px unless another size is given, and what was found."""
    audit = Audit()
    return list(read(path, audit, **{"width": WIDTH, "height": HEIGHT, **LIMITS, **changed})), audit


def reason(path: Path, **limits: int) -> str:
    """Why the video is left out, "" when it is not."""
    try:
        decode(path, **limits)
    except BadVideoError as error:
        return str(error)
    return ""
