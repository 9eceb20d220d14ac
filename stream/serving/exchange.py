"""A read as a conversation with Redis, whoever does the talking: one that blocks, or one for asyncio."""

from collections.abc import Callable, Generator, Sequence
from typing import Generic, TypeVar

#: The values of some fields of a HASH, in order; None where there is none.
Fields = Sequence[bytes | None]
#: Key and fields of one HMGET.
Ask = tuple[str, Sequence[str]]

T = TypeVar("T")
#: Yields what to ask for in one round trip and is sent the answers, or seconds to wait; returns a T.
Steps = Generator[list[Ask] | float, list[Fields], T]


class Exchange(Generic[T]):
    """Drives Steps: wait `pause_s` and answer `asks`, until there are none; then there is the `result`."""

    result: T

    def __init__(self, steps: Steps[T]) -> None:
        self._steps = steps
        #: What to ask Redis for in the next round trip.
        self.asks: list[Ask] = []
        #: Seconds to wait before that.
        self.pause_s = 0.0
        self._advance(lambda: next(steps))

    def answer(self, answers: list[Fields]) -> None:
        """Take the answers to `asks`, in order."""
        self._advance(lambda: self._steps.send(answers))

    def _advance(self, step: Callable[[], list[Ask] | float]) -> None:
        self.pause_s = 0.0
        try:
            found = step()
            while not isinstance(found, list):
                self.pause_s += found
                found = next(self._steps)
            self.asks = found
        except StopIteration as finished:
            self.asks, self.result = [], finished.value
