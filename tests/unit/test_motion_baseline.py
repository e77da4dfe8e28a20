"""Finding actions by the amount of motion: the numbers by hand, from shards and scores."""

import json

import numpy as np
import pytest

from atw.evaluate.metrics import bootstrap_interval
from atw.evaluate.scores import read_scores
from atw.files import InputError
from atw.shards import Shard
from benchmarks.motion_baseline import main, measure, motion, of_videos
from tests.unit.trained import Trained


def test_motion_is_the_mean_length_of_a_snippets_fields(trained: Trained) -> None:
    scores = read_scores(trained.split / "flow" / "scores.h5")
    found = motion([trained.shards["flow"]], scores)
    with Shard(trained.shards["flow"]) as shard:
        for entry in shard.entries:
            if entry.video not in scores.videos:
                continue
            row = scores.videos.index(entry.video)
            for number, first in enumerate(scores.positions[row, : scores.snippets[row]]):
                levels = shard.fields(entry, [min(first + step, entry.count - 1) for step in range(3)]).astype(float)
                pixels = (levels - 128) * 2 * shard.header.bound / 255
                assert found[row, number] == pytest.approx(np.linalg.norm(pixels, axis=1).mean(), rel=1e-4)


def test_weights_and_class_have_the_numbers_of_the_result(
    trained: Trained, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    flow = trained.split / "flow" / "scores.h5"
    found = measure([trained.shards["flow"]], [flow, flow])
    stated = json.loads((trained.split / "fused.json").read_text())["attention"]["flow"]["actions"]
    uniform = {"auc": 0.5, "mass_inside": stated["share"], "pointing": stated["share"]}
    for name, numbers in {"weights": stated["weights"], "class": stated["probability"], "uniform": uniform}.items():
        assert {len(of_video) for of_video in found[name].values()} == {2}, "the same scores were given twice"
        for column, number in numbers.items():
            assert np.nanmean(of_videos(found[name], column)) == pytest.approx(number), (name, column)
    assert found["motion"] not in (found["uniform"], found["weights"])
    assert main([str(trained.shards["flow"].parent), str(flow)]) == 0
    pointing = of_videos(found["motion"], "pointing")
    low, high = bootstrap_interval(pointing, seed=0)
    printed = capsys.readouterr().out
    assert f"{pointing.mean():.3f} [{low:.3f}, {high:.3f}]" in printed
    assert f"{pointing.mean() - stated['share']:+.3f} [" in printed


def test_shards_of_other_videos_are_refused(trained: Trained) -> None:
    scores = read_scores(trained.split / "flow" / "scores.h5")
    with pytest.raises(InputError, match="is in none of the shards"):
        motion([], scores)
    with pytest.raises(InputError, match="holds frames; give the folder of the flow"):
        motion([trained.shards["rgb"]], scores)
