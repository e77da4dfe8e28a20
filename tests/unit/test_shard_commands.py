"""`atw shards info`, `verify` and `export`, as a person calls them."""

import errno
import itertools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import cv2
import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from typer.testing import CliRunner

from atw.commands import app
from atw.files import InputError
from atw.shards import Entry, Shard, create, dequantise, encode_frame
from atw.shards.export import export, safe_path
from atw.shards.inspect import find, verify

Stored = dict[str, NDArray[np.uint8]]
WriteShard = Callable[..., Stored]

VIDEOS = {"a/0.avi": 0, "a/1.avi": 3, "b/it's #2 & é.avi": 2}


@pytest.fixture
def shards(tmp_path: Path, write_shard: WriteShard) -> dict[str, Stored]:
    """A folder `shards` with two shards of frames and one of each kind of flow; what each holds, by relative path."""
    stored = {}
    for name, stream, videos in (
        ("rgb/00000.h5", "rgb", VIDEOS),
        ("rgb/00001.h5", "rgb", {"c/3.avi": 1}),
        ("flow/00000.h5", "flow", VIDEOS),
        ("warped/00000.h5", "warped", VIDEOS),
    ):
        stored[name] = write_shard(tmp_path / "shards" / name, stream, videos)
    return stored


def call(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["shards", *map(str, arguments)])


def flip_item(path: Path, item: int) -> None:
    """Change a byte of the stored bytes of an item."""
    with h5py.File(path, "r") as file:
        if "offset" in file:
            place = file["data"].id.get_offset() + int(file["offset"][item]) + 30
        else:
            place = file["data"].id.get_chunk_info_by_coord((item, 0, 0, 0)).byte_offset + 30
    content = bytearray(path.read_bytes())
    content[place] ^= 0x10
    path.write_bytes(content)


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


def read_flo(path: Path) -> NDArray[np.float32]:
    """A Middlebury file as [H, W, 2], by its description: tag, width, height, then u and v of each pixel by rows."""
    content = path.read_bytes()
    assert content[:4] == b"PIEH"
    width, height = np.frombuffer(content, "<i4", 2, 4)
    assert len(content) == 12 + 8 * width * height
    return np.frombuffer(content, "<f4", offset=12).reshape(height, width, 2)


def test_frames_as_they_are_stored(tmp_path: Path, shards: dict[str, Stored]) -> None:
    run = call("export", tmp_path / "shards/rgb", "--out", tmp_path / "out")
    assert (run.exit_code, run.stdout) == (0, f"3 videos in {tmp_path / 'out'}\n")
    for name in ("rgb/00000.h5", "rgb/00001.h5"):
        for video, frames in shards[name].items():
            folder = tmp_path / "out/mine/rgb" / video
            if len(frames) == 0:
                assert not folder.exists()  # quarantined
                continue
            assert sorted(path.name for path in folder.iterdir()) == [f"{i:05d}.jpg" for i in range(len(frames))]
            with Shard(tmp_path / "shards" / name) as shard:
                entry = next(entry for entry in shard.entries if entry.video == video)
                for number in range(entry.count):
                    assert (folder / f"{number:05d}.jpg").read_bytes() == shard.stored(entry, number)


def test_frames_as_png(tmp_path: Path, shards: dict[str, Stored]) -> None:
    ((folder,), _) = export([tmp_path / "shards/rgb/00000.h5"], tmp_path / "out", videos=["a/1.avi"], form="png")
    assert folder == tmp_path / "out/mine/rgb/a/1.avi"
    for number, frame in enumerate(shards["rgb/00000.h5"]["a/1.avi"]):
        image = cv2.imread(str(folder / f"{number:05d}.png"))
        assert image is not None
        assert np.array_equal(image[..., ::-1], frame)


@pytest.mark.parametrize("stream", ["flow", "warped"])
def test_flow_as_flo(tmp_path: Path, shards: dict[str, Stored], stream: str) -> None:
    export([tmp_path / "shards" / stream], tmp_path / "out")
    for video, fields in shards[f"{stream}/00000.h5"].items():
        for number, field in enumerate(fields):
            written = tmp_path / "out/mine" / stream / video / f"{number:05d}.flo"
            assert np.array_equal(read_flo(written), dequantise(field, 20.0).transpose(1, 2, 0))
            read = cv2.readOpticalFlow(str(written))
            assert np.array_equal(read, dequantise(field, 20.0).transpose(1, 2, 0))


def test_flow_as_levels(tmp_path: Path, shards: dict[str, Stored]) -> None:
    ((folder,), _) = export([tmp_path / "shards/flow"], tmp_path / "out", videos=["a/1.avi"], form="png-flow")
    for number, field in enumerate(shards["flow/00000.h5"]["a/1.avi"]):
        for axis, levels in zip("xy", field, strict=True):
            image = cv2.imread(str(folder / f"{number:05d}_{axis}.png"), cv2.IMREAD_UNCHANGED)
            assert np.array_equal(image, levels)
    assert len(list(folder.iterdir())) == 6


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
    assert (folder / "notes.txt").exists()


def test_a_damaged_video_is_not_exported(tmp_path: Path, shards: dict[str, Stored]) -> None:
    flip_item(tmp_path / "shards/rgb/00000.h5", 2)
    with pytest.raises(InputError, match=r"checksum of frame 2 of a/1.avi differs"):
        export([tmp_path / "shards/rgb/00000.h5"], tmp_path / "out")
    assert [path for path in (tmp_path / "out").rglob("*") if path.is_file()] == []


@pytest.mark.parametrize(
    ("path", "videos", "form", "message"),
    [
        ("rgb", [], "flo", "is of stream rgb and has no flo; export it as jpg or png"),
        ("flow", [], "jpg", "is of stream flow and has no jpg; export it as flo or png-flow"),
        ("rgb", ["a/1.avi", "z.avi"], None, "no such video in these shards: z.avi"),
        ("rgb", ["a/0.avi"], None, "a/0.avi is quarantined in shard .*: truncated"),
    ],
)
def test_what_cannot_be_exported(
    tmp_path: Path, shards: dict[str, Stored], path: str, videos: list[str], form: str | None, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        export([tmp_path / "shards" / path], tmp_path / "out", videos=videos, form=form)


def test_two_datasets_do_not_meet(tmp_path: Path, write_shard: WriteShard) -> None:
    write_shard(tmp_path / "0.h5", "rgb", {"a.avi": 1}, dataset="mine")
    write_shard(tmp_path / "1.h5", "rgb", {"a.avi": 1}, dataset="yours")
    written, kept = export([tmp_path / "0.h5", tmp_path / "1.h5"], tmp_path / "out")
    assert written == [tmp_path / "out/mine/rgb/a.avi", tmp_path / "out/yours/rgb/a.avi"]
    assert kept == []


@pytest.mark.parametrize("dataset", ["../..", "/etc", "a/../../..", "."])
def test_a_hostile_dataset_stays_in_the_folder(tmp_path: Path, dataset: str) -> None:
    attributes = {"stream": "rgb", "dataset": dataset, "shard": "0", "width": 32, "height": 24}
    with create(tmp_path / "0.h5", attributes | {"settings": {}}) as writer:
        writer.add(Entry("a.avi", "a"), [encode_frame(np.zeros((24, 32, 3), np.uint8), 95)])
    ((folder,), _) = export([tmp_path / "0.h5"], tmp_path / "out")
    assert folder.resolve().parents[2] == tmp_path / "out"
    assert (folder / "00000.jpg").is_file()


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


@pytest.mark.parametrize("skip_existing", [True, False])
def test_everything_is_looked_at_before_anything_is_written(
    tmp_path: Path, shards: dict[str, Stored], skip_existing: bool
) -> None:
    # The last video of the second shard is there: as PNG images, which are not those that are asked for.
    paths, out = [tmp_path / "shards/rgb"], tmp_path / "out"
    export(paths, out, videos=["c/3.avi"], form="png")
    message = "3.avi is not an export of this video in this format" if skip_existing else "3.avi exists already"
    with pytest.raises(InputError, match=message):
        export(paths, out, skip_existing=skip_existing)
    with pytest.raises(InputError, match=r"no such video in these shards: z.avi"):
        export(paths, out, videos=["a/1.avi", "z.avi"])
    assert [path.name for path in (out / "mine/rgb").iterdir()] == ["c"]
    with pytest.raises(InputError, match="contradict each other"):
        export(paths, out, overwrite=True, skip_existing=True)


def test_an_incomplete_folder_is_not_taken_for_an_export(tmp_path: Path, shards: dict[str, Stored]) -> None:
    paths, out = [tmp_path / "shards/flow"], tmp_path / "out"
    ((folder, _), _) = export(paths, out, form="png-flow")
    assert len(export(paths, out, form="png-flow", skip_existing=True).kept) == 2
    (folder / "00000_y.png").unlink()
    with pytest.raises(InputError, match=r"a/1.avi is not an export of this video"):
        export(paths, out, form="png-flow", skip_existing=True)


def test_two_videos_for_one_folder_are_refused(tmp_path: Path, write_shard: WriteShard) -> None:
    write_shard(tmp_path / "0.h5", "rgb", {"a.avi": 1, "b": 1, "b/00000.jpg": 1})
    shutil.copy(tmp_path / "0.h5", tmp_path / "1.h5")
    with pytest.raises(InputError, match=r"a.avi of shard .*0.h5 and of shard .*1.h5 would both go to .*rgb/a.avi"):
        export([tmp_path / "0.h5", tmp_path / "1.h5"], tmp_path / "out", videos=["a.avi"])
    with pytest.raises(InputError, match=r"b/00000.jpg would go into the folder of b;"):
        export([tmp_path / "0.h5"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_file_in_the_place_of_a_folder_stays(tmp_path: Path, shards: dict[str, Stored]) -> None:
    place = tmp_path / "out/mine/rgb/c/3.avi"
    place.parent.mkdir(parents=True)
    place.write_text("mine")
    with pytest.raises(InputError, match=r"c/3.avi is no folder"):
        export([tmp_path / "shards/rgb"], tmp_path / "out", overwrite=True)
    assert place.read_text() == "mine"
    assert not (tmp_path / "out/mine/rgb/a").exists()


def test_ids_that_look_like_temporary_files_stay(tmp_path: Path, write_shard: WriteShard) -> None:
    ids = [".zz.abcdefgh.tmp", ".zz.lock", ".zz.old", "zz"]
    write_shard(tmp_path / "0.h5", "rgb", dict.fromkeys(ids, 1))
    export([tmp_path / "0.h5"], tmp_path / "out")
    names = sorted(path.name for path in (tmp_path / "out/mine/rgb").iterdir())
    assert names == ["%2Ezz.abcdefgh.tmp", "%2Ezz.lock", "%2Ezz.old", "zz"]


HOSTILE = [
    "/etc/passwd",
    "../../up",
    "a/../../b",
    "..",
    ".",
    "",
    "a//b",
    "c:\\x",
    "nul\nline",
    "50%",
    "a/./b",
    "...",
    ".hidden",
]


def test_hostile_ids_stay_in_the_folder(tmp_path: Path, write_shard: WriteShard) -> None:
    write_shard(tmp_path / "0.h5", "rgb", dict.fromkeys(HOSTILE, 1))
    for number, video in enumerate(HOSTILE):  # each for itself: some would lie in the folder of others
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


def test_usual_names_stay_what_they_are() -> None:
    name = "Wave Hands/v_[#1] & (2) it's; @+~!.avi"
    assert safe_path(name) == Path(name)
