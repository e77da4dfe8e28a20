"""Whether a video is whole: pictures that no frame shows, what the header promises, and how the file ends.

What follows the end of a file that promises nothing is told by its structure alone: containers are walked by the sizes
that they state, and only where nothing better is known.
"""

import contextlib
import math
import os
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import av
import numpy as np
from av.video.frame import PictureType

# Decoders that show nothing before a key frame; others paint on grey. A packet of theirs without a frame is a loss, or
# the second field of a picture; elsewhere it may say "as before" (MPEG-4, WMV) or be for reference only (VP8).
_STRICT = {"h264", "hevc", "vvc", "av1", "mpeg1video", "mpeg2video"}
# Containers whose duration is written in the file; others have libav guess it from what is there.
_DURATION_IN_HEADER = {"asf", "matroska"}
# Containers count frames loosely (HMDB-51's headers declare one too many); beyond this the video is truncated.
MISSING_FRAMES = 2
_MISSING_SHARE = 0.02
_FIELD = 0.6  # of the time between frames; what is nearer to another picture is its second field
_PADDING = 4096  # bytes of zeros that may end a whole file
_BLOCK = 1 << 20  # bytes read at a time
_TRANSPORT_PACKETS = ((188, 0), (192, 4), (204, 0))  # bytes of a packet, and of those the place of 0x47
_ASF_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_GIF_END = b"\0;"
_ASF_SHARE = 0.98  # of the size in its header; less is there of a cut file
_MATROSKA_PARENTS = (b"\x18\x53\x80\x67", b"\x1f\x43\xb6\x75")  # segment and cluster, whose children are walked
_MOST_UNITS = 10_000_000  # looked at; hostile files could have a hundred times as many
_HEAD = 288  # bytes that say how long a unit of any container is; most are an Ogg page's


@dataclass
class Pictures:
    """Packets that went into the decoder, against the frames that came out.

    Args:
        codec: libav's name of it.
        failed: packets that the decoder refused, from the first key frame on.
        fed: when the pictures of packets are shown, in units of the file, in the order of decoding.
    """

    codec: str
    failed: int = 0
    fed: list[int | None] = field(default_factory=list)
    _shown: list[int | None] = field(default_factory=list)
    _first_key: int | None = None
    _keyed: bool = False
    _leading: int = 0
    _typed: bool = False

    def feed(self, packet: av.Packet) -> None:
        """Note a packet before it is decoded, unless an edit list hides its picture."""
        if packet.size and packet.is_keyframe and self._first_key is None:
            self._first_key = len(self.fed)
        if packet.size and not packet.is_discard:
            self.fed.append(packet.pts)

    def fail(self) -> bool:
        """Note that the last packet was refused; whether this is damage, and no want of a key frame."""
        self.failed += self._first_key is not None
        return self._first_key is not None

    def show(self, frame: av.VideoFrame) -> None:
        """Note a frame in its order of presentation."""
        self._shown.append(frame.pts)
        self._typed = self._typed or frame.pict_type != PictureType.NONE
        if self._keyed:
            return
        intra = frame.key_frame or frame.pict_type == PictureType.I
        self._keyed = intra or self._first_key == 0 or self.codec in _STRICT
        self._leading += not self._keyed
        if self._keyed and self._first_key is None:  # the container marks no key frames
            self._first_key = self.fed.index(frame.pts) if frame.pts in self.fed else 0

    @property
    def grey(self) -> int:
        """How many frames before the first key frame were painted on nothing."""
        return self._leading if self._typed else 0  # some decoders say of no frame what it is

    def lost(self) -> tuple[int, int]:
        """How many pictures before the first key frame cannot be decoded, and how many after it give no frame."""
        first = len(self.fed) if self._first_key is None else self._first_key
        times = [time for time in self._shown if time is not None]
        if times:
            unseen, early, start = self._unseen(times), set(self.fed[:first]), min(times)
            leading = sum(time < start or time in early for time in unseen)
            later = len(unseen) - leading
        else:  # AVI has no times of frames that are reordered
            leading, later = max(0, first - self.grey), len(self.fed) - first
        silent = max(0, len(self.fed) - self.failed - len(self._shown))  # packets without a frame
        before = min(silent, leading)
        return before + self.grey, min(silent - before, later) if self.codec in _STRICT else 0

    def without(self) -> int:
        """How many packets hold no picture of their own: second fields, and those that say "as before"."""
        return max(0, len(self.fed) - self.failed - len(self._shown) - (sum(self.lost()) - self.grey))

    def _unseen(self, times: list[int]) -> list[int]:
        """When the pictures are that no frame shows; `times` are those of the frames."""
        known = np.unique(times)
        near = _FIELD * float(np.median(np.diff(known))) if len(known) > 2 else 0.0
        found: list[int] = []
        for time in sorted({time for time in self.fed if time is not None} - set(times)):
            place = np.searchsorted(known, time)
            neighbours = [*known[max(place - 1, 0) : place + 1], *found[-1:]]
            if all(abs(time - other) > near for other in neighbours):
                found.append(time)
        return found


@dataclass(frozen=True)
class Promise:
    """What the header of a file promises, and how the file ends.

    Args:
        path: the file.
        formats: libav's names of its container.
        stream: number of the stream of pictures.
        frames: how many frames it promises to show; None where it says nothing.
        seconds: when the pictures end, likewise.
        longest_seconds: when the longest stream ends, likewise.
    """

    path: Path
    formats: frozenset[str]
    stream: int
    frames: int | None
    seconds: float | None
    longest_seconds: float | None

    def broken(self, decoded: int, pictures_end: float, others_end: float, *, inside_packet: bool) -> str:
        """How a file of so many frames stops before its end; "" where it does not.

        Args:
            pictures_end: when the last frame ends, seconds.
            others_end: when the last packet of any other stream does, likewise.
            inside_packet: the last packet is damaged.
        """
        for promised, end in (
            (self.seconds, pictures_end),
            (self.longest_seconds, max(pictures_end, others_end)),  # sound may outlast the pictures
        ):
            if promised and pictures_end:
                total = decoded * promised / pictures_end
                if (promised - end) * total / promised > may_be_missing(total):
                    return (
                        f"{decoded} of about {total:.0f} frames can be decoded, {end:.2f} of {promised:.2f} s are there"
                    )
        if self.frames is not None or self.longest_seconds is not None:
            return ""
        total = decoded / (1 - self.zeros_at_end())
        if total - decoded > may_be_missing(total):
            return f"{decoded} of about {total:.0f} frames can be decoded, the rest of the file is zeros"
        if inside_packet or self.ends_inside_packet():
            return f"the file ends inside a packet, after {decoded} frames"
        return ""

    def empty_chunks(self) -> int:
        """How many chunks of pictures in an AVI file are empty: each repeats the frame before it."""
        if "avi" not in self.formats:
            return 0
        names = {b"%02ddc" % self.stream, b"%02ddb" % self.stream}
        with self.path.open("rb", buffering=0) as file:
            units = _units(file.fileno(), self.path.stat().st_size, 0, _riff_length)
            return sum(head[:4] in names and not any(head[4:8]) for _, head in units)

    def zeros_at_end(self) -> float:
        """The share of the file that is zeros at its end, left by a download that reserved its size; 0 for padding."""
        size = end = self.path.stat().st_size
        rest = b""
        with self.path.open("rb") as file:
            while end and not rest:
                file.seek(max(0, end - _BLOCK))
                block = file.read(end - file.tell())
                rest = block.rstrip(b"\0")
                end += len(rest) - len(block)
        return (size - end) / size if size - end > _PADDING else 0.0

    def ends_inside_packet(self) -> bool:
        """Whether the file ends inside one of the units that its container consists of."""
        size = self.path.stat().st_size
        with self.path.open("rb", buffering=0) as file:
            if "mpegts" in self.formats:
                length, place = _transport_packets(file.read(2 * _HEAD))
                start = max(0, size // length - _BLOCK // length) * length
                return size % length != 0 or _is_open(os.pread(file.fileno(), _BLOCK, start), length, place)
            if "gif" in self.formats:
                return _GIF_END not in os.pread(file.fileno(), _HEAD, max(0, size - _HEAD))
            if "asf" in self.formats:
                return _asf_size(file.read(1 << 16)) * _ASF_SHARE > size
            for name in self.formats & _UNITS.keys():
                return max((end for end, _ in _units(file.fileno(), size, *_UNITS[name])), default=0) > size
        return False


def may_be_missing(total: float) -> float:
    """How many of so many frames may be missing."""
    return max(MISSING_FRAMES, _MISSING_SHARE * total)


def promise(path: Path, container: av.container.InputContainer, stream: av.VideoStream) -> Promise:
    """Read what the header of an open video promises."""
    formats = frozenset(container.format.name.split(","))
    frames = None if "gif" in formats else stream.frames or None  # of a GIF, libav counts what is there
    if "mov" in formats and stream.frames:
        # Of a video cut without coding it anew, all samples are counted, but its edit list shows only some of them.
        frames = sum(not entry.is_discard for entry in stream.index_entries)
    longest = None
    if "flv" in formats:
        longest = _flv_seconds(path)
    elif formats & _DURATION_IN_HEADER and container.duration:
        longest = container.duration / av.time_base
    seconds = longest if len(container.streams) == 1 else None
    parts = stream.metadata.get("DURATION", "").split(":")  # hours:minutes:seconds, Matroska's for the one stream
    if "matroska" in formats and len(parts) == 3:
        with contextlib.suppress(ValueError):
            hours, minutes, rest = map(float, parts)
            seconds = 3600 * hours + 60 * minutes + rest
    return Promise(path, formats, stream.index, frames, seconds, longest)


def _units(file: int, size: int, start: int, length: Callable[[bytes], int]) -> Iterator[tuple[int, bytes]]:
    """Where each unit of a container ends, by its own words, and its first bytes; up to the first that is none."""
    place = start
    for _ in range(_MOST_UNITS):
        if place >= size:
            return
        head = os.pread(file, _HEAD, place)
        step = length(head)
        if not step:
            return
        place += step
        yield place, head


def _riff_length(head: bytes) -> int:
    if head[:4] in (b"RIFF", b"LIST"):
        return 12
    size = int.from_bytes(head[4:8], "little")
    return 8 + size + size % 2 if head[:4].isascii() and head[:4].isalnum() else 0


def _flv_length(head: bytes) -> int:
    """Of a tag with the four bytes that repeat the length of the one before it."""
    return 15 + int.from_bytes(head[5:8], "big") if len(head) > 4 and head[4] in (8, 9, 18) else 0


def _mp4_length(head: bytes) -> int:
    size = int.from_bytes(head[:4], "big")
    return int.from_bytes(head[8:16], "big") if size == 1 else size  # 0: up to the end of the file


def _ogg_length(head: bytes) -> int:
    return 27 + head[26] + sum(head[27 : 27 + head[26]]) if head[:4] == b"OggS" and len(head) > 26 else 0


def _program_length(head: bytes) -> int:
    """Of a pack's header or a packet of an MPEG program stream."""
    if head[:3] != b"\0\0\1" or len(head) < 14 or head[3] < 0xB9:
        return 0
    if head[3] == 0xB9:  # the end
        return 4
    if head[3] == 0xBA:
        return 14 + head[13] % 8 if head[4] >> 6 == 1 else 12
    return 6 + int.from_bytes(head[4:6], "big")


def _matroska_length(head: bytes) -> int:
    name = 9 - head[0].bit_length()
    if name > 4 or len(head) < 12:
        return 0
    length = 9 - head[name].bit_length()
    size = int.from_bytes(head[name : name + length], "big") - (1 << 7 * length)
    unknown = size == (1 << 7 * length) - 1
    return name + length + (0 if unknown or head[:name] in _MATROSKA_PARENTS else size)


_UNITS: dict[str, tuple[int, Callable[[bytes], int]]] = {  # where the first is, and how long one is
    "flv": (9, _flv_length),
    "mov": (0, _mp4_length),
    "ogg": (0, _ogg_length),
    "mpeg": (0, _program_length),
    "matroska": (0, _matroska_length),
}


def _transport_packets(head: bytes) -> tuple[int, int]:
    """How long the packets of a transport stream are, and where in them 0x47 stands."""
    for length, place in _TRANSPORT_PACKETS:
        if len(head) > place + length and head[place] == head[place + length] == 0x47:
            return length, place
    return 1, 0


def _is_open(packets: bytes, length: int, place: int) -> bool:
    """Whether a packet of sound or pictures that says how long it is lacks its end; transport packets carry it."""
    missing: dict[int, int] = {}  # bytes, by stream
    for start in range(place, len(packets) - 187, length):
        packet = packets[start : start + 188]
        flags = packet[3]
        payload = packet[5 + packet[4] if flags & 0x20 else 4 :] if flags & 0x10 else b""
        stream = int.from_bytes(packet[1:3], "big") & 0x1FFF
        if packet[1] & 0x40:
            said = int.from_bytes(payload[4:6], "big") if payload[:3] == b"\0\0\1" else 0
            missing[stream] = 6 + said - len(payload) if said else 0
        elif stream in missing:
            missing[stream] -= len(payload)
    return any(rest > 0 for rest in missing.values())


def _flv_seconds(path: Path) -> float | None:
    """The duration that the header of an FLV file states; where there is none, libav would guess it."""
    with path.open("rb") as file:
        _, found, rest = file.read(1 << 16).partition(b"\0\x08duration\0")
    seconds = struct.unpack(">d", rest[:8])[0] if found and len(rest) >= 8 else 0.0
    return seconds if 0 < seconds < math.inf else None


def _asf_size(head: bytes) -> int:
    """How large the header says the file is; 0 where it says nothing, as in a broadcast."""
    place = head.find(_ASF_PROPERTIES)
    if place < 0 or int.from_bytes(head[place + 88 : place + 92], "little") % 2:
        return 0
    return int.from_bytes(head[place + 40 : place + 48], "little")
