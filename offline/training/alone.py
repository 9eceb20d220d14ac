"""One process at a time works on a training or a search: two would replace and remove each other's files."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from models.errors import TwintideError


@contextmanager
def alone(state: Path) -> Iterator[None]:
    """Keep others meanwhile from what is kept in this file and beside it.

    TwintideError where another process is at it; one that is killed gives its turn back.
    """
    file = state.with_name(f".lock{state.name}")
    while True:
        with file.open("w") as lock:
            _lock(lock.fileno(), state)
            if os.fstat(lock.fileno()).st_nlink:  # else it was removed by who had it until now
                try:
                    yield
                finally:
                    file.unlink(missing_ok=True)
                return


def _lock(descriptor: int, state: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise TwintideError(
            f"{state}: another process does just this, of the same log and with the same settings: wait for "
            "it, or stop it and start again, which goes on where it was"
        ) from error
    except OSError:  # a file system without locks: then two are not kept apart
        pass
