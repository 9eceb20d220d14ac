"""Functions as machine code that runs outside the interpreter lock: the only file that knows Numba."""

import hashlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

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


def compiled_in_place(function: F) -> F:
    """Return what `compiled_with_fast_sums` does; it makes no array, and whoever calls it holds those given.

    So nothing counts references to them, which for a tuple of arrays takes longer than many a loop.
    """
    return cast(F, _with_fast_sums(function, _nrt=False))


def compiled_within(function: F) -> F:
    """Return what `compiled_in_place` does, as a part of each compiled function that calls it.

    So there is one machine code of the whole, whether it was compiled just now or kept on disk. Otherwise a
    process that compiles links the caller to the parts compiled by themselves, and one that reads it from
    disk to those kept with the caller, whose sums may round otherwise.
    """
    return cast(F, _with_fast_sums(function, forceinline=True, _nrt=False))


def _with_fast_sums(function: F, **options: bool) -> Any:
    compiler = numba.njit(cache=_is_kept, nogil=True, fastmath=_FAST_SUMS, error_model="numpy", **options)
    return compiler(function)


def must_compile(function: Callable[..., Any]) -> bool:
    """Return whether a compiled function has to be compiled, and can then be kept: nothing of it is."""
    name, folder = cast(Any, function).py_func.__qualname__, cast(Any, function).stats.cache_path
    return bool(folder) and not any(Path(folder).glob(f"*.{name}-*.nbi"))


@intrinsic  # type: ignore[untyped-decorator]
def copy_to(typing_context: Any, target: Any, source: Any, count: Any) -> Any:
    """Copy so many bytes from one address to another, which compiled code alone may do."""

    def copy(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        byte = ir.IntType(8).as_pointer()
        places = [builder.inttoptr(each, byte) for each in arguments[:2]]
        cgutils.raw_memcpy(builder, *places, arguments[2], 1)
        return context.get_dummy_value()

    return types.void(types.uint64, types.uint64, types.int64), copy


@intrinsic  # type: ignore[untyped-decorator]
def word_at(typing_context: Any, address: Any) -> Any:
    """Return the 64 bits at an address as a signed number, which compiled code alone may call."""

    def load(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load(builder.inttoptr(arguments[0], ir.IntType(64).as_pointer()))

    return types.int64(types.uint64), load


@intrinsic  # type: ignore[untyped-decorator]
def fetch_line(typing_context: Any, address: Any) -> Any:
    """Have the CPU begin to read what is at an address, if anything is; compiled code alone may do so."""

    def fetch(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
        function = builder.module.declare_intrinsic("llvm.prefetch", [byte], kind)
        for_reading, near, data = number(0), number(3), number(1)
        builder.call(function, [builder.inttoptr(arguments[0], byte), for_reading, near, data])
        return context.get_dummy_value()

    return types.void(types.uint64), fetch


@intrinsic  # type: ignore[untyped-decorator]
def call_at(typing_context: Any, function: Any, arguments: Any) -> Any:
    """Return what a C function at an address returns, as 64 bits; of an int only the lower 32 mean something.

    arguments: a tuple of pointers and numbers. Compiled code alone may call it.
    """

    def call(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        kind = ir.FunctionType(ir.IntType(64), [ir.IntType(64)] * arguments.count)
        pointers = cgutils.unpack_tuple(builder, given[1], arguments.count)
        return builder.call(builder.inttoptr(given[0], kind.as_pointer()), pointers)

    return types.uint64(types.uint64, arguments), call


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
