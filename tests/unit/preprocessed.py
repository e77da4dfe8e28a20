"""A small project to preprocess: videos, good and bad, and the settings that go with them."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from atw import config
from atw.datasets import Dataset
from atw.preprocess.shard import make

Image = NDArray[np.uint8]
MovingFrames = Callable[..., list[Image]]
WriteMjpeg = Callable[[Path, Sequence[Image]], Path]

SHARD = "00000"
FLOW: dict[str, Any] = {"preset": "fast", "levels": 3, "warps": 2, "iterations": 15}
GOOD = ("a/1.avi", "b/2.avi")
BAD = "a/3.avi"
MISSING = "b/4.avi"


class Project:
    """Three small videos, one of them cut off, one more that is only listed, and the settings that go with them."""

    def __init__(self, folder: Path, moving_frames: MovingFrames, write_mjpeg: WriteMjpeg) -> None:
        self.folder = folder
        self.root = folder / "videos"
        for video, seed in zip((*GOOD, BAD), range(3), strict=True):
            write_mjpeg(self.root / video, moving_frames(9 + seed, seed=seed))
        content = (self.root / BAD).read_bytes()
        (self.root / BAD).write_bytes(content[: len(content) * 3 // 4])
        lists = folder / "list.csv"
        rows = [f"{video},{video[0]},train\n" for video in (*GOOD, BAD, MISSING)]
        lists.write_text("path,label,subset\n" + "".join(rows))
        self.raw: dict[str, Any] = {
            "datasets": {"mine": {"kind": "folder", "root": str(self.root), "lists": str(lists)}},
            "preprocess": {"width": 48, "height": 40, "shards": 1},
            "flow": FLOW,
            "warp": {"distance": 3, "corners": 200, "min_matches": 8, "min_inliers": 6},
            "evaluate": {"crop": 40},
        }

    def dataset(self) -> Dataset:
        return Dataset(config.location(config.load(self.raw), "mine"))

    def settings(self, stream: str, **changes: Any) -> config.ShardSettings:
        plan = config.shard_settings(config.load(self.raw), "mine", stream)
        plan = plan.of_shard(SHARD, self.dataset().members_digest(SHARD, 1))
        return config.read_shard_settings(json.dumps(plan.to_dict() | changes))

    def path(self, stream: str, place: str = "shards") -> Path:
        return self.folder / place / stream / f"{SHARD}.h5"

    def make(self, stream: str, *, place: str = "shards", threads: int = 1) -> Path:
        path = self.path(stream, place)
        flow = self.path("flow", place) if stream == "warped" else None
        make(path, self.settings(stream), self.dataset(), flow_path=flow, threads=threads)
        return path

    def frames(self, video: str) -> list[Image]:
        """The frames at the working size, by another decoder."""
        capture = cv2.VideoCapture(str(self.root / video))
        frames: list[Image] = []
        while True:
            more, frame = capture.read()
            if not more:
                return frames
            frames.append(np.asarray(cv2.resize(frame, (48, 40), interpolation=cv2.INTER_LINEAR), np.uint8))

    def greys(self, video: str) -> Image:
        return np.stack([np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY), np.uint8) for frame in self.frames(video)])
