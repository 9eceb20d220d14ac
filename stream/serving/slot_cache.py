"""Slots that were read a moment ago."""

from collections.abc import Callable, Iterable, Mapping
from threading import Lock

from cachetools import TTLCache

from stream.serving.exchange import Fields


class SlotCache:
    """Slots of one version, by key; may be used from several threads."""

    def __init__(self, users: int, seconds: float, timer: Callable[[], float]) -> None:
        self._slots: TTLCache[str, Fields] = TTLCache(users, seconds, timer)
        self._version = ""
        self._lock = Lock()

    def get(self, keys: Iterable[str]) -> tuple[str, dict[str, Fields]]:
        """Return what is kept of these keys, and its version."""
        if not self._slots.maxsize:
            return "", {}
        with self._lock:
            found = {key: self._slots.get(key) for key in keys}
            return self._version, {key: slot for key, slot in found.items() if slot is not None}

    def drop(self, keys: Iterable[str]) -> None:
        """Forget these."""
        with self._lock:
            for key in keys:
                self._slots.pop(key, None)

    def put(self, version: str, slots: Mapping[str, Fields]) -> None:
        """Keep these; what is kept of another version is dropped."""
        with self._lock:
            if self._version != version:
                self._slots.clear()
                self._version = version
            if self._slots.maxsize:
                self._slots.update(slots)
