"""Weights of a backbone from a local file, checked against the backbone before a value is taken over."""

from pathlib import Path

import torch
from torch import Tensor, nn

from atw.files import InputError, file_digest

SHOWN_KEYS = 3
"""How many differing keys an error names."""


def load(body: nn.Module, path: Path, *, backbone: str, head: str) -> str:
    """Copy the weights in `path` into `body` and return the file's SHA-256.

    The file is a state dictionary as torchvision publishes them. The classifier's keys, which start with `head`, are
    passed over and may be missing; so may batch norm's `num_batches_tracked` (older files lack it, and no result
    depends on it). Any other difference is an InputError that names the first differing keys.
    """
    if not path.is_file():
        raise InputError(
            f"weights {path}: there is no such file; put torchvision's ImageNet weights of {backbone} there "
            "(the .pth file), or set no weights to start from random ones"
        )
    state = {key: value for key, value in _read(path).items() if not (head and key.startswith(f"{head}."))}
    expected = body.state_dict()
    for key in expected.keys() - state.keys():
        if key.endswith("num_batches_tracked"):
            state[key] = expected[key]
    differences = _differences(state, expected)
    if differences:
        more = len(differences) - SHOWN_KEYS
        listed = "; ".join(differences[:SHOWN_KEYS]) + (f"; and {more} more" if more > 0 else "")
        raise InputError(
            f"weights {path}: is not a {backbone}: {listed}. Give the weights of {backbone} or change the backbone"
        )
    body.load_state_dict(state)
    return file_digest(path)


def _read(path: Path) -> dict[str, Tensor]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # bytes that are no weights file fail in torch, pickle or zipfile in a dozen ways
        raise InputError(
            f"weights {path}: cannot be read as a torch weights file ({type(error).__name__}); it may be truncated or "
            "a saved web page: compare its size and SHA-256 with the publisher's"
        ) from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise InputError(
            f"weights {path}: is not a state dictionary (names to tensors); save `model.state_dict()` alone"
        )
    return state


def _differences(state: dict[str, Tensor], expected: dict[str, Tensor]) -> list[str]:
    """Name every key that is missing, mis-shaped or unexpected, in the order of the network."""
    found = [
        f"{key} is missing"
        if key not in state
        else f"{key} has shape {list(state[key].shape)}, not {list(value.shape)}"
        for key, value in expected.items()
        if key not in state or state[key].shape != value.shape
    ]
    return found + [f"{key} is unexpected" for key in state if key not in expected]
