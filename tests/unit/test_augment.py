import itertools

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from atw.data import augment
from atw.data.augment import Box
from atw.files import InputError
from tests.unit.cuts import cut
from tests.unit.trainings import network_of

WHOLE = Box(0, 0, 24, 32)

RGB_SCALES = (1.0, 0.875, 0.75, 0.66)
FLOW_SCALES = (1.0, 0.875, 0.75)


def random_flow(*shape: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(1, 256, shape, dtype=np.uint8)


def drawn_boxes(scales: tuple[float, ...], *, size: int = 224) -> dict[Box, int]:
    rng = np.random.default_rng(5)
    boxes: dict[Box, int] = {}
    for _ in range(26_000):
        box = augment.crop_box(256, 340, scales=scales, size=size, rng=rng)
        boxes[box] = boxes.get(box, 0) + 1
    return boxes


@pytest.mark.parametrize(("scales", "sides"), [(RGB_SCALES, [256, 224, 192, 168]), (FLOW_SCALES, [256, 224, 192])])
def test_training_crops_are_exactly_the_thirteen_points_of_each_pair_of_sides(
    scales: tuple[float, ...], sides: list[int]
) -> None:
    neighbours = [(h, w) for h, w in itertools.product(sides, sides) if abs(sides.index(h) - sides.index(w)) <= 1]
    quarters = [(r, c) for r in range(5) for c in range(5) if r % 2 == c % 2]  # 9 even points and 4 odd ones
    expected = {
        Box((256 - h) // 4 * row, (340 - w) // 4 * column, h, w) for h, w in neighbours for row, column in quarters
    }
    assert set(drawn_boxes(scales)) == expected


def test_pairs_of_sides_and_points_are_equally_likely() -> None:
    boxes = drawn_boxes((0.875, 0.75))
    counts = np.array(list(boxes.values()))
    assert len(counts) == 4 * 13
    assert abs(counts - 500).max() < 110


@pytest.mark.parametrize(
    ("size", "sides"), [(224, {256, 224}), (225, {256, 225}), (226, {256, 226}), (227, {256, 224}), (222, {256, 222})]
)
def test_a_side_within_three_px_of_the_input_becomes_the_input(size: int, sides: set[int]) -> None:
    rng = np.random.default_rng(0)
    found = {augment.crop_box(256, 340, scales=(1, 0.875), size=size, rng=rng).height for _ in range(60)}
    assert found == sides


def test_a_crop_never_snaps_to_more_than_the_frame() -> None:
    box = augment.crop_box(96, 128, scales=(1.0,), size=97, rng=np.random.default_rng(0))
    assert (box.height, box.width) == (96, 96)


def test_crops_repeat_under_a_seed() -> None:
    def draw(seed: int) -> list[Box]:
        rng = np.random.default_rng(seed)
        return [augment.crop_box(256, 340, scales=RGB_SCALES, size=224, rng=rng) for _ in range(9)]

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)


def test_test_boxes_by_table() -> None:
    centre = Box(16, 58, 224, 224)
    corners = [Box(0, 0, 224, 224), Box(0, 116, 224, 224), Box(32, 0, 224, 224), Box(32, 116, 224, 224)]
    assert augment.test_boxes(256, 340, crop=224, crops=1) == [(centre, False)]
    five = [(box, False) for box in [*corners, centre]]
    assert augment.test_boxes(256, 340, crop=224, crops=5) == five
    assert augment.test_boxes(256, 340, crop=224, crops=10) == five + [(box, True) for box, _ in five]


def test_impossible_crops_are_refused() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(InputError, match="crop 257 px"):
        augment.test_boxes(256, 340, crop=257, crops=1)
    with pytest.raises(InputError, match="crops 3"):
        augment.test_boxes(256, 340, crop=224, crops=3)
    for scales in ((), (1.1,), (0.0,)):
        with pytest.raises(InputError, match="crop scales"):
            augment.crop_box(256, 340, scales=scales, size=224, rng=rng)


def test_rgb_is_cropped_and_mirrored_without_touching_its_values() -> None:
    frames = random_flow(2, 24, 32, 3)
    box = Box(3, 7, 16, 16)
    reference = frames[:, 3:19, 7:23].transpose(0, 3, 1, 2)
    plain = cut(frames, box=box, size=16, flip=False, stream="rgb")
    mirrored = cut(frames, box=box, size=16, flip=True, stream="rgb")
    assert plain.dtype == np.uint8
    assert plain.shape == (2, 3, 16, 16)
    assert (plain == reference).all()
    assert (mirrored == reference[..., ::-1]).all()


@pytest.mark.parametrize("stream", ["flow", "warped"])
def test_mirrored_flow_is_exactly_256_minus_x(stream: str) -> None:
    frames = random_flow(2, 5, 2, 24, 32)
    frames[0, 0, 0, 0, :3] = [1, 128, 255]
    box = Box(0, 0, 16, 16)
    plain = cut(frames, box=box, size=16, flip=False, stream=stream)
    mirrored = cut(frames, box=box, size=16, flip=True, stream=stream)
    crop = frames[..., :16, :16]
    assert plain.shape == mirrored.shape == (2, 10, 16, 16)
    for field in range(5):  # x1 y1 x2 y2 ...
        assert (plain[:, 2 * field] == crop[:, field, 0]).all()
        assert (plain[:, 2 * field + 1] == crop[:, field, 1]).all()
        assert (mirrored[:, 2 * field] == 256 - crop[:, field, 0, :, ::-1].astype(int)).all()
        assert (mirrored[:, 2 * field + 1] == crop[:, field, 1, :, ::-1]).all()
    assert list(mirrored[0, 0, 0, -3:]) == [1, 128, 255]
    assert mirrored.min() >= 1


@pytest.mark.parametrize("size", [17, 24, 40])
@pytest.mark.parametrize(("fields", "snippets"), [(5, 1), (5, 2), (1, 3)])
def test_a_resized_flow_field_mirrors_exactly_and_twice_is_itself(size: int, fields: int, snippets: int) -> None:
    frames = random_flow(snippets, fields, 2, 24, 32)
    plain = cut(frames, box=WHOLE, size=size, flip=False, stream="flow").astype(int)
    mirrored = cut(frames, box=WHOLE, size=size, flip=True, stream="flow").astype(int)
    assert plain.min() >= 1
    assert (mirrored[:, 0::2] == 256 - plain[:, 0::2, :, ::-1]).all()
    assert (mirrored[:, 1::2] == plain[:, 1::2, :, ::-1]).all()


@pytest.mark.parametrize("level", [1, 128, 255])
def test_a_constant_field_stays_constant_through_the_resize(level: int) -> None:
    frames = np.full((1, 5, 2, 24, 32), level, np.uint8)
    assert (cut(frames, box=WHOLE, size=17, flip=False, stream="flow") == level).all()


def triangle_weights(before: int, after: int) -> np.ndarray:
    """Antialiased bilinear resize in float64, a row per output: triangles an output pixel wide around pixel centres."""
    scale = max(before / after, 1.0)
    centres = (np.arange(after) + 0.5) * before / after
    distance = abs(np.arange(before) + 0.5 - centres[:, None]) / scale
    weights = np.maximum(1 - distance, 0)
    return weights / weights.sum(1, keepdims=True)


@pytest.mark.parametrize("size", [13, 17, 40])
@pytest.mark.parametrize("snippets", [1, 2])
def test_the_resize_is_antialiased_bilinear_to_a_level(size: int, snippets: int) -> None:
    frames = random_flow(snippets, 5, 2, 24, 32)
    planes = frames.reshape(snippets, 10, 24, 32)
    reference = triangle_weights(24, size) @ planes.astype(np.float64) @ triangle_weights(32, size).T
    resized = cut(frames, box=WHOLE, size=size, flip=False, stream="flow")
    assert abs(resized - reference).max() <= 1.01


def test_the_result_does_not_share_memory_with_the_frames() -> None:
    for stream, frames in (("rgb", random_flow(1, 16, 16, 3)), ("flow", random_flow(1, 5, 2, 16, 16))):
        before = frames.copy()
        for flip in (False, True):
            cut(frames, box=Box(0, 0, 16, 16), size=16, flip=flip, stream=stream)[:] = 0
        assert np.array_equal(frames, before)


@pytest.mark.parametrize("stream", ["flow", "warped"])
@pytest.mark.parametrize("backbone", ["tiny", "resnet18"])
def test_the_network_input_of_a_flipped_video_is_the_flipped_input_with_x_inverted(stream: str, backbone: str) -> None:
    network = network_of(stream, backbone=backbone)
    video = random_flow(2, 5, 2, 24, 32)
    flipped = video[..., ::-1].copy()
    flipped[:, :, 0] = 256 - flipped[:, :, 0].astype(int)  # the levels that a shard of the mirrored video has
    left = Box(0, 3, 24, 24)
    right = Box(0, 32 - 3 - 24, 24, 24)
    plain, mirrored, of_flipped = (
        network.backbone.normalise(torch.from_numpy(cut(frames, box=box, size=24, flip=flip, stream=stream)))
        for frames, box, flip in ((video, left, False), (video, left, True), (flipped, right, False))
    )
    expected = plain.flip(3)
    expected[:, 0::2] = -expected[:, 0::2]
    assert plain.shape == (2, 10, 24, 24)
    assert torch.equal(mirrored, expected)
    assert torch.equal(of_flipped, expected)
