import dataclasses
import json
import os
import resource
import signal
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from atw.data.actions import Actions
from atw.evaluate.scores import read_scores, score_writer
from atw.files import InputError
from tests.unit.scored import write_scores
from tests.unit.streams import LOGITS, padded, scores


@pytest.mark.parametrize("quarantined", [[], [(f"wave/{name}.avi", 2, "one frame") for name in "def"]])
def test_a_score_file_gives_back_what_was_written(tmp_path: Path, quarantined: list[tuple[str, int, str]]) -> None:
    # 1 MB of provenance, because HDF5 keeps only 64 kB of an attribute in place.
    written = scores(
        experiment="ones",
        quarantined=quarantined,
        provenance=scores().provenance | {"reasons": "ü" * 500_000},
        actions=Actions.of([(2, 1, 0.4, 1.5), (0, 0, 0.25, 2), (2, -1, 0.0, 0.125)]),
    )
    write_scores(tmp_path / "deep" / "scores.h5", written)
    read = read_scores(tmp_path / "deep" / "scores.h5")
    assert_same(read, written)
    assert read.actions.video.tolist() == [0, 2, 2]
    assert read.actions.label.tolist() == [0, -1, 1]


def assert_same(read: Any, written: Any) -> None:
    for field in dataclasses.fields(written):
        had, has = getattr(written, field.name), getattr(read, field.name)
        assert type(has) is type(had), field.name
        if isinstance(had, np.ndarray):
            assert has.dtype == had.dtype, field.name
            np.testing.assert_array_equal(has, had)
        elif dataclasses.is_dataclass(had):
            assert_same(has, had)
        else:
            assert has == had, field.name


def test_what_lies_behind_the_snippets_of_a_video_counts_nowhere(tmp_path: Path) -> None:
    """Videos of 5, 2, 1 and 3 snippets, compared with a loop over their own."""
    written = padded(scores(), [5, 2, 1, 3])
    assert written.own.sum(axis=1).tolist() == [5, 2, 1, 3]
    flat = padded(scores(attention=np.full((4, 2, 5), 0.2, np.float32)), [5, 2, 1, 3])
    assert flat.flat.all()
    assert written.flat.tolist() == [False, False, True, False]
    path = tmp_path / "scores.h5"
    with score_writer(path, (4, 2, 5, 3)) as writer:
        for row, count in enumerate(written.snippets.tolist()):
            writer.add(range(row, row + 1), np.full((1, 2, count, 3), row + 1, np.float32))
        writer.finish(written)
    read = read_scores(path)
    assert_same(read, written)
    with h5py.File(path) as file:
        for row, count in enumerate((5, 2, 1, 3)):
            assert (file["snippet_logits"][row, :, :count] == row + 1).all()
            assert not file["snippet_logits"][row, :, count:].any()
            seconds, weights = read.curve(row)
            assert seconds.tolist() == [(start + end) / 2 for start, end in written.seconds[row][:count].tolist()]
            assert weights.tolist() == pytest.approx(written.attention[row][:, :count].mean(axis=0).tolist())


def test_score_files_are_plain_hdf5_and_the_same_each_time(tmp_path: Path) -> None:
    for name in ("a.h5", "b.h5"):
        write_scores(tmp_path / name, scores())
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()
    with h5py.File(tmp_path / "a.h5") as file:
        assert (file.attrs["format"], file.attrs["subset"], file.attrs["stream"]) == (3, b"test", b"rgb")
        assert file["quarantined/label"][()].tolist() == [2]
        assert file["videos"].asstr()[3] == "wave/ü #;.avi"
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
    six |= {"snippets": np.full(6, 5, np.int32), "seconds": np.zeros((6, 5, 2)), "probability": np.zeros((6, 5))}
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


def damage_logits(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[content.index(LOGITS.tobytes()) + 5] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "harm",
    [
        Path.unlink,
        lambda path: path.write_bytes(b"no HDF5 file at all"),
        lambda path: path.write_bytes(path.read_bytes()[:3000]),
        damage_logits,
    ],
    ids=["missing", "other", "truncated", "damaged"],
)
def test_unusable_score_files_are_refused_by_name(tmp_path: Path, harm: Any) -> None:
    path = tmp_path / "scores.h5"
    write_scores(path, scores())
    harm(path)
    with pytest.raises(InputError, match=rf"{path} cannot be read.*run the workflow"):
        read_scores(path)


def test_another_version_of_the_format_is_named(tmp_path: Path) -> None:
    write_scores(tmp_path / "scores.h5", scores())
    with h5py.File(tmp_path / "scores.h5", "r+") as file:
        file.attrs["format"] = 1
    with pytest.raises(InputError, match=r"format 3 \(its format is 1\).*run the workflow"):
        read_scores(tmp_path / "scores.h5")


Edit = Callable[[h5py.File], Any]


def put(name: str, values: Any = None, shape: Any = None, dtype: Any = None, **options: Any) -> Edit:
    """Another dataset in the place of one; with a shape and no values it stores next to nothing."""

    def edit(file: h5py.File) -> None:
        del file[name]
        file.create_dataset(name, shape, dtype, data=values, **options)

    return edit


def change(name: str, place: Any, value: object) -> Edit:
    return lambda file: file[name].__setitem__(place, value)


def attribute(name: str, value: object) -> Edit:
    return lambda file: file.attrs.__setitem__(name, value)


def link(name: str, target: object) -> Edit:
    def edit(file: h5py.File) -> None:
        del file[name]
        file[name] = target

    return edit


def virtual_data(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((4,), "int64")
    layout[:] = h5py.VirtualSource("secret.h5", "labels", (4,))
    del file["labels"]
    file.create_virtual_dataset("labels", layout)


def missing_chunk(file: h5py.File) -> None:
    del file["video_logits"]
    file.create_dataset("video_logits", (4, 3), "float32", chunks=(2, 3), fletcher32=True)[0] = 1


def names(*values: str) -> Any:
    return np.array([value.encode() for value in values])


LONG = {"fletcher32": True, "chunks": (1 << 20,)}
FOREIGN: dict[str, tuple[Edit, str]] = {
    "a link to another file": (link("videos", h5py.ExternalLink("secret.h5", "/videos")), "videos is missing, or a"),
    "a soft link": (link("videos", h5py.SoftLink("/classes")), "videos is missing, or a link"),
    "a linked group": (link("quarantined", h5py.ExternalLink("secret.h5", "/quarantined")), "quarantined/video is m"),
    "no attention": (lambda file: file.pop("attention"), "attention is missing"),
    "no stream": (lambda file: file.attrs.pop("stream"), "stream"),
    "a group": (lambda file: (file.pop("labels"), file.create_group("labels")), "labels is no dataset"),
    "data of another file": (
        put("labels", shape=(4,), dtype="int64", external=[("secret.txt", 0, 32)]),
        "labels is no dataset of this file",
    ),
    "virtual data": (virtual_data, "labels is no dataset of this file"),
    "compressed numbers": (put("labels", [0, 1, 1, 2], compression="gzip", fletcher32=True), "labels is not stored wh"),
    "a bomb": (put("attention", None, (4, 1 << 14, 1 << 14), "float32", compression="gzip"), "attention is not stored"),
    "numbers of a terabyte": (
        put("attention", None, (4, 1 << 18, 1 << 18), "float32", fletcher32=True),
        "not stored wh",
    ),
    "labels of a terabyte": (
        put("labels", None, (1 << 37,), "int64", **LONG),
        r"labels has the type int64 and the sha",
    ),
    "videos of a terabyte": (put("videos", None, (1 << 37,), "S8", chunks=(1 << 20,)), "videos is not stored whole"),
    "a name of a gigabyte": (put("videos", None, (4,), f"S{1 << 30}", chunks=(1,)), "videos is not stored whole"),
    "a missing chunk": (missing_chunk, "video_logits is not stored whole"),
    "numbers without checksum": (put("labels", [0, 1, 1, 2]), "labels is not stored whole"),
    "names of any length": (put("videos", ["a", "b", "c", "d"]), "videos has the type object"),
    "a name of any length": (attribute("split", "split1"), "attribute split is neither a number nor text"),
    "a name that is a number": (attribute("split", 5), "one of its names is a number"),
    "names that are no text": (put("videos", np.array([b"\xff", b"b", b"c", b"d"])), "can't decode byte 0xff"),
    "another stream": (attribute("stream", np.bytes_(b"depth")), "its stream is 'depth'"),
    "another type": (put("labels", np.array([0, 1, 1, 2], np.float32), fletcher32=True), "labels has the type float32"),
    "another shape": (
        put("video_logits", np.zeros((3, 3), np.float32), fletcher32=True),
        r"shape \(3, 3\), not \(4, 3",
    ),
    "too many dimensions": (put("labels", np.zeros((4, 1), np.int64), fletcher32=True), r"not \(4,\)"),
    "arrays that disagree": (put("positions", np.zeros((4, 6), np.int32), fletcher32=True), r"not \(4, 5\)"),
    "no shape": (put("labels", h5py.Empty("int64")), "labels is no dataset"),
    "a label too high": (change("labels", 1, 3), "labels go from 0 to 3, and there are 3 classes"),
    "a negative label": (change("labels", 1, -2), "labels go from -2 to 2"),
    "a quarantined label": (change("quarantined/label", 0, 9), "labels go from 0 to 9"),
    "a video twice": (put("videos", names("a", "b", "a", "c")), "the video 'a' is listed twice"),
    "a quarantined video twice": (
        put("quarantined/video", names("run/a.avi")),
        "the video 'run/a.avi' is listed twice",
    ),
    "a class twice": (put("classes", names("run", "run", "wave")), "the class 'run' is listed twice"),
    "a class without a name": (put("classes", names("run", "", "wave")), "a class has no name"),
    "no number": (change("video_logits", (2, 1), np.nan), "video_logits are not all finite"),
    "an infinite number": (change("attention_logits", (0, 0, 1), np.inf), "attention_logits are not all finite"),
    "negative attention": (change("attention", (0, 0), [2, -1, 0, 0, 0]), "attention of a video is negative"),
    "too much attention": (change("attention", (0, 0), 1), "does not sum to 1"),
    "a snippet before its video": (change("positions", (0, 0), -1), "a snippet begins before its video"),
    "a snippet of a video that has fewer": (change("snippets", 1, 4), "has something behind its snippets"),
    "more snippets than there is room for": (change("snippets", 1, 6), "videos have 5 to 6 snippets, not 1 to 5"),
    "a video without snippets": (change("snippets", 0, 0), "videos have 0 to 5 snippets"),
    "fewer snippets than room": (change("snippets", slice(None), 4), "videos have 4 to 4 snippets, not 1 to 5"),
    "a probability above 1": (change("probability", (0, 0), 1.5), "a probability is not from 0 to 1"),
    "no probability": (change("probability", (0, 0), np.nan), "a probability is not from 0 to 1"),
    "a snippet that ends before it begins": (change("seconds", (0, 0), [2, 1]), "the seconds of snippets are not"),
    "a snippet before the first frame": (change("seconds", (0, 0), [-1, 1]), "the seconds of snippets are not finite,"),
    "a snippet at no time": (change("seconds", (3, 0), [np.nan, 1]), "the seconds of snippets are not"),
    "snippets in another order": (change("seconds", (0, 0), [99, 99]), "are not in the order of time"),
    "an action of no video": (
        put("actions/video", np.array([0, 4]), fletcher32=True),
        "the rows of actions go from 0 to 4, beyond 3",
    ),
    "an action of no class": (
        put("actions/label", np.array([-2, 0]), fletcher32=True),
        "the labels of actions go from -2 to 0, beyond 2",
    ),
    "an action that never ends": (
        put("actions/seconds", np.array([[0, 1], [1, np.inf]]), fletcher32=True),
        "the seconds of actions are not finite",
    ),
    "actions that disagree": (
        put("actions/seconds", np.zeros((3, 2)), fletcher32=True),
        r"actions/seconds has .* shape \(3, 2\), not \(2, 2\)",
    ),
    "actions of a terabyte": (
        put("actions/video", None, (1 << 37,), "int64", **LONG),
        "actions/video is not stored whole",
    ),
    "provenance that is a list": (
        attribute("provenance", np.bytes_(b"[1]")),
        "train_videos of its provenance is no int",
    ),
    "provenance without end": (attribute("provenance", np.bytes_(b"[" * 20_000)), "its lists go too deep"),
    "provenance without a count": (attribute("provenance", np.bytes_(b"{}")), "train_videos"),
    "a provenance of NaN": (
        attribute("provenance", np.bytes_(b'{"seed": NaN}')),
        "the number NaN, which is not finite",
    ),
    "held-out videos that are text": (
        attribute("provenance", np.bytes_(b'{"train_videos": 9, "train_quarantined": [], "held_out_videos": "4"}')),
        "held_out_videos of its provenance is no int",
    ),
    "reasons that are numbers": (
        attribute("provenance", np.bytes_(b'{"train_videos": 9, "train_quarantined": [1], "seed": 0}')),
        "no list of videos with their reasons",
    ),
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", FOREIGN)
def test_a_hostile_score_file_is_refused(tmp_path: Path, name: str) -> None:
    edit, message = FOREIGN[name]
    path = tmp_path / "scores.h5"
    write_scores(path, scores(actions=Actions.of([(0, 0, 0.0, 1.0), (1, 1, 0.5, 0.75)])))
    write_scores(tmp_path / "secret.h5", scores())
    (tmp_path / "secret.txt").write_bytes(bytes(32))
    with h5py.File(path, "r+") as file:
        edit(file)
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match=rf"cannot be read as a score file \(.*{message}"):
            read_scores(path)
        assert tracemalloc.get_traced_memory()[1] < 1 << 24  # whatever sizes the file declares
    finally:
        tracemalloc.stop()


def test_a_pipe_is_no_score_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "scores.h5")
    with pytest.raises(InputError, match="not a regular file"):
        read_scores(tmp_path / "scores.h5")


@pytest.mark.parametrize("provenance", [{}, {"model": None}, {"model": {"sha256": 3}}, {"model": [1]}])
def test_what_a_file_of_somebody_else_does_not_say_is_named(provenance: dict[str, object]) -> None:
    foreign = scores(provenance=provenance)
    with pytest.raises(InputError, match=r"of rgb, split1 of \w+, does not say .* what model.sha256 is; score"):
        foreign.recorded(str, "model", "sha256")
    assert scores(provenance={"model": {"sha256": "ab"}}).recorded(str, "model", "sha256") == "ab"
