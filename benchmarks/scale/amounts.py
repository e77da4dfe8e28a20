"""What a frame takes on disk and of a core, by the code that `atw plan` measures with."""

from pathlib import Path
from typing import NamedTuple

from atw import config
from atw.datasets import Dataset
from atw.extras.cost import rates
from atw.extras.cost.rates import Rate
from benchmarks.material import find_videos, folders_in_turn

_NAME = "measured"
_VIDEOS = 8


class Amounts(NamedTuple):
    """Rates of each stream by the default settings; of `videos` of the folder's."""

    rates: dict[str, Rate]
    videos: int


def measure(folder: Path, out: Path) -> Amounts:
    """Look at some videos of `folder`, from its subfolders in turn; their list is written to `out`."""
    chosen = folders_in_turn(find_videos(folder))[:_VIDEOS]
    rows = [f"{path.relative_to(folder)},{path.parent.name},train" for path in chosen]
    lists = out / "looked-at.csv"
    lists.write_text("\n".join(["path,label,subset", *rows]) + "\n", encoding="utf-8")
    of_dataset = {"kind": "folder", "root": str(folder), "lists": str(lists)}
    loaded = config.load({"datasets": {_NAME: of_dataset}})
    dataset = Dataset(config.location(loaded, _NAME))
    settings = {stream: config.shard_settings(loaded, _NAME, stream) for stream in config.STREAMS}
    found = rates.sample_videos(dataset, settings["rgb"].preprocess, seed=0)
    measured = {name: rates.preprocessing(given, found, gpus=0) for name, given in settings.items()}
    return Amounts(measured, len(found.frames))
