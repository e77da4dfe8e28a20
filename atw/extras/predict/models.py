"""The trained networks of a split's folder, and how its result scored and fused them."""

import contextlib
import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from atw.config import ON_GPU, RECIPES, Detect, Evaluate, FrameShards, Fusion, ShardSettings, WarpedShards
from atw.evaluate.fuse import Addend
from atw.evaluate.result import Result, read_result
from atw.extras.predict.asked import model_files
from atw.files import InputError
from atw.model.modelfile import TrainedModel, load_model
from atw.preprocess.resources import backend_with

log = logging.getLogger("atw")
_FRAMES = {"width", "height", "fit", "max_pixels", "picture_stream"}


@dataclass(frozen=True)
class Models:
    """The streams of a split.

    Args:
        folder: of the split.
        streams: by name, in the order of `STREAMS`.
        weights: of each stream in the fusion.
        on: what the fusion adds.
        evaluate: by stream, the snippets, crops and crop of a test video.
        detect: how the result finds segments.
        result: fused.json, if there is one.
        fused: its bytes.
    """

    folder: Path
    streams: dict[str, TrainedModel]
    weights: dict[str, float]
    on: Addend
    evaluate: dict[str, Evaluate]
    detect: Detect
    result: Result | None
    fused: bytes

    def shard_settings(self, device: torch.device) -> dict[str, ShardSettings]:
        """By stream, the settings of the shards of training, on a flow backend that can run beside that device.

        Flow shares the GPU with the networks, and with the jobs that hold it: a prediction waits for nobody.
        """
        gpus = int(device.type == "cuda")
        return {stream: _usable(model.settings.shards, gpus) for stream, model in self.streams.items()}


def _usable(settings: ShardSettings, gpus: int) -> ShardSettings:
    if isinstance(settings, FrameShards):
        return settings
    name = settings.flow.backend
    # What a GPU computed, the CPU computes as well: the backends agree within rounding.
    settings = settings.on(backend_with("auto" if name in ON_GPU and not gpus else name, gpus))
    if isinstance(settings, WarpedShards) and settings.warp.masks:
        log.warning("warp.masks was set in training; a new video has no masks, and none are used")
        return settings.without_masks()
    return settings


def read_models(folder: Path) -> Models:
    """Read every {stream}/model.pt of a split's folder, and its fused.json.

    Without a fused.json the fusion is the paper's, and so is the scoring, but for a crop that has to fit.

    Raises:
        InputError: no model is there, or those there do not belong together.
    """
    paths = model_files(folder)
    result_path = folder / "fused.json"
    result = read_result(result_path) if result_path.is_file() else None
    fusion = _fusion(result_path, result)
    used: dict[str, float] = {stream: weight for stream, weight in fusion.weights.items() if weight}
    weights = {stream: used[stream] for stream in paths if stream in used}
    if not weights:
        raise InputError(f"{result_path} fuses no stream that has a model.pt; train those that it names")
    for stream in sorted(used.keys() - weights.keys()):
        log.warning("%s has no model.pt of %s: the prediction does without", folder, stream)
    streams = {stream: _read(paths[stream], stream) for stream in weights}
    _require_same(folder, streams)
    evaluate = {stream: _scoring(result_path, result, stream, model) for stream, model in streams.items()}
    with _explained(result_path):
        detect = Detect.model_validate_json(json.dumps(result.provenance["fuse"].get("detect", {}) if result else {}))
    fused = result_path.read_bytes() if result else b""
    return Models(folder, streams, weights, fusion.add, evaluate, detect, result, fused)


def _fusion(path: Path, result: Result | None) -> Fusion:
    if result is None:
        return Fusion()
    with _explained(path):
        return Fusion.model_validate({"weights": result.fusion.weights, "add": result.fusion.on})


def _read(path: Path, stream: str) -> TrainedModel:
    model = load_model(path)
    if model.settings.stream != stream:
        raise InputError(
            f"{path} is a network of the stream {model.settings.stream}; put it into a folder of that name"
        )
    with _explained(path):
        recipes = {name: (made, RECIPES[name]) for name, made in model.settings.shards.recipes.items()}
    for name, (made, now) in recipes.items():
        if made != now:
            log.warning(
                "%s was trained on %s of recipe %d, and this version makes %d: predictions may differ from its test "
                "scores; train it again",
                *(path, name, made, now),
            )
    return model


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"{path} is damaged: its settings are none ({reason}); run the workflow for it again"
        ) from None


def _require_same(folder: Path, streams: Mapping[str, TrainedModel]) -> None:
    """Refuse streams that look at other frames or name other classes: to add their scores means nothing."""
    first, *others = streams
    for other in others:
        one, two = streams[first], streams[other]
        frames = [model.settings.shards.preprocess.model_dump(include=_FRAMES) for model in (one, two)]
        for what, had, has in (
            ("classes", one.classes, two.classes),
            ("dataset", one.settings.dataset, two.settings.dataset),
            ("split", one.settings.split, two.settings.split),
            ("frames", *frames),
        ):
            if had != has:
                raise InputError(
                    f"the networks {first} and {other} in {folder} do not belong together, they differ in {what}: "
                    f"{had} and {has}; train one of them again"
                )


def _scoring(path: Path, result: Result | None, stream: str, model: TrainedModel) -> Evaluate:
    """The snippets and crops that the test videos of a stream were scored with."""
    if result:
        with _explained(path):
            used = result.provenance[stream]["settings"]["score"]["evaluate"]
            return Evaluate.model_validate({name: used[name] for name in Evaluate.model_fields})
    preprocess = model.settings.shards.preprocess
    return Evaluate(crop=min(Evaluate().crop, preprocess.width, preprocess.height))
