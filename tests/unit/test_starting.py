"""What `atw init` chooses for which videos and machines, and that the workflow takes it; profiles."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from atw import config, workflow
from atw.errors import InputError
from atw.extras import starting
from atw.extras.cost.estimate import Estimate
from atw.extras.starting import Machine, Seen, as_yaml, choose

LAPTOP = Machine(cores=2, memory_gib=8.0, gpus=[])
BIG = Machine(cores=32, memory_gib=256.0, gpus=["NVIDIA A100"])
WIDE, UPRIGHT = (640, 480), (1080, 1920)


def chosen(videos: int, shapes: list[tuple[int, int]], machine: Machine, *classes: str) -> dict[str, Any]:
    """The choices for so many videos of these classes, checked by the models of the configuration."""
    names = classes or ("jump", "wave")
    seen = Seen({name: videos // len(names) for name in names}, shapes, [])
    choices = choose(seen, machine)
    assert all(choice.why for choice in choices if choice.key != "preprocess.height")
    raw = yaml.safe_load(as_yaml(Path("my clips"), "mine", seen, choices))
    assert raw["datasets"]["mine"]["root"] == "my clips"
    for stream in config.STREAMS:
        config.effective(config.load(raw), "mine", stream)
    return {choice.key: choice.value for choice in choices}


@pytest.mark.parametrize(
    ("shapes", "width", "height", "fit"),
    [
        ([WIDE] * 10, 340, 256, None),
        ([(1920, 1080)] * 10, 456, 256, None),
        ([UPRIGHT] * 10, 256, 456, None),
        ([(480, 480)] * 10, 256, 256, None),
        ([(2560, 720)] * 10, 512, 256, "letterbox"),
        ([WIDE] * 9 + [(1920, 1080)], 340, 256, "letterbox"),
        ([WIDE] * 5 + [(1920, 1080)] * 5, 340, 256, "letterbox"),
        ([(480, 640)] * 5 + [UPRIGHT] * 5, 256, 340, "letterbox"),
        ([WIDE] * 5 + [UPRIGHT] * 5, 256, 256, "letterbox"),
    ],
)
def test_the_working_size_has_the_shape_of_the_videos(
    shapes: list[tuple[int, int]], width: int, height: int, fit: str | None
) -> None:
    found = chosen(32, shapes, LAPTOP)
    assert (found["preprocess.width"], found["preprocess.height"], found.get("preprocess.fit")) == (width, height, fit)


@pytest.mark.parametrize(
    ("shapes", "flow_from"),
    [
        ([WIDE] * 10, None),
        ([(1280, 720)] * 10, "frames"),
        ([(1080, 1920)] * 6 + [WIDE] * 4, "frames"),
        ([(1920, 1080)] * 4 + [WIDE] * 6, None),
    ],
)
def test_large_videos_are_decoded_once(shapes: list[tuple[int, int]], flow_from: str | None) -> None:
    assert chosen(32, shapes, LAPTOP).get("preprocess.flow_from") == flow_from


@pytest.mark.parametrize(
    ("videos", "machine", "shards", "recipe", "iterations", "threads"),
    [
        (32, LAPTOP, 1, "small", None, 1),
        (400, LAPTOP, 2, "small", None, 1),
        (1000, LAPTOP, 4, "small", 700, 1),
        (200_000, LAPTOP, 512, "small", 140_000, 1),
        (32, Machine(32, 64.0, []), 2, "small", None, 8),
        (320, BIG, 8, "small", None, None),
        (3000, BIG, 12, "small", 2100, None),
        (20_000, BIG, 79, "paper", None, None),
        (200_000, BIG, 512, "large", 54_688, None),
    ],
)
def test_the_rest_fits_the_number_of_videos_and_the_machine(
    videos: int, machine: Machine, shards: int, recipe: str | None, iterations: int | None, threads: int | None
) -> None:
    found = chosen(videos, [WIDE], machine)
    assert found["preprocess.shards"] == shards
    assert found.get("recipe") == recipe
    assert found.get("train.iterations") == iterations
    assert found.get("train.steps") == ([21_875, 43_750] if recipe == "large" else None)
    assert found.get("compute.train_threads") == threads
    assert found.get("compute.loaders") == (0 if machine is LAPTOP else None)


@pytest.mark.parametrize(
    ("name", "sided"),
    [
        *(("turn_left", True), ("TennisForehand", True), ("SwipeRIGHT", True), ("backhand slice", True)),
        *(("brighten", False), ("upright", False), ("leftover", False), ("jump", False)),
    ],
)
def test_classes_with_a_side_are_not_mirrored(name: str, sided: bool) -> None:
    assert ("augment.flip" in chosen(32, [WIDE], LAPTOP, "wave", name)) == sided


@pytest.mark.parametrize("name", ["no", "2024", "1_000", "null", "videos"])
def test_names_and_paths_stay_texts(name: str) -> None:
    seen = Seen({"left\u2028hand: x": 8, "b": 8}, [WIDE], [])
    raw = yaml.safe_load(as_yaml(Path(f"a: b/#{name}"), name, seen, choose(seen, LAPTOP)))
    assert config.load(raw).dataset(name).root_of(name) == f"a: b/#{name}"


@pytest.fixture
def clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moving_frames: Callable[..., Any], write_mjpeg: Any) -> Path:
    """A folder of clips of two classes, in a working folder; what it takes is not measured."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        starting.estimate, "estimate", lambda target, *_, cores, gpus: Estimate(target, cores, gpus, [], [], [])
    )
    for number in range(8):
        write_mjpeg(tmp_path / f"my clips/{('left', 'b')[number % 2]}/{number}.avi", moving_frames(6))
    return Path("my clips")


def test_a_folder_of_clips_gets_its_configuration(clips: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (clips / "b/broken.avi").write_bytes(b"nothing")
    starting.write_for_videos(clips)
    said = capsys.readouterr().out
    loaded = config.load(config.read(workflow.CONFIG).content)
    assert list(loaded.datasets) == ["my-clips"]
    assert config.effective(loaded, "my-clips", "rgb").model.backbone == "mobilenet_v2"
    assert "my clips: 9 videos of 2 classes" in said
    assert "cannot be used, and will be left out: b/broken.avi (not a video" in said
    assert "`atw run` stops" not in said
    assert "too few videos to learn much: b (5), left (4)" in said
    assert "augment.flip: 0" in said
    assert said.endswith("next:\n  atw weights mobilenet_v2\n  atw run\n")
    target = "results/my-clips/split1/fused.json"
    assert workflow.default_targets([], all_splits=False) == [target, "results/my-clips/split1/report.html"]
    assert workflow.default_targets([], all_splits=True) == []
    assert workflow.default_targets(["--configfile", "other.yaml"], all_splits=False) == []
    good = workflow.CONFIG.read_text()
    workflow.CONFIG.write_text(good + "    train: {learning_rate: 1e-3}\n")
    with pytest.raises(InputError, match=r"config\.yaml, line \d+, column 28: .*write 0\.001, since YAML reads 1e-3"):
        workflow.default_targets([], all_splits=False)
    workflow.CONFIG.write_text(good)
    with pytest.raises(InputError, match=r"config.yaml exists; work in an empty folder, or move it away"):
        starting.write_for_videos(clips)
    workflow.CONFIG.unlink()
    (clips / "b/empty.avi").touch()
    starting.write_for_videos(clips)
    assert "`atw run` stops where more than one and 5% cannot be used: take those out" in capsys.readouterr().out


def test_several_gpus_are_named_and_not_counted(
    clips: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`atw run` takes one unless it is told otherwise, so the time is that of one."""
    counted = []

    def estimate(target: str, *_: Any, cores: int, gpus: int) -> Estimate:
        counted.append(gpus)
        return Estimate(target, cores, gpus, [], [], [])

    monkeypatch.setattr(starting.estimate, "estimate", estimate)
    monkeypatch.setattr(starting, "this_machine", lambda: Machine(32, 256.0, ["NVIDIA A100"] * 4))
    starting.write_for_videos(clips)
    assert counted == [1]
    said = capsys.readouterr().out
    assert said.endswith("  atw run\nor, for the streams side by side, atw run -- --resources gpu=3\n")
    assert "of 2 classes, called my-clips: folders of results need a plain name\n" in said


def test_no_splits_stay_drawn(clips: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that videos may be added until the first run; lists of before stay."""

    def draw(target: str, *_: Any, cores: int, gpus: int) -> Estimate:
        Path("lists/my-clips").mkdir(parents=True, exist_ok=True)
        Path("lists/my-clips/split1.csv").write_text("drawn")
        if fails:
            raise InputError("nothing can be decoded")
        return Estimate(target, cores, gpus, [], [], [])

    fails = True

    monkeypatch.setattr(starting.estimate, "estimate", draw)
    with pytest.raises(InputError, match="nothing can be decoded"):
        starting.write_for_videos(clips)
    assert not Path("lists").exists()
    assert not workflow.CONFIG.exists()
    fails = False
    starting.write_for_videos(clips)
    assert not Path("lists").exists()
    for known in ("lists/other", "lists/my-clips"):
        Path(known).mkdir(parents=True)
        workflow.CONFIG.unlink()
        starting.write_for_videos(clips)
        assert Path(known).exists()
        assert Path("lists/my-clips").exists() == (known == "lists/my-clips")


def test_what_is_no_folder_of_clips_is_refused(clips: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="nowhere is no folder; name the one that has a directory of videos"):
        starting.write_for_videos(Path("nowhere"))
    with monkeypatch.context() as inside:
        inside.chdir(clips / "b")
        with pytest.raises(InputError, match="gets no files of atw, and this is inside it"):
            starting.write_for_videos(Path(".."))
    with pytest.raises(
        InputError, match=r"clips/b has no folder for each class\. If .* give the one above it; else sort"
    ):
        starting.write_for_videos(clips / "b")
    with pytest.raises(InputError, match=r"one video alone cannot be .* tested on: lone\. Add a"):
        (clips / "lone").mkdir()
        (clips / "b/1.avi").rename(clips / "lone/1.avi")
        starting.write_for_videos(clips)
    (clips / "lone/1.avi").rename(clips / "b/1.avi")
    (clips / "lone").rmdir()
    for path in clips.rglob("*.avi"):
        path.write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"my clips: none of 8 videos that were looked at can be used: .*b/1\.avi"):
        starting.write_for_videos(clips)
    assert not workflow.CONFIG.exists()


@pytest.mark.parametrize("name", ["ucf101", "hmdb51", "kinetics400", "somethingv2", "activitynet", "thumos14"])
def test_a_published_dataset_gets_its_entry(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    starting.write_for_published(name)
    said = capsys.readouterr().out
    loaded = config.load(config.read(workflow.CONFIG).content)
    assert list(loaded.datasets) == [name]
    assert f"the videos belong into {config.location(loaded, name).root}, the lists into data/{name}" in said
    steps = ["atw weights resnet50", f"atw plan results/{name}/split1/fused.json", "atw run"]
    download = [f"atw run data/downloads/{name}.json"] if name in ("ucf101", "hmdb51") else []
    assert said.partition("next:\n")[2].splitlines() == [f"  {step}" for step in download + steps]


def test_another_name_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"no dataset 'ucf' is known; there are ucf101, .*For others"):
        starting.write_for_published("ucf")
    assert not workflow.CONFIG.exists()


def test_profiles_are_copied_to_be_edited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert workflow.profile_names() == ["default", "kubernetes", "slurm"]
    assert workflow.copy_profile("slurm") == Path("profiles/slurm")
    copied = Path("profiles/slurm/config.yaml")
    assert copied.read_bytes() == (workflow.root() / copied).read_bytes()
    copied.write_text("edited", encoding="utf-8")
    with pytest.raises(InputError, match=r"profiles/slurm exists already"):
        workflow.copy_profile("slurm")
    assert copied.read_text(encoding="utf-8") == "edited"
    with pytest.raises(InputError, match=r"no profile is called 'slum'; there are default, kubernetes, slurm"):
        workflow.copy_profile("slum")
