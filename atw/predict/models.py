"""The trained networks of a split's folder, and how its result scored and fused them."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from atw.config import RECIPES, STREAMS, Evaluate, Fusion
from atw.evaluate.result import read_result
from atw.files import InputError
from atw.model.network import VideoNetwork
from atw.train.loop import stack_of
from atw.train.modelfile import load_model

log = logging.getLogger("atw")


@dataclass(frozen=True)
class StreamModel:
    """The network of one stream and what it was trained with.

    Args:
        network: in evaluation mode.
        classes: names, in the order of the logits.
        settings: what the training depended on; `shards` says how frames and flow were made.
        training: how the training ended.
        microbatch: videos of a training's batch that fitted on its device at once.
    """

    network: VideoNetwork
    classes: tuple[str, ...]
    settings: dict[str, Any]
    training: dict[str, float]
    microbatch: int

    @property
    def stack(self) -> int:
        """Fields of a snippet, 1 for rgb."""
        return stack_of(self.settings)

    @property
    def chunk(self) -> int:
        """Snippets that fit on a device at once, as in training."""
        segments: int = self.settings["sampling"]["segments"]
        return self.microbatch * segments


@dataclass(frozen=True)
class Models:
    """The streams of a split.

    Args:
        streams: by name, in the order of `STREAMS`.
        weights: of each stream in the fusion.
        on: what the fusion adds, `logits` or `probabilities`.
        evaluate: by stream, the snippets, crops and crop of a test video.
    """

    streams: dict[str, StreamModel]
    weights: dict[str, float]
    on: Literal["logits", "probabilities"]
    evaluate: dict[str, dict[str, Any]]


def read_models(folder: Path) -> Models:
    """Read every {stream}/model.pt of a split's folder, and its fused.json.

    Without a fused.json the fusion is the paper's, and so is the scoring, but for a crop that has to fit.

    Raises:
        InputError: no model is there, or those there do not belong together.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder; give that of a split, as results/ucf101/split1")
    files: dict[str, Path] = {stream: folder / stream / "model.pt" for stream in STREAMS}
    paths = {stream: path for stream, path in files.items() if path.is_file()}
    if not paths:
        raise InputError(f"{folder} has no rgb/model.pt, flow/model.pt or warped/model.pt; give the folder of a split")
    result = read_result(folder / "fused.json") if (folder / "fused.json").is_file() else None
    fusion: dict[str, Any] = result["fusion"] if result else {"weights": Fusion().weights, "on": Fusion().add}
    weights = {stream: fusion["weights"].get(stream, 0.0) for stream in paths}
    weights = {stream: weight for stream, weight in weights.items() if weight}
    if not weights:
        raise InputError(f"{folder / 'fused.json'} fuses no stream that has a model.pt; train those that it names")
    for stream in sorted(set(fusion["weights"]) - set(weights)):
        if fusion["weights"][stream]:
            log.warning("%s has no model.pt of %s: the prediction does without", folder, stream)
    streams = {stream: _read(paths[stream], stream) for stream in weights}
    _require_same(folder, streams)
    evaluate = {stream: _scoring(result, stream, model) for stream, model in streams.items()}
    return Models(streams, weights, fusion["on"], evaluate)


def _read(path: Path, stream: str) -> StreamModel:
    network, content = load_model(path)
    settings = content["settings"]
    if settings["stream"] != stream:
        raise InputError(f"{path} is a network of the stream {settings['stream']}; put it into a folder of that name")
    for name, number in settings["shards"]["recipes"].items():
        if number != RECIPES[name]:
            log.warning(
                "%s was trained on %s of recipe %d, and this version makes %d: predictions may differ from its test "
                "scores; train it again",
                *(path, name, number, RECIPES[name]),
            )
    return StreamModel(
        network,
        tuple(content["classes"]),
        settings,
        content["training"],
        content["provenance"]["compute"]["microbatch"],
    )


def _require_same(folder: Path, streams: dict[str, StreamModel]) -> None:
    """The streams look at the same frames and name the same classes, or adding their scores means nothing."""
    first, *others = streams
    for other in others:
        one, two = streams[first], streams[other]
        given = [model.settings["shards"]["preprocess"] for model in (one, two)]
        frames = [{name: each.get(name, 0) for name in _FRAMES} for each in given]  # older networks lack the last
        for what, had, has in (
            ("classes", one.classes, two.classes),
            ("dataset", one.settings["dataset"], two.settings["dataset"]),
            ("split", one.settings["split"], two.settings["split"]),
            ("frames", *frames),
        ):
            if had != has:
                raise InputError(
                    f"the networks {first} and {other} in {folder} do not belong together, they differ in {what}: "
                    f"{had} and {has}; train one of them again"
                )


_FRAMES = ("width", "height", "max_pixels", "picture_stream")


def _scoring(result: dict[str, Any] | None, stream: str, model: StreamModel) -> dict[str, Any]:
    """The snippets and crops that the test videos of a stream were scored with."""
    if result:
        used: dict[str, Any] = result["provenance"][stream]["settings"]["score"]["evaluate"]
        return used
    preprocess = model.settings["shards"]["preprocess"]
    given = Evaluate().model_dump()
    return given | {"crop": min(given["crop"], preprocess["width"], preprocess["height"])}
