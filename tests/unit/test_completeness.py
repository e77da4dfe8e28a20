"""Whole videos are never called truncated, cut ones always are: in every container, with sound, with odd packets."""

import heapq
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from atw.videos.completeness import Pictures
from tests.unit.encoded import COUNT, ENCODERS, HEIGHT, NEVER_HANGS, WIDTH, Image, decode, reason

pytestmark = NEVER_HANGS

CASES = Path(__file__).parents[1] / "cases" / "videos"
RATE = 48_000
# Containers with the codecs of pictures and sound that they come with; the muxer where the suffix does not say.
WITH_SOUND = {
    "h264.flv": ("libx264", "aac", {}),
    "flv1.flv": ("flv", "aac", {}),
    "without duration.flv": ("flv", "aac", {"flvflags": "no_duration_filesize"}),
    "h264.ts": ("libx264", "aac", {}),
    "blu-ray.m2ts": ("libx264", "mp2", {"mpegts_m2ts_mode": "1"}),
    "hevc.ts": ("libx265", "aac", {}),
    "mpeg2.ts": ("mpeg2video", "mp2", {}),
    "wmv1.wmv": ("wmv1", "wmav2", {}),
    "wmv2.wmv": ("wmv2", "wmav2", {}),
    "msmpeg4.asf": ("msmpeg4", "wmav2", {}),
    "vp8.ogv": ("libvpx", "libopus", {}),
    "mpeg1.mpg": ("mpeg1video", "mp2", {}),
    "mpeg2.vob": ("mpeg2video", "mp2", {}),
    "mpeg4.avi": ("mpeg4", "mp2", {}),
    "mjpeg.avi": ("mjpeg", "pcm_s16le", {}),
    "h264.mp4": ("libx264", "aac", {"movflags": "faststart"}),
    "hevc.mp4": ("libx265", "aac", {"movflags": "faststart"}),
    "fragments.mp4": ("libx264", "aac", {"movflags": "frag_keyframe+empty_moov"}),
    "h264.mkv": ("libx264", "libopus", {}),
    "hevc.mkv": ("libx265", "libopus", {}),
    "live.mkv": ("libx264", "libopus", {"live": "1"}),
    "vp8.webm": ("libvpx", "libopus", {}),
    "vp9.webm": ("libvpx-vp9", "libopus", {}),
    "av1.webm": ("libsvtav1", "libopus", {}),
    "av1.mp4": ("libsvtav1", "aac", {"movflags": "faststart"}),
}
SILENT = {
    "gif.gif": ("gif", "", {}),
    "vp8.avi": ("libvpx", "", {}),
    "vp8.ivf": ("libvpx", "", {}),
    "h264.avi": ("libx264", "", {}),
    "h264.h264": ("libx264", "", {}),
    "mpeg2.m2v": ("mpeg2video", "", {}),
}
OPTIONS = ENCODERS | {
    "libvpx": {"auto-alt-ref": "1", "lag-in-frames": "10", "cpu-used": "8"},
    "libvpx-vp9": {"auto-alt-ref": "1", "lag-in-frames": "10", "cpu-used": "8"},
    "libx265": {"x265-params": "log-level=none:pools=1:frame-threads=1:open-gop=0"},
    "libsvtav1": {"preset": "13", "svtav1-params": "lp=1"},
}


def texture(count: int) -> list[Image]:
    rng = np.random.default_rng(0)
    image = np.kron(
        rng.integers(0, 256, (HEIGHT // 4 + count, WIDTH // 4, 3), dtype=np.uint8), np.ones((4, 4, 1), np.uint8)
    )
    return [np.ascontiguousarray(image[number : number + HEIGHT]) for number in range(count)]


def packets(codec: str, output: av.container.OutputContainer, times: Sequence[int]) -> Iterator[av.Packet]:
    """The packets of a new stream of pictures, one for each of `times` in 1/25 s."""
    stream: Any = output.add_stream(codec, rate=25)
    stream.thread_count = 1
    stream.height, stream.width = HEIGHT, WIDTH
    stream.pix_fmt = {"mjpeg": "yuvj420p", "gif": "rgb8"}.get(codec, "yuv420p")
    stream.gop_size, stream.bit_rate = 12, 400_000
    if codec in ("libx264", "mpeg1video", "mpeg2video") or (codec == "mpeg4" and output.format.name != "avi"):
        stream.max_b_frames = 1 if output.format.name == "m4v" else 2
    stream.options = OPTIONS.get(codec, {})
    for image, time in zip(texture(len(times)), times, strict=True):
        frame = av.VideoFrame.from_ndarray(image, format="bgr24")
        frame.time_base, frame.pts = Fraction(1, 25), time
        yield from stream.encode(frame)
    yield from stream.encode(None)


def tone(codec: str, output: av.container.OutputContainer, seconds: float) -> Iterator[av.Packet]:
    stream: Any = output.add_stream(codec, rate=RATE, layout="mono")
    stream.bit_rate = 64_000
    form = "s16" if codec in ("mp2", "pcm_s16le", "libopus") else "fltp"
    wave = np.sin(np.arange(int(seconds * RATE)) * 0.05)
    samples = (wave * 9000).astype(np.int16) if form == "s16" else wave.astype(np.float32)
    for start in range(0, len(samples), 960):
        frame = av.AudioFrame.from_ndarray(samples[None, start : start + 960], format=form, layout="mono")
        frame.sample_rate, frame.time_base, frame.pts = RATE, Fraction(1, RATE), start
        yield from stream.encode(frame)
    yield from stream.encode(None)


def write(
    path: Path, codec: str, sound: str = "", options: dict[str, str] | None = None, *,
    times: Sequence[int] = range(COUNT), seconds: float = COUNT / 25,
) -> Path:  # fmt: skip
    with av.open(str(path), "w", options={"fflags": "bitexact", **(options or {})}) as output:
        streams = [packets(codec, output, times)] + ([tone(sound, output, seconds)] if sound else [])
        for packet in heapq.merge(*streams, key=when):
            output.mux(packet)
    return path


def when(packet: av.Packet) -> float:
    assert packet.dts is not None and packet.time_base is not None
    return float(packet.dts * packet.time_base)


@pytest.mark.parametrize("name", [*WITH_SOUND, *SILENT])
def test_a_whole_video_is_whole_and_half_a_download_is_not(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, *(WITH_SOUND | SILENT)[name])
    frames, audit = decode(path)
    assert (len(frames), audit.repaired) == (COUNT, [])
    content = path.read_bytes()
    half = content[: len(content) // 2 | 1]
    path.write_bytes(half)
    assert reason(path).startswith("truncated: ")
    path.write_bytes(half + bytes(len(content) - len(half)))
    assert reason(path).startswith("truncated: ")


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("gop150.mp4", 200),
        ("sound.flv", 120),
        ("sound.ts", 120),
        ("sound.avi", 120),
        ("vfr.avi", 52),  # repeated frames are not missing
        ("vfr.mkv", 52),
        ("vfr_5percent.avi", 114),
        ("theora15.ogv", 38),
        ("cams_a.mp4", 60),
        ("cams_b.mp4", 60),
    ],
)
def test_whole_files_are_whole(name: str, count: int) -> None:
    frames, audit = decode(CASES / name)
    assert (len(frames), audit.repaired) == (count, [])
    assert audit.declared in (count, None)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cut_gop150.mp4", "50 of about 187 frames can be decoded, 137 come before the first key frame"),
        ("cut_gop150.mkv", "50 of about 188 frames can be decoded, 138 come before the first key frame"),
        ("cut_gop150.flv", "50 of about 188 frames can be decoded, 138 come before the first key frame"),
        ("cut_copyinkf.mp4", "100 of about 113 frames can be decoded, 13 come before the first key frame"),
        ("cut_copyinkf.mkv", "100 of about 115 frames can be decoded, 15 come before the first key frame"),
        ("cut50_sound.flv", "56 of about 114 frames can be decoded, 2.40 of 4.88 s are there"),
        ("zero50_sound.ts", "58 of about 116 frames can be decoded, the rest of the file is zeros"),
        ("zero50_sound.avi", "55 of 121 frames can be decoded"),
    ],
)
def test_incomplete_files_are_truncated(name: str, expected: str) -> None:
    assert reason(CASES / name) == f"truncated: {expected}"


@pytest.mark.parametrize("name", ["theora15.ogv", "sound.ts"])
def test_half_of_a_file_is_truncated(tmp_path: Path, name: str) -> None:
    content = (CASES / name).read_bytes()
    half = content[: len(content) // 2]  # of sound.ts, between two transport packets, but inside one of sound
    for number, rest in enumerate((b"", bytes(len(content) - len(half)))):
        path = tmp_path / f"{number} {name}"
        path.write_bytes(half + rest)
        assert reason(path).startswith("truncated: ")


def test_a_few_zeros_at_the_end_are_padding(tmp_path: Path) -> None:
    for name in ("sound.ts", "theora15.ogv"):
        path = tmp_path / name
        path.write_bytes((CASES / name).read_bytes() + bytes(188 * 20))
        assert decode(path)[1].repaired == []


def test_empty_packets_of_theora_are_no_damage(tmp_path: Path) -> None:
    content = (CASES / "theora15.ogv").read_bytes()
    changed, place, pages = b"", 0, 0
    while place < len(content):
        count = content[place + 26]
        sizes = content[place + 27 : place + 27 + count]
        end = place + 27 + count + sum(sizes)
        page = bytearray(content[place:end])
        if pages > 2:  # after the headers: one more packet on each page, of no bytes
            page[26:27] = bytes([count + 1])
            page[27 + count : 27 + count] = b"\0"
            page[22:26] = bytes(4)
            page[22:26] = checksum(page).to_bytes(4, "little")
        changed, place, pages = changed + page, end, pages + 1
    path = tmp_path / "v.ogv"
    path.write_bytes(changed)
    frames, audit = decode(path)
    assert (len(frames), audit.repaired) == (38, [])


def checksum(page: bytes) -> int:
    """Ogg's, of a page whose own is zero."""
    rest = 0
    for value in page:
        rest ^= value << 24
        for _ in range(8):
            rest = (rest << 1 ^ (0x04C11DB7 if rest >> 31 else 0)) & 0xFFFFFFFF
    return rest


def test_packets_without_frames_have_a_limit() -> None:
    assert reason(CASES / "cut_gop150.flv", max_frames=20) == "too long: more than 80 packets of pictures"


def without_start(source: Path, path: Path, lost: int) -> Path:
    """The video without its first coded pictures, in another container."""
    with av.open(str(source)) as whole, av.open(str(path), "w") as output:
        stream = output.add_stream_from_template(whole.streams.video[0])
        for number, packet in enumerate(whole.demux(video=0)):
            if packet.size and number >= lost:
                packet.stream = stream
                output.mux(packet)
    return path


@pytest.mark.parametrize(
    ("codec", "suffixes", "kept"),
    [
        ("libx264", ("ts", "mp4", "mkv", "flv", "avi", "wmv"), 2),
        ("libx265", ("ts", "mp4", "mkv"), 2),
        ("mpeg4", ("mp4", "mkv", "avi", "wmv"), 0),  # two B-frames after the key frame are lost with what is before it
        ("mpeg2video", ("mp4", "mkv", "ts", "vob", "avi"), 0),
        ("libvpx", ("mkv", "avi"), 2),
        ("libvpx-vp9", ("mp4", "mkv"), 2),
        ("flv", ("flv", "avi"), 2),
        ("wmv2", ("wmv", "avi"), 2),
    ],
)
def test_what_comes_before_the_first_key_frame_is_counted_alike_everywhere(
    tmp_path: Path, codec: str, suffixes: tuple[str, ...], kept: int
) -> None:
    source = write(tmp_path / f"source.{suffixes[0]}", codec)
    with av.open(str(source)) as whole:
        second = [number for number, packet in enumerate(whole.demux(video=0)) if packet.is_keyframe][1]
    for suffix in suffixes:
        frames, audit = decode(without_start(source, tmp_path / f"whole.{suffix}", 0))
        assert (suffix, len(frames), audit.repaired) == (suffix, COUNT, [])
        found = reason(without_start(source, tmp_path / f"cut.{suffix}", 1))
        assert found.startswith("truncated: "), suffix
        assert "come before the first key frame" in found, suffix
        frames, audit = decode(without_start(source, tmp_path / f"nearly.{suffix}", second - kept))
        assert COUNT - 12 <= len(frames) <= COUNT - 10, suffix  # some decoders paint what they cannot decode on grey
        # What an edit list of MP4 hides is not missing.
        hidden = {"frames before the first key frame that cannot be decoded: 1", ""} if suffix == "mp4" else set()
        lost = "frames before the first key frame that cannot be decoded: 2"
        assert "; ".join(audit.repaired) in {lost, *hidden}, suffix


def test_sound_may_outlast_the_pictures(tmp_path: Path) -> None:
    for name, (codec, sound, options) in WITH_SOUND.items():
        path = write(tmp_path / name, codec, sound, options, seconds=4.0)
        frames, audit = decode(path)
        assert (len(frames), audit.repaired) == (COUNT, []), name


def test_frames_repeated_by_empty_chunks_of_avi_are_not_missing(tmp_path: Path) -> None:
    times = [number + 3 * (number > 20) + 7 * (number > 30) for number in range(COUNT)]
    for codec in ("mpeg4", "mjpeg"):
        path = write(tmp_path / f"{codec}.avi", codec, times=times)
        frames, audit = decode(path)
        assert (len(frames), audit.declared) == (COUNT, COUNT)
        content = path.read_bytes()
        path.write_bytes(content[: len(content) * 3 // 4])
        assert reason(path).startswith("truncated: ")
        assert "of 50 frames can be decoded" in reason(path)


def as_before(place: int) -> bytes:
    """A frame of MPEG-4 that is not coded, which repeats the one before, at a place of 1/25 s."""
    bits = "01" + "0" + "1" + f"{place % 25:05b}" + "1" + "0" + "0"
    bits += "1" * (-len(bits) % 8)
    return b"\0\0\1\xb6" + int(bits, 2).to_bytes(len(bits) // 8, "big")


def test_frames_of_mpeg4_that_are_not_coded_are_not_missing(tmp_path: Path) -> None:
    path = tmp_path / "v.avi"
    with av.open(str(path), "w") as output:
        for packet in packets("mpeg4", output, range(0, 3 * COUNT, 3)):
            output.mux(packet)
            assert packet.pts is not None
            if packet.pts == 3 * COUNT - 3:
                break
            repeat = av.Packet(as_before(packet.pts + 1))
            repeat.stream, repeat.time_base = packet.stream, packet.time_base
            repeat.pts = repeat.dts = packet.pts + 1
            output.mux(repeat)
    frames, audit = decode(path)
    assert (len(frames), audit.declared, audit.repaired) == (COUNT, COUNT, [])


def test_b_frames_packed_with_the_frame_before_them_are_not_missing(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "plain.m4v"), "w", format="m4v") as plain:
        coded = [
            (bytes(packet), packet.pts or 0, packet.is_keyframe) for packet in packets("mpeg4", plain, range(COUNT))
        ]
    packed: list[tuple[bytes, bool]] = []
    for number, (content, time, key) in enumerate(coded):
        if number == 0:
            content = content.replace(b"\0\0\1\xb6", b"\0\0\1\xb2DivX503b1393p\0\0\1\xb6", 1)
        if time < max(before for _, before, _ in coded[: number + 1]):
            packed[-1] = packed[-1][0] + content, packed[-1][1]
            packed.append((as_before(time + 1), False))
        else:
            packed.append((content, key))
    path = tmp_path / "v.avi"
    with av.open(str(path), "w") as output:
        stream: Any = output.add_stream("mpeg4", rate=25)
        stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, "yuv420p"
        stream.codec_context.codec_tag = "DX50"
        for place, (content, key) in enumerate(packed):
            packet = av.Packet(content)
            packet.stream, packet.time_base, packet.is_keyframe = stream, Fraction(1, 25), key
            packet.pts = packet.dts = place
            output.mux(packet)
    frames, audit = decode(path)
    assert sum(content == as_before(time) for content, _ in packed for time in range(25)) > COUNT // 4
    assert (len(frames), audit.declared, audit.repaired) == (COUNT, COUNT, [])
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    assert reason(path).startswith("truncated: ")


def fed(pictures: Pictures, time: int | None, *, key: bool = False) -> None:
    packet = av.Packet(b"picture")
    packet.pts, packet.is_keyframe = time, key
    pictures.feed(packet)


def shown(pictures: Pictures, time: int | None) -> None:
    frame = av.VideoFrame(16, 16)
    frame.pts = time
    pictures.show(frame)


@pytest.mark.parametrize("fields_have_times", [True, False])
def test_fields_of_one_picture_are_one_frame(fields_have_times: bool) -> None:
    pictures = Pictures("h264")
    for number in range(-20, 100, 2):
        fed(pictures, number, key=number % 20 == 0 and number >= 0)
        fed(pictures, number + 1 if fields_have_times else None)
        if number >= 0:
            shown(pictures, number)
    before, after = pictures.lost()
    assert after == 0
    assert before == 10
    assert pictures.without() >= 40


def test_pictures_without_times_are_counted() -> None:
    pictures = Pictures("h264")
    for number in range(50):
        fed(pictures, None, key=number == 10)
        if 10 <= number < 40:
            shown(pictures, None)
    assert pictures.lost() == (10, 10)


def test_packets_that_only_later_frames_refer_to_are_not_missing() -> None:
    pictures = Pictures("vp8")
    for number in range(0, 300, 3):
        fed(pictures, number, key=number == 0)
        shown(pictures, number)
        fed(pictures, number + 2)
    assert pictures.lost() == (0, 0)
    assert pictures.without() == 100
