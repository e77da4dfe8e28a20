"""Compile kernels with numba and keep them on disk."""

import functools
import hashlib
import inspect
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numba

from atw.files import exchangeable

Function = TypeVar("Function", bound=Callable[..., Any])
_log = logging.getLogger(__name__)


@functools.cache
def sources_digest(folder: Path) -> str:
    """Return a digest of the Python files in a folder; in a process, each folder is read once."""
    content = b"".join(path.read_bytes() for path in sorted(folder.glob("*.py")))
    return hashlib.sha256(content).hexdigest()[:12]


@functools.cache
def _safe(folder: Path, source: Path) -> bool:
    """Whether nobody else can put files into the folder of a cache, as numba runs what it finds there.

    Root and the owner of the kernels are trusted.
    """
    if folder.parent == source.parent:
        return True
    if place := exchangeable(folder, source.stat().st_uid):
        _log.warning(
            "compiling in every process anew (others can write to %s, and files in a cache are run); "
            "NUMBA_CACHE_DIR can name a folder of this user alone",
            place,
        )
    return place is None


def kept_on_disk(function: Function, compile_it: Callable[..., Any]) -> Any:
    """Compile `function` by numba's decorator `compile_it`, and keep the result on disk if possible.

    numba renews its cache only when the file of a kernel changes. The digest in the name renews it when any file of the
    folder changes, because kernels call each other and share constants.
    """
    function.__qualname__ += f"-{sources_digest(Path(inspect.getfile(function)).parent)}"
    try:
        kept = compile_it(cache=True)(function)
    except RuntimeError as error:  # neither the package's folder nor the user's is writable
        _log.warning("compiling in every process anew (%s); NUMBA_CACHE_DIR can name a writable folder", error)
        return compile_it()(function)
    folder = getattr(kept, "stats", None) and kept.stats.cache_path  # the simulator of CUDA keeps nothing
    return kept if not folder or _safe(Path(folder), Path(inspect.getfile(function))) else compile_it()(function)


def compiled(function: Function) -> Function:
    """Compile `function` with numba for the CPU, with fast floating point and without the GIL."""
    compile_it = functools.partial(numba.njit, fastmath=True, error_model="numpy", nogil=True)
    dispatcher: Function = kept_on_disk(function, compile_it)
    return dispatcher
