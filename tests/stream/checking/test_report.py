"""What a check says of records whose fate is known."""

import gzip
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from stream.check import main
from stream.checking.findings import Findings, examine
from stream.checking.given import given_by
from stream.checking.report import lines_of
from stream.checking.sample import Sample
from stream.events.decoder import make_decoder
from stream.events.incoming import FORGET_HEADER

NOW_MS = 1_700_000_000_000


@dataclass(frozen=True)
class Record:
    """A record of a topic."""

    its_key: bytes | None
    content: bytes | None
    place: tuple[int, int] = (0, 0)
    written_ms: int = NOW_MS
    its_headers: tuple[tuple[str, bytes], ...] = ()

    def key(self) -> bytes | None:
        return self.its_key

    def value(self) -> bytes | None:
        return self.content

    def partition(self) -> int:
        return self.place[0]

    def offset(self) -> int:
        return self.place[1]

    def timestamp(self) -> tuple[int, int]:
        return 1, self.written_ms

    def headers(self) -> tuple[tuple[str, bytes], ...]:
        return self.its_headers


def plain(user: Any = "u", **fields: Any) -> bytes:
    event = {"user_id": user, "item_id": "i", "behavior_type": 1, "time": NOW_MS, "event_id": None}
    return json.dumps(event | fields).encode()


def found_in(*records: Record, held: int = 0, partitions: int = 1) -> tuple[Findings, str]:
    """Return the findings of records by the default format, and the report."""
    per_partition = {number: held or len(records) for number in range(partitions)}
    sample = Sample("topic t", records, per_partition)
    found = examine(sample, make_decoder("", ""), given_by(make_decoder("", ""), "", ""))
    return found, "\n".join(lines_of(sample, found, "the default format"))


def test_each_record_has_the_outcome_that_a_worker_would_give_it() -> None:
    found, said = found_in(
        Record(b"u", plain(event_id="e")),
        Record(b"u", plain(event_id="e")),
        Record(b"v", plain("v", event_id="e")),
        Record(b"u", plain()),
        Record(b"u", plain()),
        Record(b"u", None, its_headers=((FORGET_HEADER, b"1"),)),
        Record(b"u", None),
        Record(b"u", b"\xff\x00 no json", (0, 7)),
        Record(b"u", plain(behavior_type=9)),
        Record(b"u", plain(time=NOW_MS * 1000)),
        Record(None, plain()),
        Record(b"", plain("")),
    )
    assert found.outcomes == {"applied": 4, "duplicate": 1, "forget": 1, "dead letter": 6}
    assert found.reasons == {"unreadable": 2, "behaviour": 1, "microseconds": 1, "key": 1, "no_user": 1}
    assert found.share == 4 / 11
    assert "unreadable         2  partition 0, offset 0, key u: none" in said
    assert "warning: behaviours without a meaning: 9 1" in said
    assert "warning: 1 keys are not the user's id, such as none of user 'u'; 0 of 2 users" in said


def test_seconds_that_are_read_as_milliseconds_are_warned_of() -> None:
    _, said = found_in(*(Record(b"u", plain(time=NOW_MS // 1000 + number)) for number in range(9)))
    assert "warning: times are not near the records' timestamps, and would be as seconds" in said
    _, said = found_in(*(Record(b"u", plain(time=NOW_MS + number)) for number in range(9)))
    assert "warning" not in said


def test_times_far_from_the_records_in_any_unit_are_warned_of() -> None:
    _, said = found_in(Record(b"u", plain(time=1_400_000_000_000)))
    assert "warning: times are 3,472 days from the records' timestamps" in said


def test_an_id_that_is_no_events_id_is_warned_of() -> None:
    _, said = found_in(*(Record(b"u", plain(event_id="click")) for _ in range(9)))
    assert "8 events have the id of one before of the same user" in said


def test_what_is_uneven_is_warned_of() -> None:
    users = [f"u{number % 300}" for number in range(600)] + ["robot"] * 200
    records = [Record(user.encode(), plain(user, item_id=str(n))) for n, user in enumerate(users)]
    _, said = found_in(*records, held=1000, partitions=2)
    assert "warning: user 'robot' has 25% of the events" in said
    assert "events are not in the partition that murmur2 gives their key" in said
    sample = Sample("topic t", records, {0: 9_000, 1: 100, 2: 100, 3: 100})
    found = examine(sample, make_decoder("", ""), None)
    assert "warning: partition 0 has 3.9 times the mean" in "\n".join(lines_of(sample, found, ""))


def invoke(*words: object, **variables: str) -> Result:
    return CliRunner().invoke(main, [*map(str, words)], env={"COLUMNS": "200", **variables})


def test_lines_of_json_are_checked_without_keys(tmp_path: Path) -> None:
    lines = [plain(f"u{number}") for number in range(20)] + [b"", b"no json"]
    (tmp_path / "log").write_bytes(gzip.compress(b"\n".join(lines)))
    done = invoke("--data-path", tmp_path / "log")
    assert done.exit_code == 0, done.output
    assert "21 records read" in done.output and "line 22: no json" in done.output
    done = invoke("--data-path", tmp_path / "log", "--records", 3)
    assert "3 records read" in done.output
    done = invoke("--data-path", tmp_path / "log", TWINTIDE_EVENT_FIELDS="user_id=who")
    assert (done.exit_code, "fields: user_id, item_id" in done.output) == (1, True)
    done = invoke("--data-path", tmp_path / "log", "--min-share", 0.99)
    assert done.exit_code == 1
    assert done.stderr.startswith("Error: 95.2% of the events would be applied, less than --min-share 0.99")


def test_a_log_is_checked_by_the_reader_of_logs(tmp_path: Path) -> None:
    rows = [f"{number},22,333,{'pv' if number % 9 else 'look'},1511544070" for number in range(20)]
    (tmp_path / "log.csv").write_text("\n".join(rows))
    done = invoke("--data-path", tmp_path / "log.csv", "--format", "taobao")
    assert (done.exit_code, "20 rows that are not skipped, 3 of them bad" in done.output) == (1, True)
    assert (
        invoke("--data-path", tmp_path / "log.csv", "--format", "taobao", "--min-share", 0.8).exit_code == 0
    )


@pytest.mark.parametrize(
    ("words", "code", "line"),
    [
        (("--data-path", "nowhere.csv"), 1, "Error: nowhere.csv: no such file"),
        (("--data-path", "x", "--topic", "t"), 2, "Error: --topic and --data-path exclude each other"),
        (
            ("--format", "nowhere.toml", "--data-path", __file__),
            2,
            "Error: --format nowhere.toml: no such format",
        ),
    ],
)
def test_what_is_missing_is_one_line(words: tuple[str, ...], code: int, line: str) -> None:
    done = invoke(*words)
    assert done.exit_code == code, done.output
    assert done.stderr.splitlines()[-1].startswith(line)


def test_a_broker_that_is_down_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stream.kafka.topics.TIMEOUT_S", 1.0)
    done = invoke(KAFKA_BOOTSTRAP_SERVERS="127.0.0.1:1")
    assert (done.exit_code, done.stderr.startswith("Error: no Kafka at 127.0.0.1:1 (")) == (1, True)


def test_events_that_records_tell_of_are_checked_each_without_keys(tmp_path: Path) -> None:
    (tmp_path / "orders.toml").write_text(
        'each = "items"\nitem = "items.sku"\nbehaviour = ""\ncategory = ""\ngeohash = ""\n'
    )
    items = [{"sku": "a"}, {"sku": "b"}, {"sku": ""}]
    records = [Record(b"order", plain("u", items=items, event_id="o1"), place) for place in ((0, 1), (1, 2))]
    decoder = make_decoder("", "", str(tmp_path / "orders.toml"))
    reader = given_by(decoder, "", str(tmp_path / "orders.toml"))
    found = examine(Sample("topic t", records, {0: 1, 1: 1}), decoder, reader, ("items",))
    assert found.outcomes == {"applied": 2, "duplicate": 2, "dead letter": 2}
    assert (found.reasons, found.wrong_key, found.misplaced) == ({"no_item": 2}, None, 0)
    assert "items.sku" in found.fields
    line = json.dumps({**json.loads(plain("u", items=items[:2]))}).encode()
    (tmp_path / "log").write_bytes(line)
    done = invoke("--data-path", tmp_path / "log", "--format", tmp_path / "orders.toml")
    assert (done.exit_code, "users: 1" in done.output) == (0, True), done.output
