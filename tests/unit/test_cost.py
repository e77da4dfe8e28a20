"""The estimate of what a target takes: amounts, bytes and times from a sample and from rates."""

import json
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from atw import config
from atw.datasets import Dataset
from atw.extras.cost import estimate as estimates
from atw.extras.cost.estimate import Estimate, PendingFiles, StageCost, duration, pending_files
from atw.extras.cost.rates import Rate, VideoSample, sample_videos
from atw.files import InputError
from atw.plan import Plan
from tests.unit.trained import FRAMES, Trained


def test_a_sample_says_how_long_videos_are(trained: Trained) -> None:
    preprocess = config.shard_settings(trained.config, "mine", "rgb").preprocess
    found = sample_videos(trained.dataset, preprocess, seed=0)
    assert sorted(found.frames) == sorted(FRAMES.values())
    assert found.mean == pytest.approx(np.mean(list(FRAMES.values())))
    assert found.decoding_seconds > 0
    assert all(frame.shape == (48, 64, 3) for clip in found.clips for frame in clip)


def test_videos_that_cannot_be_decoded_are_not_counted(tmp_path: Path, trained: Trained) -> None:
    lists = tmp_path / "split1.csv"
    lists.write_text("path,label,subset\nleft/0.avi,left,train\nleft/bad.avi,left,test\n", encoding="utf-8")
    for name in ("left/0.avi", "left/bad.avi"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / "left/0.avi").write_bytes((trained.root / "left/0.avi").read_bytes())
    (tmp_path / "left/bad.avi").write_bytes(b"no video")
    raw = {"datasets": {"mine": {"kind": "folder", "root": str(tmp_path), "lists": str(lists)}}}
    dataset = Dataset(config.location(config.load(raw), "mine"))
    preprocess = config.shard_settings(trained.config, "mine", "rgb").preprocess
    assert sample_videos(dataset, preprocess, seed=0).frames == [FRAMES["left/0.avi"]]
    (tmp_path / "left/0.avi").write_bytes(b"no video either")
    with pytest.raises(InputError, match="none of 2 videos of mine"):
        sample_videos(dataset, preprocess, seed=0)


def test_the_error_of_a_mean() -> None:
    assert VideoSample([10, 20, 30, 20], [], 0.0).error == pytest.approx(2 * np.std([10, 20, 30, 20], ddof=1) / 2 / 20)
    assert VideoSample([10], [], 0.0).error == 1.0


def row(stage: str, hours: float, jobs: int, side_by_side: int) -> StageCost:
    return StageCost(stage, "mine", jobs, 1, 1, "items", 0.0, hours, 1, side_by_side)


def test_jobs_side_by_side() -> None:
    rows = [row("frames", 2, 10, 4), row("flow", 6, 10, 4), row("train", 3, 1, 2), row("train", 1, 1, 2)]
    # Two hours of preprocessing; then the longer training, for both fit side by side; then two rounds of scoring.
    assert Estimate("t", 4, 0, [*rows, row("score", 3, 3, 2)], [], []).elapsed_hours == pytest.approx(2 + 3 + 2)
    assert Estimate("t", 4, 0, [], [], []).elapsed_hours == 0


@pytest.mark.parametrize(
    ("hours", "text"), [(0.001, "4 s"), (0.02, "72 s"), (0.5, "30.0 min"), (2.5, "2.5 h"), (60, "2.5 days")]
)
def test_durations(hours: float, text: str) -> None:
    assert duration(hours) == text


@pytest.fixture
def planned(trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration of the trained dataset, of which everything is to be made; rates are known numbers."""
    raw = {
        "datasets": {
            "mine": {"kind": "folder", "root": str(trained.root), "lists": str(trained.root.parent / "split1.csv")}
        },
        "preprocess": {"width": 64, "height": 48, "shards": 1},
        "flow": {"preset": "fast", "levels": 2, "warps": 1, "iterations": 8, "bound": 8},
        "warp": {"distance": 3, "min_matches": 10, "min_inliers": 6},
        "sampling": {"segments": 2, "stack": 3},
        "augment": {"input_size": 32},
        "model": {"backbone": "tiny", "weights": None, "partial_bn": "none"},
        "train": {"iterations": 50, "batch": 8},
        "evaluate": {"snippets": 7, "crop": 40, "crops": 10},
        "compute": {"train_threads": 2, "gpus": 0},
    }
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "config.yaml"
    path.write_text(json.dumps(raw), encoding="utf-8")
    results = Path("results/mine/split1")
    todo = PendingFiles(
        [Path(f"shards/mine/{stream}/00000.h5") for stream in config.STREAMS],
        [results / stream / "model.pt" for stream in config.STREAMS],
        [results / stream / "scores.h5" for stream in config.STREAMS],
        ["fuse"],
    )
    monkeypatch.setattr(estimates, "pending_files", lambda *_: todo)
    return path


def test_amounts_times_rates(planned: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimates.rates, "preprocessing", lambda stream, *_, **__: Rate(0.01, 100.0))
    monkeypatch.setattr(estimates.rates, "training", lambda *_: Rate(0.1))
    monkeypatch.setattr(estimates.rates, "scoring", lambda *_: Rate(0.02, on_gpu=True))
    found = estimates.estimate("results/mine/split1/fused.json", planned, cores=5, gpus=3)
    by_stage = {row.stage: row for row in found.rows}
    assert [row.stage for row in found.rows] == ["frames", "flow", "warped", *["train"] * 3, *["score"] * 3]
    frames = sum(FRAMES.values())
    assert by_stage["frames"].amount == frames
    assert by_stage["frames"].videos == len(FRAMES)
    assert by_stage["flow"].amount == by_stage["warped"].amount == frames - len(FRAMES)
    assert by_stage["flow"].bytes == 100 * (frames - len(FRAMES))
    assert by_stage["flow"].hours == pytest.approx((frames - len(FRAMES)) * 0.01 / 3600)
    assert by_stage["flow"].side_by_side == 5
    train = by_stage["train"]
    assert (train.videos, train.amount, train.cores, train.side_by_side) == (len(FRAMES) - 3, 50 * 8, 2, 2)
    assert train.hours == pytest.approx(400 * 0.1 / 3600)
    score = by_stage["score"]
    assert (score.videos, score.amount, score.cores, score.side_by_side) == (3, 3 * 7 * 10, 0, 3)
    raw = json.loads(planned.read_text())
    planned.write_text(json.dumps(raw | {"evaluate": raw["evaluate"] | {"snippets": "auto"}}))
    auto = estimates.estimate("results/mine/split1/fused.json", planned, cores=5, gpus=3)
    # 13.6 frames a video on average, .54 seconds at the usual rate: 2 snippets.
    assert {row.amount for row in auto.rows if row.stage == "score"} == {3 * 2 * 10}
    # Snakemake gives no job more cores than there are.
    narrow = estimates.estimate("results/mine/split1/fused.json", planned, cores=1, gpus=0)
    assert {(row.cores, row.side_by_side) for row in narrow.rows if row.stage == "train"} == {(1, 1)}


def test_a_named_configuration_goes_over_config_yaml(planned: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimates.rates, "preprocessing", lambda *_, **__: Rate(0.01, 100.0))
    monkeypatch.setattr(estimates.rates, "training", lambda *_: Rate(0.1))
    monkeypatch.setattr(estimates.rates, "scoring", lambda *_: Rate(0.02))
    over = planned.with_name("over.yaml")
    over.write_text("train: {batch: 4}")
    found = estimates.estimate("results/mine/split1/fused.json", over, cores=1, gpus=0)
    assert {row.amount for row in found.rows if row.stage == "train"} == {50 * 4}


def test_rates_are_measured_by_the_code_that_does_the_work(
    planned: Path, trained: Trained, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    found = estimates.estimate("results/mine/split1/fused.json", planned, cores=2, gpus=0)
    sizes = {row.stage: row.bytes for row in found.rows if row.bytes}
    for stage, stream in (("frames", "rgb"), ("flow", "flow"), ("warped", "warped")):
        with h5py.File(trained.shards[stream], locking=False) as file:
            assert sizes[stage] == pytest.approx(file["data"].id.get_storage_size(), rel=0.3)
    assert all(row.hours > 0 for row in found.rows)
    estimates.show(found, as_json=True)
    content: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert content["elapsed_hours"] == pytest.approx(found.elapsed_hours)
    assert len(content["rows"]) == 9
    estimates.show(found, as_json=False)
    text = capsys.readouterr().out
    assert "About " in text
    assert "20 frames a video" not in text
    assert f"{found.rows[0].amount} frames" in text
    for quick, said in (
        ([], "is there, and up to date"),
        (["fuse", "summary"], "is made in seconds; left are fuse, s"),
    ):
        estimates.show(Estimate("results/a", 2, 0, [], quick, []), as_json=False)
        assert f"results/a {said}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (0, ""),
        (1, "Building DAG of jobs...\nno rule\nTraceback: here"),
        (1, "Building DAG of jobs...\nTraceback: here\n  line\nno rule\n"),
    ],
)
def test_snakemake_says_what_is_pending(monkeypatch: pytest.MonkeyPatch, status: int, message: str) -> None:
    """Only files that are to be made count, and a training counts by its model; a refusal is passed on."""
    rows = (
        ("shards/mine/rgb/00000.h5", "frames", "update pending"),
        ("shards/mine/rgb/00001.h5", "frames", "no update"),
        ("results/mine/split1/rgb/model.pt", "train", "update pending"),
        ("results/mine/split1/rgb/history.jsonl", "train", "update pending"),
        ("results/mine/split1/rgb/held_out.h5", "score_held_out", "update pending"),
        ("results/mine/split1/fused.json", "fuse", "update pending"),
        ("results/mine/split2/fused.json", "fuse", "update pending"),
    )
    summary = "".join(f"{path}\t-\t{rule}\t-\tlog\tmissing\t{state}\n" for path, rule, state in rows)
    code = f"import sys; sys.stdout.write({summary!r}); sys.stderr.write({message!r}); sys.exit({status})"
    monkeypatch.setattr("atw.workflow.command", lambda *_: [sys.executable, "-c", code])
    if status:
        with pytest.raises(InputError, match=r"^Snakemake cannot plan all:\nno rule$"):
            pending_files("all", Path("config.yaml"))
        return
    found = pending_files("all", Path("config.yaml"))
    assert [[str(path) for path in paths] for paths in found] == [
        *([rows[number][0]] for number in (0, 2, 4)),
        ["fuse"],
    ]


def test_narrow_terminals_get_whole_numbers(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    row = estimates.StageCost("train", "rgb of split1", 1, 12, 2_304_000, "videos", 0, 100.0, 4, 1)
    estimates.show(Estimate("results/a", 2, 0, [row], [], []), as_json=False)
    said = capsys.readouterr().out
    assert "2,304,000" in said
    assert "16.7 days" in said


def test_a_demo_that_is_not_rendered_is_sampled_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    plan = Plan({"datasets": {"show": {"kind": "demo", "evaluate": {"crop": 96}}}, "seed": 3})
    preprocess = config.shard_settings(plan.config, "show", "rgb").preprocess
    found = sample_videos(plan.dataset("show"), preprocess, seed=3)
    assert len(found.frames) == 16  # two of each of 8 actions
    assert list(tmp_path.iterdir()) == []
