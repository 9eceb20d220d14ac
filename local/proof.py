"""Does what stands in Redis follow from what stands on the topic? Asked of the servers, not of the worker.

Published is the topic's number of records. What became of them is summed from the state that the changelog
holds (every window counts what was folded into it) and from the dead-letter topic. Every user's window is
made once more from the topic alone, by definition instead of by folding, encoded as one batch, and compared
with the vector that a ranker would read.
"""

import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec
import numpy as np
import redis
from confluent_kafka import Message

from models.artifact.artifact import Artifact
from models.errors import TwintideError
from models.events import BEHAVIOURS, MAX_AHEAD_MS, Event, event_hash
from models.towers.histories import histories_of_windows
from models.windows.window import Window, WindowSettings, window_from_bytes, window_to_bytes
from stream.kafka.group import committed_offsets
from stream.kafka.topic_reader import read_all
from stream.kafka.topics import end_offsets
from stream.serving.reader import Reader
from stream.settings import Settings

#: Largest difference between a streamed and a batch-encoded vector that counts as equal.
TOLERANCE = 1e-4


@dataclass(frozen=True, slots=True)
class Proof:
    """What was found; `is_ok` is the verdict."""

    published: int
    applied: int
    duplicate: int
    late: int
    malformed: int
    vectors: int
    max_difference: float
    #: What contradicts the guarantee, empty where nothing does.
    complaint: str = ""

    @property
    def is_ok(self) -> bool:
        """Return whether everything published is accounted for and every vector is right."""
        return not self.complaint

    def __str__(self) -> str:
        return (
            f"proof: published={self.published} applied={self.applied} duplicate={self.duplicate} "
            f"late={self.late} malformed={self.malformed} vectors={self.vectors} "
            f"max_difference={self.max_difference:.1e} {'OK' if self.is_ok else 'FAILED'}"
        )


def wait_until_committed(settings: Settings, timeout_s: float) -> None:
    """Return when the worker's group has committed the end of every partition of the topic."""
    deadline = time.monotonic() + timeout_s
    while True:
        committed = committed_offsets(settings.kafka, settings.app_id, settings.topic)
        ends = end_offsets(settings.kafka, settings.topic)
        behind = sum(max(end - committed.get(partition, 0), 0) for partition, end in ends.items())
        if not behind:
            return
        if time.monotonic() > deadline:
            raise TwintideError(
                f"{behind} events were not committed after {timeout_s:g} s: see the worker's log"
            )
        time.sleep(0.2)


def prove(settings: Settings, artifact: Artifact, client: "redis.Redis", published: int) -> Proof:
    """Compare topic, changelog, dead letters and Redis; `published` is what the producers say they sent."""
    records, windows = _reference(settings, artifact.settings.window)
    stored = _stored_windows(settings)
    malformed = len(
        {(_header(each, "partition"), _header(each, "offset")) for each in dead_letters(settings)}
    )
    applied, duplicate, late = (
        sum(getattr(window, name) for window in stored.values()) for name in ("applied", "duplicate", "late")
    )
    difference, complaint = _compare(settings, artifact, client, windows)
    complaint = _compare_windows(stored, windows) or complaint
    if records != published:
        complaint = f"{published} events were published, the topic holds {records}"
    elif published != applied + duplicate + late + malformed:
        complaint = f"{published} published, {applied + duplicate + late + malformed} accounted for"
    return Proof(published, applied, duplicate, late, malformed, len(windows), difference, complaint)


def _compare_windows(stored: dict[bytes, Window], windows: dict[str, Window]) -> str:
    """Return which window of the changelog is not what the topic's events make it; empty if none."""
    for user_id, expected in windows.items():
        found = stored.get(user_id.encode())
        if found is None:
            return f"the changelog has no window of user {user_id!r}"
        for column in ("times_ms", "behaviours", "item_ids", "categories"):
            if getattr(found, column) != getattr(expected, column):
                return f"the {column} in the window of user {user_id!r} are wrong"
    return ""


def _compare(
    settings: Settings, artifact: Artifact, client: "redis.Redis", windows: dict[str, Window]
) -> tuple[float, str]:
    user_ids = sorted(windows)
    histories = histories_of_windows(
        [window_to_bytes(windows[user_id]) for user_id in user_ids], artifact.vocabulary
    )
    expected = artifact.encode(histories).user
    found = Reader(client, key_prefix=settings.key_prefix, model=artifact.version).read(user_ids)
    missing = [each.user_id for each in found if each.reason]
    if missing:
        return float("inf"), f"{len(missing)} users have no vector of this model, {missing[0]!r} first"
    differences = (
        np.abs(np.stack([each.vec for each in found]) - expected).max(axis=1) if found else np.zeros(1)
    )
    worst = int(differences.argmax())
    if not differences[worst] <= TOLERANCE:
        return float(differences[worst]), f"the vector of user {user_ids[worst]!r} is wrong"
    return float(differences[worst]), ""


def _reference(settings: Settings, limits: WindowSettings) -> tuple[int, dict[str, Window]]:
    """Return the number of records on the topic, and every user's window by its definition."""
    decoder = msgspec.json.Decoder(Event)
    records = 0
    events: dict[str, list[tuple[int, int, Event]]] = defaultdict(list)
    for message in read_all(settings.kafka, settings.topic):
        records += 1
        try:
            event = decoder.decode(message.value() or b"")
        except msgspec.MsgspecError:
            continue
        latest_ms = time.time() * 1000 + MAX_AHEAD_MS
        is_sound = event.behavior_type in BEHAVIOURS and event.item_id != "" and 0 < event.time <= latest_ms
        if is_sound and message.key() == str(event.user_id).encode():
            events[str(event.user_id)].append((event.time, message.offset(), event))
    return records, {user_id: _window(of_user, limits) for user_id, of_user in events.items()}


def _window(of_user: list[tuple[int, int, Event]], limits: WindowSettings) -> Window:
    """Return the last events within the horizon, each event id once, by (time, offset)."""
    first_by_id: dict[str, tuple[int, int, Event]] = {}
    for time_ms, offset, event in sorted(of_user, key=lambda each: each[1]):
        event_id = str(event.event_id) if event.event_id is not None else f"at {offset}"
        first_by_id.setdefault(event_id, (time_ms, offset, event))
    ordered = sorted(first_by_id.values(), key=lambda each: each[:2])
    kept = [each for each in ordered if each[0] >= ordered[-1][0] - limits.horizon_ms][-limits.max_events :]
    return Window(
        times_ms=[time_ms for time_ms, _, _ in kept],
        behaviours=[event.behavior_type for _, _, event in kept],
        item_ids=[str(event.item_id) for _, _, event in kept],
        categories=[str(event.item_category) for _, _, event in kept],
        event_hashes=[event_hash(str(event.event_id)) for _, _, event in kept],
    )


def _stored_windows(settings: Settings) -> dict[bytes, Window]:
    """Return the last value of every key of the changelog."""
    changelog = f"{settings.app_id}-windows-changelog"
    values = {each.key(): each.value() for each in read_all(settings.kafka, changelog)}
    return {key: window_from_bytes(value) for key, value in values.items() if value is not None}


def dead_letters(settings: Settings) -> Iterator[Message]:
    for message in read_all(settings.kafka, settings.dead_letter_topic):
        if _header(message, "topic") == settings.topic.encode():
            yield message


def _header(message: Message, name: str) -> bytes:
    headers: dict[str, bytes] = dict(message.headers() or ())
    return headers.get(name, b"")
