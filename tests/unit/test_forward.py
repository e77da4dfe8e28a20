"""Scores by several processes are those of one."""

import dataclasses
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from atw import config
from atw.config import Compute
from atw.evaluate import forward
from atw.evaluate.score import score_videos
from atw.evaluate.scores import Scores, read_scores
from atw.files import InputError
from tests.unit.trained import TEST_VIDEOS, Trained


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    from tests.conftest import _moving_frames, _write_mjpeg

    return Trained(tmp_path_factory.mktemp("forward"), _moving_frames, _write_mjpeg)


def scored(trained: Trained, folder: Path, **compute: Any) -> Scores:
    given = Compute(gpus=0, **{"loaders": 0, "microbatch": 4, **compute})
    settings = config.score_settings(trained.config, "mine", "flow", "") | {
        "split": "split1",
        "videos": trained.dataset.split("split1").digest(),
        "shards": config.shard_settings(trained.config, "mine", "flow"),
    }
    out = folder / "scores.h5"
    model = trained.split / "flow/model.pt"
    score_videos(out, model, settings, trained.dataset, [trained.shards["flow"]], given, threads=1, gpus=0)
    return read_scores(out)


@pytest.mark.parametrize(
    "compute", [{"workers": 2}, {"workers": 3, "loaders": 1}, {"workers": 9}, {"loaders": 2}], ids=str
)
def test_the_number_of_processes_changes_nothing(trained: Trained, tmp_path: Path, compute: dict[str, int]) -> None:
    one, other = read_scores(trained.split / "flow/scores.h5"), scored(trained, tmp_path, **compute)
    assert other.videos == one.videos == TEST_VIDEOS
    for name in ("video_logits", "snippet_logits", "attention", "attention_logits", "positions", "labels"):
        assert np.array_equal(getattr(one, name), getattr(other, name)), name


def test_videos_that_share_a_batch(trained: Trained, tmp_path: Path) -> None:
    """70 snippets a video, and two videos in a batch of 150: the same but for rounding."""
    one, together = read_scores(trained.split / "flow/scores.h5"), scored(trained, tmp_path, microbatch=75)
    assert one.snippet_logits.shape[1:3] == (10, 7)
    for name in ("video_logits", "snippet_logits", "attention"):
        assert np.allclose(getattr(one, name), getattr(together, name), atol=1e-5), name


def task_of(trained: Trained, **changes: Any) -> forward.Task:
    starts = read_scores(trained.split / "flow/scores.h5").positions.astype(np.int64)
    return dataclasses.replace(
        forward.Task(
            model_path=trained.split / "flow/model.pt",
            shard_paths=[trained.shards["flow"]],
            shard_settings=config.shard_settings(trained.config, "mine", "flow"),
            videos=list(TEST_VIDEOS),
            starts=starts,
            stack=3,
            crops=[],
            size=32,
            chunk=8,
            compute=Compute(gpus=0, loaders=0, workers=2),
            threads=2,
            on_gpu=False,
        ),
        **changes,
    )


@pytest.mark.parametrize(
    ("crops", "snippets", "chunk", "expected"),
    [(1, 80, 128, [1, 1, 1]), (1, 80, 160, [2, 1]), (1, 25, 128, [3]), (10, 25, 128, [1, 1, 1])],
)
def test_groups_fill_a_batch(trained: Trained, crops: int, snippets: int, chunk: int, expected: list[int]) -> None:
    task = task_of(trained, crops=[None] * crops, starts=np.zeros((3, snippets), np.int64), chunk=chunk)
    assert [len(group) for group in task.groups] == expected
    assert [video for group in task.groups for video in group] == [0, 1, 2]


def test_what_goes_wrong_in_a_process_is_said_here(trained: Trained, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nothing.h5 does not exist"):
        list(forward.forward(task_of(trained, crops=[None], shard_paths=[tmp_path / "nothing.h5"])))


def test_a_process_that_is_killed_is_not_waited_for(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forward, "_put_results", kill_myself)
    with pytest.raises(RuntimeError, match="ended with status -9"):
        list(forward.forward(task_of(trained, crops=[None])))
    assert not [
        child for child in psutil.Process().children(recursive=True) if "kill_myself" in " ".join(child.cmdline())
    ]


def kill_myself(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)
