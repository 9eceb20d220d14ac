"""Functions as machine code that runs outside the interpreter lock: the only file that knows Numba."""

import hashlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba

from models.cache_directory import can_write, writable_directory

logger = logging.getLogger(__name__)

F = TypeVar("F", bound=Callable[..., Any])

#: What lets sums be vectorised; infinities and NaN keep their meaning.
_FAST_SUMS = {"reassoc", "contract", "arcp", "nsz"}


def compiled(function: F) -> F:
    """Return the function as machine code: compiled on its first call, then kept on disk.

    It may use numbers, NumPy arrays, NamedTuples of them, and other compiled functions.
    """
    return cast(F, numba.njit(cache=_is_kept, nogil=True)(function))


def compiled_with_fast_sums(function: F) -> F:
    """Return what `compiled` does, several numbers at once: sums of floats may be added up in any order.

    What is divided by 0 is infinite or NaN, and no ZeroDivisionError.
    """
    return cast(F, _with_fast_sums(function))


def compiled_within(function: F) -> F:
    """Return what `compiled_with_fast_sums` does, as a part of each compiled function that calls it.

    So there is one machine code of the whole, whether it was compiled just now or kept on disk. Otherwise a
    process that compiles links the caller to the parts compiled by themselves, and one that reads it from
    disk to those kept with the caller, whose sums may round otherwise.
    """
    return cast(F, _with_fast_sums(function, forceinline=True))


def _with_fast_sums(function: F, **options: bool) -> Any:
    compiler = numba.njit(cache=_is_kept, nogil=True, fastmath=_FAST_SUMS, error_model="numpy", **options)
    return compiler(function)


def _keep_code_by_its_sources() -> None:
    """Have Numba keep the code of different sources apart.

    By itself it compiles a function again when the function's own file changes, but not when that of a
    function or number used in it does; these may come from anywhere in models/.
    Where it cannot be kept beside the sources, it is in this user's cache, or in a temporary directory.
    """
    folder = Path(__file__).parent
    state = hashlib.sha256(b"\0".join(path.read_bytes() for path in sorted(folder.rglob("*.py"))))
    kept = Path(numba.config.CACHE_DIR or folder / "__pycache__")
    if not can_write(kept):
        kept = writable_directory("compiled")
    numba.config.CACHE_DIR = str(kept / f"compiled-{state.hexdigest()[:12]}")


try:
    _keep_code_by_its_sources()
    _is_kept = True
except FileNotFoundError as error:  # nothing can be written at all, not even temporary files
    _is_kept = False
    logger.warning("compiled code cannot be kept, so every start compiles it: %s", error)
