"""The one decoder: frame i of a video is frame i in every stream and on every machine, even if the file is damaged.

PyAV decodes with a single thread, so the order and number of frames never depend on the machine. A damaged packet costs
only its own frames, where other readers stop silently.

A file is foreign data: frames, pixels and processor time are limited; docs/security.md says what that leaves open.
Damage is what the decoder reports, in the frames themselves and in those predicted from them. A changed byte that still
decodes, as most do in VP9, goes unnoticed.
"""

import hashlib
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import av
import numpy as np
from av.sidedata.sidedata import Type
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from atw.config import FieldSettings, Fit, FrameSettings
from atw.videos import completeness, containers
from atw.videos.fit import fit_to, resize
from atw.videos.times import NO_TIMES, Clock, Times, mean_rate

Frame = NDArray[np.uint8]

# A video must be one self-contained file: these formats name other files, and tty draws any text. libav must not even
# open them: it waits without end for what a live list (.m3u8) says next.
_NO_VIDEOS = {"concat", "dash", "hls", "imf", "image2", "tty", "webm_dash_manifest"}
_FORMATS = ",".join(sorted({name for names in av.formats_available for name in names.split(",")} - _NO_VIDEOS))
_DAMAGED_SHARE = 0.1  # if more is damaged, and more than the few frames that may be missing, the video is not used
_PACKETS_PER_FRAME = 4  # at most: fields, pictures for reference only, and those that cannot be decoded
MAX_SECONDS = 3600.0  # of processor time: no clip needs minutes, a hostile file could need days


def _name_unknown(kind: type[Type], value: int) -> Type:
    """Let PyAV pass over side data that libav knows and it does not, as EXIF, in place of a ValueError."""
    unknown = object.__new__(kind)
    unknown._name_ = f"UNKNOWN_{value}"
    unknown._value_ = value  # type: ignore[assignment]
    return unknown


Type._missing_ = classmethod(_name_unknown)  # type: ignore[assignment,method-assign]


class BadVideoError(Exception):
    """The video cannot be used; the message is the reason that quarantine lists show."""


@dataclass
class Audit:
    """The findings of `read`, complete once all frames were read.

    Args:
        decoded: number of decoded frames.
        declared: number of frames that the header promises, None if it states none.
        fps: mean frames per second, 0 if unknown; the header's rate if the times agree with it.
        width: pixels as shown, after rotation.
        height: likewise.
        edges: when each frame is shown, see `Times`; empty if the file does not say.
        start: when the first frame is shown on the file's own clock, seconds.
        repaired: descriptions of mended faults.
        notes: descriptions of harmless peculiarities.
        sha256: of the file's bytes.
    """

    decoded: int = 0
    declared: int | None = None
    fps: float = 0.0
    width: int = 0
    height: int = 0
    edges: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    start: float = 0.0
    repaired: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    sha256: str = ""

    @property
    def times(self) -> Times:
        """When each of the decoded frames is shown."""
        return Times.of(self.edges, frames=self.decoded, fps=self.fps)


def read(
    path: Path,
    audit: Audit,
    *,
    width: int,
    height: int,
    max_pixels: int,
    max_frames: int,
    picture_stream: int = 0,
    fit: Fit = "stretch",
) -> Iterator[Frame]:
    """Yield the frames of a video at the working size as uint8 [height, width, 3] BGR, and fill in `audit`.

    `fit` says how, see `fit_to`. `picture_stream` is the number of the stream to take from a file with several, cover
    pictures not counted.

    Raises:
        BadVideoError: before the first frame, or midway; then the frames yielded so far must be discarded.
    """
    _check_file(path, audit)
    with _open(path, max_pixels) as container:
        stream = _video_stream(container, path, audit, picture_stream, max_pixels)
        _check_pixels(stream.codec_context.width, stream.codec_context.height, max_pixels)
        findings = _Findings(completeness.Pictures(stream.codec_context.codec.canonical_name))
        promise = completeness.promise(path, container, stream)
        audit.declared = promise.frames
        audit.fps = containers.given_rate(container, stream)
        if containers.has_unreadable_metadata(container, stream):
            audit.repaired.append("metadata is not UTF-8")
        size, turned = None, _Turned()
        for frame in _decode(container, stream, findings, _PACKETS_PER_FRAME * max_frames):
            if size is None:
                size = (frame.width, frame.height)
                _check_pixels(*size, max_pixels)
            elif size != (frame.width, frame.height):
                raise BadVideoError(f"changed size midway: {size[0]} x {size[1]}, then {frame.width} x {frame.height}")
            if audit.decoded == max_frames:
                raise BadVideoError(f"too long: more than {max_frames} frames")
            audit.decoded += 1
            findings.add(frame)
            image = turned.image(frame, findings)
            audit.height, audit.width = image.shape[:2]
            yield fit_to(image, width, height, fit, resize)
        if containers.has_times(container):
            _keep_times(audit, findings.clock)
        else:
            findings.clock = Clock()
    _judge(audit, findings, promise)


def read_as_configured(path: Path, audit: Audit, settings: FrameSettings | FieldSettings) -> Iterator[Frame]:
    """Read a video with the working size, limits and stream of the settings of shards, see `read`."""
    return read(
        path,
        audit,
        width=settings.width,
        height=settings.height,
        max_pixels=settings.max_pixels,
        max_frames=settings.max_frames,
        picture_stream=settings.picture_stream,
        fit=settings.fit,
    )


def expected_times(path: Path, *, max_pixels: int, max_frames: int, picture_stream: int = 0) -> Times | None:
    """Say when the frames of a video are shown, as far as its packets tell, which takes a small part of decoding.

    What `read` finds if every packet holds one frame and none is damaged. None if there is nothing to tell it from; why
    is for `read` to say.
    """
    shown: list[tuple[float | None, float]] = []
    try:
        if not path.is_file():
            return None  # a pipe would never end
        with _open(path, max_pixels) as container:
            stream = _video_stream(container, path, Audit(), picture_stream, max_pixels)
            rate, timed = containers.given_rate(container, stream), containers.has_times(container)
            for packet in container.demux(stream):
                if not packet.size or packet.is_discard:
                    continue
                tick = float(packet.time_base)
                shown.append((None if packet.pts is None else packet.pts * tick, (packet.duration or 0) * tick))
                if len(shown) > max_frames:
                    return None
    except (BadVideoError, av.error.FFmpegError, OSError):
        return None
    clock = Clock()
    for seconds, lasts in sorted(shown, key=lambda one: -math.inf if one[0] is None else one[0]):
        clock.add(seconds, lasts)
    _, edges = clock.timeline() if timed else (0.0, NO_TIMES)
    return Times.of(edges, frames=len(shown), fps=mean_rate(edges, rate)) if shown else None


@dataclass
class _Findings:
    """The state of a video as its packets and frames show it.

    Args:
        pictures: counts packets and frames.
        errors: number of damaged packets, which give no frame.
        flagged: number of frames that the decoder calls corrupt.
        damaged: number of these and of the frames predicted from them or from a lost one, up to the next key frame.
        inside: undamaged packets follow the damage, so it is not the end of a cut file.
        broken_end: the last packet is damaged.
        skewed: the header asks for a turn by no quarter.
        end_seconds: when the last frame ends.
        others_end_seconds: when the last packet of sound or of any other stream ends.
        clock: when each frame is shown; empty if the format has no times.
    """

    pictures: completeness.Pictures
    errors: int = 0
    flagged: int = 0
    damaged: int = 0
    inside: bool = False
    broken_end: bool = False
    skewed: bool = False
    end_seconds: float = 0.0
    others_end_seconds: float = 0.0
    clock: Clock = field(default_factory=Clock)
    _tainted: bool = False

    def add_other(self, packet: av.Packet) -> None:
        if packet.pts is not None and packet.time_base:
            end = float((packet.pts + (packet.duration or 0)) * packet.time_base)
            self.others_end_seconds = max(self.others_end_seconds, end)

    def add_packet(self, packet: av.Packet, frames: list[av.VideoFrame]) -> None:
        """Note a decoded packet before its frames."""
        corrupt = any(frame.is_corrupt for frame in frames)
        if packet.size:  # the last, empty one asks for the frames that are held back
            self.inside |= bool(frames and (self.errors or self.flagged)) and not corrupt
            self.broken_end = False
        self.broken_end |= corrupt

    def add_error(self) -> None:
        self.errors += 1
        self._tainted = self.broken_end = True

    def add(self, frame: av.VideoFrame) -> None:
        self.pictures.show(frame)
        if frame.is_corrupt:
            self.flagged += 1
            self._tainted = True
        else:
            self._tainted = self._tainted and not frame.key_frame
        self.damaged += self._tainted
        lasts = float(frame.duration * frame.time_base)
        self.clock.add(frame.time, lasts)
        if frame.time is not None:
            self.end_seconds = max(self.end_seconds, frame.time + lasts)


class _Turned:
    """Makes images of the frames of a video, turned and mirrored by quarter turns as its header says."""

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()
        self._rotation: float | None = None
        self._matrix: tuple[int, ...] | None = None

    def image(self, frame: av.VideoFrame, findings: _Findings) -> Frame:
        """Return a frame as BGR."""
        try:
            # frame.to_ndarray would start and end threads for each frame, which takes longer than all else.
            converted = self._reformatter.reformat(frame, format="bgr24", threads=1)
            image = np.asarray(converted.to_ndarray(), np.uint8)
        except (av.error.FFmpegError, OSError) as error:
            raise BadVideoError(f"its colours cannot be converted: {_reason(error)}") from None
        if frame.rotation != self._rotation:
            self._rotation, self._matrix = frame.rotation, _quarter_turns(frame)
        if self._matrix is None:
            return image
        a, b, c, d = self._matrix
        if a and d and not b and not c:
            columns, rows = a, d
        elif b and c and not a and not d:
            image, columns, rows = image.transpose(1, 0, 2), c, b
        else:
            findings.skewed = True
            return image
        return image[::rows, ::columns]


def _quarter_turns(frame: av.VideoFrame) -> tuple[int, ...] | None:
    """Return the matrix of a frame's header, each number -1, 0 or 1; None if it changes nothing.

    A pixel at column p and row q is shown at column a p + c q and row b p + d q. To be asked rarely: the frame and its
    side data then refer to each other, so it stays until Python looks for such pairs, and a film of 4K has gigabytes.
    """
    data = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return None
    a, b, _, c, d = (number / 65536 for number in np.frombuffer(data, np.int32)[:5].tolist())
    largest = max(map(abs, (a, b, c, d)))
    matrix = tuple(round(number / largest) if largest else 0 for number in (a, b, c, d))
    return None if matrix == (1, 0, 0, 1) else matrix


def _check_file(path: Path, audit: Audit) -> None:
    try:
        if path.exists() and not path.is_file():
            raise BadVideoError("unreadable file: not a regular file")  # a pipe or a device would never end
        with path.open("rb") as stream:
            audit.sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
        if not path.stat().st_size:
            raise BadVideoError("empty file")
    except FileNotFoundError:
        raise BadVideoError("missing file") from None
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        raise BadVideoError(f"unreadable file: {getattr(error, 'strerror', error)}") from None


def _check_pixels(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise BadVideoError(f"absurd size: {width} x {height} is over {max_pixels} pixels a frame")


def _inner_pixels(max_pixels: int) -> str:
    """Return the limit for libav, which counts whole blocks and a border of them."""
    return str(min(4 * max_pixels + 2**20, 2**31 - 1))


def _open(path: Path, max_pixels: int) -> av.container.InputContainer:
    try:
        # An absolute path is never mistaken for a protocol.
        return av.open(
            str(path.absolute()),
            metadata_errors="replace",
            container_options={"protocol_whitelist": "file", "format_whitelist": _FORMATS},
            options={"max_pixels": _inner_pixels(max_pixels)},
        )
    except av.error.ArgumentError:  # so libav says of a format that is not allowed
        raise BadVideoError("not a video: a picture, text, raw pixels, a list of files, or a damaged header") from None
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise BadVideoError(f"not a video: {_reason(error)}") from None


def _video_stream(
    container: av.container.InputContainer, path: Path, audit: Audit, number: int, max_pixels: int
) -> av.video.stream.VideoStream:
    # libav's best stream depends on bit rates, so a camera's two views could change places.
    found = containers.without_covers(container)
    if not found:
        raise BadVideoError("no video stream" + (" but a cover picture" if container.streams.video else ""))
    if len(found) > 1:
        with _open(path, max_pixels) as other:
            covers = containers.single(other, [stream.index for stream in found])
        found = [stream for stream in found if stream.index not in covers] or found
    if number >= len(found):
        raise BadVideoError(
            f"no stream of pictures {number}, counted from 0: it has {len(found)}; see preprocess.picture_stream"
        )
    if len(found) > 1:
        audit.notes.append(
            f"{len(found)} streams of pictures: stream {number}, counted from 0, is used (preprocess.picture_stream)"
        )
    stream = found[number]
    if stream.codec_context is None:
        raise BadVideoError("no decoder for its video stream")
    stream.thread_type = "NONE"
    stream.codec_context.thread_count = 1
    stream.codec_context.options = {"max_pixels": _inner_pixels(max_pixels)}
    return stream


def _keep_times(audit: Audit, clock: Clock) -> None:
    audit.start, audit.edges = clock.timeline()
    audit.fps = mean_rate(audit.edges, audit.fps)
    if audit.decoded > 1 and not len(audit.edges):
        audit.repaired.append("its times are missing or contradict each other: those of its frame rate are used")


def _decode(
    container: av.container.InputContainer, stream: av.video.stream.VideoStream, findings: _Findings, most_packets: int
) -> Iterator[av.VideoFrame]:
    """Yield the frames in order and report damage to `findings`.

    Raises:
        BadVideoError: decoding takes too long, the caller's own time not counted, or there are too many packets.
    """
    packets = container.demux()
    seconds = 0.0
    ended = False
    while True:
        start = time.thread_time()
        packet = None
        frames: list[av.VideoFrame] = []
        try:
            packet = next(packets, None)
            if packet is None:
                return
            if packet.stream is stream:
                findings.pictures.feed(packet)
                ended = not packet.buffer_ptr
                # An empty packet of Theora says "as before"; the last packet, without a buffer, ends the decoding.
                frames = [] if not ended and not packet.size else list(packet.decode())
                findings.add_packet(packet, frames)
            else:
                findings.add_other(packet)
        except IndexError:  # a stream that begins late, which PyAV does not know
            if ended:
                return
            packets = container.demux(list(container.streams))
            continue
        except (av.error.FFmpegError, OSError):
            if packet is None or findings.pictures.fail():
                findings.add_error()
        seconds += time.thread_time() - start
        yield from frames
        if packet is None:
            return  # the container cannot be read on from here
        if seconds > MAX_SECONDS:
            raise BadVideoError(f"too slow: decoding took more than {MAX_SECONDS:g} s of processor time")
        if len(findings.pictures.fed) > most_packets:
            raise BadVideoError(f"too long: more than {most_packets} packets of pictures")


def _judge(audit: Audit, findings: _Findings, promise: completeness.Promise) -> None:
    if audit.decoded == 0:
        held = findings.errors or findings.pictures.fed
        raise BadVideoError("corrupt: no frame can be decoded" if held else "zero frames")
    _check_pictures(audit, findings, promise)
    ends = findings.end_seconds, findings.others_end_seconds
    if reason := promise.broken(audit.decoded, *ends, inside_packet=findings.broken_end):
        raise BadVideoError(f"truncated: {reason}")
    variable, holes = findings.clock.gaps()
    damaged = findings.errors or findings.flagged
    gaps = holes if audit.declared is None else 0
    # A camera may pause, so time without frames is damage only beside other signs of it.
    if damaged and gaps > max(completeness.MISSING_FRAMES, _DAMAGED_SHARE * audit.decoded):
        raise BadVideoError(f"corrupt in the middle: {gaps} frames are missing between {audit.decoded}")
    if audit.decoded == 1:
        raise BadVideoError("one frame: no motion to see")
    if findings.damaged > max(completeness.MISSING_FRAMES, _DAMAGED_SHARE * audit.decoded):
        raise BadVideoError(f"corrupt in the middle: {findings.damaged} of {audit.decoded} frames are damaged")
    if damaged:
        audit.repaired.append(f"{findings.errors + findings.flagged} damaged packets or frames")
    elif gaps:
        audit.repaired.append(f"pauses between frames, {gaps} frames long in all")
    elif variable:
        audit.notes.append("variable frame rate: frames are taken as they come")
    if findings.skewed:
        audit.repaired.append("its header asks for a turn by no quarter, which is passed over")


def _check_pictures(audit: Audit, findings: _Findings, promise: completeness.Promise) -> None:
    """Compare the number of frames with the pictures in the file and with the promise of its header."""
    pictures = findings.pictures
    before, after = pictures.lost()
    good = audit.decoded - pictures.grey
    total = good + before + after
    found = f"{good} of about {total} frames can be decoded"
    if before > completeness.may_be_missing(total):
        raise BadVideoError(f"truncated: {found}, {before} come before the first key frame")
    if before:
        audit.repaired.append(f"frames before the first key frame that cannot be decoded: {before}")
    if audit.declared is not None and audit.declared > audit.decoded:
        header, repeated = audit.declared, pictures.without() + promise.empty_chunks()
        audit.declared = max(header - repeated, audit.decoded)
        if audit.declared - audit.decoded > completeness.may_be_missing(audit.declared):
            cause = "corrupt in the middle" if findings.inside else "truncated"
            also = f", {repeated} repeat the one before" if repeated > completeness.MISSING_FRAMES else ""
            raise BadVideoError(f"{cause}: {audit.decoded} of {header} frames can be decoded{also}")
    if after > completeness.may_be_missing(total):
        raise BadVideoError(f"corrupt in the middle: {found}")
    if audit.declared not in (None, audit.decoded, audit.decoded + before + after - pictures.grey):
        audit.repaired.append(f"header declares {audit.declared} frames")
    if after:
        audit.repaired.append(f"packets that give no frame: {after}")


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or type(error).__name__
