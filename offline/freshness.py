"""`python -m offline.freshness`: what it costs when vectors are a minute, an hour or a day old."""

from pathlib import Path

import click

from models.command import Command, log_to_stderr
from models.location import Location
from models.log.cache import read_cached
from models.log.format import log_format_option, read_log_format
from offline.evaluation.staleness import freshness_curve, freshness_table
from offline.options import (
    artifact_option,
    cutoff_of,
    cutoff_option,
    data_path_option,
    describe_time,
    load_evaluated,
)
from offline.pictures.plots import freshness_plot


@click.command(cls=Command)
@artifact_option
@data_path_option
@log_format_option
@cutoff_option
@click.option(
    "--png", type=click.Path(path_type=Path, dir_okay=False), help="Draw the curve too; needs matplotlib."
)
def main(
    artifact_path: Location,
    data_path: tuple[str, ...],
    log_format: str,
    cutoff: str | None,
    png: Path | None,
) -> None:
    """Rank the events after training from histories of different age, and print how accuracy falls.

    The targets are the events from the cutoff on (a seeded draw of 5,000 where there are more), the same in
    every line. fresh: everything before the target; 1 min, 1 h, 1 day: what was known that long before it;
    frozen: what was known at the cutoff. Where the log knows only hours, 1 min means: without the target's
    own hour.

    \b
    Example:
      python -m offline.freshness --artifact artifacts --data-path data/behaviour.csv --png freshness.png
    """
    log_to_stderr()
    artifact = load_evaluated(artifact_path, cutoff)
    cutoff_ms = cutoff_of(artifact, cutoff)
    found = freshness_curve(artifact, read_cached(data_path, read_log_format(log_format)), cutoff_ms)
    click.echo(f"model {artifact.version}, {found.targets:,} events from {describe_time(cutoff_ms)} on")
    click.echo(freshness_table(found))
    if png is not None:
        freshness_plot(found).savefig(png)
        click.echo(png)


if __name__ == "__main__":
    main()
