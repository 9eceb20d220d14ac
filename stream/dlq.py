"""`python -m stream.dlq`: what the workers could not read: list it, show it, send it again.

A record that no worker can read goes to the dead-letter topic, with the reason. Once what was wrong is mended
(a decoder, a field mapping, a clock), it can be driven again: to the topic that it came from, as it came.
"""

import json
import os
import sys
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import click

from models.command import EVENT_TIME
from stream.command import Seconds, ServerCommand
from stream.dead_letters.counts import Count, count
from stream.dead_letters.letter import DeadLetter
from stream.dead_letters.markers import Redriven
from stream.dead_letters.redrive import came_back, redrive
from stream.dead_letters.topic import Choice, DeadLetterTopic
from stream.settings import Settings


class _OffsetsType(click.ParamType):
    """One offset, or a first and a last one."""

    name = "offsets"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        first, _, last = str(value).partition("-")
        try:
            found = int(first), int(last or first)
        except ValueError:
            self.fail(
                f"{value!r} is no offset: give one, as 120, or a first and a last, as 120-180", param, ctx
            )
        if found[0] > found[1]:
            self.fail(f"{value!r} is empty: give the smaller offset first", param, ctx)
        return found


def _choosing(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that say which dead letters are meant."""
    for option in reversed(
        (
            click.option("--reason", multiple=True, help="This reason alone; give it again for more."),
            click.option("--since", type=EVENT_TIME, metavar="TIME", help="From this time (UTC) on."),
            click.option("--until", type=EVENT_TIME, metavar="TIME", help="Before this time (UTC)."),
            click.option("--partition", type=click.IntRange(min=0), help="From this partition of the topic."),
            click.option(
                "--offsets", type=_OffsetsType(), metavar="FIRST-LAST",
                help="From these offsets of the topic; one, or a first and a last.",
            ),
        )
    ):  # fmt: skip
        command = option(command)
    return command


def _choice(
    reason: tuple[str, ...],
    since: datetime | None,
    until: datetime | None,
    partition: int | None,
    offsets: tuple[int, int] | None,
) -> Choice:
    return Choice(frozenset(reason), _epoch_ms(since), _epoch_ms(until), partition, offsets)


@click.group()
def main() -> None:
    """List, show, and send again what the workers could not read.

    Reads the worker's settings (KAFKA_*, TWINTIDE_*). Workers and producers may be at work meanwhile.

    \b
    python -m stream.dlq list                           counts by reason
    python -m stream.dlq show --reason behaviour        the records themselves
    python -m stream.dlq redrive --reason behaviour     send them again, each once
    """


@main.command("list", cls=ServerCommand)
@_choosing
def list_(**options: Any) -> None:
    """Count the dead letters by reason.

    `redriven`: sent again already; `left`: not sent again yet; `in_doubt`, of those left: a redrive that did
    not end may have sent them, which the next one finds out; `failed_again`: letters of records that had been
    sent again before.

    \b
    Example: python -m stream.dlq list --since "2026-11-28 09:00"
    """
    topic, choice = DeadLetterTopic(Settings.from_environment(os.environ)), _choice(**options)
    counts = count(topic, choice)
    for line in table(counts):
        click.echo(line)
    if topic.foreign:
        click.echo(f"{topic.foreign} records are no dead letters of this event topic; left alone", err=True)


@main.command(cls=ServerCommand)
@_choosing
@click.option("--limit", default=20, show_default=True, type=click.IntRange(min=1), help="At most so many.")
@click.option("--left", is_flag=True, help="Those alone that were not sent again yet.")
def show(limit: int, left: bool, **options: Any) -> None:
    """Show dead letters, one line of JSON each.

    Texts that are not UTF-8 stand as Python writes bytes. The timestamp is the record's own.

    \b
    Example: python -m stream.dlq show --reason unreadable --limit 5
    """
    topic = DeadLetterTopic(Settings.from_environment(os.environ))
    redriven = topic.redriven()
    letters = (
        letter
        for letter in topic.letters(_choice(**options))
        if not (left and redriven.is_sent(letter.place))
    )
    for letter in islice(letters, limit):
        # What is no UTF-8 could not have all of it as JSON has it.
        click.echo(json.dumps(shown(letter, redriven), ensure_ascii=sys.stdout.encoding.lower() != "utf-8"))


@main.command("redrive", cls=ServerCommand)
@_choosing
@click.option("--limit", type=click.IntRange(min=1), help="At most so many, the oldest of a partition first.")
@click.option("--dry-run", is_flag=True, help="Only say what would be sent.")
@click.option(
    "--wait-s", default=0.0, show_default=True, type=Seconds(above_0=False),
    help="Wait so long for the workers to have read them, and say how many came back.",
)  # fmt: skip
@click.pass_context
def redrive_(
    context: click.Context, /, limit: int | None, dry_run: bool, wait_s: float, **options: Any
) -> None:
    """Send dead letters again, to the topic that they came from; each letter once.

    Key, value, timestamp and headers are the record's own; a header `twintide-redriven` says where it came
    from. What was sent is marked on the dead-letter topic, so a second redrive leaves it out, also after one
    that was killed. A record that fails again becomes a dead letter again, whose header `tries` counts.
    Exit 1 where Kafka refused any, or they were not read in time.

    \b
    Example: python -m stream.dlq redrive --reason time --dry-run
    """
    settings, choice = Settings.from_environment(os.environ), _choice(**options)
    if dry_run:
        counts = count(DeadLetterTopic(settings), choice)
        due = Counter({reason: each.left for reason, each in counts.items()})
        already = sum(each.redriven for each in counts.values())
        total = min(due.total(), limit or due.total())
        click.echo(f"would send: {total} already={already}{_by_reason(due)}")
        return
    outcome = redrive(settings, choice, limit, _progress)
    line = f"redriven: sent={outcome.sent.total()} already={outcome.already} refused={outcome.refused}"
    failed = outcome.refused > 0
    if wait_s:
        back = came_back(settings, outcome.places, wait_s)
        failed |= back is None
        line += " not_read_in_time" if back is None else f" came_back={back}"
    click.echo(line + _by_reason(outcome.sent))
    if outcome.refused:
        click.echo(f"Error: Kafka refused {outcome.refused}; the first: {outcome.first_refusal}", err=True)
    if failed:
        context.exit(1)


def table(counts: dict[str, Count]) -> list[str]:
    """Return the counts as lines for people."""
    names = ("letters", "redriven", "left", "in_doubt", "failed_again")
    lines = [f"{'reason':<12}" + "".join(f"{name:>14}" for name in names) + "  oldest .. newest (UTC)"]
    for reason, each in counts.items():
        numbers = "".join(f"{getattr(each, name):>14}" for name in names)
        lines.append(f"{reason:<12}{numbers}  {' .. '.join(map(_text, each.times_ms))}")
    totals = "".join(f"{sum(getattr(each, name) for each in counts.values()):>14}" for name in names)
    return [*lines, f"{'all':<12}{totals}"]


def shown(letter: DeadLetter, redriven: Redriven) -> dict[str, Any]:
    """Return a letter as `show` prints it."""
    return {
        "reason": letter.reason,
        "place": "/".join(map(str, letter.place)),
        "topic": letter.topic,
        "partition": letter.partition,
        "offset": letter.offset,
        "at": _text(letter.at_ms),
        "tries": letter.tries,
        "redriven": redriven.is_sent(letter.place),
        "key": _readable(letter.key),
        "value": _readable(letter.value),
        "timestamp": letter.timestamp_ms or None,
        "is_cut": letter.is_cut,
        "headers": [[name, _readable(value)] for name, value in letter.headers],
    }


def _readable(content: bytes | None) -> str | None:
    if content is None:
        return None
    try:
        return content.decode()
    except UnicodeDecodeError:
        return repr(content)


def _by_reason(counts: Counter[str]) -> str:
    return "".join(f" {reason}={number}" for reason, number in counts.most_common() if number)


def _text(time_ms: int) -> str:
    return f"{datetime.fromtimestamp(time_ms / 1000, UTC):%Y-%m-%d %H:%M:%S}"


def _epoch_ms(moment: datetime | None) -> int | None:
    return None if moment is None else round(moment.replace(tzinfo=UTC).timestamp() * 1000)


def _progress(line: str) -> None:
    """Say how far it is, on a terminal; a line of its own, where it is no progress."""
    if line.startswith("sent "):
        if sys.stderr.isatty():
            click.echo(f"\r{line}", err=True, nl=False)
    else:
        click.echo(line, err=True)


if __name__ == "__main__":
    main()
