"""What a command line asks of a replay: its options, checked and put together."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from models.errors import SettingsError
from models.log.format import LogFormat, read_log_format
from replay.amounts import parse_share, parse_share_and_time
from replay.disturbances import Disturbances
from replay.ordered_log import OrderedLog
from replay.pace import Pace
from replay.publisher import PublisherSettings
from replay.schedule import FOREVER, Schedule, ScheduleSettings, Spread
from replay.selection import Selection
from stream.kafka.connection import KafkaConnection
from stream.kafka.topics import topic_id

#: Defaults of --disorder and --duplicates, and of --late (s).
WITHIN_S, LATE_S = 600.0, 86_400.0


@dataclass(frozen=True, slots=True)
class Options:
    """What a command line asks for."""

    paths: tuple[str, ...]
    log_format: LogFormat
    selection: Selection
    settings: ScheduleSettings
    publisher: PublisherSettings
    partitions: int
    is_rebased_now: bool
    is_resuming: bool
    is_dry_run: bool
    encoding: str

    @classmethod
    def of(cls, given: Mapping[str, Any], is_speed_given: bool) -> "Options":
        """Return the options as they were given; SettingsError where they make no sense together."""
        rebase = given["rebase_time"]
        _refuse(is_speed_given and given["ramp"], "--speed", "--ramp", "the ramp begins with a speed")
        _refuse(given["dry_run"] and given["resume"], "--dry-run", "--resume", "the one sends nothing")
        _refuse(given["dry_run"] and given["laps"] == FOREVER, "--dry-run", "--loop", "give --loop a number")
        return cls(
            paths=given["data_path"],
            log_format=read_log_format(given["log_format"]),
            selection=Selection.of(given["first"], given["end"], given["users"], given["limit"]),
            settings=ScheduleSettings(
                pace=Pace.of(given["speed"], given["ramp"], given["rate_limit"]),
                spread=Spread(given["spread"]),
                disturbances=_disturbances(given),
                laps=given["laps"],
                seed=given["seed"],
                rebase_ms=None if rebase is None else _epoch_ms(rebase),
            ),
            publisher=PublisherSettings(topic=given["topic"]),
            partitions=given["partitions"],
            is_rebased_now=rebase == "now",
            is_resuming=given["resume"],
            is_dry_run=given["dry_run"],
            encoding=given["encode"],
        )

    def schedule(self, log: OrderedLog, rebase_ms: int | None = None) -> Schedule:
        """Return the schedule of a log that was read just now, or began at a time (epoch ms)."""
        if self.is_rebased_now:
            rebase_ms = _epoch_ms("now") if rebase_ms is None else rebase_ms
            return Schedule(log, replace(self.settings, rebase_ms=rebase_ms))
        return Schedule(log, self.settings)

    def identity(self, kafka: KafkaConnection) -> object:
        """Return what two replays have in common of which one may go on where the other was cut off.

        The pace may differ, but where times depend on it.
        """
        settings = replace(self.settings, rebase_ms=None) if self.is_rebased_now else self.settings
        if self.settings.rebase_ms is None:
            settings = replace(settings, pace=Pace())
        topic = self.publisher.topic
        place = (kafka.bootstrap_servers, topic, topic_id(kafka, topic))
        return (self.log_format, self.selection, settings, place, self.encoding)


def _disturbances(given: Mapping[str, Any]) -> Disturbances:
    def share(name: str) -> float:
        return parse_share(f"--{name}", given[name.replace("-", "_")] or "0")

    def share_and_time(name: str, default_s: float) -> tuple[float, float]:
        return parse_share_and_time(f"--{name}", given[name] or "0", default_s)

    return Disturbances(
        *share_and_time("disorder", WITHIN_S),
        *share_and_time("late", LATE_S),
        *share_and_time("duplicates", WITHIN_S),
        malformed=share("malformed"),
        hot_user=share("hot-user"),
    )


def _refuse(is_so: object, one: str, other: str, why: str) -> None:
    if is_so:
        raise SettingsError(f"{one} and {other} do not go together: {why}")


def _epoch_ms(moment: datetime | str) -> int:
    """Return a time (UTC), or `now`, in ms since 1970."""
    if isinstance(moment, str):
        return time.time_ns() // 1_000_000
    return round(moment.replace(tzinfo=UTC).timestamp() * 1_000)
