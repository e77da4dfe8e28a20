"""`atw shards info`, `verify` and `export`, as a person calls them."""

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path, PurePosixPath
from typing import Any

import cv2
import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from atw.files import InputError
from atw.shards import FORMAT, SINGLE, Entry, Shard, create, dequantise, encode_frame
from atw.shards.tools import export, find, safe_path, verify
from tests.unit.conftest import VIDEOS
from tests.unit.scored import scored, write_scores
from tests.unit.stored import Stored, WriteShard, call, flip_item, header, seal

BLACK = encode_frame(np.zeros((24, 32, 3), np.uint8), 95)


def test_info_as_a_table(tmp_path: Path, shards: dict[str, Stored]) -> None:
    run = call("info", tmp_path / "shards")
    assert run.exit_code == 0
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in run.stdout.splitlines() if "│" in line]
    assert [row[:7] for row in rows] == [
        ["flow", "mine", "00000", "3", "5", "1", "32 x 24 px, bound 20 px, opencv4"],
        ["rgb", "mine", "00000", "3", "5", "1", "32 x 24 px, JPEG 95"],
        ["rgb", "mine", "00001", "1", "1", "0", "32 x 24 px, JPEG 95"],
        ["warped", "mine", "00000", "3", "5", "1", "32 x 24 px, bound 20 px, opencv4, tracks"],
    ]
    assert "4 shards, 10 videos, 16 items" in run.stdout


def test_info_says_that_flow_is_of_stored_frames(tmp_path: Path) -> None:
    settings = {"preprocess": {"zstd_level": 3, "flow_from": "frames"}, "flow": {"preset": "fast"}}
    with create(tmp_path / "0.h5", header("flow", settings=settings)):
        pass
    assert "32 x 24 px, bound 20 px, fast, from stored frames" in call("info", tmp_path).stdout


def test_info_as_json_names_what_cannot_be_read_and_shows_the_rest(tmp_path: Path, shards: dict[str, Stored]) -> None:
    (tmp_path / "shards/warped/00000.h5").write_bytes(b"no HDF5")
    run = call("info", "--json", tmp_path / "shards/flow/00000.h5", tmp_path / "shards")
    assert run.exit_code == 1
    flow, *rgb = json.loads(run.stdout)
    assert [shard["shard"] for shard in rgb] == ["00000", "00001"]
    assert [shard.keys() == flow.keys() and (shard["bound"], shard["zero"]) == (0, 0) for shard in rgb] == [True, True]
    with Shard(tmp_path / "shards/flow/00000.h5") as shard:
        assert flow == {
            "path": str(shard.path),
            **{"stream": "flow", "dataset": "mine", "shard": "00000", "width": 32, "height": 24},
            **{"bound": 20.0, "zero": 128, "items": 5, "digest": shard.digest, "videos": 3},
            "bytes": shard.path.stat().st_size,
            "quarantined": {"a/0.avi": "truncated: 1 of 9 frames can be decoded"},
            **{"repaired": {}, "notes": {}, "times": {"rate": 2}},
            **{"settings": shard.header.settings, "software": {"atw": "1"}, "flow": {}},
        }
    assert "warped/00000.h5 is damaged or no shard" in run.stderr


@pytest.mark.parametrize("stream", ["rgb", "flow", "warped"])
@pytest.mark.parametrize("section", [[], "text", 1, None, {"preset": [1], "jpeg_quality": {}, "matches": []}])
def test_settings_of_any_kind_are_shown(tmp_path: Path, stream: str, section: object) -> None:
    with create(tmp_path / "0.h5", header(stream, dataset="mine")):
        pass
    with h5py.File(tmp_path / "0.h5", "r+") as file:
        file.attrs["flow"] = np.bytes_(json.dumps(section).encode())
        settings = dict.fromkeys(("preprocess", "flow", "warp"), section)
        file.attrs["settings"] = np.bytes_(json.dumps(settings).encode())
        seal(file)
    run = call("info", tmp_path)
    assert run.exit_code == 0, run.output
    assert "32 x 24 px" in run.stdout


HOSTILE_TEXT = "\x1b]0;mine\x07\x9b2J\u202e"


@pytest.mark.parametrize("as_json", [True, False])
def test_text_of_a_shard_does_not_steer_the_terminal(tmp_path: Path, as_json: bool) -> None:
    path = tmp_path / "0.h5"
    settings = {"preprocess": {"jpeg_quality": HOSTILE_TEXT}}
    with create(path, header(dataset=HOSTILE_TEXT, settings=settings)) as writer:
        writer.add(Entry(HOSTILE_TEXT, HOSTILE_TEXT), [BLACK])
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


def test_verify_finds_whole_shards_whole(tmp_path: Path, shards: dict[str, Stored]) -> None:
    run = call("verify", tmp_path / "shards")
    assert (run.exit_code, run.stdout) == (0, "4 shards are whole\n")
    assert json.loads(call("verify", "--json", tmp_path / "shards").stdout) == {"shards": 4, "damage": []}


@pytest.mark.parametrize("stream", ["rgb", "flow"])
def test_verify_names_every_damage(tmp_path: Path, shards: dict[str, Stored], stream: str) -> None:
    damaged, other = tmp_path / "shards" / stream / "00000.h5", tmp_path / "shards/warped/00000.h5"
    for item in (1, 2, 4):
        flip_item(damaged, item)
    with h5py.File(other, "r+") as file:
        file.attrs["format"] = 1
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
    assert f"{other} has format 1, this version reads {FORMAT}" in third


ONE, OTHER = ({"a/0.avi": "aa", "a/1.avi": content, "b/it's #2 & é.avi": "cc"} for content in ("bb", "ee"))


@pytest.mark.parametrize(
    ("streams", "words"),
    [
        ({"rgb": ONE, "flow": ONE, "warped": ONE}, ""),
        ({"rgb": ONE, "flow": OTHER}, "flow/00000.h5 and {}/rgb/00000.h5 were made from different files of a/1.avi; "),
        ({"rgb": ONE, "flow": ONE, "warped": OTHER}, "warped/00000.h5 were made from different files of a/1.avi; "),
        ({"rgb": {}, "flow": ONE}, "different files of a/0.avi and 2 more videos; delete the outdated one"),
    ],
)
def test_verify_compares_the_files_that_streams_were_made_from(
    tmp_path: Path, write_shard: WriteShard, streams: dict[str, dict[str, str]], words: str
) -> None:
    for stream, files in streams.items():
        write_shard(tmp_path / "mine" / stream / "00000.h5", stream, VIDEOS, files=files)
        # Nobody fuses these: another folder, another shard, another dataset, single videos of one name.
        other = {"a/1.avi": stream}
        write_shard(tmp_path / stream / "mine" / stream / "00000.h5", stream, VIDEOS, files=other)
        write_shard(tmp_path / "mine" / stream / f"{stream}.h5", stream, VIDEOS, files=other)
        write_shard(tmp_path / "mine" / stream / "00001.h5", stream, VIDEOS, dataset=f"of_{stream}", files=other)
        write_shard(tmp_path / f"{stream}.h5", stream, {"a/1.avi": 2}, dataset=SINGLE, files=other)
    count, damage = verify([tmp_path])
    assert count == 5 * len(streams)
    assert len(damage) == bool(words)
    assert all(words.format(tmp_path / "mine") in message for message in damage)


def test_paths_that_are_no_shards(tmp_path: Path, shards: dict[str, Stored]) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="nowhere does not exist; give shards, or folders that hold some"):
        find([tmp_path / "nowhere"])
    with pytest.raises(InputError, match=r"empty holds no shard, that is, no .h5 file; give another one"):
        find([tmp_path / "shards", tmp_path / "empty"])
    assert len(find([tmp_path / "shards/rgb/00000.h5", tmp_path / "shards"])) == 4


def test_only_shards_are_judged(tmp_path: Path, shards: dict[str, Stored], caplog: pytest.LogCaptureFixture) -> None:
    scores, other = tmp_path / "results/mine/split1/rgb/scores.h5", tmp_path / "results/weights.h5"
    scores.parent.mkdir(parents=True)
    write_scores(scores, scored([1, 2]))
    with h5py.File(other, "w") as file:
        file.attrs["format"] = FORMAT
    with caplog.at_level("INFO", "atw"):
        run = call("verify", tmp_path)
        assert (run.exit_code, run.stdout, run.stderr) == (0, "4 shards are whole\n", "")
    assert f"in {tmp_path}, 2 HDF5 files are not shards and are left out, first {scores} is a score file" in caplog.text
    notes = tmp_path / "model.pt"
    notes.write_bytes(b"PK\3\4")  # healthy, for all we know
    (tmp_path / "cut.h5").write_bytes(b"")
    kinds = {scores: "a score file", other: "an HDF5 file of another kind", notes: "a file of another kind"}
    assert find([tmp_path / "cut.h5"]) == [tmp_path / "cut.h5"]  # damaged, and said to be so
    for path, what in kinds.items():
        with pytest.raises(InputError, match=rf"{path} is {what} and not a shard; give shards"):
            find([tmp_path / "shards", path])
    with pytest.raises(InputError, match=r"results holds no shard; .*scores.h5 is a score file; give another one"):
        find([tmp_path / "results"])


def test_linked_folders_are_looked_into(tmp_path: Path, shards: dict[str, Stored]) -> None:
    linked = tmp_path / "linked"
    linked.mkdir()
    (linked / "flow").symlink_to(tmp_path / "shards/flow")
    (linked / "again").symlink_to(linked)  # a loop
    (linked / "twice").symlink_to(tmp_path / "shards/flow")
    assert find([linked]) == [linked / "flow/00000.h5"]
    assert len(find([linked, tmp_path / "shards"])) == 4


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


def read_flo(path: Path) -> NDArray[np.float32]:
    """Read a Middlebury file by its description: tag, width, height, then u and v of each pixel by rows."""
    content = path.read_bytes()
    assert content[:4] == b"PIEH"
    width, height = np.frombuffer(content, "<i4", 2, 4)
    assert len(content) == 12 + 8 * width * height
    return np.frombuffer(content, "<f4", offset=12).reshape(height, width, 2)


def test_frames_are_exported_as_they_are_stored(tmp_path: Path, shards: dict[str, Stored]) -> None:
    run = call("export", tmp_path / "shards/rgb", "--out", tmp_path / "out")
    assert (run.exit_code, run.stdout) == (0, f"3 videos in {tmp_path / 'out'}\n")
    expected = {}
    for name in ("rgb/00000.h5", "rgb/00001.h5"):
        with Shard(tmp_path / "shards" / name) as shard:
            for entry in shard.entries:  # one of them quarantined
                for number in range(entry.count):
                    expected[f"mine/rgb/{entry.video}/{number:05d}.jpg"] = shard.stored(entry, number)
    written = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert {str(path.relative_to(tmp_path / "out")): path.read_bytes() for path in written} == expected


def test_frames_as_png(tmp_path: Path, shards: dict[str, Stored]) -> None:
    ((folder,), _) = export([tmp_path / "shards/rgb/00000.h5"], tmp_path / "out", videos=["a/1.avi"], form="png")
    assert folder == tmp_path / "out/mine/rgb/a/1.avi"
    for number, frame in enumerate(shards["rgb/00000.h5"]["a/1.avi"]):
        image = np.asarray(cv2.imread(str(folder / f"{number:05d}.png")))
        assert np.array_equal(image[..., ::-1], frame)


@pytest.mark.parametrize("stream", ["flow", "warped"])
def test_flow_as_flo_and_as_levels(tmp_path: Path, shards: dict[str, Stored], stream: str) -> None:
    export([tmp_path / "shards" / stream], tmp_path / "flo")
    export([tmp_path / "shards" / stream], tmp_path / "png", form="png-flow")
    for video, fields in shards[f"{stream}/00000.h5"].items():
        for number, field in enumerate(fields):
            written = tmp_path / "flo/mine" / stream / video / f"{number:05d}.flo"
            assert np.array_equal(read_flo(written), dequantise(field, 20.0).transpose(1, 2, 0))
            assert np.array_equal(cv2.readOpticalFlow(str(written)), read_flo(written))
            for axis, levels in zip("xy", field, strict=True):
                path = tmp_path / "png/mine" / stream / video / f"{number:05d}_{axis}.png"
                assert np.array_equal(cv2.imread(str(path), cv2.IMREAD_UNCHANGED), levels)


def test_nothing_is_overwritten_unless_asked(tmp_path: Path, shards: dict[str, Stored]) -> None:
    paths, out = [tmp_path / "shards/rgb/00000.h5"], tmp_path / "out"
    ((folder,), _) = export(paths, out, videos=["a/1.avi"])
    (folder / "00000.jpg").write_bytes(b"mine")
    with pytest.raises(InputError, match=r"a/1.avi exists already"):
        export(paths, out, videos=["a/1.avi"])
    assert (folder / "00000.jpg").read_bytes() == b"mine"
    export(paths, out, videos=["a/1.avi"], form="png", overwrite=True)
    assert sorted(path.suffix for path in folder.iterdir()) == [".png"] * 3
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"holds notes.txt, which is no export"):
        export(paths, out, videos=["a/1.avi"], overwrite=True)
    shutil.rmtree(folder)
    folder.write_text("mine")
    with pytest.raises(InputError, match=r"a/1.avi is no folder"):
        export(paths, out, overwrite=True)
    assert [path.name for path in out.rglob("*") if path.is_file()] == ["1.avi"]


def test_an_interrupted_export_goes_on(tmp_path: Path, shards: dict[str, Stored]) -> None:
    paths, out = [tmp_path / "shards/rgb"], tmp_path / "out"
    export(paths, out)
    first = out / "mine/rgb/a/1.avi"
    (first / "00000.jpg").write_bytes(b"of the first run")
    shutil.rmtree(out / "mine/rgb/c/3.avi")
    run = call("export", *paths, "--out", out, "--skip-existing")
    assert (run.exit_code, run.stdout) == (0, f"3 videos in {out}, 2 of them from before\n")
    assert (first / "00000.jpg").read_bytes() == b"of the first run"
    assert (out / "mine/rgb/c/3.avi/00000.jpg").is_file()
    (first / "00001.jpg").unlink()
    with pytest.raises(InputError, match=r"a/1.avi is not an export of this video in this format"):
        export(paths, out, skip_existing=True)


@pytest.mark.parametrize(
    ("path", "options", "message"),
    [
        ("rgb", {"form": "flo"}, "is of stream rgb and has no flo; export it as jpg or png"),
        ("flow", {"form": "jpg"}, "is of stream flow and has no jpg; export it as flo or png-flow"),
        ("rgb", {"videos": ["a/1.avi", "z.avi"]}, "no such video in these shards: z.avi"),
        ("rgb", {"videos": ["a/0.avi"]}, "a/0.avi is quarantined in shard .*: truncated"),
        ("rgb", {}, "c/3.avi exists already"),
        ("rgb", {"skip_existing": True}, "c/3.avi is not an export of this video in this format"),
        ("rgb", {"skip_existing": True, "overwrite": True}, "contradict each other"),
    ],
)
def test_everything_is_looked_at_before_anything_is_written(
    tmp_path: Path, shards: dict[str, Stored], path: str, options: dict[str, Any], message: str
) -> None:
    # The last video of the second shard is there: as PNG images, which are not those that are asked for.
    export([tmp_path / "shards/rgb"], tmp_path / "out", videos=["c/3.avi"], form="png")
    with pytest.raises(InputError, match=message):
        export([tmp_path / "shards" / path], tmp_path / "out", **options)
    assert [path.name for path in (tmp_path / "out").rglob("*") if path.is_file()] == ["00000.png"]


def test_a_damaged_video_is_not_exported(tmp_path: Path, shards: dict[str, Stored]) -> None:
    flip_item(tmp_path / "shards/rgb/00000.h5", 2)
    with pytest.raises(InputError, match=r"checksum of frame 2 of a/1.avi differs"):
        export([tmp_path / "shards/rgb/00000.h5"], tmp_path / "out")
    assert [path for path in (tmp_path / "out").rglob("*") if path.is_file()] == []


def test_two_videos_for_one_folder_are_refused(tmp_path: Path, write_shard: WriteShard) -> None:
    for number, dataset in enumerate(("mine", "mine", "yours")):
        write_shard(tmp_path / f"{number}.h5", "rgb", {"a.avi": 1, "b": 1, "b/00000.jpg": 1}, dataset=dataset)
    mine, again, yours = (tmp_path / f"{number}.h5" for number in range(3))
    with pytest.raises(InputError, match=r"a.avi of shard .*0.h5 and of shard .*1.h5 would both go to .*rgb/a.avi"):
        export([mine, again], tmp_path / "out", videos=["a.avi"])
    with pytest.raises(InputError, match=r"b/00000.jpg would go into the folder of b;"):
        export([mine], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    written, _ = export([mine, yours], tmp_path / "out", videos=["a.avi"])
    assert written == [tmp_path / "out/mine/rgb/a.avi", tmp_path / "out/yours/rgb/a.avi"]


@pytest.mark.parametrize("dataset", ["../..", "/etc", "a/../../..", ".", ""])
def test_a_hostile_dataset_stays_in_the_folder(tmp_path: Path, dataset: str) -> None:
    with create(tmp_path / "0.h5", header(dataset=dataset)) as writer:
        writer.add(Entry("a.avi", "a"), [BLACK])
    ((folder,), _) = export([tmp_path / "0.h5"], tmp_path / "out")
    assert folder.resolve().parents[2] == tmp_path / "out"
    assert (folder / "00000.jpg").is_file()


IDS = ["/etc/passwd", "../../up", "a/../../b", "..", ".", "", "a//b", "c:\\x", "nul\nline", "50%", "a/./b", "..."]


def test_hostile_ids_stay_in_the_folder(tmp_path: Path, write_shard: WriteShard) -> None:
    write_shard(tmp_path / "0.h5", "rgb", dict.fromkeys(IDS, 1))
    for number, video in enumerate(IDS):  # each for itself: some would lie in the folder of others
        out = tmp_path / f"deep/er/out{number}"
        export([tmp_path / "0.h5"], out, videos=[video])
        (written,) = set(tmp_path.rglob("*.jpg")) - set(tmp_path.glob("deep/er/*/seen/**/*.jpg"))
        assert written.resolve().is_relative_to(out / "mine/rgb")
        (out / "mine").rename(out / "seen")


@given(st.lists(st.text("a./\\%\n:é", max_size=8), min_size=2, max_size=2, unique=True))
def test_safe_paths_are_inside_and_distinct(ids: list[str]) -> None:
    paths = [PurePosixPath("/out", safe_path(video)) for video in ids]
    for path in paths:
        assert path.is_relative_to("/out")
        assert path != PurePosixPath("/out")
        assert not {"..", "."} & set(path.parts)
    assert paths[0] != paths[1]


def test_usual_names_stay_and_those_of_temporary_files_do_not() -> None:
    name = "Wave Hands/v_[#1] & (2) it's; @+~!.avi"
    assert safe_path(name) == Path(name)
    for name in (".zz.abcdefgh.tmp", ".zz.lock", ".zz.old"):
        assert safe_path(name) == Path(f"%2E{name[1:]}")
