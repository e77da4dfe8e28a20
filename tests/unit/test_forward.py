"""Scores by several processes are those of one."""

import dataclasses
import os
import signal
import struct
import weakref
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import psutil
import pytest
import torch

from atw import config
from atw.config import Compute
from atw.data.reader import Shards
from atw.evaluate import forward
from atw.evaluate.forward import ScoredGroup, ScoringRun
from atw.evaluate.score import score_videos
from atw.evaluate.scores import Scores, read_scores
from atw.files import InputError
from atw.model.network import VideoNetwork
from tests.unit.trained import TEST_VIDEOS, Trained


def scored(trained: Trained, folder: Path, *, snippets: Any = 7, **compute: Any) -> Scores:
    given = Compute(gpus=0, **{"loaders": 0, "microbatch": 4, **compute})
    videos = trained.dataset.split("split1").digest
    settings = config.score_settings(trained.config, "mine", "flow", "", split="split1", videos=videos)
    asked = settings.evaluate.model_copy(update={"snippets": snippets})
    settings = settings.model_copy(update={"evaluate": asked})
    out = folder / "scores.h5"
    model = trained.split / "flow/model.pt"
    score_videos(out, model, settings, trained.dataset, [trained.shards["flow"]], given, threads=1, gpus=0)
    return read_scores(out)


@pytest.mark.parametrize("compute", [{"workers": 3, "loaders": 1}, {"workers": 9}, {"loaders": 2}], ids=str)
def test_the_number_of_processes_changes_nothing(trained: Trained, tmp_path: Path, compute: dict[str, int]) -> None:
    other = scored(trained, tmp_path, **compute)
    assert other.videos == TEST_VIDEOS
    assert (tmp_path / "scores.h5").read_bytes() == (trained.split / "flow/scores.h5").read_bytes()


def test_videos_that_share_a_batch(trained: Trained, tmp_path: Path) -> None:
    """70 snippets per video, and two videos in a batch of 150: the same but for rounding."""
    scored(trained, tmp_path, microbatch=75)
    with h5py.File(trained.split / "flow/scores.h5") as one, h5py.File(tmp_path / "scores.h5") as together:
        assert one["snippet_logits"].shape == (3, 10, 7, 2)
        for name in ("video_logits", "snippet_logits", "attention"):
            assert np.allclose(one[name], together[name], atol=1e-5), name


def test_each_video_is_scored_as_if_all_had_as_many_snippets(trained: Trained, tmp_path: Path) -> None:
    """A snippet per half second: 3 of 1.2 seconds, 2 of .68, and of .12 the 2 that a training has."""
    auto = scored(trained, tmp_path, snippets="auto")
    auto_file = (tmp_path / "scores.h5").read_bytes()
    with h5py.File(tmp_path / "scores.h5") as file:
        snippet_logits = file["snippet_logits"][:]
    assert auto.snippets.tolist() == [3, 2, 2]
    assert snippet_logits.shape == (3, 10, 3, 2)
    for count in (2, 3):
        fixed = scored(trained, tmp_path, snippets=count)
        with h5py.File(tmp_path / "scores.h5") as file:
            of_fixed = file["snippet_logits"][:]
        for row in np.flatnonzero(auto.snippets == count):
            for name in ("attention", "attention_logits"):
                np.testing.assert_allclose(
                    getattr(auto, name)[row, :, :count], getattr(fixed, name)[row], rtol=1e-4, atol=1e-5
                )
            np.testing.assert_allclose(auto.video_logits[row], fixed.video_logits[row], rtol=1e-4)
            np.testing.assert_allclose(auto.probability[row, :count], fixed.probability[row], rtol=1e-4)
            np.testing.assert_allclose(snippet_logits[row, :, :count], of_fixed[row], rtol=1e-4)
            assert not snippet_logits[row, :, count:].any()
            assert auto.positions[row, :count].tolist() == fixed.positions[row].tolist()
            assert auto.seconds[row, :count].tolist() == fixed.seconds[row].tolist()
    scored(trained, tmp_path, snippets="auto", workers=3)
    assert (tmp_path / "scores.h5").read_bytes() == auto_file


def test_networks_score_in_full_fp32_as_many_snippets_as_in_training(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    convolutions: Any = torch.backends.cudnn
    chunks, precisions = [], []
    score = VideoNetwork.score

    def noted(self: VideoNetwork, snippets: torch.Tensor, *, chunk: int) -> Any:
        chunks.append(chunk)
        precisions.append(convolutions.conv.fp32_precision)
        return score(self, snippets, chunk=chunk)

    monkeypatch.setattr(VideoNetwork, "score", noted)
    before = convolutions.conv.fp32_precision
    scored(trained, tmp_path, microbatch="auto")
    scored(trained, tmp_path, microbatch=3)
    assert list(dict.fromkeys(chunks)) == [4 * 2, 3 * 2]  # `tests.unit.trained` trains 4 videos of 2 snippets at once
    assert set(precisions) == {"ieee"}
    assert convolutions.conv.fp32_precision == before


def test_a_full_gpu_is_one_message(trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 392.00 MiB")

    monkeypatch.setattr(VideoNetwork, "score", fail)
    with pytest.raises(InputError, match=r"scoring with 4 videos at once.*compute\.microbatch to a number below 4"):
        scored(trained, tmp_path)


def test_groups_are_written_and_forgotten_in_whatever_order_they_come(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_order = forward.forward
    alive: list[weakref.ref[Any]] = []

    def backwards(run: ScoringRun, network: VideoNetwork) -> Iterator[ScoredGroup]:
        groups = list(in_order(run, network))
        while groups:
            assert len([each for each in alive if each() is not None]) <= 1  # the one before
            group = groups.pop()
            alive.append(weakref.ref(group.snippet_logits))
            yield group
            del group

    monkeypatch.setattr(forward, "forward", backwards)
    scored(trained, tmp_path)
    assert len(alive) == 3
    assert (tmp_path / "scores.h5").read_bytes() == (trained.split / "flow/scores.h5").read_bytes()


def run_of(trained: Trained, *, crops: int = 1, snippets: int = 7, chunk: int = 8, model: Path | None = None) -> Any:
    settings = config.shard_settings(trained.config, "mine", "flow")
    return ScoringRun(
        model_path=model or trained.split / "flow/model.pt",
        shards=Shards([trained.shards["flow"]], settings),
        videos=list(TEST_VIDEOS),
        starts=np.zeros((3, snippets), np.int64),
        stack=3,
        crops=[None] * crops,
        size=32,
        chunk=chunk,
        compute=Compute(gpus=0, loaders=0, workers=2),
        threads=2,
        gpus=(),
    )


@pytest.mark.parametrize(
    ("crops", "snippets", "chunk", "expected"),
    [(1, 80, 128, [1, 1, 1]), (1, 80, 160, [2, 1]), (1, 25, 128, [3]), (10, 25, 128, [1, 1, 1])],
)
def test_groups_fill_a_batch(trained: Trained, crops: int, snippets: int, chunk: int, expected: list[int]) -> None:
    groups = run_of(trained, crops=crops, snippets=snippets, chunk=chunk).groups
    assert [len(group) for group in groups] == expected
    assert [video for group in groups for video in group] == [0, 1, 2]


def test_videos_of_a_group_have_as_many_snippets(trained: Trained) -> None:
    counts = [3, 5, 3, 3, 5, 2, 3]
    starts = [np.zeros(count, np.int64) for count in counts]
    run = dataclasses.replace(run_of(trained, crops=2, chunk=18), videos=[*"abcdefg"], starts=starts)
    assert run.groups == [[5], [0, 2, 3], [6], [1], [4]]


def shared_out(run: ScoringRun) -> Iterator[ScoredGroup]:
    network: Any = None  # each process loads its own
    return forward.forward(run, network)


def started() -> list[psutil.Process]:
    """Processes of the server that starts them, and theirs."""
    servers = [each for each in psutil.Process().children() if "multiprocessing.forkserver" in " ".join(each.cmdline())]
    return [each for server in servers for each in server.children(recursive=True)]


def test_an_error_in_a_process_is_raised_here(trained: Trained, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nothing\.pt does not exist; give the model\.pt of a trained stream"):
        list(shared_out(run_of(trained, model=tmp_path / "nothing.pt")))


def test_a_process_that_is_killed_is_not_waited_for(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forward, "send_groups", kill_the_first)
    with pytest.raises(RuntimeError, match="ended with status -9"):
        list(shared_out(run_of(trained, model=tmp_path / "model.pt")))
    assert not started()


def kill_the_first(run: ScoringRun, rank: int, world: int, results: Connection) -> None:
    """Killed in the middle of a group that it sends, while the other one goes on and does not hear SIGTERM.

    No process of a server hears it if a training in this process started the server for its readers.
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    run.model_path.with_name(f"deaf {rank}").touch()
    while not run.model_path.with_name("deaf 1").exists():
        pass
    if rank == 0:
        os.write(results.fileno(), struct.pack("!i", 1000) + b"a tenth")
        os.kill(os.getpid(), signal.SIGKILL)
    results.send(group_of_a_megabyte())
    signal.pause()


def test_nobody_works_ahead_of_the_groups_that_are_taken(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pipe holds 64 kB: to send a group of a megabyte returns when it is taken."""
    monkeypatch.setattr(forward, "send_groups", send_many)
    groups = shared_out(run_of(trained, model=tmp_path / "model.pt"))
    for taken in (1, 2, 3):
        next(groups)
        while any(process.status() == psutil.STATUS_RUNNING for process in started()):
            pass
        assert len(list(tmp_path.glob("sent-*"))) <= taken
    groups.close()  # type: ignore[attr-defined]
    assert not started()


def send_many(run: ScoringRun, rank: int, world: int, results: Connection) -> None:
    for number in range(10):
        results.send(group_of_a_megabyte())
        run.model_path.with_name(f"sent-{rank}-{number}").touch()


def group_of_a_megabyte() -> ScoredGroup:
    nothing = np.zeros(0, np.float32)
    return ScoredGroup([0], nothing, nothing, nothing, np.zeros(250_000, np.float32))
