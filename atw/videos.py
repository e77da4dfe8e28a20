"""The one decoder: frame i of a video is frame i in every stream, on every machine, whatever is wrong with the file.

PyAV with a single thread, so that the order and number of frames never depend on the machine; each damaged packet costs
its own frames only, where other readers stop in silence.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

Frame = NDArray[np.uint8]

# Formats that name other files, for a video must be one self-contained file, and tty, which draws any text.
_NO_VIDEOS = {"concat", "dash", "hls", "imf", "image2", "tty", "webm_dash_manifest"}
# Containers count frames loosely (HMDB-51's headers declare one too many); beyond this the video is truncated.
_MISSING_FRAMES = 2
_MISSING_SHARE = 0.02


class BadVideoError(Exception):
    """The video cannot be used; the message is the reason that quarantine lists show."""


@dataclass
class Audit:
    """What decoding found; complete once all frames were read.

    Args:
        decoded: frames decoded.
        declared: frames that the header promises, None where it says nothing.
        fps: mean frame rate of the header, frames a second, 0 where unknown.
        width: width in pixels as shown, that is after rotation.
        height: likewise.
        repaired: what was wrong and could be mended, in words.
        sha256: of the file's bytes.
    """

    decoded: int = 0
    declared: int | None = None
    fps: float = 0.0
    width: int = 0
    height: int = 0
    repaired: list[str] = field(default_factory=list)
    sha256: str = ""


def read(path: Path, audit: Audit, *, width: int, height: int, max_pixels: int, max_frames: int) -> Iterator[Frame]:
    """Yield the frames of a video at the working size as uint8 [height, width, 3] BGR, filling in `audit`.

    Frames are resized bilinearly, or by area averaging where a side shrinks to less than half (bilinear would alias).

    Raises:
        BadVideoError: before the first frame, or midway: what was yielded before must then be discarded.
    """
    _check_file(path, audit)
    damaged = damaged_inside = 0
    turned = False
    with _open(path) as container:
        stream = _video_stream(container)
        audit.declared = stream.frames or None
        audit.fps = float(stream.average_rate or 0)
        size = None
        for frame, errors in _decode(container, stream):
            damaged += errors
            if frame is None:
                continue
            if size is None:
                size = (frame.width, frame.height)
                if frame.width * frame.height > max_pixels:
                    raise BadVideoError(
                        f"absurd size: {frame.width} x {frame.height} is over {max_pixels} pixels a frame"
                    )
            elif size != (frame.width, frame.height):
                raise BadVideoError(f"changed size midway: {size[0]} x {size[1]}, then {frame.width} x {frame.height}")
            if audit.decoded == max_frames:
                raise BadVideoError(f"too long: more than {max_frames} frames")
            audit.decoded += 1
            damaged += frame.is_corrupt
            if not frame.is_corrupt:
                damaged_inside = damaged  # sound frames follow this damage: it is not the end of a cut file
            image = frame.to_ndarray(format="bgr24")
            quarter_turns = round(frame.rotation / 90) % 4
            if quarter_turns:
                image = np.rot90(image, quarter_turns)
                turned = True
            audit.height, audit.width = image.shape[:2]
            yield _resize(image, width, height)
    _judge(audit, damaged, damaged_inside, turned)


def _check_file(path: Path, audit: Audit) -> None:
    try:
        with path.open("rb") as stream:
            audit.sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
        if not path.stat().st_size:
            raise BadVideoError("empty file")
    except FileNotFoundError:
        raise BadVideoError("missing file") from None
    except OSError as error:
        raise BadVideoError(f"unreadable file: {error.strerror}") from None


def _open(path: Path) -> av.container.InputContainer:
    try:
        # An absolute path is never taken for a protocol, whatever characters it has.
        container = av.open(
            str(path.absolute()), metadata_errors="replace", container_options={"protocol_whitelist": "file"}
        )
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise BadVideoError(f"not a video: {_reason(error)}") from None
    if _NO_VIDEOS & set(container.format.name.split(",")):
        container.close()
        raise BadVideoError(f"not a video but a {container.format.name} file")
    return container


def _video_stream(container: av.container.InputContainer) -> av.video.stream.VideoStream:
    if not container.streams.video:
        raise BadVideoError("no video stream")
    stream = container.streams.video[0]
    if stream.codec_context is None:
        raise BadVideoError("no decoder for its video stream")
    stream.thread_type = "NONE"
    stream.codec_context.thread_count = 1
    return stream


def _decode(
    container: av.container.InputContainer, stream: av.video.stream.VideoStream
) -> Iterator[tuple[av.VideoFrame | None, int]]:
    """Frames in order, each with the number of errors met before it; errors alone come with None."""
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except (av.error.FFmpegError, OSError):
            yield None, 1
            return  # the container cannot be read on from here
        if packet is None:
            return
        try:
            frames = packet.decode()
        except (av.error.FFmpegError, OSError):
            yield None, 1
            continue
        for frame in frames:
            yield frame, 0


def _judge(audit: Audit, damaged: int, damaged_inside: int, turned: bool) -> None:
    if audit.decoded == 0:
        raise BadVideoError("corrupt: no frame can be decoded" if damaged else "zero frames")
    missing = (audit.declared or 0) - audit.decoded
    if missing > max(_MISSING_FRAMES, _MISSING_SHARE * (audit.declared or 0)):
        cause = "corrupt in the middle" if damaged_inside else "truncated"
        raise BadVideoError(f"{cause}: {audit.decoded} of {audit.declared} frames can be decoded")
    if audit.decoded == 1:
        raise BadVideoError("one frame: no motion to see")
    if damaged:
        audit.repaired.append(f"{damaged} damaged packets or frames")
    if audit.declared is not None and missing:
        audit.repaired.append(f"header declares {audit.declared} frames")
    if turned:
        audit.repaired.append("rotated as its header says")


def _resize(image: Frame, width: int, height: int) -> Frame:
    rows, columns = image.shape[:2]
    if (columns, rows) == (width, height):
        return np.ascontiguousarray(image)
    shrinks = rows >= 2 * height or columns >= 2 * width
    resized: Frame = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return resized


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or type(error).__name__
