import dataclasses
import json
import resource
import signal
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from atw.evaluate.scores import Scores, read_scores, score_writer
from atw.files import InputError
from tests.unit.scored import write_scores
from tests.unit.streams import LOGITS, scores


@pytest.mark.parametrize("quarantined", [[], scores().quarantined * 3])
def test_a_score_file_gives_back_what_was_written(tmp_path: Path, quarantined: list[tuple[str, int, str]]) -> None:
    # 1 MB of provenance, because HDF5 keeps only 64 kB of an attribute in place.
    written = scores(experiment="ones", quarantined=quarantined, provenance={"reasons": "ü" * 500_000, "seed": 3})
    write_scores(tmp_path / "deep" / "scores.h5", written)
    read = read_scores(tmp_path / "deep" / "scores.h5")
    for field in dataclasses.fields(Scores):
        had, has = getattr(written, field.name), getattr(read, field.name)
        assert type(has) is type(had), field.name
        if isinstance(had, np.ndarray):
            assert has.dtype == had.dtype, field.name
            np.testing.assert_array_equal(has, had)
        else:
            assert has == had, field.name


def test_score_files_are_plain_hdf5_and_the_same_each_time(tmp_path: Path) -> None:
    for name in ("a.h5", "b.h5"):
        write_scores(tmp_path / name, scores())
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()
    with h5py.File(tmp_path / "a.h5") as file:
        assert (file.attrs["format"], file.attrs["subset"], file.attrs["stream"]) == (1, "test", "rgb")
        assert file["quarantined/label"][()].tolist() == [2]
        assert json.loads(file.attrs["provenance"])["train_videos"] == 9


def test_numbers_are_stored_in_the_types_of_the_format(tmp_path: Path) -> None:
    # Sampling gives int64 positions; a file must not depend on that.
    write_scores(tmp_path / "s.h5", scores(positions=scores().positions.astype(np.int64)))
    assert read_scores(tmp_path / "s.h5").positions.dtype == np.int32


def test_a_diverged_network_writes_no_scores(tmp_path: Path) -> None:
    logits = LOGITS.copy()
    logits[2, 1] = np.nan
    with pytest.raises(InputError, match=r"flow scores of jump/c\.avi are not finite.*learning_rate"):
        write_scores(tmp_path / "scores.h5", scores("flow", video_logits=logits))
    assert not list(tmp_path.iterdir())


SHAPE = (6, 2, 5, 3)


def score_six(path: Path, order: list[int]) -> None:
    """Six videos in three groups that come in this order."""
    rng = np.random.default_rng(0)
    snippet_logits = rng.normal(size=SHAPE).astype(np.float32)
    six = {"videos": tuple("abcdef"), "labels": np.zeros(6, np.int64), "video_logits": np.zeros((6, 3), np.float32)}
    small = {name: np.zeros((6, 2, 5), np.float32) for name in ("attention", "attention_logits")}
    with score_writer(path, SHAPE) as writer:
        for group in order:
            rows = range(2 * group, 2 * group + 2)
            writer.add(rows, snippet_logits[rows])
        writer.finish(scores(**six, **small, positions=np.zeros((6, 5), np.int32)))
    with h5py.File(path) as file:
        assert file["snippet_logits"].dtype == np.float32
        assert file["snippet_logits"].fletcher32
        np.testing.assert_array_equal(file["snippet_logits"], snippet_logits)


def test_snippets_come_in_any_order_and_give_the_same_bytes(tmp_path: Path) -> None:
    for name, order in (("a.h5", [0, 1, 2]), ("b.h5", [2, 0, 1])):
        score_six(tmp_path / name, order)
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


@pytest.mark.parametrize(("order", "missing"), [([0, 2], "c"), ([], "a"), ([1, 0], "e")], ids=str)
def test_a_video_that_was_not_scored_is_an_error(tmp_path: Path, order: list[int], missing: str) -> None:
    with pytest.raises(RuntimeError, match=f"{missing} has not been scored"):
        score_six(tmp_path / "scores.h5", order)
    assert not list(tmp_path.iterdir())


def test_an_interrupted_scoring_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "scores.h5"
    write_scores(path, scores())
    before = path.read_bytes()
    with pytest.raises(KeyboardInterrupt), score_writer(path, SHAPE) as writer:
        writer.add(range(2), np.ones((2, *SHAPE[1:]), np.float32))
        raise KeyboardInterrupt
    assert [each.name for each in tmp_path.iterdir()] == ["scores.h5"]
    assert path.read_bytes() == before


def test_memory_does_not_grow_with_the_number_of_videos(tmp_path: Path) -> None:
    video_bytes = 80 * 400 * 4

    def peak_bytes(videos: int) -> int:
        with score_writer(tmp_path / f"{videos}.h5", (videos, 1, 80, 400)) as writer:
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            for group in groups(videos):
                writer.add(group, np.full((len(group), 1, 80, 400), group.start, np.float32))
            highest = tracemalloc.get_traced_memory()[1] - before
            writer.finish(scores())
        return highest

    def groups(videos: int) -> Iterator[range]:
        return (range(first, first + 4) for first in range(0, videos, 4))

    tracemalloc.start()
    try:
        few, many = peak_bytes(8), peak_bytes(160)
    finally:
        tracemalloc.stop()
    assert few >= 4 * video_bytes  # it sees arrays
    assert many < 1.5 * few


def test_a_full_disk_is_known_before_anything_is_scored(tmp_path: Path) -> None:
    # A limit on the size of files fails like a full disk does.
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, limits[1]))
    try:
        with (
            pytest.raises(InputError, match=r"cannot write .*scores\.h5: File too large"),
            score_writer(tmp_path / "scores.h5", (10, 1, 80, 400)),
        ):
            pytest.fail("scoring began")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert not list(tmp_path.iterdir())


def change_format(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file.attrs["format"] = 2


def drop_attention(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        del file["attention"]


def drop_stream(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        del file.attrs["stream"]


def damage_logits(path: Path) -> None:
    content = bytearray(path.read_bytes())
    place = content.index(LOGITS.tobytes())
    content[place + 5] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (Path.unlink, "cannot be read"),
        (lambda path: path.write_bytes(b"no HDF5 file at all"), "cannot be read"),
        (lambda path: path.write_bytes(path.read_bytes()[:3000]), "cannot be read"),
        (change_format, r"format 1 \(its format is 2\)"),
        (drop_attention, "cannot be read"),
        (drop_stream, "cannot be read"),
        (damage_logits, "cannot be read"),
    ],
    ids=["missing", "other", "truncated", "version", "dataset", "attribute", "damaged"],
)
def test_unusable_score_files_are_refused_by_name(tmp_path: Path, harm: Any, message: str) -> None:
    path = tmp_path / "scores.h5"
    write_scores(path, scores())
    harm(path)
    with pytest.raises(InputError, match=rf"{path}.*{message}.*run the workflow"):
        read_scores(path)
