"""Read what containers say of their streams, and walk their structure; nothing is decoded here.

A file that promises neither a length nor a number of frames shows by its structure alone whether its end is missing:
containers are walked by the sizes that they state.
"""

import math
import os
import struct
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import av
from av.container import InputContainer
from av.video.stream import VideoStream

_PADDING = 4096  # bytes of zeros that may end a whole file
_BLOCK = 1 << 20  # bytes read at a time
_TRANSPORT_PACKETS = ((188, 0), (192, 4), (204, 0))  # bytes of a packet, and the place of 0x47 in it
_ASF_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_ASF_SHARE = 0.98  # of the size that its header states; a cut file has less
_GIF_END = b"\0;"
_MATROSKA_PARENTS = (b"\x18\x53\x80\x67", b"\x1f\x43\xb6\x75")  # segment and cluster, whose children are walked
_MOST_UNITS = 10_000_000  # to look at; hostile files could have a hundred times as many
_HEAD = 288  # bytes that state the length of a unit of any container; most are an Ogg page's


def without_covers(container: InputContainer) -> list[VideoStream]:
    """Return the streams of pictures that the header does not call cover pictures, in the order of the file."""
    covers = av.stream.Disposition.attached_pic
    return [stream for stream in container.streams.video if not stream.disposition & covers]


def single(container: InputContainer, indices: Sequence[int]) -> set[int]:
    """Return those of several streams, by index, that hold one picture: covers that the header does not call so.

    Reads packets until each stream had two, so a cover makes it read the whole file. The container is used up.
    """
    found: Counter[int] = Counter(dict.fromkeys(indices, 0))
    try:
        for packet in container.demux([container.streams[index] for index in indices]):
            found[packet.stream_index] += packet.size > 0
            if min(found.values()) > 1:
                break
    except (av.error.FFmpegError, OSError):
        pass  # damage is named where the video is decoded
    return {index for index, packets in found.items() if packets < 2}


def has_times(container: InputContainer) -> bool:
    """Whether the format has presentation times; for a bare stream of a codec, or for images, libav counts frames."""
    flags = av.format.Flags(container.format.flags)
    return not (flags & av.format.Flags.no_timestamps or container.format.name.endswith("_pipe"))


def given_rate(container: InputContainer, stream: VideoStream) -> float:
    """Return the frames per second that the container or the codec states, 0 if neither does."""
    if has_times(container):
        return float(stream.average_rate or stream.guessed_rate or 0)
    # For a bare stream libav assumes 25 if the codec states nothing.
    return float(stream.guessed_rate or 0) if stream.codec_context.framerate else 0.0


def has_unreadable_metadata(container: InputContainer, stream: VideoStream) -> bool:
    """Whether some text in the header is not UTF-8."""
    texts = [text for metadata in (container.metadata, stream.metadata) for item in metadata.items() for text in item]
    return any("\N{REPLACEMENT CHARACTER}" in text for text in texts)


def empty_chunks(path: Path, stream: int) -> int:
    """Count the empty chunks of a stream of pictures in an AVI file: each repeats the frame before it."""
    names = {b"%02ddc" % stream, b"%02ddb" % stream}
    with path.open("rb", buffering=0) as file:
        units = _units(file.fileno(), path.stat().st_size, 0, _riff_length)
        return sum(head[:4] in names and not any(head[4:8]) for _, head in units)


def zeros_at_end(path: Path) -> float:
    """Return the share of the file that is zeros at its end, left by a cut download; 0 for padding."""
    size = end = path.stat().st_size
    rest = b""
    with path.open("rb") as file:
        while end and not rest:
            file.seek(max(0, end - _BLOCK))
            block = file.read(end - file.tell())
            rest = block.rstrip(b"\0")
            end += len(rest) - len(block)
    return (size - end) / size if size - end > _PADDING else 0.0


def ends_inside_packet(path: Path, formats: frozenset[str]) -> bool:
    """Whether a file of these formats ends inside one of the units of which its container consists."""
    size = path.stat().st_size
    with path.open("rb", buffering=0) as file:
        if "mpegts" in formats:
            length, place = _transport_packets(file.read(2 * _HEAD))
            start = max(0, size // length - _BLOCK // length) * length
            return size % length != 0 or _is_open(os.pread(file.fileno(), _BLOCK, start), length, place)
        if "gif" in formats:
            return _GIF_END not in os.pread(file.fileno(), _HEAD, max(0, size - _HEAD))
        if "asf" in formats:
            return _asf_size(file.read(1 << 16)) * _ASF_SHARE > size
        for name in formats & _UNITS.keys():
            return max((end for end, _ in _units(file.fileno(), size, *_UNITS[name])), default=0) > size
    return False


def flv_seconds(path: Path) -> float | None:
    """Return the duration in the header of an FLV file; without one, libav would guess it."""
    with path.open("rb") as file:
        _, found, rest = file.read(1 << 16).partition(b"\0\x08duration\0")
    seconds = struct.unpack(">d", rest[:8])[0] if found and len(rest) >= 8 else 0.0
    return seconds if 0 < seconds < math.inf else None


def _units(file: int, size: int, start: int, length: Callable[[bytes], int]) -> Iterator[tuple[int, bytes]]:
    """Yield the stated end of each unit of a container and its first bytes, up to the first that is no unit."""
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
    """Return the length of a tag with the four bytes after it."""
    return 15 + int.from_bytes(head[5:8], "big") if len(head) > 4 and head[4] in (8, 9, 18) else 0


def _mp4_length(head: bytes) -> int:
    size = int.from_bytes(head[:4], "big")
    return int.from_bytes(head[8:16], "big") if size == 1 else size  # 0: up to the end of the file


def _ogg_length(head: bytes) -> int:
    return 27 + head[26] + sum(head[27 : 27 + head[26]]) if head[:4] == b"OggS" and len(head) > 26 else 0


def _program_length(head: bytes) -> int:
    """Return the length of a pack's header or a packet of an MPEG program stream."""
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


_UNITS: dict[str, tuple[int, Callable[[bytes], int]]] = {  # place of the first unit, and the length of one
    "flv": (9, _flv_length),
    "mov": (0, _mp4_length),
    "ogg": (0, _ogg_length),
    "mpeg": (0, _program_length),
    "matroska": (0, _matroska_length),
}


def _transport_packets(head: bytes) -> tuple[int, int]:
    """Return the length of the packets of a transport stream and the place of 0x47 in them."""
    for length, place in _TRANSPORT_PACKETS:
        if len(head) > place + length and head[place] == head[place + length] == 0x47:
            return length, place
    return 1, 0


def _is_open(packets: bytes, length: int, place: int) -> bool:
    """Whether the end of a packet of sound or pictures is missing, by the length that it states."""
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


def _asf_size(head: bytes) -> int:
    """Return the file size that the header states; 0 if it states none, as in a broadcast."""
    place = head.find(_ASF_PROPERTIES)
    if place < 0 or int.from_bytes(head[place + 88 : place + 92], "little") % 2:
        return 0
    return int.from_bytes(head[place + 40 : place + 48], "little")
