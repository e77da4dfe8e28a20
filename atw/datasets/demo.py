"""The demo: its lists are known before a video is rendered; `atw.extras.demo.render` draws the videos."""

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from atw.config import RECIPES, DatasetKind, Interval, ListedVideo, Rendering, RenderSettings
from atw.datasets.lists import read_intervals
from atw.files import InputError

CLASSES = ("wave", "jack", "kick", "squat", "jump", "walk", "spin", "bow")
_TRIMMED = "trimmed"


class Demo(Rendering, DatasetKind):
    """Each split has videos, and so shards, of its own."""

    about: ClassVar[str] = (
        "Short videos of eight actions, rendered into `data/<name>`; three splits that share no video."
    )
    caution: ClassVar[str] = (
        "The demo is eight rendered actions for trying the pipeline: what these rows differ by says nothing about "
        "real videos."
    )
    generated: ClassVar[bool] = True

    kind: Literal["demo"]
    train_per_class: int = Field(40, ge=1, le=1000, description="training videos of each class")
    test_per_class: int = Field(20, ge=1, le=1000, description="test videos of each class")

    def class_names(self) -> tuple[str, ...]:
        """Return the actions in label order."""
        return CLASSES

    def read_list(self, name: str, split: int) -> list[ListedVideo]:
        """Return the videos of a split, sorted by id."""
        return demo_videos(split, train=self.train_per_class, trimmed=self.trimmed_per_class, test=self.test_per_class)

    def read_intervals(self, name: str, split: int) -> dict[str, list[Interval]]:
        """Read the list that is written with the videos.

        Raises:
            InputError: the videos have not been rendered.
        """
        path = Path(self.root_of(name)) / f"split{split}.csv"
        if not path.is_file():
            raise InputError(f"{path}, the list of rendered videos, does not exist; make it with `atw run {path}`")
        return read_intervals(path, "frames")

    def render_settings(self, *, split: int, seed: int) -> RenderSettings:
        """Return all that the rendered videos of a split depend on."""
        return RenderSettings(
            recipe=RECIPES["render"],
            split=split,
            seed=seed,
            train_per_class=self.train_per_class,
            test_per_class=self.test_per_class,
            **{name: getattr(self, name) for name in Rendering.model_fields},
        )


def demo_videos(split: int, *, train: int, test: int, trimmed: int = 0) -> list[ListedVideo]:
    """Return the videos of a split of the demo, sorted by id; the numbers are videos per class.

    The trimmed ones are for training too.
    """
    wanted: tuple[tuple[str, Literal["train", "test"], int], ...] = (
        ("train", "train", train),
        (_TRIMMED, "train", trimmed),
        ("test", "test", test),
    )
    videos = [
        ListedVideo(f"split{split}/{label}/{label}_{name}_{number:03d}.avi", label, subset, block=split - 1)
        for label in CLASSES
        for name, subset, count in wanted
        for number in range(count)
    ]
    return sorted(videos, key=lambda video: video.video)


def is_trimmed(video: ListedVideo) -> bool:
    """Whether a video is one of the trimmed ones."""
    return f"_{_TRIMMED}_" in video.video
