import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from scipy.special import softmax

import atw
from atw.config import Detect, Evaluate, FieldShards
from atw.data import augment
from atw.data.reader import Shards
from atw.evaluate.detected import detect_videos
from atw.evaluate.scores import read_scores
from atw.extras.predict.drawn import render
from atw.extras.predict.models import read_models
from atw.extras.predict.predictor import Predictor
from atw.files import InputError
from atw.flow import cuda, engine
from atw.model.modelfile import TrainedModel, load_model
from atw.videos.decode import Audit, BadVideoError, read
from tests.conftest import _moving_frames
from tests.unit.encoded import encode
from tests.unit.trained import TEST_VIDEOS, Trained

CASES = Path(__file__).parents[1] / "cases" / "videos"
STREAMS = ("rgb", "flow", "warped")
WEIGHTS = {"rgb": 1.0, "flow": 1.0, "warped": 0.5}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("predict")


# Predictions


@pytest.mark.parametrize("number", range(len(TEST_VIDEOS)))
def test_a_test_video_has_the_scores_of_the_evaluation(trained: Trained, predictor: Any, number: int) -> None:
    prediction = predictor.predict(trained.root / TEST_VIDEOS[number])
    fused = np.zeros(2)
    for stream in STREAMS:
        scores = read_scores(trained.split / stream / "scores.h5")
        row = scores.videos.index(TEST_VIDEOS[number])
        found = prediction.streams[stream]
        assert np.allclose(found.logits, scores.video_logits[row], atol=1e-5)
        assert np.allclose(found.attention, scores.attention[row].mean(axis=0), atol=1e-6)
        assert np.ptp(found.attention) > 1e-4 or number == 2
        fused += WEIGHTS[stream] / 2.5 * scores.video_logits[row]
    assert np.allclose(prediction.probabilities, softmax(fused), atol=1e-5)


def test_segments_are_the_detections_of_the_evaluation(trained: Trained, predictor: Any) -> None:
    """The video is so short that testing has a snippet per half second, too."""
    files = {stream: trained.split / stream / "scores.h5" for stream in STREAMS}
    scores = {stream: read_scores(path) for stream, path in files.items()}
    expected = detect_videos(files, scores, Detect(), weights=WEIGHTS, on="logits").fused[TEST_VIDEOS[0]]
    prediction = predictor.predict(trained.root / TEST_VIDEOS[0], segments=True)
    assert len(prediction.segments) == len(expected) > 0
    for found, one in zip(prediction.segments, expected, strict=True):
        assert found.label == one.label
        assert found.segment == pytest.approx(one.segment, abs=1e-6)
        assert found.score == pytest.approx(one.score, abs=1e-3)
    first = prediction.to_json()["segments"][0]
    assert first["score"] == pytest.approx(prediction.segments[0].score, abs=1e-6)
    assert (first["start_seconds"], first["end_seconds"]) == pytest.approx(prediction.segments[0].segment, abs=1e-6)
    assert predictor.predict(trained.root / TEST_VIDEOS[0]).segments == []


def test_segments_of_a_long_video_need_more_snippets_and_leave_the_rest_as_it_is(place: Path, predictor: Any) -> None:
    video = place / "long.mkv"
    encode(video, _moving_frames(130), "mjpeg")  # 5.2 s: 11 snippets for the segments, 7 for the rest
    plain, found = (predictor.predict(video, window_seconds=2.0, segments=asked) for asked in (False, True))
    assert np.allclose(plain.probabilities, found.probabilities, atol=1e-6)
    assert [window.start_seconds for window in plain.windows] == [window.start_seconds for window in found.windows]
    for stream in STREAMS:
        assert len(found.streams[stream].attention) == 7
        assert np.allclose(plain.streams[stream].attention, found.streams[stream].attention, atol=1e-6)
    assert all(0 <= one.segment[0] < one.segment[1] <= 5.2 + 1e-6 for one in found.segments)
    # Segments end halfway between the middles of snippets; those of 7 snippets are further apart.
    edges = {round(edge, 3) for one in found.segments for edge in one.segment}
    coarse = {
        round(float(edge), 3)
        for each in found.streams.values()
        for edge in each.seconds[:-1] + np.diff(each.seconds) / 2
    }
    assert edges - coarse - {0.0, 5.2}


def test_a_pause_of_years_costs_nothing(place: Path, predictor: Any) -> None:
    video = place / "paused.mkv"
    encode(video, _moving_frames(8), "mjpeg", [0, 1, 2, 3, 4, 5, 6, 10**11], rate=1)
    found = predictor.predict(video, segments=True)
    assert found.times.seconds > 10**11
    assert found.segments
    encode(video, _moving_frames(8), "mjpeg", [0, 1, 2, 3, 4, 5, 6, 10**6], rate=1)
    render(predictor.predict(video), video, place / "paused.mp4")
    with av.open(str(place / "paused.mp4")) as film:
        assert len(list(film.decode(video=0))) == 8


def test_the_number_of_snippets_follows_from_the_length(trained: Trained) -> None:
    """3 snippets of 1.2 seconds, and 2 of each window of .4; the whole video as without windows."""
    models = read_models(trained.split)
    auto = {name: one.model_copy(update={"snippets": "auto"}) for name, one in models.evaluate.items()}
    fixed = {name: one.model_copy(update={"snippets": 3}) for name, one in models.evaluate.items()}
    by_length, by_number = (
        Predictor(dataclasses.replace(models, evaluate=evaluate), device="cpu", threads=1) for evaluate in (auto, fixed)
    )
    video = trained.root / "left/1.avi"
    found = by_length.predict(video, window_seconds=0.4)
    assert np.allclose(found.probabilities, by_number.predict(video).probabilities, atol=1e-6)
    assert [len(stream.attention) for stream in found.streams.values()] == [3, 3, 3]
    two = {name: one.model_copy(update={"snippets": 2}) for name, one in models.evaluate.items()}
    of_two = Predictor(dataclasses.replace(models, evaluate=two), device="cpu", threads=1)
    windows = of_two.predict(video, window_seconds=0.4).windows
    for window, expected in zip(found.windows, windows, strict=True):
        assert np.allclose(window.probabilities, expected.probabilities, atol=1e-6)


def test_a_window_is_a_video_of_its_own(trained: Trained, predictor: Any) -> None:
    """As the network scores the snippets of the shard that lie in the window, and no others."""
    video = trained.root / "left/1.avi"
    prediction = predictor.predict(video, window_seconds=0.4, stride_seconds=0.2)
    starts = [window.start_seconds for window in prediction.windows]
    assert starts == pytest.approx([0.0, 0.2, 0.4, 0.6, 0.8])
    window = prediction.windows[2]
    assert (window.start_seconds, window.end_seconds) == pytest.approx((0.4, 0.8))
    fused = np.zeros(2)
    for stream in STREAMS:
        model = load_model(trained.split / stream / "model.pt")
        shards = Shards([trained.shards[stream]], model.settings.shards)
        # Ten frames from frame 10, or nine fields: seven stacks of three that start at 10 to 16.
        numbers = np.array([10, 12, 13, 15, 16, 17, 19] if stream == "rgb" else [10, 11, 12, 13, 14, 15, 16])
        crops = augment.test_boxes(48, 64, crop=40, crops=10)
        snippets = shards.snippets("left/1.avi", numbers, 1 if stream == "rgb" else 3, crops, 32)
        logits = model.network.score(torch.from_numpy(snippets), chunk=8).logits.double().mean(0).numpy()
        fused += WEIGHTS[stream] / 2.5 * logits
    assert np.allclose(window.probabilities, softmax(fused), atol=1e-5)
    whole = predictor.predict(video)
    assert np.allclose(prediction.probabilities, whole.probabilities, atol=1e-6)
    assert not np.allclose(whole.probabilities, window.probabilities, atol=1e-3)
    assert whole.windows == []


def test_json(trained: Trained, predictor: Any) -> None:
    prediction = predictor.predict(trained.root / "left/1.avi", window_seconds=0.5)
    content = json.loads(json.dumps(prediction.to_json(top=1)))
    (best,) = content["labels"]
    assert best["label"] == prediction.label == prediction.classes[int(prediction.probabilities.argmax())]
    assert best["probability"] == pytest.approx(float(prediction.probabilities.max()), abs=1e-6)
    assert (content["frames"], content["fps"], content["seconds"]) == (30, 25.0, 1.2)
    assert (content["times"], content["fps_known"], content["start_seconds"], content["notes"]) == ("file", True, 0, [])
    for stream in STREAMS:
        attention = content["streams"][stream]["attention"]
        assert len(attention["seconds"]) == len(attention["weight"]) == 7
        assert sum(attention["weight"]) == pytest.approx(1, abs=1e-4)
        assert 0 < attention["seconds"][0] < attention["seconds"][-1] < 1.2
    assert [len(window["labels"]) for window in content["windows"]] == [1] * len(prediction.windows)


@pytest.mark.parametrize(
    ("window", "stride", "message"),
    [
        (0.0, None, "the window is 0 s; give a number above 0"),
        (float("inf"), None, "the window is inf s"),
        (1e308, None, r"the window is 1e\+308 s; give a number above 0, and below 1e\+09"),
        (1.0, 0.0, "the stride is 0 s"),
        (None, 1.0, "a stride of 1 s without a window"),
    ],
)
def test_impossible_windows(
    predictor: Any, trained: Trained, window: float | None, stride: float | None, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        predictor.predict(trained.root / "left/1.avi", window_seconds=window, stride_seconds=stride)


def test_a_window_too_short_for_a_video_costs_that_video(predictor: Any, trained: Trained) -> None:
    with pytest.raises(BadVideoError, match=r"a window of 0\.04 s has 1 frames at 25 frames/s and needs 2"):
        predictor.predict(trained.root / "left/1.avi", window_seconds=0.04)


# The folder of a split


def test_without_a_result_the_paper_fuses(trained: Trained, place: Path) -> None:
    alone = place / "alone"
    (alone / "flow").mkdir(parents=True)
    (alone / "flow/model.pt").write_bytes((trained.split / "flow/model.pt").read_bytes())
    models = read_models(alone)
    assert set(models.streams) == {"flow"}
    assert models.evaluate["flow"] == Evaluate(snippets=80, crops=1, crop=48)
    with pytest.raises(InputError, match="nothing does not exist; give the folder of a trained split"):
        atw.load(place / "nothing")
    with pytest.raises(InputError, match=r"rgb/model\.pt"):
        atw.load(trained.root)
    with pytest.raises(InputError, match="cuda"):
        atw.load(alone, device="gpu")


def test_a_gpu_without_room_is_one_message(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    models = read_models(trained.split)

    def full(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    for model in models.streams.values():
        monkeypatch.setattr(model.network.backbone, "forward", full)
    with pytest.raises(InputError, match=r"prediction does not fit into the memory of the GPU: .*--device cpu"):
        Predictor(models, device="cpu", threads=1).predict(trained.root / "left/1.avi")


@pytest.mark.usefixtures("fresh_auto")
def test_a_prediction_waits_for_no_gpu_that_jobs_hold(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    def held(**_: Any) -> None:
        raise AssertionError("a prediction holds no GPU")

    monkeypatch.setitem(engine.BACKENDS, "cuda", engine.BACKENDS["numba"])
    monkeypatch.setattr(cuda, "claim", held)
    models = read_models(trained.split)
    on_gpu = {stream: with_backend(model, "cuda") for stream, model in models.streams.items()}
    for device, backend in (("cuda", "cuda"), ("cpu", "numba")):
        settings = dataclasses.replace(models, streams=on_gpu).shard_settings(torch.device(device)).values()
        assert {each.flow.backend for each in settings if isinstance(each, FieldShards)} == {backend}


def with_backend(model: TrainedModel, backend: str) -> TrainedModel:
    shards = model.settings.shards
    made = shards.on(backend) if isinstance(shards, FieldShards) else shards
    return dataclasses.replace(model, settings=model.settings.model_copy(update={"shards": made}))


def test_networks_that_do_not_belong_together(trained: Trained, place: Path) -> None:
    mixed = place / "mixed"
    for stream in ("rgb", "flow"):
        (mixed / stream).mkdir(parents=True)
        content = torch.load(trained.split / stream / "model.pt", weights_only=True)
        if stream == "flow":
            content["classes"] = ["up", "left"]
        torch.save(content, mixed / stream / "model.pt")
    with pytest.raises(InputError, match="differ in classes"):
        atw.load(mixed)
    (mixed / "rgb/model.pt").write_bytes((mixed / "flow/model.pt").read_bytes())
    with pytest.raises(InputError, match="a network of the stream flow"):
        atw.load(mixed)


def test_the_package_is_light_until_something_is_loaded() -> None:
    code = "import atw, sys; assert 'torch' not in sys.modules; atw.load; assert 'torch' in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert {"load", "Predictor", "Prediction"} <= set(dir(atw))
    assert atw.Predictor is Predictor
    with pytest.raises(AttributeError, match="nonsense"):
        atw.nonsense  # noqa: B018


def test_a_variable_rate_is_seen_in_seconds_windows_and_film(place: Path, predictor: Any) -> None:
    """vfr.mkv: 52 frames in 4.80 s, which are 2.08 s at the 25 frames a second of its header."""
    video = CASES / "vfr.mkv"
    with av.open(str(video)) as container:
        shown = np.array([frame.time for frame in container.decode(video=0)])
    prediction = predictor.predict(video, window_seconds=1.0)
    content = prediction.to_json()
    assert (content["frames"], content["times"]) == (52, "file")
    assert content["seconds"] == pytest.approx(4.8)
    assert content["fps"] == pytest.approx(52 / 4.8)
    starts = [window["start_seconds"] for window in content["windows"]]
    assert starts == pytest.approx([0.5 * number for number in range(8)] + [3.8], abs=0.061)
    assert all(np.abs(shown - start).min() < 1e-3 for start in starts)
    assert content["windows"][-1]["end_seconds"] == pytest.approx(4.8)
    for stream in STREAMS:
        seconds = content["streams"][stream]["attention"]["seconds"]
        assert 0 < seconds[0] < 0.8 < 4.2 < seconds[-1] < 4.8
    render(prediction, video, place / "vfr.mp4")
    audit = Audit()
    for _ in read(place / "vfr.mp4", audit, width=16, height=16, max_pixels=10**6, max_frames=100):
        pass
    assert audit.times.edges == pytest.approx(np.append(shown, 4.8), abs=1e-3)


@pytest.mark.parametrize(
    ("name", "source", "said"),
    [("v.h264", "rate", False), ("v.mjpeg", "assumed", True)],
)
def test_where_times_come_from_is_said(
    place: Path, predictor: Any, caplog: pytest.LogCaptureFixture, name: str, source: str, said: bool
) -> None:
    encode(place / name, _moving_frames(30), "mjpeg" if said else "libx264", rate=30)
    content = predictor.predict(place / name).to_json()
    assert (content["times"], content["fps_known"], content["fps"]) == (source, not said, 25.0 if said else 30.0)
    assert ("gives neither times nor a frame rate" in caplog.text) == said


@pytest.mark.parametrize("name", ["cams_a.mp4", "cams_b.mp4"])
def test_two_streams_of_pictures_are_said_once(predictor: Any, caplog: pytest.LogCaptureFixture, name: str) -> None:
    caplog.set_level("INFO")
    content = predictor.predict(CASES / name).to_json()
    (note,) = content["notes"]
    assert note.startswith("2 streams of pictures: stream 0") and content["repaired"] == []
    assert caplog.text.count("2 streams of pictures") == 1
