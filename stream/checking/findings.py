"""What a worker would make of a sample of records, by the worker's own rules."""

import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

from models.events import MAX_AHEAD_MS, SKIPPED_EVENT, Behaviour, Event
from models.log.sources import KeyPath
from stream.checking.given import Given
from stream.checking.sample import Part, PlacedRecord, Sample, parts_of
from stream.checking.times import TimeFindings, findings_of_times
from stream.events.columns import reason_refused
from stream.events.decoder import Decoder
from stream.events.format_decoder import json_paths
from stream.events.incoming import complaint, user_to_forget
from stream.kafka.partitioner import partition_of


@dataclass(slots=True)
class Findings:
    """What was found in the records of a sample."""

    #: What would become of them: applied, duplicate, skipped, dead letter, forget.
    outcomes: Counter[str] = field(default_factory=Counter)
    #: Dead letters by reason, and the first of each.
    reasons: Counter[str] = field(default_factory=Counter)
    examples: dict[str, PlacedRecord] = field(default_factory=dict)
    #: What the behaviours of events mean that are sound but for their key; the texts of those that mean
    #: nothing; of those that are skipped.
    behaviours: Counter[str] = field(default_factory=Counter)
    unknown: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)
    #: Events of each user.
    users: Counter[str] = field(default_factory=Counter)
    #: In which partitions each user's events are.
    places: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    #: A key that is not the user's, and whose event it is.
    wrong_key: tuple[bytes | None, str] | None = None
    #: Events whose key is right, but stand where the Java clients' partitioner does not put it.
    misplaced: int = 0
    #: Events that are sound but for their key, and have an id.
    with_id: int = 0
    times: TimeFindings | None = None
    #: The paths in the first JSON object, as a format names them.
    fields: tuple[str, ...] = ()

    @property
    def share(self) -> float:
        """Return how much would be applied of what is not to be skipped."""
        wanted = self.outcomes.total() - self.outcomes["skipped"] - self.outcomes["forget"]
        return self.outcomes["applied"] / wanted if wanted else 0.0


class Examination:
    """Takes the records of a sample, one by one."""

    def __init__(self, sample: Sample, reader: Given | None, are_keyed: bool) -> None:
        """are_keyed: whether the records' keys must be their users'."""
        self.findings = Findings()
        self._are_keyed = are_keyed
        self._partitions = len(sample.held)
        self._reader = reader
        self._latest_ms = int(time.time() * 1000) + MAX_AHEAD_MS
        self._ids: set[tuple[str, str, int]] = set()
        self._times: list[tuple[int, Any, int]] = []

    def take(self, record: PlacedRecord, event: Event | None) -> None:
        """Take the next record, and what the decoder made of it."""
        found, given = self.findings, self._reader and self._reader.given(record.value())
        if not found.fields:
            paths_in = self._reader.paths_in if self._reader else json_paths
            found.fields = tuple(paths_in(record.value()))
        if event is SKIPPED_EVENT:
            found.outcomes["skipped"] += 1
            found.skipped[given[0]["behaviour"] if given else ""] += 1
            return
        if event is not None and not reason_refused(event):
            self._times.append((event.time, given[1] if given else event.time, record.timestamp()[1]))
        reason = complaint(event, self._key(record, event), self._latest_ms)
        if reason in ("", "key") and event is not None:
            self._note_user(record, str(event.user_id), is_key_right=not reason)
            self._note_event(event)
        if not reason and event is not None:
            found.outcomes["duplicate" if self._is_known(event, record) else "applied"] += 1
        elif user_to_forget(record):
            found.outcomes["forget"] += 1
        else:
            self._reject(record, event, reason, given[0] if given else {})

    def finish(self) -> Findings:
        """Return what was found in all of them."""
        if self._times:
            self.findings.times = findings_of_times(*zip(*self._times, strict=True))
        return self.findings

    def _key(self, record: PlacedRecord, event: Event | None) -> bytes | None:
        """Return a record's key, or the one that it will have: the user's."""
        if self._are_keyed or event is None:
            return record.key()
        return str(event.user_id).encode(errors="replace")

    def _note_event(self, event: Event) -> None:
        self.findings.behaviours[Behaviour(event.behavior_type).name.lower()] += 1
        self.findings.with_id += event.event_id is not None

    def _is_known(self, event: Event, record: PlacedRecord) -> bool:
        """Return whether an event of this id and user was there before, and take note of it."""
        if event.event_id is None:
            return False
        number = record.number if isinstance(record, Part) else 0
        event_id = (str(event.user_id), str(event.event_id), number)
        is_known = event_id in self._ids
        self._ids.add(event_id)
        return is_known

    def _reject(self, record: PlacedRecord, event: Event | None, reason: str, given: dict[str, str]) -> None:
        found = self.findings
        found.outcomes["dead letter"] += 1
        found.reasons[reason] += 1
        found.examples.setdefault(reason, record)
        if reason == "behaviour" and event is not None:
            found.unknown[given.get("behaviour", str(event.behavior_type))] += 1
        if reason == "key" and event is not None and found.wrong_key is None:
            found.wrong_key = record.key(), str(event.user_id)

    def _note_user(self, record: PlacedRecord, user_id: str, *, is_key_right: bool) -> None:
        found = self.findings
        found.users[user_id] += 1
        found.places[user_id].add(record.partition())
        if is_key_right and self._are_keyed:
            found.misplaced += record.partition() != partition_of(user_id.encode(), self._partitions)


def examine(sample: Sample, decoder: Decoder, reader: Given | None, each_path: KeyPath = ()) -> Findings:
    """Return what a worker with this decoder would make of a sample's records.

    Where there is `each_path`, of the events into which `stream.rekey` takes them apart by it, and whose keys
    it makes.
    """
    examination = Examination(sample, reader, are_keyed=sample.is_topic and not each_path)
    records = parts_of(sample.records, each_path) if each_path else sample.records
    events = decoder.events([record.value() for record in records])
    for record, event in zip(records, events, strict=True):
        examination.take(record, event)
    return examination.finish()
