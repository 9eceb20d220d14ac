"""A read as a conversation with Redis, whoever does the talking: one that blocks, or one for asyncio."""

from collections.abc import Callable, Generator, Sequence
from typing import Generic, TypeVar

#: The values of some fields of a HASH, in order; None where there is none.
Fields = Sequence[bytes | None]
#: Key and fields of one HMGET.
Ask = tuple[str, Sequence[str]]

T = TypeVar("T")
#: Yields what to ask for in one round trip, is sent the answers, returns a T.
Steps = Generator[list[Ask], list[Fields], T]


class Exchange(Generic[T]):
    """Drives Steps: answer `asks` until there are none; then there is the `result`."""

    result: T

    def __init__(self, steps: Steps[T]) -> None:
        self._steps = steps
        #: What to ask Redis for in the next round trip.
        self.asks: list[Ask] = []
        self._advance(lambda: next(steps))

    def answer(self, answers: list[Fields]) -> None:
        """Take the answers to `asks`, in order."""
        self._advance(lambda: self._steps.send(answers))

    def _advance(self, step: Callable[[], list[Ask]]) -> None:
        try:
            self.asks = step()
        except StopIteration as finished:
            self.asks, self.result = [], finished.value
