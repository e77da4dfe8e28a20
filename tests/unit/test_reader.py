import logging
import multiprocessing
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from atw import config
from atw.data.augment import Box, Crop
from atw.data.reader import TrainingSnippets, micro_batches, report_repeats
from atw.files import InputError
from atw.shards import Shard
from tests.unit.configured import of_split
from tests.unit.opened import opened

WriteShard = Callable[..., dict[str, NDArray[np.uint8]]]
Stored = dict[str, NDArray[np.uint8]]

FIRST = {"a/1.avi": 9, "a/2.avi": 12, "b/0.avi": 0}
SECOND = {"b/1.avi": 2, "b/2.avi": 7}
VIDEOS = ["a/1.avi", "a/2.avi", "b/1.avi", "b/2.avi"]


def write(folder: Path, write_shard: WriteShard, stream: str) -> tuple[list[Path], Stored]:
    paths = [folder / stream / "00000.h5", folder / stream / "00001.h5"]
    stored = write_shard(paths[0], stream, FIRST, seed=1) | write_shard(paths[1], stream, SECOND, seed=2)
    return paths, stored


def settings_of(stream: str, **changes: Any) -> config.TrainSettings:
    given = {
        "recipe": 1,
        "dataset": "mine",
        "stream": stream,
        "seed": 0,
        "sampling": {"segments": 3, "stack": 5},
        "augment": {"input_size": 16, "scales": [1.0, 0.875], "flip": 0.5},
        "model": {},
        "train": {},
        **of_split(stream),
    }
    return config.TrainSettings.model_validate(given | changes)


def snippets_of(paths: list[Path], stream: str, **changes: Any) -> TrainingSnippets:
    return TrainingSnippets(opened(paths, stream), VIDEOS, [0, 0, 1, 1], settings_of(stream, **changes))


@pytest.mark.parametrize("stream", ["rgb", "flow", "warped"])
def test_snippets_are_what_was_stored(tmp_path: Path, write_shard: WriteShard, stream: str) -> None:
    paths, stored = write(tmp_path, write_shard, stream)
    shards = opened(paths, stream)
    starts = np.array([3, 0, 1])
    crops = [Crop(Box(0, 8, 24, 24), flip=False), Crop(Box(0, 0, 24, 24), flip=False)]
    for video in ("a/1.avi", "b/2.avi"):
        found = shards.snippets(video, starts, 1 if stream == "rgb" else 4, crops, 24)
        if stream == "rgb":
            expected = stored[video][starts].transpose(0, 3, 1, 2)
        else:
            expected = np.stack([np.concatenate(stored[video][start : start + 4]) for start in starts])
        assert np.array_equal(found, [expected[..., 8:], expected[..., :24]])
    assert [shards.positions(video) for video in VIDEOS] == [9, 12, 2, 7]


def test_a_short_video_repeats_its_last_field_and_says_so(
    tmp_path: Path, write_shard: WriteShard, caplog: pytest.LogCaptureFixture
) -> None:
    paths, stored = write(tmp_path, write_shard, "flow")
    shards = opened(paths, "flow")
    found = shards.snippets("b/1.avi", np.array([0, 0]), 5, [Crop(Box(0, 0, 24, 24), flip=False)], 24)
    expected = np.concatenate(stored["b/1.avi"][[0, 1, 1, 1, 1]])[..., :24]
    assert found.shape == (1, 2, 10, 24, 24)
    assert np.array_equal(found, [[expected, expected]])
    with caplog.at_level(logging.WARNING, logger="atw"):
        assert report_repeats(shards, VIDEOS, 5) == ["b/1.avi"]
    assert caplog.messages == ["b/1.avi has 2 of 5 fields: its last is repeated"]
    assert report_repeats(shards, VIDEOS, 2) == []


def test_training_uses_short_videos(tmp_path: Path, write_shard: WriteShard) -> None:
    paths, stored = write(tmp_path, write_shard, "flow")
    whole = {"input_size": 24, "scales": [1.0], "flip": 0.0}
    samples = snippets_of(paths, "flow", augment=whole)
    seen = [samples[place][0].numpy() for place in range(4)]
    short = next(sample for sample in seen if np.array_equal(sample[0, 2:4], sample[0, 8:10]))
    assert short.shape == (3, 10, 24, 24)
    # x1 y1 x2 y2 ..., the crop anywhere along the width
    fields = stored["b/1.avi"]
    assert any(np.array_equal(short[0, :4], fields[:2, :, :, left : left + 24].reshape(4, 24, 24)) for left in range(9))


@pytest.mark.parametrize("stream", ["rgb", "flow"])
def test_a_sample_depends_on_its_place_alone(tmp_path: Path, write_shard: WriteShard, stream: str) -> None:
    paths, _ = write(tmp_path, write_shard, stream)
    forwards = [snippets_of(paths, stream)[place] for place in range(12)]  # a new reader for each
    reader = snippets_of(paths[::-1], stream)
    for place in (11, 3, 0, 7, 3, 8, 1, 2, 4, 5, 6, 9, 10):
        sample, label = reader[place]
        assert torch.equal(sample, forwards[place][0])
        assert label == forwards[place][1]
        assert sample.dtype == torch.uint8
        assert sample.shape == (3, 3 if stream == "rgb" else 10, 16, 16)


@pytest.mark.timeout(120)
def test_loader_processes_give_the_same_samples(tmp_path: Path, write_shard: WriteShard) -> None:
    paths, _ = write(tmp_path, write_shard, "rgb")
    reader = snippets_of(paths, "rgb")
    expected = [reader[place][0] for place in range(8)]
    # As the training starts its loaders: a forked process would inherit torch's threads in whatever state they are.
    with multiprocessing.get_context("forkserver").Pool(2) as pool:
        found = pool.map(pickle.loads(pickle.dumps(reader)).__getitem__, range(8), chunksize=1)
    for (sample, _), wanted in zip(found, expected, strict=True):
        assert torch.equal(sample, wanted)


def test_an_open_shard_never_crosses_a_fork(
    tmp_path: Path, write_shard: WriteShard, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths, _ = write(tmp_path, write_shard, "rgb")
    shards = opened(paths, "rgb")
    first = shards[0]
    assert shards[0] is first
    monkeypatch.setattr("os.getpid", lambda: -1)
    assert shards[0] is not opened
    assert pickle.loads(pickle.dumps(shards))[0] is not shards[0]


def test_every_epoch_shows_every_video_once_in_an_order_of_its_own(tmp_path: Path, write_shard: WriteShard) -> None:
    paths, _ = write(tmp_path, write_shard, "rgb")
    shards = opened(paths, "rgb")
    drawn: dict[str, Any] = {
        "augment": {"input_size": 16, "scales": [1.0], "flip": 0.0},
        "sampling": {"segments": 1, "stack": 1},
    }
    orders = {}
    for seed in (0, 1):
        reader = TrainingSnippets(shards, VIDEOS, [0, 1, 2, 3], settings_of("rgb", seed=seed, **drawn))
        assert len(reader) == 4
        labels = [reader[place][1] for place in range(40)]
        epochs = [tuple(labels[first : first + 4]) for first in range(0, 40, 4)]
        assert all(sorted(epoch) == [0, 1, 2, 3] for epoch in epochs)
        assert len(set(epochs)) > 5
        orders[seed] = epochs
    assert orders[0] != orders[1]


def test_each_epoch_draws_other_snippets_of_a_video(tmp_path: Path, write_shard: WriteShard) -> None:
    paths, _ = write(tmp_path, write_shard, "rgb")
    reader = TrainingSnippets(
        opened(paths, "rgb"),
        ["a/2.avi"],
        [0],
        settings_of(
            "rgb",
            augment={"input_size": 24, "scales": [1.0], "flip": 0.0},
            sampling={"segments": 2, "stack": 1},
        ),
    )
    assert len({reader[place][0].numpy().tobytes() for place in range(8)}) > 4


def test_the_streams_see_the_videos_in_the_same_order(tmp_path: Path, write_shard: WriteShard) -> None:
    labels = []
    for stream in ("rgb", "flow", "warped"):
        paths, _ = write(tmp_path, write_shard, stream)
        reader = snippets_of(paths, stream)
        labels.append([reader[place][1] for place in range(20)])
    assert labels[0] == labels[1] == labels[2]


def test_the_mirror_image_of_flow_has_x_turned_round(tmp_path: Path, write_shard: WriteShard) -> None:
    paths, _ = write(tmp_path, write_shard, "flow")
    plain, mirrored = (
        snippets_of(paths, "flow", augment={"input_size": 16, "scales": [1.0], "flip": flip}) for flip in (0.0, 1.0)
    )
    for place in range(4):
        before, after = plain[place][0].numpy().astype(int), mirrored[place][0].numpy().astype(int)
        assert np.array_equal(after[:, 1::2], before[:, 1::2, :, ::-1])
        assert np.array_equal(after[:, 0::2], 256 - before[:, 0::2, :, ::-1])


def test_quarantined_videos_are_set_aside_with_their_reason(tmp_path: Path, write_shard: WriteShard) -> None:
    paths, _ = write(tmp_path, write_shard, "flow")
    usable, quarantined = opened(paths, "flow").find(["b/2.avi", "b/0.avi", "a/1.avi"])
    assert usable == ["b/2.avi", "a/1.avi"]
    assert quarantined == [("b/0.avi", "truncated: 1 of 9 frames can be decoded")]


def test_a_listed_video_in_no_shard_is_refused(tmp_path: Path, write_shard: WriteShard) -> None:
    paths, _ = write(tmp_path, write_shard, "flow")
    with pytest.raises(InputError, match=r"b/9.avi is in the list but in none of the shards, .*00000.h5 and so on"):
        opened(paths, "flow").find(["b/2.avi", "b/9.avi"])


def test_shards_of_another_stream_are_refused(tmp_path: Path, write_shard: WriteShard) -> None:
    paths, _ = write(tmp_path, write_shard, "flow")
    with pytest.raises(InputError, match=r"flow/00000.h5 was made with other settings .*stream"):
        opened(paths, "warped")
    with pytest.raises(InputError, match=r"other settings than config.yaml asks for: .*'flow', not 'rgb'|preprocess"):
        opened(paths, "rgb")


def test_shards_of_different_settings_are_refused(tmp_path: Path, write_shard: WriteShard) -> None:
    write_shard(tmp_path / "00000.h5", "rgb", FIRST)
    write_shard(tmp_path / "00001.h5", "rgb", SECOND, jpeg_quality=90)
    paths = [tmp_path / "00000.h5", tmp_path / "00001.h5"]
    with pytest.raises(InputError, match=r"00001.h5 was made with .*preprocess.jpeg_quality is 90, not 95"):
        opened(paths, "rgb")
    with pytest.raises(InputError, match=r"00000.h5 was made with .*preprocess.jpeg_quality is 95, not 90"):
        opened(paths, "rgb", jpeg_quality=90)


def test_a_damaged_shard_is_refused(tmp_path: Path, write_shard: WriteShard) -> None:
    paths, _ = write(tmp_path, write_shard, "rgb")
    paths[1].write_bytes(paths[1].read_bytes()[:-100])
    with pytest.raises(InputError, match=r"00001.h5 is damaged"):
        opened(paths, "rgb")


def test_digests_and_settings_are_those_of_the_shards(tmp_path: Path, write_shard: WriteShard) -> None:
    paths, _ = write(tmp_path, write_shard, "flow")
    shards = opened(paths, "flow")
    for path in paths:
        with Shard(path) as shard:
            assert shards.digests[path.stem] == shard.digest
            own = {"shard": path.stem, "members": "digest"}
            assert shards.settings.to_dict() | own == shard.header.settings
    assert shards.digests.keys() == {"00000", "00001"}
    assert "shard" not in shards.settings


@given(
    start=st.integers(0, 5),
    iterations=st.integers(0, 5),
    batch=st.integers(1, 20),
    world=st.integers(1, 6),
    micro=st.integers(1, 8),
)
def test_every_place_is_taken_once_over_all_workers(
    start: int, iterations: int, batch: int, world: int, micro: int
) -> None:
    stop = start + iterations
    taken = []
    for rank in range(world):
        pieces = list(micro_batches(start=start, stop=stop, batch=batch, rank=rank, world=world, micro=micro))
        assert all(1 <= len(piece) <= micro for piece in pieces)
        # A piece never crosses an update, and updates come in order.
        updates = [{place // batch for place in piece} for piece in pieces]
        assert all(len(update) == 1 for update in updates)
        assert [min(update) for update in updates] == sorted(min(update) for update in updates)
        taken += [place for piece in pieces for place in piece]
    assert sorted(taken) == list(range(start * batch, stop * batch))


def test_micro_batches_by_hand() -> None:
    one = micro_batches(start=0, stop=2, batch=5, rank=0, world=2, micro=2)
    two = micro_batches(start=0, stop=2, batch=5, rank=1, world=2, micro=2)
    assert list(one) == [[0, 2], [4], [5, 7], [9]]
    assert list(two) == [[1, 3], [6, 8]]
    assert list(micro_batches(start=1, stop=2, batch=5, rank=0, world=1, micro=32)) == [[5, 6, 7, 8, 9]]
