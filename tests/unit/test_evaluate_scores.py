import dataclasses
import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from atw.evaluate.scores import Scores, read_scores, write_scores
from atw.files import InputError
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
