"""Giving the networks of a split to others: their files, the result, and a model card, on disk or on a hub."""

import importlib.util
import re
import shutil
import tempfile
from pathlib import Path

from atw.config import STREAMS
from atw.extras.predict.models import Models
from atw.files import InputError, atomic_folder
from atw.model.modelfile import load_model, same_model

_HEAD = """---
library_name: atw
pipeline_tag: video-classification
license: "{licence}" # the videos and the first weights may bind you
---

# Actions in {dataset}

Networks of {count} streams ({streams}) with temporal attention, trained by atw on {dataset}, {split}.

```python
import atw
{load}
print(predictor.predict("video.mp4").top(3))
```
"""


_FROM_FOLDER = """
predictor = atw.load("path/to/this/folder")"""
_FROM_HUB = """from huggingface_hub import snapshot_download

predictor = atw.load(snapshot_download("{}"))"""


def save(models: Models, folder: Path, *, licence: str, repository: str = "") -> None:
    """Write {stream}/model.pt, fused.json where there is one, and README.md into a new folder.

    Args:
        models: of the split.
        folder: a new one.
        licence: its identifier on Hugging Face's hub, as `apache-2.0`.
        repository: where on the hub the card says that the networks are; "" is in a folder.

    Raises:
        InputError: the folder exists, that is no identifier, or the files are not those that were loaded.
    """
    if not re.fullmatch(r"[a-z0-9][a-z0-9.+-]*", str(licence)):
        raise InputError(f"the licence {licence!r} is no identifier such as mit, cc-by-4.0, or other")
    with atomic_folder(folder) as temporary:
        for stream, model in models.streams.items():
            path = models.folder / stream / "model.pt"
            if not path.is_file() or not same_model(load_model(path), model):
                raise InputError(f"{path} is not what was loaded; load the networks again")
            (temporary / stream).mkdir()
            shutil.copyfile(path, temporary / stream / "model.pt")
        if models.fused:
            (temporary / "fused.json").write_bytes(models.fused)
        (temporary / "README.md").write_text(_card(models, licence, repository), encoding="utf-8")


def push(models: Models, repository: str, *, private: bool, licence: str, token: str | None) -> str:
    """Upload what `save` writes to Hugging Face's hub, as one commit, and return its address.

    Raises:
        InputError: huggingface_hub is not installed, the hub does not take it, the repository should be private and is
            not, or as `save`.
    """
    if not importlib.util.find_spec("huggingface_hub"):
        raise InputError("push_to_hub needs huggingface_hub; install it with: pip install 'atw[hub]'")
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined] # of httpx or httpx2, as the version has it

    hub = HfApi(token=token)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary, "networks")
        save(models, folder, licence=licence, repository=repository)
        try:
            address = hub.create_repo(repository, private=private, exist_ok=True)
            if private and not hub.model_info(address.repo_id).private:
                raise InputError(f"{repository} is visible to everybody; choose another name, or say private=False")
            hub.upload_folder(
                repo_id=address.repo_id,
                folder_path=folder,
                commit_message="Networks trained by atw",
                delete_patterns=["fused.json", *(f"{stream}/model.pt" for stream in STREAMS)],  # those that are no more
            )
        except (HTTPError, OSError, ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise InputError(
                f"the hub at {hub.endpoint} did not take {repository}: {reason}; a name is NAME or USER/NAME, and "
                "`hf auth login` says who you are"
            ) from error
    return str(address)


def _card(models: Models, licence: str, repository: str) -> str:
    model = next(iter(models.streams.values()))
    trained = model.settings
    result = models.result
    text = _HEAD.format(
        licence=licence,
        dataset=trained.dataset,
        count=len(models.streams),
        streams=", ".join(models.streams),
        split=trained.split,
        load=_FROM_HUB.format(repository) if repository else _FROM_FOLDER,
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
