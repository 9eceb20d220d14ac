"""Functions as machine code that runs outside the interpreter lock: the only file that knows Numba."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., Any])

#: What lets sums be vectorised; infinities and NaN keep their meaning.
_FAST_SUMS = {"reassoc", "contract", "arcp", "nsz"}


def compiled(function: F) -> F:
    """Return the function as machine code: compiled on its first call, then kept on disk.

    It may use numbers, NumPy arrays, NamedTuples of them, and other compiled functions.
    """
    return cast(F, numba.njit(cache=True, nogil=True)(function))


def compiled_with_fast_sums(function: F) -> F:
    """Return what `compiled` does, several numbers at once: sums of floats may be added up in any order.

    What is divided by 0 is infinite or NaN, and no ZeroDivisionError.
    """
    return cast(F, numba.njit(cache=True, nogil=True, fastmath=_FAST_SUMS, error_model="numpy")(function))


def _keep_code_by_its_sources() -> None:
    """Have Numba keep the code of different sources apart.

    By itself it compiles a function again when the function's own file changes, but not when that of a
    function or number used in it does; these may come from anywhere in models/.
    """
    folder = Path(__file__).parent
    state = hashlib.sha256(b"\0".join(path.read_bytes() for path in sorted(folder.rglob("*.py"))))
    kept = Path(numba.config.CACHE_DIR or folder / "__pycache__")
    numba.config.CACHE_DIR = str(kept / f"compiled-{state.hexdigest()[:12]}")


_keep_code_by_its_sources()
