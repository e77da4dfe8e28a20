"""Compiling kernels with numba."""

import functools
import hashlib
import inspect
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numba

Function = TypeVar("Function", bound=Callable[..., Any])
_log = logging.getLogger(__name__)


@functools.cache
def _sources(folder: Path) -> str:
    content = b"".join(path.read_bytes() for path in sorted(folder.glob("*.py")))
    return hashlib.sha256(content).hexdigest()[:12]


def compiled(function: Function) -> Function:
    """Compile `function` with numba: fast floating point, kept on disk, and without the GIL while it runs.

    numba's cache on disk looks at the file of a kernel alone. The digest in the name renews it when any file of its
    folder has changed, for kernels call each other.
    """
    function.__qualname__ += f"-{_sources(Path(inspect.getfile(function)).parent)}"
    compile_it = functools.partial(numba.njit, fastmath=True, error_model="numpy", nogil=True)
    try:
        dispatcher: Function = compile_it(cache=True)(function)
    except RuntimeError as error:  # neither the package's folder nor the user's is writable
        _log.warning("compiling in every process anew (%s); NUMBA_CACHE_DIR can name a writable folder", error)
        dispatcher = compile_it()(function)
    return dispatcher
