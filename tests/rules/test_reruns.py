"""Changing a setting reruns exactly what depends on it; wrong inputs end the run with one clear message."""

import copy
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torchvision

from tests.rules.conftest import BAD, CONFIG, Workplace, raise_recipe

TARGET = "results/tiny/split1/fused.json"
# Never made: a job that fails on it takes away no file that other tests look at.
UNTRAINED = "results/tiny/experiments/average/split1/flow/model.pt"
DOWNSTREAM = {"train": 3, "score": 3, "fuse": 1}


@pytest.fixture
def config(workplace: Workplace) -> Iterator[dict]:
    """A copy of the configuration to change; the workplace gets the original back."""
    workplace.snakemake(TARGET)
    yield copy.deepcopy(CONFIG)
    workplace.write_config(CONFIG)


@pytest.mark.parametrize(
    ("section", "key", "value", "expected"),
    [
        ("fusion", "add", "probabilities", {"fuse": 1}),
        ("evaluate", "snippets", 7, {"score": 3, "fuse": 1}),
        ("train", "learning_rate", 0.5, DOWNSTREAM),
        ("flow", "bound", 9, {"flow": 2, "warped": 2, "train": 2, "score": 2, "fuse": 1}),
        ("preprocess", "quarantine_limit", 0.3, {"audit": 1, "fuse": 1}),
        ("preprocess", "jpeg_quality", 90, {"frames": 2, "audit": 1, "train": 1, "score": 1, "fuse": 1}),
        ("preprocess", "flow_from", "frames", {"flow": 2, "warped": 2, "train": 2, "score": 2, "fuse": 1}),
        ("compute", "train_threads", 2, {}),
    ],
)
def test_a_setting_reruns_what_depends_on_it(
    workplace: Workplace, config: dict, section: str, key: str, value: object, expected: dict[str, int]
) -> None:
    config["datasets"]["tiny"].setdefault(section, {})[key] = value
    workplace.write_config(config)
    assert workplace.jobs(TARGET) == expected


def test_a_list_of_actions_scores_again(workplace: Workplace, config: dict) -> None:
    config["datasets"]["tiny"]["intervals"] = "actions.csv"
    (workplace.folder / "actions.csv").write_text("path,label,start,end\n")
    workplace.write_config(config)
    assert workplace.jobs(TARGET) == {}
    (video,) = (line for line in (workplace.folder / "lists/split1.csv").read_text().splitlines() if BAD in line)
    path, label, _ = video.split(",")[:3]
    (workplace.folder / "actions.csv").write_text(f"path,label,start,end\n{path},{label},0,1\n")
    assert workplace.jobs(TARGET) == {"score": 3, "fuse": 1}


def test_one_stream_alone(workplace: Workplace, config: dict) -> None:
    config["datasets"]["tiny"]["streams"] = {"flow": {"train": {"clip": 3}}}
    workplace.write_config(config)
    assert workplace.jobs(TARGET) == {"train": 1, "score": 1, "fuse": 1}


def test_flow_of_stored_frames_follows_them(workplace: Workplace, config: dict) -> None:
    preprocess = config["datasets"]["tiny"]["preprocess"] | {"flow_from": "frames"}
    config["datasets"]["stored"] = config["datasets"]["tiny"] | {"preprocess": preprocess}
    workplace.write_config(config)
    target = "shards/stored/warped/00000.h5"
    expected = {"frames": 1, "flow": 1, "warped": 1}
    assert workplace.jobs(target) == expected
    workplace.snakemake(target)
    assert workplace.jobs(target) == {}
    preprocess["jpeg_quality"] = 90
    workplace.write_config(config)
    assert workplace.jobs(target) == expected
    shutil.rmtree(workplace.folder / ".atw/digests/stored")


def test_a_page_compares_with_the_experiments_that_it_names(workplace: Workplace, config: dict) -> None:
    page = "results/tiny/split1/report.html"
    config["page"] = {"compare": ["average", "plain"]}
    workplace.write_config(config)
    assert workplace.jobs(page) == {"report_page": 1, **DOWNSTREAM}
    # That of the experiment is compared with the plain result.
    own = "results/tiny/experiments/average/split1/report.html"
    assert workplace.jobs(own) == {"report_page": 1, **DOWNSTREAM}
    config["page"] = {"compare": ["averages"]}
    workplace.write_config(config)
    run = workplace.snakemake("--dry-run", page, check=False)
    assert "experiment 'averages' is not in config.yaml" in run.stdout + run.stderr


def test_an_experiment_reuses_every_shard(workplace: Workplace, config: dict) -> None:
    assert workplace.jobs("results/tiny/experiments/average/split1/fused.json") == DOWNSTREAM


def test_a_stream_without_weight_is_not_trained(workplace: Workplace, config: dict) -> None:
    config["datasets"]["tiny"]["fusion"] = {"weights": {"rgb": 1, "flow": 1, "warped": 0}}
    config["datasets"]["other"] = config["datasets"]["tiny"]
    workplace.write_config(config)
    assert workplace.jobs("results/other/split1/fused.json") == {
        "frames": 2,
        "audit": 1,
        "flow": 2,
        "train": 2,
        "score": 2,
        "fuse": 1,
    }


def test_a_removed_video_remakes_only_its_shard(workplace: Workplace, config: dict) -> None:
    path = workplace.folder / "lists/split1.csv"
    before = path.read_text()
    try:
        path.write_text(before.replace(f"{BAD},up,test\n", ""))
        assert BAD not in path.read_text()
        assert workplace.jobs(TARGET) == {"frames": 1, "audit": 1, "flow": 1, "warped": 1, **DOWNSTREAM}
    finally:
        path.write_text(before)


def test_new_times_and_a_copy_of_the_collection_remake_nothing(workplace: Workplace, config: dict) -> None:
    for video in (workplace.folder / "videos").rglob("*.avi"):
        video.touch()
    assert workplace.jobs(TARGET) == {}
    shutil.copytree(workplace.folder / "videos", workplace.folder / "elsewhere", copy_function=shutil.copyfile)
    config["datasets"]["tiny"]["root"] = "elsewhere"
    workplace.write_config(config)
    assert workplace.jobs(TARGET) == {}
    shutil.rmtree(workplace.folder / "elsewhere")


def test_a_video_of_the_same_size_and_other_content_remakes_only_its_shard(workplace: Workplace, config: dict) -> None:
    video = workplace.folder / "videos" / BAD
    content, times = video.read_bytes(), video.stat()
    try:
        # Even with the times of the old one.
        video.write_bytes(content[:-1] + bytes([content[-1] ^ 0xFF]))
        os.utime(video, ns=(times.st_atime_ns, times.st_mtime_ns))
        assert workplace.jobs(TARGET) == {"frames": 1, "audit": 1, "flow": 1, "warped": 1, **DOWNSTREAM}
    finally:
        video.write_bytes(content)
    assert workplace.jobs(TARGET) == {}


def test_a_dry_run_of_a_new_dataset_reads_no_video(workplace: Workplace, config: dict) -> None:
    config["datasets"]["other"] = config["datasets"]["tiny"]
    workplace.write_config(config)
    workplace.jobs("results/other/split1/fused.json")
    assert {path.name for path in (workplace.folder / ".atw/digests").iterdir()} == {"tiny"}


def test_a_second_split_reuses_every_shard(workplace: Workplace, config: dict) -> None:
    second = workplace.folder / "lists/split2.csv"
    first = second.with_name("split1.csv").read_text()
    try:
        second.write_text("\n".join(swapped(line) for line in first.splitlines()) + "\n")
        assert workplace.jobs("results/tiny/split2/fused.json") == {"audit": 1, **DOWNSTREAM}
    finally:
        second.unlink()


def swapped(line: str) -> str:
    """A line of a list with its video in the other subset."""
    video, comma, subset = line.rpartition(",")
    return video + comma + {"train": "test", "test": "train"}.get(subset, subset)


def test_a_second_run_in_the_same_folder_is_refused(workplace: Workplace, config: dict) -> None:
    lock = workplace.folder / ".snakemake/locks/0.output.lock"
    lock.parent.mkdir(exist_ok=True)
    lock.write_text(f"{TARGET}\n")  # as a run that makes it writes it
    try:
        config["datasets"]["tiny"]["fusion"] = {"add": "probabilities"}
        workplace.write_config(config)
        before = (workplace.folder / TARGET).read_bytes()
        run = workplace.snakemake(TARGET, check=False)
        assert run.returncode != 0
        assert "Directory cannot be locked" in run.stderr
        assert "--unlock" in run.stderr
        assert (workplace.folder / TARGET).read_bytes() == before
    finally:
        lock.unlink()


def test_no_change_plans_nothing(workplace: Workplace, config: dict) -> None:
    assert workplace.jobs(TARGET) == {}


@pytest.mark.parametrize(
    ("stage", "expected"),
    [
        ("flow", {"flow": 2, "warped": 2, "train": 2, "score": 2, "fuse": 1}),
        ("train", DOWNSTREAM),
        ("fuse", {"fuse": 1}),
    ],
)
def test_a_raised_recipe_number_reruns_what_depends_on_it(
    workplace: Workplace,
    config: dict,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stage: str,
    expected: dict[str, int],
) -> None:
    raise_recipe(tmp_path, stage)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert workplace.jobs("--snakefile", str(tmp_path / "Snakefile"), TARGET) == expected


def test_another_folder_takes_the_shards_of_this_one(workplace: Workplace, config: dict, tmp_path: Path) -> None:
    other = Workplace(tmp_path)
    for name in ("videos", "lists"):
        (tmp_path / name).symlink_to(workplace.folder / name)
    other.write_config({**config, "shards": str(workplace.folder / "shards")})
    shards = {path: path.stat().st_mtime_ns for path in (workplace.folder / "shards/tiny").rglob("*.h5")}
    assert len(shards) == 6
    model = "results/tiny/split1/warped/model.pt"
    other.snakemake(model)
    assert (tmp_path / model).is_file()
    assert not (tmp_path / "shards").exists()
    assert {path: path.stat().st_mtime_ns for path in shards} == shards


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"train": {"iteratons": 3}}, ["datasets.tiny.train.iteratons", "unknown key", "3", "iterations"]),
        ({"model": {"weights": "weights/none.pth"}}, ["weights/none.pth", "does not exist", "model.weights"]),
        ({"root": "nowhere"}, ["nowhere", "does not exist", "datasets.tiny.root"]),
        ({"lists": "lists/none{split}.csv"}, ["lists/none1.csv", "does not exist", "path,label,subset"]),
        ({"compute": {"workers": 9}}, ["compute.workers is 9", "train.batch is 6"]),
    ],
)
def test_wrong_input_stops_before_anything_runs(
    workplace: Workplace, config: dict, changes: dict, words: list[str]
) -> None:
    config["datasets"]["tiny"].update(changes)
    workplace.write_config(config)
    run = workplace.snakemake("--dry-run", TARGET, check=False)
    assert run.returncode != 0
    output = run.stdout + run.stderr
    for word in words:
        assert word in output


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("left/unknown.avi,left,train", ["1 of the 16 listed videos are not in videos", "left/unknown.avi"]),
        (f"./{BAD},down,test", ["no training video of class down"]),
        (f"{BAD},up,validate", ["split1.csv, line 17", "subset of train or test", "validate"]),
    ],
)
def test_wrong_list(workplace: Workplace, config: dict, line: str, words: list[str]) -> None:
    path = workplace.folder / "lists/split1.csv"
    before = path.read_text()
    try:
        # The bad video gives up its own line, so that one with another label can take its place.
        path.write_text(
            before.replace(f"{BAD},up,test\n", "") + line + "\n" if "down" in line else before + line + "\n"
        )
        run = workplace.snakemake("--dry-run", TARGET, check=False)
    finally:
        path.write_text(before)
    assert run.returncode != 0
    for word in words:
        assert word in run.stdout + run.stderr


def test_a_missing_video_is_quarantined_where_that_is_allowed(workplace: Workplace, config: dict) -> None:
    path = workplace.folder / "lists/split1.csv"
    before = path.read_text()
    config["datasets"]["tiny"]["allow_missing"] = True
    workplace.write_config(config)
    try:
        path.write_text(before + "left/unknown.avi,left,train\n")
        assert workplace.jobs(TARGET) == {"frames": 1, "audit": 1, "flow": 1, "warped": 1, **DOWNSTREAM}
    finally:
        path.write_text(before)


def test_a_shard_that_does_not_exist(workplace: Workplace, config: dict) -> None:
    run = workplace.snakemake("--dry-run", "shards/tiny/rgb/00007.h5", check=False)
    assert run.returncode != 0
    assert "no video in shard 00007 of 2" in run.stdout + run.stderr


def test_plain_yaml_is_read_as_it_is_written(workplace: Workplace, config: dict) -> None:
    text = (workplace.folder / "config.yaml").read_text()
    (workplace.folder / "config.yaml").write_text(text + "fusion: {add: probabilities, weights: {rgb: 2, flow: 1}}\n")
    assert workplace.jobs(TARGET) == {"fuse": 1}


def test_a_gpu_that_is_not_there_stops_the_training(workplace: Workplace, config: dict) -> None:
    config["datasets"]["tiny"]["compute"]["gpus"] = 1
    workplace.write_config(config)
    run = workplace.snakemake(UNTRAINED, "--resources", "gpu=0", check=False)
    assert run.returncode != 0
    output = run.stdout + run.stderr
    for words in ("compute.gpus is 1", "--resources", "gpus to 0"):
        assert words in output
    assert "Traceback" not in output


def test_weights_of_another_network(workplace: Workplace, config: dict) -> None:
    path = workplace.folder / "weights.pth"
    torch.save(torchvision.models.resnet18(weights=None).state_dict(), path)
    config["datasets"]["tiny"]["model"] |= {"backbone": "mobilenet_v2", "weights": "weights.pth"}
    workplace.write_config(config)
    run = workplace.snakemake(UNTRAINED, check=False)
    assert run.returncode != 0
    output = run.stdout + run.stderr
    assert "weights.pth: is not a mobilenet_v2" in output
    assert "Traceback" not in output


def test_damaged_shard(workplace: Workplace, config: dict) -> None:
    path = workplace.folder / "shards/tiny/flow/00000.h5"
    whole, times = path.read_bytes(), path.stat()
    damaged = bytearray(whole)
    for place in range(len(whole) // 4, len(whole) * 3 // 4, 97):
        damaged[place] ^= 0xFF
    try:
        path.write_bytes(damaged)
        run = workplace.snakemake(UNTRAINED, check=False)
    finally:
        path.write_bytes(whole)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert run.returncode != 0
    output = run.stdout + run.stderr
    assert "shards/tiny/flow/00000.h5 is damaged" in output
    assert "delete the file" in output
