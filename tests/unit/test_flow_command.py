import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import av
import cv2
import h5py
import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

from atw import config
from atw import flow as tvl1
from atw.commands import app
from atw.extras.drawing import films
from atw.extras.drawing.flow_wheel import flow_to_colours
from atw.extras.flow_preview import check_paths, full_length, write_preview
from atw.files import InputError
from atw.preprocess import streams
from atw.preprocess.single import FlowOptions, write_flow
from atw.shards import Shard, dequantise, quantise
from tests.unit.textures import estimate_warped

Image = NDArray[np.uint8]
MovingFrames = Callable[..., list[Image]]
WriteMjpeg = Callable[[Path, Sequence[Image]], Path]


@pytest.fixture
def video(tmp_path: Path, moving_frames: MovingFrames, write_mjpeg: WriteMjpeg) -> Path:
    return write_mjpeg(tmp_path / "videos" / "one.avi", moving_frames(9))


def greys(video: Path, size: tuple[int, int] | None = None) -> Image:
    """The frames in grey, by another decoder."""
    capture = cv2.VideoCapture(str(video))
    frames = []
    while (read := capture.read())[0]:
        image = cv2.resize(read[1], size) if size else read[1]
        frames.append(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY))
    return np.stack(frames)


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "atw", *map(str, arguments)], capture_output=True, text=True)


def call(*arguments: str | Path) -> None:
    """`atw flow` in this process."""
    CliRunner().invoke(app, ["flow", *map(str, arguments)], catch_exceptions=False)


def test_the_command_writes_flow_and_both_previews(video: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "flow.h5"
    done = run("flow", video, "--out", out, "--preset", "fast", "--threads", "2", "--preview", tmp_path / "p.png")
    assert done.returncode == 0, done.stderr
    images = greys(video)
    expected = tvl1.estimate(images[:-1], images[1:], config.Flow(preset="fast"))
    with h5py.File(out) as file:  # as anyone would read it
        bound = file.attrs["bound"]
        flow = (file["data"][:].astype(np.float32) - file.attrs["zero"]) * (2 * bound / 255)
        used = json.loads(file.attrs["flow"])
    assert bound == 20
    assert np.abs(flow - expected).max() <= bound / 255 + 1e-4
    assert np.median(flow[:, 0, 8:-8, 8:-8]) == pytest.approx(-2, abs=0.2)
    assert (used["backend"], used["warps"], used["iterations"]) == (tvl1.resolve_backend("auto"), 3, 30)
    assert cv2.imread(str(tmp_path / "p.png")) is not None
    assert "8 of 8" in done.stderr
    assert sorted(path.name for path in out.parent.iterdir()) == ["flow.h5"]


def test_a_preview_needs_no_shard(video: Path, tmp_path: Path) -> None:
    before = set(tmp_path.iterdir())
    call(video, "--preview", tmp_path / "flow.png", "--preset", "fast")
    assert set(tmp_path.iterdir()) - before == {tmp_path / "flow.png"}
    with pytest.raises(InputError, match="nothing to write: give --out for a shard, --preview"):
        call(video)


def test_a_name_that_is_no_text_is_spelt(video: Path, tmp_path: Path) -> None:
    odd = tmp_path / os.fsdecode(b"caf\xe9.avi")
    odd.write_bytes(video.read_bytes())
    write_flow(odd, tmp_path / "flow.h5", FlowOptions(preset="faster"))
    with Shard(tmp_path / "flow.h5") as shard:
        assert [entry.video for entry in shard.entries] == ["caf\\udce9.avi"]


def test_a_bad_video_gives_its_reason_and_leaves_nothing(video: Path, tmp_path: Path) -> None:
    content = video.read_bytes()
    video.write_bytes(content[: len(content) // 2])
    out = tmp_path / "new" / "flow.h5"
    with pytest.raises(InputError, match=f"video {video} cannot be used: truncated: "):
        call(video, "--out", out, "--preview", tmp_path / "p.mp4")
    assert [path.name for path in tmp_path.iterdir()] == ["videos"]


def test_a_bad_video_leaves_an_old_file_alone(tmp_path: Path) -> None:
    out = tmp_path / "flow.h5"
    out.write_bytes(b"old")
    with pytest.raises(InputError, match="missing file"):
        write_flow(tmp_path / "none.avi", out, FlowOptions())
    assert out.read_bytes() == b"old"


def test_one_of_width_and_height_is_not_enough(video: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="only one of --width and --height"):
        call(video, "--out", tmp_path / "flow.h5", "--width", "48")


@pytest.mark.parametrize("warped", [False, True])
def test_the_shard_holds_what_estimate_gives(video: Path, tmp_path: Path, warped: bool) -> None:
    choice = FlowOptions(preset="fast", bound=5.0, size=(48, 40), warped=warped)
    entry = write_flow(video, tmp_path / "flow.h5", choice)
    images = greys(video, (48, 40))
    expected = tvl1.estimate(images[:-1], images[1:], config.Flow(preset="fast"))
    if warped:
        expected, cameras = estimate_warped(images[:-1], images[1:], None, config.Flow(preset="fast"), config.Warp())
        accepted = [camera for camera in cameras if camera.accepted]
        assert entry.accepted == len(accepted) / 8
        assert entry.still == sum(camera.still for camera in cameras) / 8
    with Shard(tmp_path / "flow.h5") as shard:
        assert shard.entries == [entry]
        assert shard.stream == ("warped" if warped else "flow")
        assert np.array_equal(shard.fields(entry, range(8)), quantise(expected, 5.0))
        settings = shard.header.settings
    assert (entry.video, entry.label, entry.decoded, entry.width, entry.height) == ("one.avi", "", 9, 64, 48)
    assert entry.clipped == np.mean(np.abs(expected) > 5.0)
    assert (settings["flow"]["preset"], settings["preprocess"]["width"]) == ("fast", 48)
    assert ("warp" in settings) == warped


def test_fields_are_those_of_the_workflow(video: Path, tmp_path: Path) -> None:
    from atw.datasets import Dataset
    from atw.preprocess.shard import make

    (tmp_path / "list.csv").write_text("path,label,subset\none.avi,a,train\n")
    location = {"kind": "folder", "root": str(video.parent), "lists": str(tmp_path / "list.csv")}
    raw: dict[str, Any] = {
        "datasets": {"mine": location},
        "preprocess": {"width": 48, "height": 40, "shards": 1},
        "flow": {"preset": "fast"},
        "evaluate": {"crop": 40},
    }
    settings = config.load(raw)
    dataset = Dataset(config.location(settings, "mine"))
    for stream, warped in (("flow", False), ("warped", True)):
        plan = config.shard_settings(settings, "mine", stream)
        plan = plan.of_shard("00000", dataset.members_digest("00000", 1))
        flow = tmp_path / "flow.h5" if warped else None
        make(tmp_path / f"{stream}.h5", plan, dataset, flow_path=flow, threads=1)
        write_flow(video, tmp_path / "single.h5", FlowOptions(preset="fast", size=(48, 40), warped=warped))
        with Shard(tmp_path / f"{stream}.h5") as theirs, Shard(tmp_path / "single.h5") as ours:
            assert np.array_equal(ours.fields(ours.entries[0], range(8)), theirs.fields(theirs.entries[0], range(8)))
            for name in ("preprocess", "flow", "recipes", "warp"):
                given, planned = ours.header.settings.get(name), theirs.header.settings.get(name)
                assert given == planned
            assert ours.header.flow == theirs.header.flow
            assert ours.header.software == theirs.header.software


def test_neither_threads_nor_blocks_change_a_byte(video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_flow(video, tmp_path / "one.h5", FlowOptions(preset="fast"))
    write_flow(video, tmp_path / "three.h5", FlowOptions(preset="fast", threads=3))
    monkeypatch.setattr(streams, "BLOCK_PIXELS", 1)
    write_flow(video, tmp_path / "blocks.h5", FlowOptions(preset="fast"))
    content = (tmp_path / "one.h5").read_bytes()
    assert (tmp_path / "three.h5").read_bytes() == content
    assert (tmp_path / "blocks.h5").read_bytes() == content


def test_frames_in_memory_are_bounded(video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def counting(previous: Image, *_: object, **__: object) -> Any:
        seen.append(len(previous))
        raise InputError("enough")

    monkeypatch.setattr(streams.tvl1, "estimate_stored", counting)
    monkeypatch.setattr(streams, "BLOCK_PIXELS", 3 * 64 * 48)
    for threads, pairs in ((1, 3), (2, 3), (5, 5)):
        with pytest.raises(InputError, match="enough"):
            write_flow(video, video.parent / "flow.h5", FlowOptions(threads=threads))
        assert seen.pop() == pairs
    assert not (video.parent / "flow.h5").exists()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"preset": "slow"}, "preset is 'slow', but it should be 'opencv4', .* or 'faster'; change --preset"),
        ({"backend": "fpga"}, "backend is 'fpga', but it should be 'auto', .*; change --backend"),
        ({"bound": 0.0}, "bound is 0.0, but it should be greater than 0; change --bound"),
        ({"bound": float("nan")}, "bound is nan, but it should be a finite number; change --bound"),
        ({"size": (15, 48)}, "width is 15, but it should be greater than or equal to 16; change --width"),
        ({"size": (64, 5000), "warped": True}, "height is 5000, but it should be less .* 4096; change --height"),
        ({"picture_stream": -1}, "picture_stream is -1, but it should be .* 0; change --picture-stream"),
    ],
)
def test_impossible_choices_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        FlowOptions(**given)


@pytest.mark.parametrize(("width", "height"), [(64, 8), (4128, 16)])
def test_a_video_too_small_or_too_large_for_flow_is_refused(
    tmp_path: Path, moving_frames: MovingFrames, write_mjpeg: WriteMjpeg, width: int, height: int
) -> None:
    video = write_mjpeg(tmp_path / "odd.avi", moving_frames(4, width=width, height=height))
    name, value = ("height", height) if height < 16 else ("width", width)
    with pytest.raises(InputError, match=f"{name} is {value}, but it should be .*; change --{name}"):
        write_flow(video, tmp_path / "flow.h5", FlowOptions())


@pytest.fixture
def flow(video: Path, tmp_path: Path) -> Path:
    write_flow(video, tmp_path / "flow.h5", FlowOptions(preset="fast"))
    return tmp_path / "flow.h5"


def test_the_full_length_is_the_99th_percentile(flow: Path, write_shard: Callable[..., Any]) -> None:
    with Shard(flow) as shard:
        lengths = np.hypot(*dequantise(shard.fields(shard.entries[0], range(8)), 20.0).swapaxes(0, 1))
        # Rounded up to tenths of a pixel; the bins of the histogram are finer.
        assert np.percentile(lengths, 99) <= full_length(shard) <= np.percentile(lengths, 99) + 0.12
    still = flow.parent / "still.h5"
    write_shard(still, "flow", {"a/1.avi": 3})
    with Shard(still) as shard:
        noise = np.hypot(*dequantise(shard.fields(shard.entries[0], range(3)), 20.0).swapaxes(0, 1))
        assert full_length(shard) == pytest.approx(np.percentile(noise, 99), abs=0.3)


def test_a_still_video_is_shown_as_still(tmp_path: Path, moving_frames: MovingFrames, write_mjpeg: WriteMjpeg) -> None:
    video = write_mjpeg(tmp_path / "still.avi", moving_frames(1) * 5)
    write_flow(video, tmp_path / "flow.h5", FlowOptions(preset="fast"))
    with Shard(tmp_path / "flow.h5") as shard:
        assert full_length(shard) == 1.0


def film_frames(path: Path) -> list[Image]:
    with av.open(str(path)) as film:
        return [frame.to_ndarray(format="bgr24") for frame in film.decode(video=0)]


@pytest.mark.parametrize("encoder", ["libx264", "mpeg4"])
def test_the_film_shows_frames_beside_flow(
    video: Path, flow: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoder: str
) -> None:
    if encoder == "mpeg4":
        monkeypatch.setattr(films, "ENCODERS", films.ENCODERS[1:])
    out = tmp_path / "film.mp4"
    write_preview(video, flow, out)
    frames = film_frames(out)
    assert len(frames) == 8
    assert frames[0].shape == (240, 640, 3)
    with av.open(str(out)) as film:
        stream = film.streams.video[0]
        assert (stream.codec_context.name, stream.average_rate) == ("h264" if encoder == "libx264" else "mpeg4", 25)
    capture = cv2.VideoCapture(str(video))
    with Shard(flow) as shard:
        full = full_length(shard)
        for number, picture in enumerate(frames):
            frame = cv2.resize(capture.read()[1], (320, 240))
            field = dequantise(shard.fields(shard.entries[0], [number]), 20.0)[0]
            colours = cv2.resize(flow_to_colours(field, full_px=full)[..., ::-1], (320, 240))
            assert np.abs(picture[:, :320].astype(int) - frame).mean() < 12
            difference = np.abs(picture[:, 320:].astype(int) - colours).mean(axis=2)
            assert difference[:, :250].mean() < 16
            assert difference[-10:, -10:].mean() > 60  # the legend's corner


def test_the_sheet_shows_sixteen_pairs_spread_over_the_video(
    tmp_path: Path, moving_frames: MovingFrames, write_mjpeg: WriteMjpeg
) -> None:
    images = [np.full((48, 64, 3), 5 * number, np.uint8) for number in range(32)]
    video = write_mjpeg(tmp_path / "ramp.avi", images)
    write_flow(video, tmp_path / "flow.h5", FlowOptions(preset="fast"))
    write_preview(video, tmp_path / "flow.h5", tmp_path / "sheet.png")
    sheet = cv2.imread(str(tmp_path / "sheet.png"))
    assert sheet is not None
    rows = 225  # of a tile 300 px wide
    assert sheet.shape == (96 + 4 * 2 * rows, 4 * 300, 3)
    # Every second frame of 31: the brightness of a tile says which it is.
    for place, (line, column) in enumerate(itertools.product(range(4), range(4))):
        tile = sheet[96 + 2 * rows * line :, 300 * column : 300 * (column + 1)]
        assert np.median(tile[:rows]) == pytest.approx(5 * 2 * place, abs=2)


def test_a_short_video_has_as_many_tiles_as_fields(video: Path, flow: Path, tmp_path: Path) -> None:
    write_preview(video, flow, tmp_path / "sheet.png")
    sheet = cv2.imread(str(tmp_path / "sheet.png"))
    assert sheet is not None
    assert sheet.shape == (96 + 2 * 2 * 225, 4 * 300, 3)
    with Shard(flow) as shard:
        field = dequantise(shard.fields(shard.entries[0], [5]), 20.0)[0]
        colours = cv2.resize(flow_to_colours(field, full_px=full_length(shard))[..., ::-1], (300, 225))
    shown = sheet[96 + 3 * 225 : 96 + 4 * 225, 300:600]  # field 5 is the second of the second line
    assert np.abs(shown.astype(int) - colours).mean() < 1


@pytest.mark.parametrize(
    ("out", "picture", "message"),
    [
        ("flow.h5", "p.gif", r"preview p.gif must be an .mp4 or a .png file"),
        ("v.mp4", None, "are not all different files"),
        ("flow.h5", "./v.mp4", "are not all different files"),
        ("p.png", "p.png", "are not all different files"),
    ],
)
def test_no_file_is_written_over_another(out: str, picture: str | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_paths(Path("v.mp4"), Path(out), Path(picture) if picture else None)
    check_paths(Path("v.mp4"), Path("flow.h5"), None)
