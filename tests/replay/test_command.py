import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from models.errors import DataError, SettingsError
from replay.__main__ import main
from replay.acknowledged import Acknowledged, AcknowledgedFile
from replay.control import Stop
from replay.publisher import PublisherSettings
from replay.report import Report

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
    "--speed fast",
    "--limit 0",
    "--partitions 0",
    "--from noon",
    "--topic=",
    "--format nowhere.toml",
    "--ramp 1x:100x",
    "--rate-limit 0",
    "--rate-limit nan",
    "--spread odd",
    "--loop 0",
    "--rebase-time later",
    "--users ,",
    "--users @nowhere.txt",
    "--disorder 5",
    "--late 5%:soon",
    "--duplicates -1%",
    "--malformed 101%",
    "--hot-user nobody",
    "--speed 1x --ramp 1x:100x:10m",
    "--dry-run --resume",
    "--dry-run --loop",
    "--loop --rebase-time now",
    "--from 2014-12-12 --to 2014-12-12",
    "--disorder 60% --late 60%",
]


@pytest.mark.parametrize("arguments", BAD_OPTIONS)
def test_options_that_make_no_sense_are_named_in_one_line(run: Command, arguments: str) -> None:
    result = run(*arguments.split())
    assert result.exit_code == 2
    named = [word.removesuffix("=") for word in arguments.split() if word.startswith("--")]
    last_line = result.stderr.splitlines()[-1]
    assert all(name in last_line for name in named)


def test_help_shows_every_option_in_its_group(run: Command) -> None:
    lines = run("--help").output.splitlines()
    assert [line for line in lines if line.endswith(":") and not line.startswith(" ")] == [
        "The log:", "Pace:", "Disturbances:", "Kafka:", "This run:",
    ]  # fmt: skip
    assert lines.index("The log:") < next(n for n, line in enumerate(lines) if "--format" in line)


def test_a_dry_run_needs_no_kafka_and_says_what_would_be_sent(run: Command, tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    rows = [f"u{row % 3},i{row},1,,c,2014-11-18 {row // 10:02d}\n" for row in range(240)]
    path.write_text("user_id,item_id,behavior_type,user_geohash,item_category,time\n" + "".join(rows))
    arguments = ("--dry-run", "--data-path", str(path), "--speed", "3600x", "--users", "u0,u1", "--loop", "2")
    report = json.loads(run(*arguments, "--duplicates", "10%").stdout)
    assert report["rows"] == 2 * 160
    assert report["records"] == report["rows"] + report["duplicates"] > report["rows"]
    assert report["first_event"] == "2014-11-18T00:00:00.000+00:00"
    assert report["last_event"] == "2014-11-19T23:00:00.000+00:00"
    assert 47 < report["asked_seconds"] < 49
    again, other = (
        json.loads(run(*arguments, "--duplicates", "10%", "--seed", seed).stdout) for seed in "12"
    )
    assert again == report
    assert other["digest"] != report["digest"]


def test_settings_are_checked() -> None:
    with pytest.raises(SettingsError, match="compression is 'zip'"):
        PublisherSettings(compression="zip")
    with pytest.raises(SettingsError, match=r"delivery_timeout_s is 0\.001"):
        PublisherSettings(delivery_timeout_s=0.001)


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


def test_what_was_acknowledged_is_found_again_by_the_same_replay_alone(tmp_path: Path) -> None:
    file = AcknowledgedFile(("log", 1), tmp_path)
    assert file.read() is None
    file.write(Acknowledged(5, 17))
    file.write(Acknowledged(9, 17))
    assert AcknowledgedFile(("log", 1), tmp_path).read() == Acknowledged(9, 17)
    assert AcknowledgedFile(("log", 2), tmp_path).read() is None
    assert len(list(tmp_path.iterdir())) == 1
    file.path.write_text("{")
    with pytest.raises(DataError, match="replay without --resume"):
        file.read()


def test_a_pace_is_missed_by_more_than_one_percent_and_more_than_a_moment() -> None:
    def report(asked_s: float, taken_s: float) -> Report:
        return Report(first_due_s=10, last_due_s=10 + asked_s, handed_over_s=10 + taken_s, records=1)

    assert not report(100, 100.9).has_missed_pace
    assert report(100, 101.2).has_missed_pace
    assert report(100, 101.2).pace == pytest.approx(0.988, abs=1e-3)
    assert not report(0.1, 0.14).has_missed_pace
    assert not report(0, 50).has_missed_pace
