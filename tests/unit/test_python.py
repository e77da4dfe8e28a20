"""What people call from Python: frames in memory, features, saved networks, and the samples of a training."""

import itertools
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
import yaml
from torch.utils.data import DataLoader

import atw
from atw.data import augment
from atw.data.reader import Shards
from atw.evaluate.scores import read_scores
from atw.extras import training_data
from atw.files import InputError
from atw.model.modelfile import load_model, save_model
from atw.train.loop import build_network
from atw.videos.decode import Audit, BadVideoError, read
from tests.conftest import _moving_frames
from tests.unit.encoded import encode
from tests.unit.trained import TEST_VIDEOS, Trained


@pytest.fixture(scope="module")
def video(trained: Trained) -> Path:
    return trained.root / TEST_VIDEOS[0]


@pytest.fixture(scope="module")
def frames(video: Path) -> np.ndarray:
    """RGB."""
    limits = {"max_pixels": 10**6, "max_frames": 100}
    return np.stack(list(read(video, Audit(), width=64, height=48, **limits)))[..., ::-1]


def test_frames_in_memory_are_seen_as_those_of_a_file(predictor: Any, video: Path, frames: np.ndarray) -> None:
    of_file = predictor.predict(video, window_seconds=0.5)
    found = predictor.predict(frames, fps=of_file.fps, window_seconds=0.5)
    assert np.array_equal(found.probabilities, of_file.probabilities)
    assert len(found.windows) == len(of_file.windows) > 1
    assert np.array_equal(found.windows[1].probabilities, of_file.windows[1].probabilities)
    assert (found.video, found.width, found.height) == ("frames in memory", 64, 48)
    assert (found.frames, found.times.source) == (len(frames), "rate")


def test_frames_that_are_something_else_are_refused(predictor: Any, video: Path, frames: np.ndarray) -> None:
    for wrong in (frames / 255, frames[0], frames[..., :1], frames[:1]):
        with pytest.raises(InputError, match=r"frames are \w+ \[.*\]; give uint8 \[T, H, W, 3\], RGB, of at least two"):
            predictor.predict(wrong, fps=25)
    with pytest.raises(InputError, match="frames in memory need their rate"):
        predictor.predict(frames)
    with pytest.raises(InputError, match=r"fps is 25, and .* is a file: files say themselves"):
        predictor.predict(video, fps=25)


def test_a_prediction_is_short_to_look_at(predictor: Any, video: Path) -> None:
    found = predictor.predict(video)
    (first, probability), (second, other) = found.top(2)
    assert (first, {first, second}) == (found.label, set(predictor.classes))
    assert probability == found.probabilities.max() >= other
    assert found.top(1) == [(first, probability)]
    assert repr(found) == f"<Prediction of {video}, 1.2 s: {first} {probability:.2f}, {second} {other:.2f}>"
    assert f"<td>{first}</td><td>{probability:.2f}</td>" in found._repr_html_()


def test_a_prediction_shows_itself(predictor: Any, video: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = predictor.predict(video)
    found.show()
    assert capsys.readouterr().out.startswith(f"{video}: {found.label}, 1.2 s")
    drawn = ElementTree.fromstring(f"<div>{found._repr_html_()}</div>").findall("svg/polyline")
    assert len(drawn) == len(found.streams) == 3
    points = [tuple(map(float, point.split(","))) for point in drawn[1].attrib["points"].split()]
    flow = found.streams["flow"]
    assert [x for x, _ in points[:-1]] == pytest.approx(flow.seconds / found.times.seconds * 480, abs=0.06)
    assert np.argmin([y for _, y in points]) == flow.attention.argmax()


def test_a_notebook_shows_it_drawn(predictor: Any, video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[object] = []
    monkeypatch.setattr("IPython.get_ipython", lambda: SimpleNamespace(kernel=None))
    monkeypatch.setattr("IPython.display.display", shown.append)
    found = predictor.predict(video)
    found.show()
    assert shown == [found]


def test_a_bad_video_among_several_costs_itself_alone(predictor: Any, video: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.avi").write_bytes(b"RIFF")
    slow = tmp_path / "slow.avi"
    encode(slow, _moving_frames(9), "mpeg4", rate=2)
    given = [video, str(tmp_path / "bad.avi"), slow, "v" * 300, video]
    found = list(predictor.predict_each(given, window_seconds=0.5))
    assert [path for path, _ in found] == given
    one, *bad, two = (said for _, said in found)
    assert all(isinstance(said, BadVideoError) for said in bad)
    assert str(bad[1]) == "a window of 0.5 s has 1 frames at 2 frames/s and needs 2: take a longer one"
    assert np.array_equal(one.probabilities, two.probabilities)
    assert len(one.windows) > 1
    assert [path for path, _ in predictor.predict_each(str(video))] == [str(video)]


def test_a_stream_of_frames_is_seen_in_windows(predictor: Any, frames: np.ndarray) -> None:
    """Each when its last frame is there: the camera may never stop."""
    given = 0
    memory = np.empty_like(frames[0])  # the same for every frame, as a camera may have it

    def camera() -> Iterator[np.ndarray]:
        nonlocal given
        for frame in itertools.chain.from_iterable(itertools.repeat(frames)):
            given += 1
            memory[:] = frame
            yield memory

    watched = predictor.watch(camera(), fps=25, window_seconds=0.6, stride_seconds=0.24)
    for number in range(3):
        end, found = next(watched)
        last = 15 + 6 * number
        assert (end, given) == (pytest.approx(last / 25), last)
        alone = predictor.predict(frames[last - 15 : last], fps=25)
        assert np.array_equal(found.probabilities, alone.probabilities)
    assert len(list(predictor.watch(iter(frames), fps=25, window_seconds=0.4))) == (len(frames) - 10) // 5 + 1
    uneven = predictor.watch(camera(), fps=10, window_seconds=1, stride_seconds=0.25)  # 2.5 frames
    assert [next(uneven)[0] for _ in range(5)] == pytest.approx([1.0, 1.2, 1.5, 1.8, 2.0])
    with pytest.raises(InputError, match="the window is -1 s; give a number above 0"):
        next(predictor.watch(camera(), fps=25, window_seconds=-1))
    with pytest.raises(InputError, match=r"a window of 0\.01 s has 0 frames at 25 frames/s and needs 2"):
        next(predictor.watch(camera(), fps=25, window_seconds=0.01))
    for fps in (0, math.nan, math.inf):
        with pytest.raises(InputError, match=rf"fps is {fps}: frames in memory need their rate"):
            next(predictor.watch(camera(), fps=fps))
    with pytest.raises(InputError, match=r"a frame is \[24, 64, 3\], and those before were \[48, 64, 3\]"):
        next(predictor.watch([frames[0], frames[0][:24]], fps=25))


@pytest.mark.parametrize("stream", ["rgb", "flow"])
def test_features_are_what_the_classifier_sees(trained: Trained, predictor: Any, stream: str, video: Path) -> None:
    seconds, features = predictor.features(video, stream)
    scores = read_scores(trained.split / stream / "scores.h5")
    row = scores.videos.index(TEST_VIDEOS[0])
    assert np.allclose(seconds, scores.seconds[row].mean(axis=-1))
    model = load_model(trained.split / stream / "model.pt")
    settings, backbone = model.settings, model.network.backbone
    shards = Shards([trained.shards[stream]], settings.shards)
    crops = augment.test_boxes(48, 64, crop=40, crops=10)
    starts = scores.positions[row].astype(np.int64)
    images = shards.snippets(TEST_VIDEOS[0], starts, settings.stack, crops, settings.augment.input_size)
    with torch.inference_mode():
        of_crops = [backbone(backbone.normalise(torch.from_numpy(image)))[0].numpy() for image in images]
    assert np.allclose(features, np.mean(of_crops, axis=0), atol=1e-5)
    assert features.std() > 0
    with pytest.raises(InputError, match="there is no stream 'depth'; there are rgb, flow, warped"):
        predictor.features(video, "depth")


def test_the_error_of_a_video_says_which(predictor: Any, tmp_path: Path) -> None:
    with pytest.raises(BadVideoError, match="missing file") as error:
        predictor.predict(tmp_path / "none.mp4")
    assert error.value.__notes__ == ["The video is none.mp4."]


def test_saved_networks_predict_the_same(trained: Trained, predictor: Any, video: Path, tmp_path: Path) -> None:
    folder = tmp_path / "for others"
    predictor.save_pretrained(folder)
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "flow", "fused.json", "rgb", "warped"]
    again = atw.Predictor.from_pretrained(folder, device="cpu").predict(video)
    assert np.array_equal(again.probabilities, predictor.predict(video).probabilities)
    card = (folder / "README.md").read_text(encoding="utf-8")
    head = yaml.safe_load(card.split("---")[1])
    assert head["pipeline_tag"] == "video-classification"
    assert "Actions in mine" in card
    assert "Top-1 of 3 test videos" in card
    assert "| fused | " in card
    assert "left, up" in card
    assert "- warped: tiny, 32 px, consensus gated, 18000 updates of 128 videos, from random weights" in card
    with pytest.raises(InputError, match="exists already"):
        predictor.save_pretrained(folder)


def test_networks_that_are_not_those_on_disk_any_more_are_not_saved(trained: Trained, tmp_path: Path) -> None:
    folder = tmp_path / "split1"
    shutil.copytree(trained.split, folder)
    loaded = atw.load(folder, device="cpu")
    fused = (folder / "fused.json").read_bytes()
    (folder / "fused.json").unlink()
    loaded.save_pretrained(tmp_path / "first")
    assert (tmp_path / "first/fused.json").read_bytes() == fused
    rgb = folder / "rgb/model.pt"
    model = load_model(rgb)
    parameters = model.network.state_dict()
    parameters["backbone.classifier.bias"] += 1
    save_model(rgb, model, parameters)
    with pytest.raises(InputError, match=r"rgb/model\.pt is not what was loaded; load the networks again"):
        loaded.save_pretrained(tmp_path / "saved")
    rgb.unlink()
    with pytest.raises(InputError, match=r"rgb/model\.pt is not what was loaded; load the networks again"):
        loaded.save_pretrained(tmp_path / "saved")
    assert not (tmp_path / "saved").exists()


def test_the_working_folder_is_no_new_folder(predictor: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in (".", ""):
        with pytest.raises(InputError, match="exists already; choose another folder"):
            predictor.save_pretrained(folder)


def test_licences_stay_texts(predictor: Any, tmp_path: Path) -> None:
    for number, licence in enumerate(("no", "1.0", "cc-by-4.0")):
        predictor.save_pretrained(tmp_path / str(number), license=licence)
        card = (tmp_path / str(number) / "README.md").read_text(encoding="utf-8")
        assert yaml.safe_load(card.split("---")[1])["license"] == licence


def test_networks_without_a_result_have_a_card_without_accuracy(trained: Trained, tmp_path: Path) -> None:
    split = tmp_path / "split1/rgb"
    split.mkdir(parents=True)
    (split / "model.pt").write_bytes((trained.split / "rgb/model.pt").read_bytes())
    atw.load(split.parent, device="cpu").save_pretrained(tmp_path / "saved")
    assert sorted(path.name for path in (tmp_path / "saved").iterdir()) == ["README.md", "rgb"]
    assert "Accuracy" not in (tmp_path / "saved/README.md").read_text(encoding="utf-8")


def test_the_samples_of_a_training(trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(trained.root.parent)
    raw = trained.config.model_dump(mode="json", exclude_unset=True) | {"shards": "shards"}
    Path("config.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")
    task = atw.training_task("results/mine/split1/flow")
    snippets = task.snippets()
    assert len(snippets) == 2
    batch, targets = next(iter(DataLoader(snippets, batch_size=2)))
    assert batch.shape == (2, 2, 6, 32, 32)  # videos, snippets, 3 fields of 2 components, px
    assert batch.dtype == torch.uint8
    assert sorted(targets.tolist()) == [0, 1]
    network = build_network(task).train()
    loss = torch.nn.functional.cross_entropy(network(batch).logits, targets)
    loss.backward()
    assert loss.item() > 0
    assert all(parameter.grad is not None for parameter in network.backbone.parameters() if parameter.requires_grad)
    for wrong in ("results/mine/split1", "results/mine/split1/depth", "mine/split1/flow/x"):
        with pytest.raises(InputError, match="is no folder of a stream; give one such as results/demo/split1/flow"):
            training_data.training_task(wrong)
    trained.shards["rgb"].rename("moved.h5")
    try:
        with pytest.raises(InputError, match=r"shard .*rgb/00000.h5 is not there; make it by `atw run shards/mine/rgb"):
            training_data.training_task("results/mine/split1/rgb")
    finally:
        Path("moved.h5").rename(trained.shards["rgb"])
    assert isinstance(task.shards, Shards)
