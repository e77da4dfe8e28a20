"""A small dataset with shards, networks at random weights, scores and a result, as the workflow would leave them."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atw import config
from atw.config import Compute
from atw.data.reader import Shards
from atw.datasets import Dataset
from atw.evaluate.result import write_result
from atw.evaluate.score import score_videos
from atw.model.modelfile import TrainedModel, save_model, training_record
from atw.preprocess.shard import make
from atw.train import loop
from atw.train.task import TrainingTask
from tests.unit.trainings import provenance

Image = NDArray[np.uint8]
LABELS = ("left", "up")
TEST_VIDEOS = ("left/1.avi", "up/1.avi", "up/short.avi")
FRAMES = {"left/0.avi": 9, "left/1.avi": 30, "up/0.avi": 9, "up/1.avi": 17, "up/short.avi": 3}
CPU = Compute(gpus=0, loaders=0, microbatch=4)


class Trained:
    """Results of the split split1 of the dataset "mine" in `folder`; attention differs from snippet to snippet."""

    def __init__(
        self,
        folder: Path,
        moving_frames: Callable[..., list[Image]],
        write_mjpeg: Callable[[Path, Sequence[Image]], Path],
        **overrides: Any,
    ) -> None:
        self.root = folder / "videos"
        for seed, (video, frames) in enumerate(FRAMES.items()):
            write_mjpeg(self.root / video, moving_frames(frames, seed=seed))
        lists = folder / "split1.csv"
        # A column that says when something happens, for the tests of figures.
        rows = [f"{video},{video.split('/')[0]},{'test' if video in TEST_VIDEOS else 'train'},4,8" for video in FRAMES]
        lists.write_text("path,label,subset,action_first,action_last\n" + "\n".join(rows) + "\n", encoding="utf-8")
        sections: dict[str, Any] = {
            "preprocess": {"width": 64, "height": 48, "shards": 1},
            "flow": {"preset": "fast", "levels": 2, "warps": 1, "iterations": 8, "bound": 8},
            "warp": {"distance": 3, "min_matches": 10, "min_inliers": 6},
            "sampling": {"segments": 2, "stack": 3},
            "augment": {"input_size": 32},
            "model": {"backbone": "tiny", "weights": None, "partial_bn": "none", "attention_std": 1.0},
            "streams": {"warped": {"model": {"consensus": "gated"}}},
            "evaluate": {"snippets": 7, "crop": 40, "crops": 10},
        }
        given = {"kind": "folder", "root": str(self.root), "lists": str(lists)}
        raw = {
            "datasets": {"mine": given},
            **{name: {**sections.get(name, {}), **overrides.get(name, {})} for name in {**sections, **overrides}},
        }
        self.config = config.load(raw)
        self.dataset = Dataset(config.location(self.config, "mine"))
        self.split = folder / "results/mine/split1"
        self.shards = {stream: folder / f"shards/mine/{stream}/00000.h5" for stream in config.STREAMS}
        for stream in config.STREAMS:
            self._make(stream)
        scores = [self.split / stream / "scores.h5" for stream in config.STREAMS]
        fusion = config.fuse_settings(self.config, "mine", "")
        write_result(self.split / "fused.json", scores, fusion)

    def _make(self, stream: str) -> None:
        shard = config.shard_settings(self.config, "mine", stream)
        shard = shard.of_shard("00000", self.dataset.members_digest("00000", 1))
        flow = self.shards["flow"] if stream == "warped" else None
        make(self.shards[stream], shard, self.dataset, flow_path=flow, threads=1)
        split = self.dataset.split("split1")
        common = {"split": "split1", "videos": split.digest}
        settings = config.train_settings(self.config, "mine", stream, "", **common)
        task = TrainingTask(settings, CPU, split, [self.shards[stream]], None)
        network = loop.build_network(task)
        network.backbone.classifier.weight.data.mul_(300)  # scores, and so attention, that differ
        if settings.model.consensus == "gated":
            network.consensus.energy.weight.data.mul_(3000)
        shards = Shards([self.shards[stream]], settings.shards)
        origin = provenance(4, shards=shards.digests, shard_settings=shards.settings.to_dict())
        history = self.split / stream / "history.jsonl"
        history.parent.mkdir(parents=True)
        row = {"accuracy": 0.5, "data_wait_seconds": 1.0, "learning_rate": 0.1}
        rows = [{"iteration": number + 1, "loss": 60.0 - number, **row} for number in range(60)]
        history.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        model = self.split / stream / "model.pt"
        trained = TrainedModel(network, split.classes, settings, training_record(history), origin)
        save_model(model, trained, network.state_dict())
        asked = config.score_settings(self.config, "mine", stream, "", **common)
        out = self.split / stream / "scores.h5"
        score_videos(out, model, asked, self.dataset, [self.shards[stream]], CPU, threads=1, gpus=0)
