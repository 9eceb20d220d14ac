"""Arrays that lie in files, mapped into memory: what is read of them comes there, and can be let go."""

import mmap
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def map_array(path: Path, kind: np.dtype[Any]) -> NDArray[Any]:
    """Return what a file holds as an array (N,); ValueError where it is not a whole number of values.

    What is written to the array never gets into the file.
    """
    if not path.stat().st_size:
        return np.zeros(0, kind)
    with path.open("rb") as file:
        return np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY), kind)


def release(arrays: Iterable[NDArray[Any]]) -> None:
    """Let go of the memory of arrays of `map_array`, until they are read again; of others nothing happens."""
    for array in arrays:
        owner = array.base.obj if isinstance(array.base, memoryview) else None
        if isinstance(owner, mmap.mmap):
            owner.madvise(mmap.MADV_DONTNEED)
