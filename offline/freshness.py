"""`python -m offline.freshness`: what it costs when vectors are a minute, an hour or a day old."""

from pathlib import Path

import click

from models.artifact.artifact import load
from models.command import Command, log_to_stderr
from models.errors import SettingsError
from models.log.cache import read_cached
from models.log.format import log_format_option, read_log_format
from offline.evaluation.staleness import FreshnessCurve, freshness_curve
from offline.export import parse_time
from offline.options import artifact_option, data_path_option
from offline.training.data import describe_time


@click.command(cls=Command)
@artifact_option
@data_path_option
@log_format_option
@click.option("--cutoff", help="Time to cut at instead of training's, 'YYYY-MM-DD HH[:MM[:SS]]' or epoch ms.")
@click.option(
    "--png", type=click.Path(path_type=Path, dir_okay=False), help="Draw the curve too; needs matplotlib."
)
def main(artifact_path: Path, data_path: Path, log_format: str, cutoff: str | None, png: Path | None) -> None:
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
    artifact = load(artifact_path)
    cutoff_ms = artifact.training["cutoff_ms"] if cutoff is None else parse_time(cutoff)
    if cutoff_ms is None:
        raise SettingsError(
            "the artifact was trained leave-one-out and has no cutoff: give one with --cutoff"
        )
    found = freshness_curve(artifact, read_cached(data_path, read_log_format(log_format)), cutoff_ms)
    click.echo(f"model {artifact.version}, {found.targets:,} events from {describe_time(cutoff_ms)} on")
    click.echo(as_table(found))
    if png is not None:
        draw(found, png)
        click.echo(png)


def as_table(curve: FreshnessCurve) -> str:
    """Return the figures as the lines of a table; +- is half the 95 % confidence interval of NDCG@10."""
    lines = [f"{'history':20}{'recall@10':>11}{'ndcg@10':>11}{'mrr':>11}{'ndcg@10 +-':>12}"]
    for name, found in curve.rankings.items():
        figures = (found.recall_at_10, found.ndcg_at_10, found.mrr)
        columns = "".join(f"{figure:11.4f}" for figure in figures)
        lines.append(f"{name:20}{columns}{found.ndcg_at_10_error:12.4f}")
    return "\n".join(lines)


def draw(curve: FreshnessCurve, png: Path) -> None:
    """Write the curve as a picture."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise SettingsError("--png needs matplotlib: pip install matplotlib") from error
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    names, found = list(curve.rankings), list(curve.rankings.values())
    errors = [ranking.ndcg_at_10_error for ranking in found]
    axes.errorbar(names, [ranking.ndcg_at_10 for ranking in found], yerr=errors, marker="o", capsize=4)
    axes.set(xlabel="age of the history", ylabel="NDCG@10", ylim=(0, None))
    axes.set_title(f"Accuracy over {curve.targets:,} next items")
    axes.grid(alpha=0.3)
    figure.savefig(png, dpi=120)


if __name__ == "__main__":
    main()
