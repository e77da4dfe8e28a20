"""Weights chosen on held-out videos, from configuration to fused.json."""

import copy
import json
from collections.abc import Iterator

import pytest

from atw.evaluate.scores import read_scores
from tests.rules.conftest import CONFIG, MOTION, Workplace

RUN = "tiny/experiments/chosen"
TARGET = f"results/{RUN}/split1/fused.json"


@pytest.fixture
def place(workplace: Workplace) -> Iterator[Workplace]:
    """With an experiment that holds videos out; the workplace gets its configuration back."""
    config = copy.deepcopy(CONFIG)
    config["experiments"]["chosen"] = {
        "train": {"held_out": 0.25},
        "fusion": {"choose": "held_out", "weights": {"rgb": 1}},
    }
    workplace.write_config(config)
    yield workplace
    workplace.write_config(CONFIG)


def test_every_stream_scores_its_held_out_videos(place: Workplace) -> None:
    config = copy.deepcopy(CONFIG)
    config["datasets"]["tiny"] |= {"train": {"held_out": 0.25}, "fusion": {"choose": "held_out"}}
    place.write_config(config)
    jobs = place.jobs("results/tiny/experiments/average/split1/fused.json", "results/tiny/tables/table1.json")
    # Those of the result; the four rows of a table, which keeps the configured weights, need none.
    assert jobs["score_held_out"] == 3
    assert jobs["score"] == 3 * (1 + 4)


def test_weights_are_chosen_on_videos_that_were_not_trained_on(place: Workplace) -> None:
    place.snakemake(TARGET)
    folder = (place.folder / TARGET).parent
    fused = json.loads((place.folder / TARGET).read_text(encoding="utf-8"))
    # One of the four training videos of each class.
    assert (fused["videos"]["train"], fused["videos"]["held_out"]) == (6, 2)
    assert fused["fusion"]["held_out"]["videos"] == 2
    assert fused["fusion"]["weights"] == fused["fusion"]["held_out"]["chosen"]["weights"]
    videos = read_scores(folder / "rgb" / "held_out.h5", subset="held_out").videos
    assert [video.partition("/")[0] for video in videos] == sorted(MOTION)
    assert all(" train " in video for video in videos)
    assert place.jobs(TARGET) == {}


def test_without_it_nothing_more_is_run(place: Workplace) -> None:
    assert "score_held_out" not in place.jobs("results/tiny/experiments/average/split1/fused.json")
