"""`atw shards export`, as a person calls it."""

import shutil
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from atw.files import InputError
from atw.shards import Entry, Shard, create, dequantise, encode_frame
from atw.shards.export import export, safe_path
from tests.unit.shard_commands import call, flip_item
from tests.unit.stored import Stored, WriteShard


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
