"""A corpus of damaged videos: each is decoded as its undamaged frames say, or left out with the right reason."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from atw import config
from atw.datasets import Dataset
from atw.preprocess.shard import make
from atw.shards import Shard
from atw.videos.decode import BadVideoError
from tests.unit.encoded import BASES, COUNT, NEVER_HANGS, Image, Sound, decode, encode, reason

Damage = Callable[[bytes], bytes]

pytestmark = NEVER_HANGS

# Where the decoder notices what is wrong: elsewhere most changed bytes make other frames that are as good as any.
NOTICED = ("mpeg4.avi", "mpeg4.mp4", "h264.mp4", "h264.mkv")
UNNOTICED = {("h264.mp4", "block inverted")}  # inside one picture, whose arithmetic coding makes another one of it
REASONS = (
    "truncated: ",
    "corrupt",
    "not a video",
    "no video stream",
    "zero frames",
    "one frame",
    "changed size midway: ",
)


def cut(share: float) -> Damage:
    return lambda content: content[: int(len(content) * share)]


def changed(first: float, size: int, change: Callable[[bytes], bytes]) -> Damage:
    """`size` bytes from the place `first`, a share of the file, are changed."""

    def damage(content: bytes) -> bytes:
        start = int(len(content) * first)
        return content[:start] + change(content[start : start + size]) + content[start + size :]

    return damage


def flipped(count: int, seed: int) -> Damage:
    """`count` single bits flipped anywhere behind the headers."""

    def damage(content: bytes) -> bytes:
        rng = np.random.default_rng(seed)
        damaged = bytearray(content)
        for place in rng.integers(len(content) // 5, len(content), count):
            damaged[place] ^= 1 << int(rng.integers(8))
        return bytes(damaged)

    return damage


DAMAGES: dict[str, Damage] = {
    "cut to 5%": cut(0.05),
    "cut to 30%": cut(0.3),
    "cut to 60%": cut(0.6),
    "cut to 85%": cut(0.85),
    "last byte lost": lambda content: content[:-1],
    "first kilobyte lost": lambda content: content[1024:],
    "headers are zeros": changed(0.0, 512, lambda old: bytes(len(old))),
    "block of zeros": changed(0.5, 600, lambda old: bytes(len(old))),
    "block inverted": changed(0.6, 400, lambda old: bytes(value ^ 0xFF for value in old)),
    "block lost": changed(0.5, 1000, lambda _: b""),
    "block doubled": changed(0.5, 1000, lambda old: old + old),
    "block inserted": changed(0.5, 0, lambda _: bytes(range(256)) * 4),
    "half is zeros": changed(0.5, 1 << 30, lambda old: bytes(len(old))),
    "garbage behind the end": lambda content: content + bytes(range(256)) * 8,
    "twice in one file": lambda content: content + content,
    **{f"{count} bits flipped, {seed}": flipped(count, seed) for count in (1, 5, 40) for seed in range(3)},
}


def strangers(frames: list[Image], good: list[Image]) -> int:
    """How many frames are none of the undamaged ones, these taken in order."""
    found, place = 0, 0
    for frame in frames:
        match = next((number for number in range(place, len(good)) if np.array_equal(frame, good[number])), None)
        if match is None:
            found += 1
        else:
            place = match + 1
    return found


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("base", BASES)
def test_a_damaged_video_is_decoded_rightly_or_left_out(tmp_path: Path, sound: Sound, base: str, damage: str) -> None:
    content, good = sound[base]
    path = tmp_path / base
    path.write_bytes(DAMAGES[damage](content))
    try:
        frames, audit = decode(path)
    except BadVideoError as error:
        assert str(error).startswith(REASONS)
        assert damage not in ("garbage behind the end", "twice in one file") or base.endswith(".ts")
        return
    if base in NOTICED and (base, damage) not in UNNOTICED:
        assert len(frames) >= COUNT - 2 or audit.repaired or audit.notes  # lost time is named
        expected = good + good if damage == "twice in one file" else good
        assert strangers(frames, expected) <= max(2, 0.1 * COUNT)


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("share", [0.3, 0.6, 0.85])
def test_a_cut_video_is_said_to_be_truncated(tmp_path: Path, sound: Sound, base: str, share: float) -> None:
    path = tmp_path / base
    path.write_bytes(cut(share)(sound[base][0]))
    assert reason(path).startswith(
        ("truncated: ", "corrupt in the middle: " if base.endswith("mp4") else "truncated: ")
    )


def test_a_transport_stream_cut_between_packets_promises_nothing(tmp_path: Path, sound: Sound) -> None:
    content = sound["h264.ts"][0]
    path = tmp_path / "v.ts"
    path.write_bytes(content[: len(content) // 2 // 188 * 188])
    assert COUNT / 4 < len(decode(path)[0]) < COUNT


@pytest.mark.parametrize("base", ["mpeg4.avi", "h264.mp4", "h264.mkv", "vp9.webm", "mpeg2.ts"])
def test_fuzzed_files_neither_crash_nor_hang(tmp_path: Path, sound: Sound, base: str) -> None:
    content = sound[base][0]
    path = tmp_path / base

    @settings(max_examples=40, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(
        length=st.integers(1, len(content)),
        places=st.lists(st.tuples(st.integers(0, len(content) - 1), st.integers(0, 255)), max_size=30),
    )
    def check(length: int, places: list[tuple[int, int]]) -> None:
        damaged = bytearray(content)
        for place, value in places:
            damaged[place] = value
        path.write_bytes(damaged[:length])
        found = reason(path)
        assert not found or found.startswith((*REASONS, "absurd size", "no decoder"))

    check()


def test_a_fragmented_video_that_ends_inside_a_packet_is_truncated(tmp_path: Path, sound: Sound) -> None:
    _, good = sound["h264.mp4"]
    path = tmp_path / "v.mp4"
    content = encode(path, good, "libx264", movflags="frag_keyframe+empty_moov")
    assert (len(decode(path)[0]), decode(path)[1].repaired) == (COUNT, [])
    path.write_bytes(content[: len(content) // 2])
    assert reason(path).startswith("truncated: the file ends inside a packet")


def test_a_shard_of_the_whole_corpus_is_made(tmp_path: Path, sound: Sound) -> None:
    root = tmp_path / "videos"
    root.mkdir()
    rows = ["path,label,subset"]
    for base, (content, _) in sound.items():
        for number, damage in enumerate(("nothing", *DAMAGES)):
            name = f"{number:02d} {damage.replace(',', '')} {base}"
            (root / name).write_bytes(content if damage == "nothing" else DAMAGES[damage](content))
            rows.append(f"{name},a,train")
    (tmp_path / "list.csv").write_text("\n".join(rows) + "\n")
    given_dataset = {"kind": "folder", "root": str(root), "lists": str(tmp_path / "list.csv")}
    sizes = {"width": 32, "height": 24, "shards": 1}
    plan = config.load({"datasets": {"mine": given_dataset}, "preprocess": sizes, "evaluate": {"crop": 16}})
    dataset = Dataset(config.location(plan, "mine"))
    wanted = config.shard_settings(plan, "mine", "rgb")
    wanted = wanted.of_shard("00000", dataset.members_digest("00000", 1))
    make(tmp_path / "00000.h5", wanted, dataset, flow_path=None, threads=2)
    with Shard(tmp_path / "00000.h5") as shard:
        assert len(shard.entries) == len(rows) - 1
        for entry in shard.entries:
            assert bool(entry.quarantined) == (entry.count == 0)
            if entry.video.startswith("00 "):
                assert (entry.count, entry.repaired, entry.quarantined) == (COUNT, "", "")
            if "cut to 30%" in entry.video:
                assert entry.quarantined
