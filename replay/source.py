"""The rows of a behaviour log as Kafka messages."""

from datetime import UTC, datetime

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.errors import DataError
from models.log.behaviour_log import BehaviourLog, Column
from models.log.event_ids import EventIds

#: Key, value and record timestamp (epoch ms).
ReplayMessage = tuple[bytes, bytes, int]


def choose_rows(
    log: BehaviourLog, first: datetime | None, end: datetime | None, limit: int | None
) -> BehaviourLog:
    """Return the rows from `first` on and before `end` (UTC), in time order, the first `limit` of them."""
    ordered = log.in_time_order()
    low, high = (
        len(log) * default if moment is None else int(np.searchsorted(ordered.time_ms, _epoch_ms(moment)))
        for moment, default in ((first, 0), (end, 1))
    )
    if limit is not None:
        high = min(high, low + limit)
    if low >= high:
        raise DataError(
            f"{log.path}: no rows in the time asked for; the file covers "
            f"{_text(ordered.time_ms[0])} to {_text(ordered.time_ms[-1])}: change --from, --until"
        )
    return ordered.select(np.arange(low, high))


def _epoch_ms(moment: datetime) -> int:
    return round(moment.replace(tzinfo=UTC).timestamp() * 1_000)


def _text(time_ms: np.int64) -> str:
    return f"{datetime.fromtimestamp(int(time_ms) / 1_000, UTC):%Y-%m-%d %H:%M:%S}"


class MessageSource:
    """Makes the message of each row; the JSON of each distinct string is made once."""

    def __init__(self, log: BehaviourLog) -> None:
        self.log, self._ids = log, EventIds(log)
        self._keys = np.array([text.encode() for text in log.user.values], dtype=object)
        self._users, self._items = _as_json(log.user), _as_json(log.item)
        self._geohashes, self._categories = _as_json(log.geohash), _as_json(log.category)

    def messages(self, rows: slice) -> list[ReplayMessage]:
        """Return the messages of these rows."""
        log = self.log
        columns = (
            self._keys[log.user.codes[rows]],
            self._ids.of(rows),
            self._users[log.user.codes[rows]],
            self._items[log.item.codes[rows]],
            log.behaviour[rows].tolist(),
            self._geohashes[log.geohash.codes[rows]],
            self._categories[log.category.codes[rows]],
            log.time_ms[rows].tolist(),
        )
        return [
            (
                key,
                f'{{"event_id":"{event_id}","user_id":{user},"item_id":{item},"behavior_type":{behaviour},'
                f'"user_geohash":{geohash},"item_category":{category},"time":{time_ms}}}'.encode(),
                time_ms,
            )
            for key, event_id, user, item, behaviour, geohash, category, time_ms in zip(*columns, strict=True)
        ]


def _as_json(column: Column) -> NDArray[np.object_]:
    return np.array([msgspec.json.encode(text).decode() for text in column.values], dtype=object)
