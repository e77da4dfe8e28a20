"""Fixtures that several unit tests share: a folder of shards, a trained dataset, and undamaged videos."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from tests.unit.drawn import write_videos
from tests.unit.encoded import BASES, COUNT, HEIGHT, WIDTH, Image, Sound, decode, encode
from tests.unit.stored import Stored, WriteShard

if TYPE_CHECKING:
    from atw.extras.predict.predictor import Predictor
    from tests.unit.trained import Trained

VIDEOS = {"a/0.avi": 0, "a/1.avi": 3, "b/it's #2 & é.avi": 2}


@pytest.fixture
def shards(tmp_path: Path, write_shard: WriteShard) -> dict[str, Stored]:
    """A folder `shards` with two shards of frames and one of each kind of flow; what each holds, by relative path."""
    stored = {}
    for name, stream, videos in (
        ("rgb/00000.h5", "rgb", VIDEOS),
        ("rgb/00001.h5", "rgb", {"c/3.avi": 1}),
        ("flow/00000.h5", "flow", VIDEOS),
        ("warped/00000.h5", "warped", VIDEOS),
    ):
        stored[name] = write_shard(tmp_path / "shards" / name, stream, videos)
    return stored


@pytest.fixture(scope="session")
def trained(
    tmp_path_factory: pytest.TempPathFactory,
    moving_frames: Callable[..., list[Image]],
    write_mjpeg: Callable[[Path, Sequence[Image]], Path],
) -> "Trained":
    """A small dataset with shards, networks, scores and a result, which tests only read."""
    from tests.unit.trained import Trained

    return Trained(tmp_path_factory.mktemp("trained"), moving_frames, write_mjpeg)


@pytest.fixture(scope="session")
def predictor(trained: "Trained") -> "Predictor":
    """The networks of `trained`, which tests do not change."""
    import atw

    return atw.load(trained.split, device="cpu")


@pytest.fixture(scope="session")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Sound:
    """The undamaged videos and their frames."""
    folder = tmp_path_factory.mktemp("sound")
    noise = np.random.default_rng(0).integers(0, 256, (HEIGHT + COUNT, WIDTH + 2 * COUNT, 3), dtype=np.uint8)
    texture = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 1.0), None, 0, 255, cv2.NORM_MINMAX)
    frames = [np.ascontiguousarray(texture[i : i + HEIGHT, 2 * i : 2 * i + WIDTH]) for i in range(COUNT)]
    made = {}
    for name, (codec, options) in BASES.items():
        content = encode(folder / name, frames, codec, **options)
        decoded, audit = decode(folder / name)
        assert (len(decoded), audit.repaired) == (COUNT, [])
        made[name] = content, decoded
    return made


@pytest.fixture
def fresh_auto() -> Iterator[None]:
    """What `auto` stands for is looked for anew: in the test, which may change the backends, and after it."""
    from atw.flow import engine

    engine.fastest.cache_clear()
    yield
    engine.fastest.cache_clear()


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of videos; lists are written below the working folder, beside it."""
    monkeypatch.chdir(tmp_path)
    return write_videos(tmp_path / "videos")
