"""What a container says of its streams of pictures: which there are beside covers, and at what rate and when they show.

Only libav's reading of headers and packets; nothing is decoded here.
"""

from collections import Counter
from collections.abc import Sequence

import av
from av.container import InputContainer
from av.video.stream import VideoStream


def without_covers(container: InputContainer) -> list[VideoStream]:
    """The streams of pictures that are no cover pictures by what the header says, in the order of the file."""
    covers = av.stream.Disposition.attached_pic
    return [stream for stream in container.streams.video if not stream.disposition & covers]


def single(container: InputContainer, indices: Sequence[int]) -> set[int]:
    """Those of several streams, by index, that hold one picture: covers for which the header has no word.

    Reads packets until each stream had two, which a cover makes the whole file; the container is used up then.
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
    """Whether the format has presentation times; of a bare stream of a codec, or of images, libav counts frames."""
    flags = av.format.Flags(container.format.flags)
    return not (flags & av.format.Flags.no_timestamps or container.format.name.endswith("_pipe"))


def given_rate(container: InputContainer, stream: VideoStream) -> float:
    """Frames a second that a file gives, in its container or in its codec; 0 where it gives none."""
    if has_times(container):
        return float(stream.average_rate or stream.guessed_rate or 0)
    # Of a bare stream libav takes 25 for granted where the codec says nothing.
    return float(stream.guessed_rate or 0) if stream.codec_context.framerate else 0.0


def has_unreadable_metadata(container: InputContainer, stream: VideoStream) -> bool:
    """Whether some text in the header is no UTF-8."""
    texts = [text for metadata in (container.metadata, stream.metadata) for item in metadata.items() for text in item]
    return any("\N{REPLACEMENT CHARACTER}" in text for text in texts)
