import os
import signal
from collections.abc import Callable

import pytest
from click.testing import CliRunner, Result

from models.errors import SettingsError
from replay.__main__ import main
from replay.publisher import PublisherSettings
from replay.run import Published, Stop

NOBODY = "127.0.0.1:1"

#: Runs `python -m replay` with these arguments.
Command = Callable[..., Result]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", NOBODY)
    monkeypatch.setattr("stream.kafka.topics.TIMEOUT_S", 0.5)

    def invoke(*arguments: str) -> Result:
        return CliRunner().invoke(main, arguments)

    return invoke


def test_kafka_that_does_not_answer_is_one_line(run: Command) -> None:
    result = run("--data-path", "any.csv")
    assert result.exit_code == 1
    assert result.stderr.startswith(f"Error: no Kafka at {NOBODY}")
    assert result.stderr.count("\n") == 1


BAD_OPTIONS = [
    ("--speed", "fast"),
    ("--limit", "0"),
    ("--partitions", "0"),
    ("--from", "noon"),
    ("--topic", ""),
    ("--format", "nowhere.toml"),
]


@pytest.mark.parametrize("arguments", BAD_OPTIONS)
def test_options_that_make_no_sense_are_named(run: Command, arguments: tuple[str, str]) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert arguments[0] in result.stderr


def test_settings_are_checked() -> None:
    with pytest.raises(SettingsError, match="compression is 'zip'"):
        PublisherSettings(compression="zip")
    with pytest.raises(SettingsError, match=r"delivery_timeout_s is 0\.001"):
        PublisherSettings(delivery_timeout_s=0.001)


def test_the_result_is_one_line() -> None:
    assert str(Published(123_456, 12.3, 99.8)) == (
        "published=123456 seconds=12.3 events_per_second=10037 speed=99.8x"
    )


def test_the_first_signal_stops_and_the_second_is_not_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    previous = signal.signal(signal.SIGTERM, lambda number, frame: calls.append(number))
    try:
        with Stop() as stop:
            assert not stop.is_stopping()
            os.kill(os.getpid(), signal.SIGTERM)
            assert stop.is_stopping() and stop.signal_number == signal.SIGTERM and calls == []
            os.kill(os.getpid(), signal.SIGTERM)
            assert calls == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, previous)
