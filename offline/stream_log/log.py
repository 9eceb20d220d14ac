"""A deployment's changelog -> a behaviour log: every user's last events, without duplicates."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from models.errors import DataError
from models.log.behaviour_log import BehaviourLog, Column
from models.log.times import precision_of
from offline.stream_log.changelog import Windows, read_changelog
from offline.stream_log.rows import WindowRows, rows_of
from stream.kafka.topics import changelog_topic
from stream.settings import Settings

#: Windows that are read together (bytes).
PORTION_BYTES = 16 << 20


def read_stream_log(settings: Settings) -> BehaviourLog:
    """Return what the workers of a deployment keep of every user: exactly what they encode.

    A forgotten user is not in it. Raises TwintideError where there is no changelog, or nothing in it.
    """
    topic = changelog_topic(settings.app_id)
    return log_of_windows(read_changelog(settings.kafka, topic), f"topic {topic}")


def log_of_windows(windows: Windows, source: str) -> BehaviourLog:
    """Return the events of windows, which are taken out of `windows` meanwhile, user by user, each in order.

    The same windows give the same log and fingerprint in whatever order they were read. `source` says in
    messages where they come from. Raises DataError where there is no event, and WindowError.
    """
    users: dict[str, int] = {}
    partitions: dict[str, int] = {}
    parts, codes = [], []
    for places, values in _portions(windows):
        parts.append(rows_of([key for _, key in places], values))
        user_ids = [_user_id(key, source) for _, key in places]
        partitions |= zip(user_ids, (partition for partition, _ in places), strict=True)
        numbers = [users.setdefault(user_id, len(users)) for user_id in user_ids]
        codes.append(np.repeat(np.array(numbers, np.int32), parts[-1].counts))
    if not sum(map(len, codes)):
        raise DataError(f"{source}: no user has an event there yet; start a worker, and send events")
    log = _log(source, Column(np.concatenate(codes), np.array(list(users), object)), parts)
    return replace(log, partition=np.array([partitions[user_id] for user_id in users], np.int64))


def _portions(windows: Windows) -> Iterator[tuple[list[tuple[int, bytes]], list[bytes]]]:
    """Yield places and values by user, some megabytes of them at a time, and take them out."""
    places: list[tuple[int, bytes]] = []
    values: list[bytes] = []
    size = 0
    for place in sorted(windows, key=lambda each: (each[1], each[0])):
        places.append(place)
        values.append(windows.pop(place))
        size += len(values[-1])
        if size >= PORTION_BYTES:
            yield places, values
            places, values, size = [], [], 0
    if places:
        yield places, values


def _user_id(key: bytes, source: str) -> str:
    user_id = key.decode(errors="replace")
    if not user_id or user_id.encode() != key:
        raise DataError(
            f"{source}: a record's key, {key[:60]!r}, is no user id: it is no changelog of windows"
        )
    return user_id


def _log(path: str, user: Column, parts: list[WindowRows]) -> BehaviourLog:
    time_ms = np.concatenate([part.time_ms for part in parts])
    return BehaviourLog(
        path=path,
        fingerprint=f"{sum(part.digest for part in parts) % 2**64:016x}"[:12],
        precision_ms=precision_of(time_ms),
        user=user,
        item=_column([part.item for part in parts]),
        category=_column([part.category for part in parts]),
        geohash=Column(np.zeros(len(time_ms), np.int32), np.array([""], object)),
        behaviour=np.concatenate([part.behaviour for part in parts]),
        time_ms=time_ms,
        line=np.arange(1, len(time_ms) + 1),
    )


def _column(parts: list[Any]) -> Column:
    """Return dictionary arrays, one behind the other, as one column."""
    chunks = pa.chunked_array(parts).unify_dictionaries().chunks
    codes = np.concatenate([np.from_dlpack(chunk.indices) for chunk in chunks])
    return Column(codes, np.array(chunks[0].dictionary.to_pylist(), dtype=object))
