"""The resize against torch's, byte for byte."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from atw.data.resize import resize


def resized(planes: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    out = np.empty((len(planes), size, size), np.uint8)
    for plane, into in zip(planes, out, strict=True):
        resize(plane, into)
    return out


def by_torch(planes: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    images = torch.from_numpy(planes)[:, None]
    return F.interpolate(images, (size, size), mode="bilinear", align_corners=False, antialias=True)[:, 0].numpy()


@given(st.integers(1, 300), st.integers(1, 340), st.sampled_from([16, 32, 112, 224, 299]), st.integers(0, 99))
@example(1, 1, 16, 0)
@example(1, 340, 224, 0)
@example(256, 256, 224, 0)
@example(256, 168, 224, 0)
def test_the_bytes_are_those_of_torch(height: int, width: int, size: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    planes = rng.integers(0, 256, (2, height, width), dtype=np.uint8)
    planes[1] = np.where(planes[1] > 127, 255, 0)  # extremes: sums that would leave 16 bits
    assert np.array_equal(resized(planes, size), by_torch(planes, size))


@pytest.mark.parametrize("length", [*range(16, 4097, 137), 4096, 9000])
def test_strong_shrinking_has_many_weights_and_the_bytes_of_torch(length: int) -> None:
    planes = np.random.default_rng(length).integers(0, 256, (1, 20, length), dtype=np.uint8)
    assert np.array_equal(resized(planes, 16), by_torch(planes, 16))


def test_planes_of_the_right_size_are_as_they_were() -> None:
    planes = np.random.default_rng(0).integers(0, 256, (3, 17, 17), dtype=np.uint8)
    assert np.array_equal(resized(planes, 17), planes)


@given(st.integers(1, 300), st.integers(1, 340), st.sampled_from([16, 224]))
@example(224, 224, 224)
@example(192, 224, 224)
@example(224, 192, 224)
def test_the_mirror_image_is_that_of_the_resized(height: int, width: int, size: int) -> None:
    plane = np.random.default_rng(height).integers(0, 256, (height, width), dtype=np.uint8)
    plain, mirrored = np.empty((2, size, size), np.uint8)
    resize(plane, plain)
    resize(plane, mirrored, mirror=True)
    assert np.array_equal(mirrored, plain[:, ::-1])
