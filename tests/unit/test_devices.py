import pytest

from atw.config import Compute
from atw.files import InputError
from atw.train.devices import use_gpu


@pytest.mark.parametrize(
    ("gpus", "workers", "reserved", "available", "expected"),
    [
        ("auto", 1, 1, 1, True),
        ("auto", 1, 1, 0, False),
        ("auto", 1, 0, 8, False),
        ("auto", 2, 2, 1, False),
        (0, 1, 1, 1, False),
        (2, 2, 2, 8, True),
    ],
)
def test_use_gpu(gpus: int | str, workers: int, reserved: int, available: int, expected: bool) -> None:
    compute = Compute.model_validate({"gpus": gpus, "workers": workers})
    assert use_gpu(compute, reserved=reserved, available=available) is expected


@pytest.mark.parametrize(("reserved", "available", "words"), [(0, 1, "--resources gpu=1"), (1, 0, "0 CUDA devices")])
def test_a_demand_is_never_given_up(reserved: int, available: int, words: str) -> None:
    with pytest.raises(InputError, match=words):
        use_gpu(Compute(gpus=1), reserved=reserved, available=available)
