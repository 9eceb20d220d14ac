"""The job of every peer: keep each user's last events, by the same rule as Twintide.

Written as well as an event at a time can be: a MessagePack struct per user, read and written by msgspec. Runs
in the peers' own environments: it needs `models`, msgspec and xxhash, and nothing else.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from models.events import event_hash
from models.windows.reference import IncomingEvent, fold
from models.windows.window import Window, WindowSettings

#: What a window keeps: 110 events within 30 days.
LIMITS = WindowSettings()

#: Seconds between two commits; Twintide's default, where Faust's is 2.8 and Quix Streams' 5.
COMMIT_INTERVAL_S = 1.0


@dataclass(frozen=True, slots=True)
class Job:
    """Where a peer reads, and where it leaves its state and its marks."""

    bootstrap_servers: str
    #: Consumer group; the peer's other names come from it.
    group: str
    topic: str
    partitions: int
    directory: Path

    @property
    def environment(self) -> dict[str, str]:
        """Return the variables that `from_environment` reads."""
        return {f"BENCH_{name.upper()}": str(getattr(self, name)) for name in self.__slots__}

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Job":
        """Return the job that the BENCH_* variables describe."""
        return cls(
            environment["BENCH_BOOTSTRAP_SERVERS"],
            environment["BENCH_GROUP"],
            environment["BENCH_TOPIC"],
            int(environment["BENCH_PARTITIONS"]),
            Path(environment["BENCH_DIRECTORY"]),
        )

    def mark(self, name: str) -> None:
        """Leave the time now, on the monotonic clock that all processes of a machine share."""
        partial = self.directory / f".{name}"
        partial.write_text(repr(time.monotonic()))
        partial.rename(self.directory / name)

    def marked_at(self, name: str) -> float | None:
        """Return the time of a mark, None where it is not there yet."""
        path = self.directory / name
        return float(path.read_text()) if path.exists() else None


def fold_event(value: bytes | None, event: Mapping[str, Any]) -> bytes:
    """Return the user's window with this event folded in; None is a user's first event."""
    window = Window() if value is None else window_from_msgpack(value)
    incoming = IncomingEvent(
        window.offset + 1,  # peers only trust their state store; all they need is the order of arrival
        event["time"],
        event["behavior_type"],
        event["item_id"],
        event["item_category"],
        event_hash(event["event_id"]),
    )
    fold(window, incoming, "", 0, LIMITS)
    return window_to_msgpack(window)


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Window)


def window_to_msgpack(window: Window) -> bytes:
    """Return the window as MessagePack, the value that a peer keeps."""
    return _encoder.encode(window)


def window_from_msgpack(value: bytes) -> Window:
    """Return the window of `window_to_msgpack`."""
    return _decoder.decode(value)
