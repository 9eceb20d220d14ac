"""`./run bench decode`: events a second from the values of records to columns, by encoding, on one thread."""

import dataclasses
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import click
import numpy as np

from bench.harness.behaviour import make_log
from bench.harness.report import Report, Result, print_table
from models.command import Command, log_to_stderr
from models.errors import TwintideError
from models.ids.texts import Texts
from models.log.format import Encoding, LogFormat
from replay.encoding import AVRO, PROTOBUF, encoder
from replay.source import MessageSource
from stream.events.columns import DecodedEvents, Decoder
from stream.events.decoder import make_decoder
from stream.events.format_decoder import FormatDecoder
from stream.events.framed_decoder import FramedDecoder
from stream.registry.schemas import RegisteredSchema

USERS, SMOKE_EVENTS = 10_000, 5_000
#: Values decoded at once, as a worker fetches them.
BATCH = 20_000
COLUMNS = {"events/s": ",.0f", "us/event": ".2f", "bytes/event": ",.0f"}


class OneSchema:
    """A registry that has one schema."""

    def __init__(self, schema: RegisteredSchema) -> None:
        self._schema = schema

    def schema(self, schema_id: int) -> RegisteredSchema:
        """Return it, whatever the id is."""
        return self._schema


@click.command(cls=Command)
@click.option("--events", default=200_000, show_default=True, help="Events of each run.")
@click.option("--rounds", default=5, show_default=True, help="Runs of each, in turn; the median counts.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the result to this file.")
@click.option("--smoke", is_flag=True, help="5,000 events, once, to see that it works; figures mean nothing.")
def main(events: int, rounds: int, json_path: Path | None, smoke: bool) -> None:
    """Measure decoding in CPU time of one thread: plain JSON, the same by a format, Avro and Protobuf.

    All decode the same events, and must give the same columns.

    \b
    Example: ./run bench decode --json decode.json
    """
    log_to_stderr()
    report = run(SMOKE_EVENTS, 1) if smoke else run(events, rounds)
    print_table(f"decoding {report.settings['events']:,} events", report.results, COLUMNS)
    for name, ratio in report.ratios.items():
        click.echo(f"{name}: {ratio:.2f}x")
    if json_path:
        report.write(json_path)


def run(events: int, rounds: int) -> Report:
    """Return what was measured."""
    source = MessageSource(make_log(events, USERS))
    plain = [value for _, value, _ in source.messages(slice(0, events))]
    contestants: dict[str, tuple[Decoder, Sequence[bytes]]] = {
        "json": (make_decoder("", ""), plain),
        "json-format": (FormatDecoder(LogFormat(time_unit="milliseconds")), plain),
        "avro": _framed("avro", RegisteredSchema("AVRO", AVRO), plain),
        "protobuf": _framed("protobuf", RegisteredSchema("PROTOBUF", PROTOBUF), plain),
    }
    _refuse_differences(contestants)
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, (decoder, values) in contestants.items():
            seconds[name].append(_seconds(decoder.columns, values))
    results: dict[str, Result] = {
        name: {
            "events/s": events / median(some),
            "us/event": median(some) / events * 1e6,
            "bytes/event": sum(map(len, contestants[name][1])) / events,
        }
        for name, some in seconds.items()
    }
    report = Report({"events": events, "rounds": rounds, "batch": BATCH}, results)
    for name in ("avro", "protobuf"):
        report.compare(name, ("json", "json-format"), "events/s")
    return report


def _framed(
    encoding: Encoding, schema: RegisteredSchema, plain: Sequence[bytes]
) -> tuple[Decoder, list[bytes]]:
    log_format = dataclasses.replace(LogFormat(), encoding=encoding)
    return FramedDecoder(log_format, OneSchema(schema)), encoder(encoding, 1)(plain)


def _seconds(decode: Callable[[Sequence[bytes]], object], values: Sequence[bytes]) -> float:
    """Return the CPU time of decoding all values, a batch at a time (s)."""
    started = time.process_time()
    for start in range(0, len(values), BATCH):
        decode(values[start : start + BATCH])
    return time.process_time() - started


def _refuse_differences(contestants: dict[str, tuple[Decoder, Sequence[bytes]]]) -> None:
    """Raise TwintideError where one gives other columns than the first."""
    found = {name: decoder.columns(values[:BATCH]) for name, (decoder, values) in contestants.items()}
    first = found["json"]
    for name, each in found.items():
        if first is None or each is None or each.user_ids != first.user_ids:
            raise TwintideError(f"{name} decodes other users than json")
        if not np.array_equal(each.time_ms, first.time_ms) or _event_ids(each) != _event_ids(first):
            raise TwintideError(f"{name} decodes other events than json")


def _event_ids(decoded: DecodedEvents) -> list[str | None]:
    found = decoded.event_ids
    return [*found.to_list()] if isinstance(found, Texts) else found


if __name__ == "__main__":
    main()
