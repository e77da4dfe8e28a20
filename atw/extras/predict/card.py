"""Saving the networks of a split for others: their files, the result, and a model card."""

import shutil
from pathlib import Path

from atw.evaluate.result import Result, read_result
from atw.extras.predict.asked import model_files
from atw.extras.predict.models import Models
from atw.files import atomic_folder

_HEAD = """---
library_name: atw
pipeline_tag: video-classification
license: other # the videos and the first weights may bind you; say here what holds
---

# Actions in {dataset}

Networks of {count} streams ({streams}) with temporal attention, trained by atw on {dataset}, {split}.

```python
import atw

predictor = atw.load("path/to/this/folder")
print(predictor.predict("video.mp4").top(3))
```
"""


def save(models: Models, folder: Path) -> None:
    """Write {stream}/model.pt, fused.json where there is one, and README.md into a new folder.

    Raises:
        InputError: the folder exists.
    """
    known = models.folder / "fused.json"
    result = read_result(known) if known.is_file() else None
    with atomic_folder(folder) as temporary:
        for stream, path in model_files(models.folder).items():
            if stream in models.streams:
                (temporary / stream).mkdir()
                shutil.copyfile(path, temporary / stream / "model.pt")
        if result:
            shutil.copyfile(known, temporary / "fused.json")
        (temporary / "README.md").write_text(_card(models, result), encoding="utf-8")


def _card(models: Models, result: Result | None) -> str:
    model = next(iter(models.streams.values()))
    trained = model.settings
    text = _HEAD.format(
        dataset=trained.dataset, split=trained.split, count=len(models.streams), streams=", ".join(models.streams)
    )
    if result:
        text += f"\n## Accuracy\n\nTop-1 of {result.videos.test} test videos, with 95% intervals over the videos:\n\n"
        text += "| | top-1 | interval |\n| --- | --- | --- |\n"
        for name, accuracy in {**result.streams, "fused": result.accuracy}.items():
            low, high = accuracy.top1_ci95
            text += f"| {name} | {accuracy.top1:.3f} | {low:.3f} to {high:.3f} |\n"
    text += f"\n## Classes\n\n{', '.join(model.classes)}\n\n## Networks\n\n"
    for stream, one in models.streams.items():
        own = one.settings
        weights = own.model.weights and Path(own.model.weights).name
        text += (
            f"- {stream}: {own.model.backbone}, {own.augment.input_size} px, consensus {own.model.consensus}, "
            f"{own.train.iterations} updates of {own.train.batch} videos, from {weights or 'random weights'}\n"
        )
    return text
