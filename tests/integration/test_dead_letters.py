"""`python -m stream.dlq` beside a real worker: what could not be read is sent again, each record once."""

import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner
from confluent_kafka import Message, Producer

from local.proof import wait_until_committed
from local.servers import ROOT
from local.worker import WorkerProcess, worker_environment
from stream import dlq as command
from stream.dead_letters import redrive as redriving
from stream.dead_letters.letter import own_headers, redriven_from, said_of
from stream.dead_letters.markers import Marker
from stream.dead_letters.topic import Choice
from stream.events.incoming import REDRIVEN_HEADER, Rejected
from stream.kafka.only_member import only_member
from stream.kafka.topic_reader import read_all
from stream.kafka.topics import ensure_topic
from stream.settings import Settings
from tests.integration.shop import Shop

pytestmark = pytest.mark.integration

#: How the shop's other events name their fields; a worker that is not told cannot read them.
FIELDS = {"TWINTIDE_EVENT_FIELDS": "user_id=uid,item_id=what"}

#: Several portions of a redrive.
LETTERS = 4_000

#: A redrive that is killed in its third portion, with letters that it has not flushed.
KILLED = """
import os, signal
from stream import dlq
from stream.dead_letters import redrive
produce, letters = redrive._Redriving._produce, iter(range(1_233))
def until_killed(self, letter):
    produce(self, letter)
    if next(letters, None) is None:
        os.kill(os.getpid(), signal.SIGKILL)
redrive._Redriving._produce = until_killed
dlq.main()
"""


def run(settings: Settings, *words: str) -> "subprocess.CompletedProcess[str]":
    """Run Python with these words in a process of its own."""
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), **worker_environment(settings)}
    command = [sys.executable, *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


def dlq(settings: Settings, *arguments: str, status: int = 0) -> str:
    """Return what the command prints on stdout, or on stderr where it fails as it should."""
    done = CliRunner().invoke(command.main, arguments, env=worker_environment(settings))
    assert done.exit_code == status, done.output
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.stderr if status else done.stdout


def counts(settings: Settings, *arguments: str) -> dict[str, list[int]]:
    """Return letters, redriven, left, in doubt and failed again, by reason."""
    rows = [line.split() for line in dlq(settings, "list", *arguments).splitlines()[1:]]
    return {row[0]: [int(number) for number in row[1:6]] for row in rows}


def other_event(number: int) -> dict[str, Any]:
    """Return what a producer sends whose events have other field names, and no id."""
    user_id, time_ms = f"user {number % 5}", 1_417_000_000_000 + number
    event = {"uid": user_id, "what": f"i{number % 60}", "behavior_type": 1, "time": time_ms}
    return {
        "key": user_id.encode(),
        "value": json.dumps(event).encode(),
        "timestamp": time_ms,
        "headers": [("reason", b"mine"), ("trace", bytes([200, number])), ("sent_at", b"1417000000000")],
    }


def send(settings: Settings, *records: dict[str, Any]) -> None:
    producer = Producer({**settings.kafka.librdkafka(), "partitioner": "murmur2_random", "log_level": 0})
    for each in records:
        producer.produce(settings.topic, **each)
    producer.flush()
    wait_until_committed(settings, timeout_s=120)


def own_parts(record: Message) -> tuple[Any, ...]:
    """Return all of a record that must be the same when it is redriven."""
    headers = [header for header in record.headers() or () if header[0] != REDRIVEN_HEADER]
    return record.partition(), record.key(), record.value(), record.timestamp(), headers


@pytest.fixture
def mended(settings: Settings, tmp_path: Path) -> Iterator[WorkerProcess]:
    """Give a worker that is told the names of the fields, not yet started."""
    process = WorkerProcess(tmp_path / "worker", {**worker_environment(settings), **FIELDS})
    yield process
    process.kill()


def test_what_could_not_be_read_is_read_by_a_mended_worker_and_what_fails_again_counts_its_tries(
    shop: Shop, worker: WorkerProcess, mended: WorkerProcess, settings: Settings
) -> None:
    worker.start()
    shop.send(20)
    bad = {"key": b"user 0", "value": b'{"uid":"user 0","what":"i1","behavior_type":9,"time":1}'}
    send(settings, *map(other_event, range(50)), {"key": b"u", "value": b"no json"}, bad)
    worker.stop()
    assert counts(settings) == {"unreadable": [52, 0, 52, 0, 0], "all": [52, 0, 52, 0, 0]}
    assert dlq(settings, "redrive", "--dry-run") == "would send: 52 already=0 unreadable=52\n"
    first = "redriven: sent=10 already=0 refused=0 unreadable=10\n"
    assert dlq(settings, "redrive", "--limit", "10") == first
    mended.start()
    rest = "redriven: sent=42 already=10 refused=0 came_back=2 unreadable=42\n"
    assert dlq(settings, "redrive", "--wait-s", "60") == rest
    wait_until_committed(settings, timeout_s=120)
    known = [shop.client.hget(f"{settings.key_prefix}user {number}", "n") for number in range(5)]
    assert known == [b"10"] * 5
    found = counts(settings)
    assert (found["unreadable"], found["behaviour"]) == ([53, 52, 1, 0, 1], [1, 0, 1, 0, 1])
    assert counts(settings, "--reason", "behaviour", "--offsets", "0-9999") == {
        each: [1, 0, 1, 0, 1] for each in ("behaviour", "all")
    }
    assert counts(settings, "--until", "2020-01-01") == {"all": [0] * 5}
    records = list(read_all(settings.kafka, settings.topic))
    redriven = [own_parts(record) for record in records if redriven_from(record)]
    originals = [own_parts(record) for record in records if not redriven_from(record)]
    assert len(redriven) == 52
    assert all(each in originals for each in redriven)
    (shown,) = dlq(settings, "show", "--left", "--reason", "unreadable").splitlines()
    letter = json.loads(shown)
    assert (letter["value"], letter["tries"], letter["redriven"]) == ("no json", 1, False)


def fill(settings: Settings, letters: int) -> None:
    """Put letters on a dead-letter topic, as workers would have."""
    ensure_topic(settings.kafka, settings.topic, 2)
    ensure_topic(settings.kafka, settings.dead_letter_topic, 2)
    producer = Producer({**settings.kafka.librdkafka(), "log_level": 0})
    for number in range(letters):
        record = SimpleNamespace(offset=lambda n=number: n, timestamp=lambda: (1, 5), headers=list)
        producer.produce(
            settings.dead_letter_topic,
            b"value",
            str(number).encode(),
            number % 2,
            headers=own_headers(record) + said_of(Rejected(record, "key"), settings.topic, number % 2, {}),
        )
    producer.flush()


def sent(settings: Settings) -> "Counter[tuple[int, int]]":
    """Return how often each letter stands on the behaviour topic."""
    origins = (redriven_from(record) for record in read_all(settings.kafka, settings.topic))
    return Counter((origin.partition, origin.offset) for origin in origins if origin)


def test_redrive_that_dies_anywhere_loses_nothing_and_the_next_one_sends_nothing_twice(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    class DiedError(Exception):
        pass

    def redrive() -> None:
        redriving.redrive(settings, Choice(), None, lambda _: None)

    def die_before_noting(self: object, partition: int, marker: Marker) -> None:
        if marker.step == "sent":
            raise DiedError
        mark(self, partition, marker)  # type: ignore[arg-type]

    def die_while_sending(self: object, letter: Any) -> None:
        if letter.place[1] % 500 == 321:
            raise DiedError
        produce(self, letter)  # type: ignore[arg-type]

    fill(settings, LETTERS)
    mark, produce = redriving._Redriving._mark, redriving._Redriving._produce
    for name, death in (("_mark", die_before_noting), ("_produce", die_while_sending)):
        with monkeypatch.context() as patched, pytest.raises(DiedError):
            patched.setattr(redriving._Redriving, name, death)
            redrive()
    before = sent(settings).total()
    assert before >= 500
    assert counts(settings)["key"][3] > 0, "none is in doubt"
    assert run(settings, "-c", KILLED, "redrive").returncode == -signal.SIGKILL
    assert before + 500 < sent(settings).total() < LETTERS, "it was not killed on the way"
    with only_member(settings.kafka, f"{settings.app_id}-redrive", settings.dead_letter_topic):
        assert "another process is at it" in dlq(settings, "redrive", status=1)
    dlq(settings, "redrive")
    assert sent(settings) == {(number % 2, number // 2): 1 for number in range(LETTERS)}
    assert dlq(settings, "redrive") == f"redriven: sent=0 already={LETTERS} refused=0\n"
    assert counts(settings)["key"] == [LETTERS, LETTERS, 0, 0, 0]


def test_letter_that_was_cut_short_is_sent_whole_or_not_at_all(settings: Settings) -> None:
    fill(settings, 0)
    producer = Producer({**settings.kafka.librdkafka(), "log_level": 0})
    producer.produce(settings.topic, b"value" * 9, b"key", 1, timestamp=7, headers=[("trace", b"1")])
    for value in (b"valueva", b"other"):  # that record's, and one's that is gone
        record = SimpleNamespace(offset=lambda: 0, timestamp=lambda: (1, 5), headers=list)
        said = said_of(Rejected(record, "long_id"), settings.topic, 1, {"value_bytes": 45})
        headers = own_headers(record) + said
        producer.produce(settings.dead_letter_topic, value, b"k", 0, headers=headers)
    producer.flush()
    assert "refused 1; the first: " in dlq(settings, "redrive", status=1)
    original, again = [
        (record.key(), record.value(), record.timestamp()[1], (record.headers() or [])[0])
        for record in read_all(settings.kafka, settings.topic)
    ]
    assert original == again
    assert counts(settings)["long_id"] == [2, 1, 1, 0, 0]


def test_mistakes_are_one_line(settings: Settings) -> None:
    assert "set TWINTIDE_DEAD_LETTER_TOPIC" in dlq(settings, "list", status=1)
    assert "set TWINTIDE_TOPIC" in dlq(settings, "redrive", status=1)
    assert "'9-3' is empty" in dlq(settings, "show", "--offsets", "9-3", status=2)
    done = run(settings, "-m", "stream.dlq", "redrive", "--offsets", "x")
    assert (done.returncode, "'x' is no offset" in done.stderr, "Traceback" in done.stderr) == (
        2,
        True,
        False,
    )
