"""Judge whether a video is whole: from its pictures and frames, the promises of its header, and the end of the file."""

import contextlib
from dataclasses import dataclass, field
from pathlib import Path

import av
import numpy as np
from av.video.frame import PictureType

from atw.videos import containers

# Decoders that show nothing before a key frame; others paint on grey. If their packet gives no frame, the frame is lost
# or the packet is the second field of a picture. In other codecs such a packet may say "as before" (MPEG-4, WMV) or be
# for reference only (VP8).
_STRICT = {"h264", "hevc", "vvc", "av1", "mpeg1video", "mpeg2video"}
# Containers whose header states the duration; for others libav guesses it from the packets that are there.
_DURATION_IN_HEADER = {"asf", "matroska"}
# Containers count frames loosely (HMDB-51's headers declare one too many); if more are missing the video is truncated.
MISSING_FRAMES = 2
_MISSING_SHARE = 0.02
_FIELD = 0.6  # of the time between frames; a picture that is nearer to another one is its second field


@dataclass
class Pictures:
    """Compares the packets that went into the decoder with the frames that came out.

    Args:
        codec: libav's name.
        failed: number of packets that the decoder refused, from the first key frame on.
        fed: when the picture of each packet is shown, in units of the file, in the order of decoding.
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
        """Note that the last packet was refused; return whether this is damage rather than a missing key frame."""
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
        """The number of frames before the first key frame that were painted on nothing."""
        return self._leading if self._typed else 0  # some decoders do not tell the type of frames

    def lost(self) -> tuple[int, int]:
        """Count the pictures before the first key frame that cannot be decoded, and the later ones without a frame."""
        first = len(self.fed) if self._first_key is None else self._first_key
        times = [time for time in self._shown if time is not None]
        if times:
            unseen, early, start = self._unseen(times), set(self.fed[:first]), min(times)
            leading = sum(time < start or time in early for time in unseen)
            later = len(unseen) - leading
        else:  # AVI has no times if frames are reordered
            leading, later = max(0, first - self.grey), len(self.fed) - first
        silent = max(0, len(self.fed) - self.failed - len(self._shown))  # packets without a frame
        before = min(silent, leading)
        return before + self.grey, min(silent - before, later) if self.codec in _STRICT else 0

    def without(self) -> int:
        """Return how many packets hold no picture of their own: second fields, and those that say "as before"."""
        return max(0, len(self.fed) - self.failed - len(self._shown) - (sum(self.lost()) - self.grey))

    def _unseen(self, times: list[int]) -> list[int]:
        """Return the times of the pictures that no frame shows; `times` are those of the frames."""
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
    """What the header of a file promises.

    Args:
        path: the file.
        formats: libav's names of its container.
        stream: number of the stream of pictures.
        frames: how many frames it promises; None if it states no number.
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
        """Return how a file stops before its end, "" if it does not.

        Args:
            decoded: number of decoded frames.
            pictures_end: when the last frame ends, seconds.
            others_end: when the last packet of any other stream ends, seconds.
            inside_packet: whether the last packet is damaged.
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
        total = decoded / (1 - containers.zeros_at_end(self.path))
        if total - decoded > may_be_missing(total):
            return f"{decoded} of about {total:.0f} frames can be decoded, the rest of the file is zeros"
        if inside_packet or containers.ends_inside_packet(self.path, self.formats):
            return f"the file ends inside a packet, after {decoded} frames"
        return ""

    def empty_chunks(self) -> int:
        """Count the empty chunks of pictures in an AVI file: each repeats the frame before it."""
        return containers.empty_chunks(self.path, self.stream) if "avi" in self.formats else 0


def may_be_missing(total: float) -> float:
    """Return how many of so many frames may be missing."""
    return max(MISSING_FRAMES, _MISSING_SHARE * total)


def promise(path: Path, container: av.container.InputContainer, stream: av.VideoStream) -> Promise:
    """Read what the header of an open video promises."""
    formats = frozenset(container.format.name.split(","))
    frames = None if "gif" in formats else stream.frames or None  # libav counts the frames that a GIF has
    if "mov" in formats and stream.frames:
        # A video that was cut without coding it anew counts all samples, but its edit list shows only some of them.
        frames = sum(not entry.is_discard for entry in stream.index_entries)
    longest = None
    if "flv" in formats:
        longest = containers.flv_seconds(path)
    elif formats & _DURATION_IN_HEADER and container.duration:
        longest = container.duration / av.time_base
    seconds = longest if len(container.streams) == 1 else None
    parts = stream.metadata.get("DURATION", "").split(":")  # Matroska states hours:minutes:seconds of a stream
    if "matroska" in formats and len(parts) == 3:
        with contextlib.suppress(ValueError):
            hours, minutes, rest = map(float, parts)
            seconds = 3600 * hours + 60 * minutes + rest
    return Promise(path, formats, stream.index, frames, seconds, longest)
