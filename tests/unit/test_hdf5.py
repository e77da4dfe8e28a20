"""New HDF5 files on a disk without room for them: an exception, and a process that lives on."""

import fcntl
import resource
import subprocess
import sys
from pathlib import Path

import h5py
import pytest

from atw.hdf5 import new_file, open_file

# Its own process: HDF5 that meets a full disk must not crash it, not even at its end.
WRITER = """
import sys
from pathlib import Path
import h5py
import numpy as np
from atw.hdf5 import new_file

try:
    with new_file(Path(sys.argv[1])) as file:
        file.attrs["text"] = "x" * 100
        numbers = np.random.default_rng(0).random((30, 400), np.float32)
        file.create_dataset("plain", data=numbers)
        file.create_dataset("summed", data=numbers, fletcher32=True)
        file.create_dataset("chunked", data=numbers, chunks=(1, 400), fletcher32=True)
        early = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        early.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        file.create_dataset("early", (30, 400), chunks=(1, 400), fletcher32=True, dcpl=early)
        file["names"] = ["name"] * 50
except OSError as error:
    sys.exit(f"no room: {error.errno}")
"""


def write(path: Path, largest_bytes: int = -1) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", WRITER, str(path)],
        capture_output=True,
        text=True,
        timeout=100,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (largest_bytes, largest_bytes)),
    )


def test_the_same_content_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.h5", "b.h5"):
        assert write(tmp_path / name).returncode == 0
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()
    with h5py.File(tmp_path / "a.h5") as file:  # whose times are whole seconds: two files may be of the same one
        assert {h5py.h5g.get_objinfo(file.id, name).mtime for name in (b"/", b"plain", b"chunked", b"names")} == {0}


@pytest.mark.parametrize("share", [0.01, 0.3, 0.6, 0.8, 0.95, 0.99, 1.0])
def test_no_room_is_an_exception(tmp_path: Path, share: float) -> None:
    assert write(tmp_path / "whole.h5").returncode == 0
    largest_bytes = int((tmp_path / "whole.h5").stat().st_size * share) - 1
    run = write(tmp_path / "cut.h5", largest_bytes)
    assert run.returncode == 1
    assert run.stderr.splitlines()[-1] == "no room: 27"


def test_no_file_of_hdf5_is_locked_by_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HDF5_USE_FILE_LOCKING", raising=False)
    path = tmp_path / "0.h5"
    with path.open("wb") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)  # HDF5 with its locks would refuse this file
        with new_file(path) as file:
            file["a"] = 1
        with open_file(path) as file:
            assert file["a"][()] == 1
