"""`python -m offline.ablate`: what each part of the model is worth, by training without it."""

from pathlib import Path

import click
import numpy as np

from models.command import Command, log_to_stderr
from models.errors import SettingsError
from models.log.format import log_format_option
from offline.options import data_path_option
from offline.source import from_stream_option, read_log
from offline.training.settings import read_config
from offline.training.variants import VARIANTS, WHOLE, VariantFigures, train_variant


@click.command(cls=Command)
@data_path_option
@log_format_option
@from_stream_option
@click.option("--protocol", type=click.Choice(["time", "leave-one-out"]), help="As offline.train's.")
@click.option("--epochs", type=int, help="As offline.train's.")
@click.option("--seeds", default=1, show_default=True, help="Trainings per line; the line is their mean.")
@click.option(
    "--only", multiple=True, type=click.Choice(list(VARIANTS)), help="Only these lines; may be repeated."
)
@click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    help="TOML file of settings, as offline.train's.",
)
def main(
    data_path: tuple[str, ...],
    log_format: str,
    from_stream: bool,
    seeds: int,
    only: tuple[str, ...],
    config: Path | None,
    **flags: object,
) -> None:
    """Train once with everything and once without each part, and print NDCG@10 of all items.

    Both figures are of the epoch that validation chose. The other seeds' spread says how much is chance.
    Nothing is published.

    \b
    Example:
      python -m offline.ablate --data-path data/behaviour.csv --only everything --only gate --seeds 3
    """
    log_to_stderr()
    if seeds < 1:
        raise SettingsError(f"--seeds is {seeds}; it must be at least 1")
    log = read_log(data_path, log_format, from_stream)
    click.echo(f"{'without':14}{'validation':>12}{'test':>10}{'+-':>8}{'s':>7}")
    for name in only or VARIANTS:
        configs = [read_config(config, {**flags, **VARIANTS[name], "seed": seed}) for seed in range(seeds)]
        click.echo(_line(name, [train_variant(log, each) for each in configs]))


def _line(name: str, runs: list[VariantFigures]) -> str:
    """Return a line of the table; +- is the standard deviation of the test figure over the seeds."""
    validation, test, seconds = np.mean(runs, axis=0)
    spread = f"{np.std([run.test for run in runs], ddof=1):8.4f}" if len(runs) > 1 else f"{'':8}"
    shown = f"({name})" if name == WHOLE else name
    return f"{shown:14}{validation:12.4f}{test:10.4f}{spread}{seconds:7.0f}"


if __name__ == "__main__":
    main()
