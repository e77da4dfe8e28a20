"""Fixtures that several test files share: small moving pictures, videos of them, and shards."""

import functools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from numpy.typing import NDArray

from atw import config
from atw.shards import ZERO, Entry, Header, create, encode_field, encode_frame

Image = NDArray[np.uint8]

# Who starts the tests in the background has them ignore Ctrl-C, and with them all that they start.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A busy machine is no failure, and the same commit gives the same verdict everywhere: examples follow from the tests'
# source. `pytest --hypothesis-profile explore` looks for new ones.
hypothesis_settings.register_profile(
    "same", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
hypothesis_settings.register_profile("explore", deadline=None, max_examples=2000)
hypothesis_settings.load_profile("same")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Where processes share tests out, as in `make test`: those of one file or working folder stay together."""
    from xdist.scheduler import LoadScopeScheduling

    class Together(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            if file in ("tests/slow/test_demo.py", "tests/slow/test_report.py"):
                return "demo"
            return "workplace" if file.startswith("tests/rules/") and _shares_workplace(file) else file

    return Together(config, log)


@functools.cache
def _shares_workplace(file: str) -> bool:
    """Whether tests of a file take the fixture `workplace`; other rules' tests have folders of their own."""
    return "workplace: Workplace" in (Path(__file__).parents[1] / file).read_text(encoding="utf-8")


def _moving_frames(count: int, *, width: int = 64, height: int = 48, seed: int = 0) -> list[Image]:
    """Frames of a smooth random texture that moves by 2 px to the left and 1 px up from frame to frame."""
    noise = np.random.default_rng(seed).integers(0, 256, (height + count, width + 2 * count, 3), dtype=np.uint8)
    texture = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 2.0), None, 0, 255, cv2.NORM_MINMAX)
    return [np.ascontiguousarray(texture[i : i + height, 2 * i : 2 * i + width]) for i in range(count)]


def _write_mjpeg(path: Path, frames: Sequence[Image]) -> Path:
    """An AVI file of JPEG images at 25 frames a second."""
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = frames[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25, (width, height))
    assert writer.isOpened()
    for frame in frames:
        writer.write(frame)
    writer.release()
    return path


def _write_shard(
    path: Path,
    stream: str,
    videos: dict[str, int],
    *,
    seed: int = 0,
    dataset: str = "mine",
    files: Mapping[str, str] = {},
    **preprocess: Any,
) -> dict[str, NDArray[np.uint8]]:
    """A shard of random pictures or fields, `videos` giving the items of each; 0 items make it quarantined.

    `files` is the SHA-256 that it names of each video's file.

    Returns what was stored of each video, decoded.
    """
    sizes = {"width": 32, "height": 24, **preprocess}
    raw = {
        "datasets": {dataset: {"kind": "folder", "root": "r", "lists": "l.csv"}},
        "preprocess": sizes,
        "evaluate": {"crop": 16},
    }
    settings = config.shard_settings(config.load(raw), dataset, stream).of_shard(path.stem, "digest")
    header = Header(
        stream=stream,
        dataset=dataset,
        shard=path.stem,
        width=sizes["width"],
        height=sizes["height"],
        settings=settings.to_dict(),
        software={"atw": "1"},
    )
    if not isinstance(settings, config.FrameShards):
        header = replace(header, bound=settings.flow.bound, zero=ZERO)
    rng = np.random.default_rng(seed)
    stored = {}
    with create(path, header) as writer:
        for video in sorted(videos):
            shape = (videos[video], sizes["height"], sizes["width"], 3)
            if stream == "rgb":
                items = [encode_frame(image, 95) for image in rng.integers(0, 256, shape, dtype=np.uint8)]
                images = [cv2.imdecode(np.frombuffer(item, np.uint8), cv2.IMREAD_COLOR) for item in items]
                stored[video] = np.array(images, np.uint8).reshape(shape)[..., ::-1]
            else:
                fields = rng.integers(1, 256, (shape[0], 2, *shape[1:3]), dtype=np.uint8)
                items = [encode_field(field, 3) for field in fields]
                stored[video] = fields
            reason = "" if items else "truncated: 1 of 9 frames can be decoded"
            entry = Entry(video, video.partition("/")[0], decoded=len(items), fps=25.0, quarantined=reason)
            entry.sha256 = files.get(video, "")
            writer.add(entry, items)
    return stored


@pytest.fixture(name="moving_frames", scope="session")
def moving_frames_fixture() -> Callable[..., list[Image]]:
    return _moving_frames


@pytest.fixture(name="write_mjpeg", scope="session")
def write_mjpeg_fixture() -> Callable[[Path, Sequence[Image]], Path]:
    return _write_mjpeg


@pytest.fixture(name="write_shard", scope="session")
def write_shard_fixture() -> Callable[..., dict[str, NDArray[np.uint8]]]:
    return _write_shard


@dataclass(frozen=True)
class OtherUser:
    """Another user of this machine, who shares one folder with us that everyone may write to.

    Args:
        folder: shared; not sticky, so the kernel's own protection of links in /tmp does not apply.
        uid: of that user.
    """

    folder: Path
    uid: int

    def run(self, script: str, *, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a line of sh as that user, inside the shared folder."""
        return subprocess.run(
            ["sh", "-c", script],
            cwd=self.folder,
            user=self.uid,
            group=self.uid,
            extra_groups=[],
            umask=0,
            capture_output=True,
            text=True,
            check=check,
        )


@pytest.fixture
def other_user() -> Iterator[OtherUser]:
    """Somebody else, for what they must not be able to do to us; only root can act as another user."""
    if os.geteuid() != 0:
        pytest.skip("acting as another user needs root")
    # Not below tmp_path, which is closed to others.
    with tempfile.TemporaryDirectory(prefix="atw-shared-") as folder:
        Path(folder).chmod(0o777)
        yield OtherUser(Path(folder), pwd.getpwnam("nobody").pw_uid)


_NO_LOCKS = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/syscall.h>

int flock(int file, int operation) {
    errno = atoi(getenv("FLOCK_ERROR"));
    return -1;
}

long syscall(long number, ...) {
    static long (*original)(long, ...);
    long a[6];
    va_list arguments;
    va_start(arguments, number);
    for (int i = 0; i < 6; i++) a[i] = va_arg(arguments, long);
    va_end(arguments);
    if (number == SYS_renameat2 && a[4] == 2) {
        errno = EINVAL;
        return -1;
    }
    if (!original) original = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
    return original(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}
"""


@pytest.fixture(scope="session")
def no_locks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[int], dict[str, str]]]:
    """An environment in which no file system has locks, as on Lustre or NFS: flock gives an error of that number.

    Two names cannot be exchanged there either. TMPDIR is its own: what is locked in vain looks left behind to others.
    """
    compiler = shutil.which("cc") or shutil.which("gcc")
    if not compiler:
        pytest.skip("a file system without locks is made with a C compiler")
    folder = tmp_path_factory.mktemp("no-locks")
    (folder / "no_locks.c").write_text(_NO_LOCKS, encoding="utf-8")
    library = folder / "no_locks.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, folder / "no_locks.c", "-ldl"], check=True)
    with tempfile.TemporaryDirectory(prefix="nl-", dir="/tmp", ignore_cleanup_errors=True) as own:  # short, for Ray
        yield lambda error: {"LD_PRELOAD": str(library), "FLOCK_ERROR": str(error), "TMPDIR": own}
