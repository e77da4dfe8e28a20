"""Read and write files of torch. They may come from anyone: nothing but tensors and plain values is read."""

import pickle
import stat
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, TypeGuard

import torch
from torch import Tensor

Shapes = Mapping[str, torch.Size]
_MOST_VALUES = 1_000_000  # a list that contains itself many times over is small in a file and endless for a reader
_PLAIN = (str, bytes, int, float, type(None))
# torch's reader raises these for bytes that are none of its files.
_DAMAGE = (OSError, RuntimeError, TypeError, LookupError, AttributeError, EOFError, MemoryError, zipfile.BadZipFile)


def read(path: Path) -> Any:
    """Read what `torch.save` wrote. No code of the file runs, and its tensors take no more memory than the file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, holds other things than tensors and plain values, or asks for more memory than it has
            bytes; the message is the reason.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("not a regular file")
    try:
        _check_entries(path, status.st_size)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about content that is refused below
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        # torch's own message explains how to run the file's code all the same.
        raise ValueError("it holds other things than tensors and plain values, or is damaged") from None
    except _DAMAGE as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        # An IndexError is of text, which is read as a damaged pickle.
        raise ValueError(
            "it is damaged" if isinstance(error, IndexError) or "weights_only" in reason else reason
        ) from None
    _check_values(content, status.st_size)
    return content


def write(content: Any, stream: IO[bytes]) -> None:
    """Write tensors and plain values into an open file: torch would write the name of a file that it opens itself.

    Raises:
        OSError: for example a full disk, about which torch itself says nothing.
    """
    try:
        torch.save(content, stream)
    except RuntimeError as error:
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise


def is_state(content: Any) -> TypeGuard[dict[str, Tensor]]:
    """Whether a file's content is a state dictionary: tensors by name."""
    return isinstance(content, dict) and all(isinstance(value, Tensor) for value in content.values())


def differences(state: Mapping[str, Tensor], expected: Shapes) -> list[str]:
    """Name every key that is missing, has another shape or is unexpected, in the order of `expected`."""
    found = [
        f"{key} is missing" if key not in state else f"{key} has shape {list(state[key].shape)}, not {list(shape)}"
        for key, shape in expected.items()
        if key not in state or state[key].shape != shape
    ]
    return found + [f"{key} is unexpected" for key in state if key not in expected]


def _check_entries(path: Path, file_bytes: int) -> None:
    """Refuse a ZIP file whose entries are compressed or overlap; files of old versions of torch are no ZIP files."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as opened:
        entries = opened.infolist()
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise ValueError("its tensors are compressed, which torch never does")
    if sum(entry.file_size for entry in entries) > file_bytes:
        raise ValueError("its entries are larger than the file")


def _check_values(content: Any, file_bytes: int) -> None:
    """Refuse tensors without numbers of their own, and values that are not plain."""
    left: list[Any] = [content]
    storages: dict[int, int] = {}
    seen = 0
    while left:
        value = left.pop()
        seen += 1
        if seen > _MOST_VALUES:
            raise ValueError(f"it holds more than {_MOST_VALUES} values")
        if isinstance(value, dict):
            left += [*value.keys(), *value.values()]
        elif isinstance(value, (list, tuple, set)):
            left += value
        elif isinstance(value, Tensor):
            storages |= _storage(value)
        elif not isinstance(value, _PLAIN):
            raise ValueError(f"it holds a {type(value).__name__}, which is neither a tensor nor a plain value")
    if sum(storages.values()) > file_bytes:
        raise ValueError("its tensors are larger than the file")


def _storage(tensor: Tensor) -> dict[int, int]:
    """Return address and bytes of a tensor's memory."""
    if tensor.layout != torch.strided or tensor.device.type != "cpu" or tensor.is_quantized or tensor.is_nested:
        raise ValueError("it holds a tensor that is no plain array of numbers")
    storage = tensor.untyped_storage()
    if tensor.numel() * tensor.element_size() > storage.nbytes():
        raise ValueError(f"it holds a tensor of shape {list(tensor.shape)}, with numbers for less")
    return {storage.data_ptr(): storage.nbytes()}
