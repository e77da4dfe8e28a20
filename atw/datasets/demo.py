"""The demo dataset's lists, known before a video is rendered; `atw.extras.demo.render` draws the videos."""

from pathlib import PurePosixPath

from atw.datasets.listed import Listed, Location

CLASSES = ("wave", "jack", "kick", "squat", "jump", "walk", "spin", "bow")


def listed(location: Location, split: int) -> list[Listed]:
    """The videos of a split, sorted by id; each split has videos, and so shards, of its own."""
    sizes = {"train": location["train_per_class"], "test": location["test_per_class"]}
    rows = [
        Listed(
            str(PurePosixPath(f"split{split}", label, f"{label}_{subset}_{number:03d}.avi")),
            label,
            subset,
            block=split - 1,
        )
        for label in CLASSES
        for subset in ("train", "test")
        for number in range(sizes[subset])
    ]
    return sorted(rows, key=lambda row: row.video)
