"""Classifying new videos with the trained networks of a split."""

import logging
import tempfile
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from atw.data import augment, sampling
from atw.evaluate.detect import Signal, detect, fuse_signals, signal_of
from atw.evaluate.fuse import probabilities, weighted_sum
from atw.extras.predict.card import push, save
from atw.extras.predict.items import VideoItems
from atw.extras.predict.models import Models, read_models
from atw.extras.predict.passes import SnippetPlan, VideoPlan, compute, report
from atw.extras.predict.prediction import Prediction, StreamPrediction, WindowPrediction
from atw.extras.predict.video import FileVideo, FramesInMemory, Video, check_rate
from atw.extras.predict.windows import (
    Span,
    check_window,
    frames_in,
    middle_seconds,
    seconds_of,
    stacks,
    windows,
)
from atw.files import InputError
from atw.model.modelfile import TrainedModel
from atw.terminal import meter
from atw.train.devices import explain_out_of_memory, full_fp32
from atw.videos.decode import Audit, BadVideoError
from atw.videos.times import USUAL_FPS, Times

log = logging.getLogger("atw")
_fitting = partial(explain_out_of_memory, "the prediction", otherwise="predict on the CPU, with --device cpu")
DEVICES = ("auto", "cpu", "cuda")


def load(path: str | Path, *, device: str = "auto", threads: int = 1) -> "Predictor":
    """Load the networks of a split, as `results/ucf101/split1`, to classify new videos.

    Args:
        path: the folder with rgb/model.pt, flow/model.pt or warped/model.pt, and fused.json for the fusion.
        device: `cpu`, `cuda`, or `auto` for the GPU where there is one.
        threads: CPU threads for optical flow.

    Raises:
        InputError: no networks are there, they do not belong together, or there is no such device.
    """
    return Predictor.from_pretrained(path, device=device, threads=threads)


@dataclass(frozen=True, eq=False)
class _SpanScores:
    """Logits [spans, K] of a stream, its attention [M] in each span, and its signal if segments are asked for."""

    logits: NDArray[np.float64]
    attention: list[NDArray[np.float64]]
    signal: Signal | None


class Predictor:
    """The networks of a split; `load` makes one."""

    def __init__(self, models: Models, *, device: str, threads: int) -> None:
        if device not in DEVICES:
            raise InputError(f"there is no device {device!r}; take one of {', '.join(DEVICES)}")
        if device == "cuda" and not torch.cuda.is_available():
            raise InputError("PyTorch finds no GPU that it can use; take the device cpu or auto")
        if threads < 1:
            raise InputError(f"threads {threads}: at least 1 is needed")
        on_gpu = device != "cpu" and torch.cuda.is_available()
        self._device = torch.device("cuda" if on_gpu else "cpu")
        self._threads = threads
        self._models = models
        with _fitting():
            for model in models.streams.values():
                model.network.to(self._device)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names, in the order of all probabilities."""
        return next(iter(self._models.streams.values())).classes

    @classmethod
    def from_pretrained(cls, folder: str | Path, *, device: str = "auto", threads: int = 1) -> Self:
        """Load what `save_pretrained` has saved, or the folder of a split, see `load`."""
        return cls(read_models(Path(folder)), device=device, threads=threads)

    def save_pretrained(self, folder: str | Path, *, license: str = "other") -> None:  # noqa: A002 - as the hub calls it
        """Save the networks and their result into a new folder, with a model card, README.md, for others.

        Args:
            folder: a new one.
            license: what the card says; an identifier of Hugging Face's hub, as `apache-2.0`.

        Raises:
            InputError: the folder exists, that is no identifier, or the files of the networks have changed since they
                were loaded.
        """
        save(self._models, Path(folder), licence=license)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool = True,
        license: str = "other",  # noqa: A002 - as the hub calls it
        token: str | None = None,
    ) -> str:
        """Upload what `save_pretrained` saves to Hugging Face's hub; this needs `pip install 'atw[hub]'`.

        Networks, result and card that the repository has are replaced; the hub keeps its history.

        Args:
            repo_id: `user/name`; it is made if it does not exist.
            private: whether a new repository is visible to you alone; one that others see is refused then.
            license: as of `save_pretrained`.
            token: of the hub; without it, that of `hf auth login`.

        Returns:
            The address of the repository.

        Raises:
            InputError: huggingface_hub is not installed, the hub does not take it, the repository should be private and
                is not, or as `save_pretrained`.
        """
        return push(self._models, repo_id, private=private, licence=license, token=token)

    def predict(
        self,
        video: str | Path | NDArray[np.uint8],
        *,
        fps: float = 0.0,
        window_seconds: float | None = None,
        stride_seconds: float | None = None,
        segments: bool = False,
    ) -> Prediction:
        """Classify a video of any length: a file, or frames in memory, uint8 [T, H, W, 3], RGB, `fps` a second.

        Each stream sees as many snippets, spread over the whole video, as in testing. With `window_seconds` each window
        of that length is classified too, as if it were a video of its own, every `stride_seconds` (half a window unless
        given). A snippet that several windows share is computed once.

        With `segments` the video's snippets are at most half a second apart, and their attention and scores say when
        which class is shown (`atw.evaluate.detect`).

        Raises:
            BadVideoError: the video cannot be used; the message is the reason.
            InputError: an impossible window.
        """
        check_window(window_seconds, stride_seconds)
        given = _as_video(video, fps)
        with tempfile.TemporaryFile() as file:
            items = VideoItems(given, self._models.shard_settings(self._device), threads=self._threads, file=file)

            def plan(times: Times) -> VideoPlan:
                spans = [Span(0, times.frames)]
                if window_seconds is not None:
                    spans += windows(times, window_seconds=window_seconds, stride_seconds=stride_seconds)
                return VideoPlan(
                    spans, {stream: self._plan(stream, spans, times, segments) for stream in self._models.streams}
                )

            audit, plans = compute(given.name, items, plan)
            report(given.name, audit)
            with _fitting():
                scores = {stream: self._score(stream, one, items, audit.times) for stream, one in plans.streams.items()}
        return self._prediction(given.name if isinstance(given, FramesInMemory) else str(video), audit, plans, scores)

    def predict_each(
        self, videos: str | Path | Iterable[str | Path], **options: Any
    ) -> Iterator[tuple[str | Path, Prediction | BadVideoError]]:
        """Classify several videos, one after the other, with the options of `predict`.

        A video that cannot be used has its `BadVideoError` in place of a prediction, and the next one follows.
        """
        for video in [videos] if isinstance(videos, str | Path) else videos:
            try:
                yield video, self.predict(video, **options)
            except BadVideoError as error:
                yield video, error

    def watch(
        self,
        frames: Iterable[NDArray[np.uint8]],
        *,
        fps: float,
        window_seconds: float = 4.0,
        stride_seconds: float | None = None,
    ) -> Iterator[tuple[float, Prediction]]:
        """Classify a stream that need not end, as of a camera: frames uint8 [H, W, 3], RGB, `fps` a second.

        As soon as a window is full, and every `stride_seconds` from then on (half a window unless given), yield its end
        in seconds and the prediction for its frames. A stream that ends before a window is full has none. Nothing older
        than a window is kept.

        Raises:
            BadVideoError: the networks give no finite scores.
            InputError: an impossible window, or frames of another form.
        """
        check_window(window_seconds, stride_seconds)
        check_rate(fps)
        due = first = frames_in(window_seconds, fps, InputError)
        stride = window_seconds / 2 if stride_seconds is None else stride_seconds
        recent, given = deque[NDArray[np.uint8]](maxlen=due), 0
        for number, frame in enumerate(frames, 1):
            if recent and np.shape(frame) != recent[-1].shape:
                raise InputError(f"a frame is {list(np.shape(frame))}, and those before were {list(recent[-1].shape)}")
            recent.append(np.array(frame))  # a camera may put the next frame into the same memory
            if number == due:
                yield number / fps, self.predict(np.stack(recent), fps=fps)
                given += 1
                due = max(number + 1, first + round(given * stride * fps))

    def features(
        self, video: str | Path | NDArray[np.uint8], stream: str, *, fps: float = 0.0
    ) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        """What the backbone of a stream makes of a video, before its classifier, for other programs.

        Returns:
            float64 [M], the middle of each snippet in seconds, and float32 [M, D], the features, means over the crops.

        Raises:
            BadVideoError: the video cannot be used; the message is the reason.
            InputError: there is no such stream.
        """
        if stream not in self._models.streams:
            raise InputError(f"there is no stream {stream!r}; there are {', '.join(self._models.streams)}")
        given, settings = _as_video(video, fps), self._models.shard_settings(self._device)[stream]
        with tempfile.TemporaryFile() as file:
            items = VideoItems(given, {stream: settings}, threads=self._threads, file=file)

            def plan(times: Times) -> VideoPlan:
                spans = [Span(0, times.frames)]
                return VideoPlan(spans, {stream: self._plan(stream, spans, times, segments=False)})

            audit, plans = compute(given.name, items, plan)
            own = plans.streams[stream]
            with _fitting():
                features, _ = self._seen(stream, own, items, with_features=True)
        seconds = middle_seconds(own.snippets[own.places[0]], audit.times, stream=stream)
        return seconds, features.mean(dim=0)[own.places[0]].numpy()

    def _prediction(
        self,
        video: str,
        audit: Audit,
        plans: VideoPlan,
        scores: dict[str, _SpanScores],
    ) -> Prediction:
        weights, on, times = self._models.weights, self._models.on, audit.times
        fused = weighted_sum({stream: one.logits for stream, one in scores.items()}, weights=weights, on=on)
        whole, *of_windows = probabilities(fused, weights=weights, on=on)  # [spans, K]
        signals = {stream: one.signal for stream, one in scores.items() if one.signal}
        segments = detect(fuse_signals(signals, weights), whole, self.classes, self._models.detect) if signals else []
        return Prediction(
            video=video,
            classes=self.classes,
            probabilities=whole,
            streams={
                stream: StreamPrediction(
                    logits=scores[stream].logits[0],
                    seconds=middle_seconds(plan.snippets[plan.places[0]], times, stream=stream),
                    attention=scores[stream].attention[0],
                )
                for stream, plan in plans.streams.items()
            },
            windows=[
                WindowPrediction(*times.stretch(span.first, span.first + span.frames - 1), of_window)
                for span, of_window in zip(plans.spans[1:], of_windows, strict=True)
            ],
            segments=segments,
            fps=audit.fps or USUAL_FPS,
            times=times,
            start=audit.start,
            picture_stream=next(iter(self._models.streams.values())).settings.shards.preprocess.picture_stream,
            width=audit.width,
            height=audit.height,
            repaired=audit.repaired,
            notes=audit.notes,
        )

    def _plan(self, stream: str, spans: Sequence[Span], times: Times, segments: bool) -> SnippetPlan:
        asked, trained = self._models.evaluate[stream].snippets, self._models.streams[stream].settings
        wanted = []
        for span in spans:
            start, end = times.stretch(span.first, span.first + span.frames - 1)
            count = sampling.snippet_count(asked, seconds=end - start, segments=trained.sampling.segments)
            wanted.append(stacks(span, stream=stream, snippets=count, stack=trained.stack))
        if segments:
            dense = max(len(wanted[0]), min(sampling.half_seconds(times.seconds), times.frames))
            wanted.append(stacks(spans[0], stream=stream, snippets=dense, stack=trained.stack))
        different, places = np.unique(np.concatenate(wanted), axis=0, return_inverse=True)
        pieces = np.split(places.ravel(), np.cumsum([len(piece) for piece in wanted]))  # and an empty one behind them
        return SnippetPlan(different, pieces[: len(spans)], pieces[len(spans)])

    @torch.inference_mode()
    @full_fp32()
    def _score(self, stream: str, plan: SnippetPlan, items: VideoItems, times: Times) -> _SpanScores:
        model = self._models.streams[stream]
        # Features of an hour of windows are many gigabytes.
        features, scores = self._seen(stream, plan, items, with_features=model.network.consensus.uses_features)
        spans = [self._conclude(model, features[:, places], scores[:, places]) for places in plan.places]
        logits = np.stack([of_crops.mean(axis=0) for of_crops, _ in spans])
        attention = [of_crops.mean(axis=0) for _, of_crops in spans]
        signal = None
        if len(plan.dense):
            _, weights = self._conclude(model, features[:, plan.dense], scores[:, plan.dense])
            seconds = seconds_of(plan.snippets[plan.dense], times, stream=stream)
            signal = signal_of(seconds, weights, scores[:, plan.dense].numpy())
        return _SpanScores(logits, attention, signal)

    @torch.inference_mode()
    @full_fp32()
    def _seen(self, stream: str, plan: SnippetPlan, items: VideoItems, *, with_features: bool) -> tuple[Tensor, Tensor]:
        """Features [crops, U, D], without them D = 0, and scores [crops, U, K] of a plan's snippets, on the host."""
        model, evaluate = self._models.streams[stream], self._models.evaluate[stream]
        size = model.settings.shards.preprocess
        crops = augment.test_boxes(size.height, size.width, crop=evaluate.crop, crops=evaluate.crops)
        backbone, parts = model.network.backbone, []
        with meter(f"scoring {stream}", "snippets", len(plan.snippets)) as progress:
            for first in range(0, len(plan.snippets), model.chunk):
                stacks = plan.snippets[first : first + model.chunk]
                snippets = items.snippets(stream, stacks, crops, model.settings.augment.input_size)
                seen = [backbone(backbone.normalise(torch.from_numpy(crop).to(self._device))) for crop in snippets]
                kept = torch.stack([features[:, : None if with_features else 0].cpu() for features, _ in seen])
                parts.append((kept, torch.stack([scores.cpu() for _, scores in seen])))
                progress.advance(len(stacks), steps=len(stacks))
        of_features, of_scores = zip(*parts, strict=True)
        return torch.cat(of_features, dim=1), torch.cat(of_scores, dim=1)

    def _conclude(
        self, model: TrainedModel, features: Tensor, scores: Tensor
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Logits [crops, K] and attention [crops, M] of a span, after the consensus of each crop."""
        result = model.network.consensus(scores.to(self._device), features.to(self._device))
        logits, weights = (part.double().cpu().numpy() for part in (result.logits, result.weights))
        if not (np.isfinite(logits).all() and np.isfinite(weights).all()):
            raise BadVideoError(
                "its scores are not finite: the network's training diverged, or its weights are damaged"
            )
        return logits, weights


def _as_video(video: str | Path | NDArray[np.uint8], fps: float) -> Video:
    if not isinstance(video, str | Path):
        return FramesInMemory(np.asarray(video), fps)
    if fps:
        raise InputError(f"fps is {fps:g}, and {video} is a file: files say themselves when their frames are shown")
    return FileVideo(Path(video))
