"""The rows of a behaviour log as Kafka messages, whole columns at a time."""

from collections.abc import Callable, Iterable
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from models.log.behaviour_log import BehaviourLog
from models.log.event_ids import EventIds
from replay.disturbances import HOT_USER

#: Key, value and record timestamp (epoch ms).
ReplayMessage = tuple[bytes, bytes, int]

#: Texts of Arrow that may be longer than 2 GiB together.
TEXT = pa.large_string()
#: The two digits of each byte.
_DIGITS = np.frombuffer(b"".join(b"%02x" % byte for byte in range(256)), np.uint16)
_EVENT_ID = np.frombuffer(b'{"event_id":"', np.uint8)


class MessageSource:
    """Makes the message of each row; what is the same for rows with the same string is made once."""

    def __init__(self, log: BehaviourLog, ids: EventIds | None = None) -> None:
        self.log, self._ids = log, ids or EventIds(log)
        users = [*log.user.values, HOT_USER]
        self._keys = np.array([text.encode() for text in users], dtype=object)
        self._users = _pieces(users, '","user_id":{},'.format)
        self._items = _pieces(log.item.values, '"item_id":{},"behavior_type":'.format)
        self._behaviours = pa.array([f'{number},"user_geohash":' for number in range(256)], TEXT)
        self._geohashes = _pieces(log.geohash.values, str)
        self._categories = _pieces(log.category.values, ',"item_category":{},"time":'.format)

    def messages(self, rows: slice) -> list[ReplayMessage]:
        """Return the messages of these rows."""
        time_ms = self.log.time_ms[rows]
        keys, values = self.records(np.arange(len(self.log))[rows], time_ms)
        return list(zip(keys, values, time_ms.tolist(), strict=True))

    def records(
        self,
        rows: NDArray[np.int64],
        time_ms: NDArray[np.int64],
        lap: int = 0,
        is_hot: NDArray[np.bool_] | None = None,
    ) -> tuple[list[bytes], list[bytes]]:
        """Return the keys and the values of these rows' messages.

        rows (R,); time_ms (R,) the time that each is to have; lap: how often the log was sent before, which
        makes other events of the same rows; is_hot (R,) True where the user is to be HOT_USER.
        """
        log, user = self.log, self.log.user.codes[rows]
        if is_hot is not None:
            user = np.where(is_hot, len(self._keys) - 1, user)
        joined = pc.binary_join_element_wise(
            *self._event_ids(rows, lap),
            self._users.take(pa.array(user)),
            self._items.take(pa.array(log.item.codes[rows])),
            self._behaviours.take(pa.array(log.behaviour[rows])),
            self._geohashes.take(pa.array(log.geohash.codes[rows])),
            self._categories.take(pa.array(log.category.codes[rows])),
            pa.array(time_ms).cast(TEXT),
            *(pa.scalar(text, TEXT) for text in ("}", "")),
        )
        return self._keys[user].tolist(), joined.cast(pa.large_binary()).to_pylist()

    def _event_ids(self, rows: NDArray[np.int64], lap: int) -> list[Any]:
        """Return the beginnings of values (R,), up to the end of the event id, as texts to be joined."""
        hashed, copy = self._ids.parts(rows)
        width = len(_EVENT_ID) + 16
        text = np.empty((len(rows), width), np.uint8)
        text[:, : len(_EVENT_ID)] = _EVENT_ID
        digits = _DIGITS[hashed.astype(">u8").view(np.uint8)]
        text[:, len(_EVENT_ID) :] = digits.view(np.uint8).reshape(len(rows), 16)
        ends = np.arange(0, width * len(rows) + 1, width)
        first = pa.LargeStringArray.from_buffers(len(rows), pa.py_buffer(ends), pa.py_buffer(text))
        of_lap = f".{lap}" if lap else ""
        if not copy.any():
            return [first, pa.scalar(of_lap, TEXT)] if lap else [first]
        return [first, pa.array([(f"-{each}" if each else "") + of_lap for each in copy.tolist()], TEXT)]


def _pieces(texts: Iterable[str], piece: Callable[[str], str]) -> Any:
    """Return the piece of a value that each text's JSON makes."""
    encode = msgspec.json.Encoder().encode
    return pa.array([piece(encode(text).decode()) for text in texts], TEXT)
