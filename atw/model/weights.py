"""Load the weights of a backbone from a local file, after checking that they fit."""

import re
from pathlib import Path

from torch import Tensor, nn

from atw.config.imagenet import missing_weights, network
from atw.files import InputError, file_digest
from atw.model import tensorfile

_SHOWN_KEYS = 3  # an error names so many differing keys
# Names in torchvision's published files that its present networks spell differently: densenet, vit.
_FORMER_NAMES = (
    (re.compile(r"(\.denselayer\d+\.(?:norm|conv))\.([12])\."), r"\1\2."),
    (re.compile(r"\.mlp\.linear_1\."), ".mlp.0."),
    (re.compile(r"\.mlp\.linear_2\."), ".mlp.3."),
)


def load_weights(body: nn.Module, path: Path, *, backbone: str, left_out: tuple[str, ...]) -> str:
    """Copy the weights in `path` into `body` and return the file's SHA-256.

    The file is a state dictionary as it is published. Keys of the modules `left_out`, such as the classifier, are
    ignored and may be missing; so may batch norm's `num_batches_tracked` (older files lack it, and no result depends on
    it). A vector of C values may have the shape [1, C].

    Raises:
        InputError: there is no such file, it holds no weights, or they differ; the first differing keys are named.
    """
    if not path.is_file():
        raise InputError(missing_weights(path, backbone))
    sha256 = file_digest(path)
    promised = re.search(r"-([0-9a-f]{8,})\.pth$", path.name)
    if promised and path.name in network(backbone).files and not sha256.startswith(promised[1]):
        raise InputError(
            f"weights {path}: its SHA-256 is {sha256}, but that of the published file of this name begins with "
            f"{promised[1]}; download it again, or rename it if it is another network of yours"
        )
    expected = body.state_dict()
    state = _adapted(_read(path), expected, left_out)
    differences = tensorfile.differences(state, {key: value.shape for key, value in expected.items()})
    if differences:
        more = len(differences) - _SHOWN_KEYS
        listed = "; ".join(differences[:_SHOWN_KEYS]) + (f"; and {more} more" if more > 0 else "")
        raise InputError(
            f"weights {path}: is not a {backbone}: {listed}. Give the weights of {backbone} or change the backbone"
        )
    expected.update(state)  # and not `state` itself, which lacks the versions that torchvision's modules ask for
    body.load_state_dict(expected)
    return sha256


def _adapted(state: dict[str, Tensor], expected: dict[str, Tensor], left_out: tuple[str, ...]) -> dict[str, Tensor]:
    """Bring a state into the present form: names, shapes of vectors, counters."""
    prefixes = tuple(f"{module}." for module in left_out)
    adapted = {}
    for key, value in state.items():
        if key.startswith(prefixes):
            continue
        for former, name in _FORMER_NAMES:
            key = former.sub(name, key)
        vector = key in expected and value.shape == (1, *expected[key].shape) and expected[key].dim() == 1
        adapted[key] = value[0] if vector else value
    counters = {key: value for key, value in expected.items() if key.endswith("num_batches_tracked")}
    return counters | adapted


def _read(path: Path) -> dict[str, Tensor]:
    try:
        state = tensorfile.read(path)
    except ValueError as error:
        raise InputError(
            f"weights {path}: cannot be read as a torch weights file ({error}); it may be truncated or a saved web "
            "page: compare its size and SHA-256 with the publisher's"
        ) from None
    if not tensorfile.is_state(state):
        raise InputError(
            f"weights {path}: is not a state dictionary (names to tensors); save `model.state_dict()` alone"
        )
    return state
