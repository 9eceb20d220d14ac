"""Encoding and writing in turns that overlap: one batch is encoded while the one before is written."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TypeVar

T = TypeVar("T")


class Overlap:
    """Lets one batch be encoded and one be written at a time, in the same order; used from the event loop."""

    def __init__(self) -> None:
        self._encoding = asyncio.Lock()
        self._writing = asyncio.Lock()

    async def take(
        self, encode: Callable[[], Awaitable[T | None]], write: Callable[[T], Awaitable[None]]
    ) -> bool:
        """Encode once the batch before is encoded, write once it is written; return whether there was any."""
        await self._encoding.acquire()
        try:
            encoded = await encode()
            if encoded is None:
                return False
            # Held until the next lock is: nobody who encodes later writes earlier.
            await self._writing.acquire()
        finally:
            self._encoding.release()
        try:
            await write(encoded)
            return True
        finally:
            self._writing.release()

    @asynccontextmanager
    async def alone(self, patience_s: float | None = None) -> AsyncIterator[None]:
        """Wait until what was begun is written, and have both turns.

        Raises TimeoutError where that takes longer than `patience_s`.
        """
        async with AsyncExitStack() as stack:
            async with asyncio.timeout(patience_s):
                await stack.enter_async_context(self._encoding)
                await stack.enter_async_context(self._writing)
            yield

    async def written(self) -> None:
        """Wait until what was begun is written."""
        async with self.alone():
            pass
