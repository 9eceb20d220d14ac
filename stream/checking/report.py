"""What was found in a sample, for people: what would be applied, what not and why, and warnings."""

from collections import Counter
from collections.abc import Iterator, Mapping

import numpy as np

from stream.checking.findings import Findings
from stream.checking.sample import PlacedRecord, Sample
from stream.checking.times import NEAR_MS, TimeFindings

#: Bytes of a record that are shown, and different texts.
SHOWN_BYTES, SHOWN_TEXTS = 160, 8
#: A partition with this many times the mean, and a user with this share of the events and this
#: many times the mean, is worth a warning.
SKEW, HOT_SHARE, HOT_SKEW = 2.0, 0.1, 10.0
#: Few records say little about either.
ENOUGH = 200
#: From this share of duplicates on, what is taken for the event's id may be none.
DUPLICATES = 0.2


def lines_of(sample: Sample, found: Findings, read_by: str) -> Iterator[str]:
    """Yield the lines of the report."""
    held = f" of {sum(sample.held.values()):,}" if sample.is_topic else ""
    newest = ", the newest of each partition" if sample.is_topic else ""
    yield f"{sample.name}: {len(sample.records):,}{held} records read{newest}; read by {read_by}"
    total = found.outcomes.total()
    for outcome in ("applied", "duplicate", "skipped", "forget", "dead letter"):
        if (count := found.outcomes[outcome]) or outcome == "applied":
            yield f"  {outcome:12} {count:9,} {count / total:7.1%}"
    yield from _dead_letters(found, sample)
    if found.reasons and found.fields:
        yield f"fields: {', '.join(found.fields)}"
    yield f"behaviours: {_counts(found.behaviours)}"
    if found.skipped:
        yield f"skipped: {_counts(found.skipped)}"
    if found.times:
        yield _times(found.times)
    yield f"users: {len(found.users):,}; {_ids(found)}"
    if sample.is_topic:
        yield from _partitions(sample.held, found)
    yield from (f"warning: {each}" for each in warnings_of(sample, found))


def warnings_of(sample: Sample, found: Findings) -> Iterator[str]:
    """Yield what is likely not as it is meant."""
    if found.unknown:
        yield f"behaviours without a meaning: {_counts(found.unknown)}; a format gives it under [behaviours]"
    if found.times:
        yield from _time_warnings(found.times)
    if found.wrong_key:
        yield _key_warning(found)
    if found.misplaced:
        yield (
            f"{found.misplaced:,} events are not in the partition that murmur2 gives their key, where "
            "offline.bootstrap and stream.forget look: set the producers' partitioner (in librdkafka "
            "murmur2_random)"
        )
    if found.outcomes["duplicate"] > DUPLICATES * found.outcomes.total():
        yield (
            f"{found.outcomes['duplicate']:,} events have the id of one before of the same user and would "
            'change nothing: if event_id is no id of an event, name another field, or "" for none'
        )
    mean = sum(sample.held.values()) / max(len(sample.held), 1)
    fullest = max(sample.held, key=lambda each: sample.held[each], default=0)
    if mean * len(sample.held) > ENOUGH and sample.held[fullest] > SKEW * mean:
        yield f"partition {fullest} has {sample.held[fullest] / mean:.1f} times the mean"
    if (events := found.users.total()) > ENOUGH:
        user, most = found.users.most_common(1)[0]
        if most > max(HOT_SHARE, HOT_SKEW / len(found.users)) * events:
            yield f"user {user!r} has {most / events:.0%} of the events: a robot, or no user's id?"


def _dead_letters(found: Findings, sample: Sample) -> Iterator[str]:
    for reason, count in found.reasons.most_common():
        record = found.examples[reason]
        yield f"    {reason:10} {count:9,}  {_place(record, sample)}: {_shown(record.value())}"


def _place(record: PlacedRecord, sample: Sample) -> str:
    if not sample.is_topic:
        return f"line {record.offset()}"
    return f"partition {record.partition()}, offset {record.offset()}, key {_shown(record.key())}"


def _shown(content: bytes | None) -> str:
    if content is None:
        return "none"
    text = content[:SHOWN_BYTES].decode(errors="replace")
    printable = "".join(each if each.isprintable() else "\ufffd" for each in text)
    return printable + ("…" if len(content) > SHOWN_BYTES else "")


def _counts(counts: Counter[str]) -> str:
    shown = [f"{text or 'none'} {count:,}" for text, count in counts.most_common(SHOWN_TEXTS)]
    more = [f"{len(counts) - SHOWN_TEXTS} more"] if len(counts) > SHOWN_TEXTS else []
    return ", ".join(shown + more) or "none"


def _times(times: TimeFindings) -> str:
    if not times.last_ms:
        return f"times: none can be read, of {times.kind}"
    apart = (
        "" if times.apart_ms is None else f"; {_span(times.apart_ms)} from the records' timestamps (median)"
    )
    return f"times: {_moment(times.first_ms)} to {_moment(times.last_ms)} UTC, from {times.kind}{apart}"


def _time_warnings(times: TimeFindings) -> Iterator[str]:
    if times.better_unit:
        near = "near the records' timestamps" if times.apart_ms is not None else "of our days"
        yield (
            f"times are not {near}, and would be as {times.better_unit}: "
            f'a format with time_unit = "{times.better_unit}" reads them so'
        )
    elif times.apart_ms is not None and times.apart_ms > NEAR_MS:
        yield f"times are {_span(times.apart_ms)} from the records' timestamps: is it the time of the event?"


def _key_warning(found: Findings) -> str:
    key, user_id = found.wrong_key or (None, "")
    split = sum(len(partitions) > 1 for partitions in found.places.values())
    return (
        f"{found.reasons['key']:,} keys are not the user's id, such as {_shown(key)} of user {user_id!r}; "
        f"{split:,} of {len(found.users):,} users are in several partitions: python -m stream.rekey makes a "
        "topic that is keyed by it"
    )


def _ids(found: Findings) -> str:
    readable = found.behaviours.total()
    if not found.with_id:
        return "event ids: none, so the record's place stands for them"
    return f"event ids: {found.with_id:,} of {readable:,} events have one"


def _partitions(held: Mapping[int, int], found: Findings) -> Iterator[str]:
    total = max(sum(held.values()), 1)
    users = Counter(place for places in found.places.values() for place in places)
    yield f"  {'partition':>9} {'records':>13} {'share':>7} {'users here':>10}"
    for partition, count in sorted(held.items()):
        yield f"  {partition:9} {count:13,} {count / total:7.1%} {users[partition]:10,}"


def _moment(time_ms: int) -> str:
    return str(np.datetime64(time_ms // 1000, "s")).replace("T", " ")  # also after the year 9999


def _span(span_ms: float) -> str:
    for unit, length_ms in (("days", 86_400_000), ("hours", 3_600_000), ("s", 1_000)):
        if span_ms >= 2 * length_ms:
            return f"{span_ms / length_ms:,.0f} {unit}"
    return f"{span_ms:.0f} ms"
