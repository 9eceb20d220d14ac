"""A lock that many hold together to read, and one alone to write."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition


class SharedLock:
    """Readers come in together; a writer waits until they have left, and those that come then wait for it."""

    def __init__(self) -> None:
        self._condition = Condition()
        self._readers = 0
        self._is_writing = False

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Hold it beside other readers."""
        with self._condition:
            self._condition.wait_for(lambda: not self._is_writing)
            self._readers += 1
        try:
            yield
        finally:
            with self._condition:
                self._readers -= 1
                self._condition.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold it alone."""
        with self._condition:
            self._condition.wait_for(lambda: not self._is_writing)
            self._is_writing = True
            self._condition.wait_for(lambda: not self._readers)
        try:
            yield
        finally:
            with self._condition:
                self._is_writing = False
                self._condition.notify_all()
