"""`atw shards info` and `verify`, as a person calls them."""

import errno
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from atw.files import InputError
from atw.shards import FORMAT, SINGLE, Entry, Shard, create, encode_frame
from atw.shards.inspect import find, verify
from tests.unit.conftest import VIDEOS
from tests.unit.scored import scored, write_scores
from tests.unit.shard_commands import call, flip_item
from tests.unit.stored import Stored, WriteShard


def test_info_as_a_table(tmp_path: Path, shards: dict[str, Stored]) -> None:
    run = call("info", tmp_path / "shards")
    assert run.exit_code == 0
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in run.stdout.splitlines() if "│" in line]
    assert [row[:6] for row in rows] == [
        ["flow", "mine", "00000", "3", "5", "1"],
        ["rgb", "mine", "00000", "3", "5", "1"],
        ["rgb", "mine", "00001", "1", "1", "0"],
        ["warped", "mine", "00000", "3", "5", "1"],
    ]
    assert rows[0][6] == "32 x 24 px, bound 20 px, opencv4"
    assert rows[1][6] == "32 x 24 px, JPEG 95"
    assert rows[3][6] == "32 x 24 px, bound 20 px, opencv4, tracks"
    assert "4 shards, 10 videos, 16 items" in run.stdout


def test_info_as_json(tmp_path: Path, shards: dict[str, Stored]) -> None:
    run = call("info", "--json", tmp_path / "shards/flow/00000.h5", tmp_path / "shards/rgb")
    assert run.exit_code == 0
    flow, *rgb = json.loads(run.stdout)
    assert [shard["shard"] for shard in rgb] == ["00000", "00001"]
    assert (flow["stream"], flow["bound"], flow["zero"], flow["items"]) == ("flow", 20.0, 128, 5)
    assert flow["quarantined"] == {"a/0.avi": "truncated: 1 of 9 frames can be decoded"}
    assert flow["settings"]["flow"]["preset"] == "opencv4"
    with Shard(tmp_path / "shards/flow/00000.h5") as shard:
        assert flow["digest"] == shard.digest
    assert flow["bytes"] == (tmp_path / "shards/flow/00000.h5").stat().st_size


def test_info_names_what_cannot_be_read_and_shows_the_rest(tmp_path: Path, shards: dict[str, Stored]) -> None:
    (tmp_path / "shards/flow/00000.h5").write_bytes(b"no HDF5")
    run = call("info", "--json", tmp_path / "shards")
    assert run.exit_code == 1
    assert [shard["stream"] for shard in json.loads(run.stdout)] == ["rgb", "rgb", "warped"]
    assert "flow/00000.h5 is damaged or no shard" in run.stderr


def test_verify_finds_whole_shards_whole(tmp_path: Path, shards: dict[str, Stored]) -> None:
    run = call("verify", tmp_path / "shards")
    assert (run.exit_code, run.stdout) == (0, "4 shards are whole\n")


@pytest.mark.parametrize("stream", ["rgb", "flow"])
def test_verify_names_every_damage(tmp_path: Path, shards: dict[str, Stored], stream: str) -> None:
    damaged = tmp_path / "shards" / stream / "00000.h5"
    for item in (1, 2, 4):
        flip_item(damaged, item)
    (tmp_path / "shards/warped/00000.h5").write_bytes((tmp_path / "shards/warped/00000.h5").read_bytes()[:-100])
    run = call("verify", tmp_path / "shards")
    assert run.exit_code == 1
    assert "whole" not in run.stdout
    first, second, third = sorted(line for line in run.stderr.splitlines() if line.startswith("damaged: "))
    name = "frame" if stream == "rgb" else "field"
    assert f"{damaged} is damaged" in first
    assert f"checksum of {name} 1 of a/1.avi differs" in first
    assert "delete the file, and the workflow makes it again" in first
    assert first.endswith("(1 more items of this video are damaged)")
    assert f"checksum of {name} 1 of b/it's #2 & é.avi differs" in second
    assert second.endswith("makes it again")
    assert f"{tmp_path / 'shards/warped/00000.h5'} is damaged" in third


def test_verify_looks_at_the_digest(tmp_path: Path, shards: dict[str, Stored], write_shard: WriteShard) -> None:
    # Two images changed places, and their checksums with them, as no flipped bit would do.
    path = tmp_path / "shards/rgb/00000.h5"
    with h5py.File(path, "r+") as file:
        offset, data, crc32 = file["offset"][:], file["data"][:], file["crc32"][:]
        images = [data[first:last] for first, last in itertools.pairwise(offset)]
        images[0], images[1] = images[1], images[0]
        file["data"][:] = np.concatenate(images)
        file["offset"][:] = np.cumsum([0, *map(len, images)])
        file["crc32"][:] = crc32[[1, 0, 2, 3, 4]]
    count, damage = verify([path])
    assert count == 1
    (message,) = damage
    assert "the digest of index and items differs" in message


def test_paths_that_are_no_shards(tmp_path: Path, shards: dict[str, Stored]) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="nowhere does not exist; give shards"):
        find([tmp_path / "nowhere"])
    with pytest.raises(InputError, match="empty holds no shard"):
        find([tmp_path / "shards", tmp_path / "empty"])
    assert len(find([tmp_path / "shards/rgb/00000.h5", tmp_path / "shards"])) == 4
    run = subprocess.run(
        [sys.executable, "-m", "atw", "shards", "verify", "nowhere"], capture_output=True, text=True, cwd=tmp_path
    )
    assert run.returncode == 2
    assert run.stderr == "error: nowhere does not exist; give shards, or folders that hold some\n"


def test_only_shards_are_judged(tmp_path: Path, shards: dict[str, Stored], caplog: pytest.LogCaptureFixture) -> None:
    scores, other = tmp_path / "results/mine/split1/rgb/scores.h5", tmp_path / "results/weights.h5"
    scores.parent.mkdir(parents=True)
    write_scores(scores, scored([1, 2]))
    write_scores(scores.with_name("held_out.h5"), scored([1], subset="held_out"))
    with h5py.File(other, "w") as file:
        file.attrs["format"] = FORMAT
    with caplog.at_level("INFO", "atw"):
        run = call("verify", tmp_path)
        assert (run.exit_code, run.stdout, run.stderr) == (0, "4 shards are whole\n", "")
        assert len(json.loads(call("info", "--json", tmp_path).stdout)) == 4
    held_out = scores.with_name("held_out.h5")
    assert f"in {tmp_path}, passed over as no shard: 3, first {held_out} is a score file" in caplog.text
    for path, what in ((scores, "a score file"), (held_out, "a score file"), (other, "an HDF5 file of another kind")):
        for command in ("info", "verify"):
            run = call(command, tmp_path / "shards", path)
            assert isinstance(run.exception, InputError)
            assert f"{path} is {what}, no shard; give shards" in str(run.exception)
    with pytest.raises(InputError, match=r"results holds no shard; .*held_out.h5 is a score file; give another one"):
        find([tmp_path / "results"])


def test_a_shard_of_another_format_is_judged(tmp_path: Path, shards: dict[str, Stored]) -> None:
    with h5py.File(tmp_path / "shards/flow/00000.h5", "r+") as file:
        file.attrs["format"] = 1
    run = call("verify", tmp_path / "shards")
    assert run.exit_code == 1
    assert f"flow/00000.h5 has format 1, this version reads {FORMAT}" in run.stderr


ONE, OTHER = ({"a/0.avi": "aa", "a/1.avi": content, "b/it's #2 & é.avi": "cc"} for content in ("bb", "ee"))


@pytest.mark.parametrize(
    ("streams", "words"),
    [
        ({"rgb": ONE, "flow": ONE, "warped": ONE}, ""),
        (
            {"rgb": ONE, "flow": OTHER},
            "flow/00000.h5 and {}/rgb/00000.h5 were made from different files of a/1.avi; delete",
        ),
        (
            {"rgb": ONE, "flow": ONE, "warped": OTHER},
            "warped/00000.h5 were made from different files of a/1.avi; delete",
        ),
        (
            {"rgb": {}, "flow": ONE},
            "were made from different files of a/0.avi and 2 more videos; delete the outdated one",
        ),
    ],
)
def test_verify_compares_the_files_that_streams_were_made_from(
    tmp_path: Path, write_shard: WriteShard, streams: dict[str, dict[str, str]], words: str
) -> None:
    for stream, files in streams.items():
        write_shard(tmp_path / "mine" / stream / "00000.h5", stream, VIDEOS, files=files)
        # Nobody fuses these: another folder, another shard, another dataset.
        other = {"a/1.avi": stream}
        write_shard(tmp_path / stream / "mine" / stream / "00000.h5", stream, VIDEOS, files=other)
        write_shard(tmp_path / "mine" / stream / f"{stream}.h5", stream, VIDEOS, files=other)
        write_shard(tmp_path / "mine" / stream / "00001.h5", stream, VIDEOS, dataset=f"of_{stream}", files=other)
    count, damage = verify([tmp_path])
    assert count == 4 * len(streams)
    assert len(damage) == bool(words)
    assert all(words.format(tmp_path / "mine") in message for message in damage)


def test_flow_of_single_videos_of_one_name_is_not_compared(tmp_path: Path, write_shard: WriteShard) -> None:
    for stream in ("flow", "warped"):
        write_shard(tmp_path / f"{stream}.h5", stream, {"x.mp4": 2}, dataset=SINGLE, files={"x.mp4": stream})
    assert verify([tmp_path]) == (2, [])


def test_linked_folders_are_looked_into(tmp_path: Path, shards: dict[str, Stored]) -> None:
    linked = tmp_path / "linked"
    linked.mkdir()
    (linked / "flow").symlink_to(tmp_path / "shards/flow")
    (linked / "again").symlink_to(linked)  # a loop
    (linked / "twice").symlink_to(tmp_path / "shards/flow")
    assert find([linked]) == [linked / "flow/00000.h5"]
    assert len(find([linked, tmp_path / "shards"])) == 4
    run = call("verify", linked)
    assert (run.exit_code, run.stdout) == (0, "1 shards are whole\n")


def test_a_folder_that_cannot_be_read_is_named(
    tmp_path: Path, shards: dict[str, Stored], monkeypatch: pytest.MonkeyPatch
) -> None:
    scandir = os.scandir

    def refuse(path: str) -> Any:
        if str(path).endswith("flow"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr("os.scandir", refuse)
    with pytest.raises(InputError, match=r"folder .*shards/flow cannot be read: Permission denied"):
        find([tmp_path / "shards"])


HOSTILE_TEXT = "\x1b]0;mine\x07\x9b2J\u202e"


@pytest.mark.parametrize("stream", ["rgb", "flow", "warped"])
@pytest.mark.parametrize("section", [[], "text", 1, None, {"preset": [1], "jpeg_quality": {}, "matches": []}])
def test_settings_of_any_kind_are_shown(tmp_path: Path, stream: str, section: object) -> None:
    settings = dict.fromkeys(("preprocess", "flow", "warp"), section) | {"preprocess": {"zstd_level": 3}}
    attributes = {"stream": stream, "dataset": "mine", "shard": "0", "width": 32, "height": 24, "bound": 20.0}
    with create(tmp_path / "0.h5", attributes | {"settings": settings}) as writer:
        writer._describe({"flow": np.bytes_(json.dumps(section).encode())})
        writer._describe({"settings": dict.fromkeys(settings, section)})
    run = call("info", tmp_path)
    assert run.exit_code == 0, run.output
    assert "32 x 24 px" in run.stdout


@pytest.mark.parametrize("as_json", [True, False])
def test_text_of_a_shard_does_not_steer_the_terminal(tmp_path: Path, as_json: bool) -> None:
    path = tmp_path / "0.h5"
    attributes = {"stream": "rgb", "dataset": HOSTILE_TEXT, "shard": "0", "width": 32, "height": 24}
    with create(path, attributes | {"settings": {"preprocess": {"jpeg_quality": HOSTILE_TEXT}}}) as writer:
        image = encode_frame(np.zeros((24, 32, 3), np.uint8), 95)
        writer.add(Entry(HOSTILE_TEXT, HOSTILE_TEXT), [image])
    flip_item(path, 0)
    command = [sys.executable, "-m", "atw", "shards", "export", path, "--out", tmp_path / "out"]
    runs = [call("info", path, *["--json"] * as_json), call("verify", path)]
    exported = subprocess.run(command, capture_output=True, text=True)
    assert (exported.returncode, "\x1b" in exported.stderr) == (2, False)
    assert "\\u001b]0;mine" in exported.stderr
    assert [run.exit_code for run in runs] == [0, 1]
    for run in runs:
        assert not set(run.stdout + run.stderr) & set("\x1b\x07\x9b\u202e")
    assert "\\u001b]0;mine" in runs[1].stderr
    if as_json:
        assert json.loads(runs[0].stdout)[0]["dataset"] == HOSTILE_TEXT
