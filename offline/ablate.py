"""`python -m offline.ablate`: what each part of the model is worth, by training without it."""

import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import numpy as np

from models.command import Command, log_to_stderr
from models.errors import SettingsError
from models.log.behaviour_log import BehaviourLog
from models.log.cache import read_cached
from models.log.format import log_format_option, read_log_format
from offline.options import data_path_option
from offline.training.ablation import PARTS
from offline.training.pipeline import train
from offline.training.settings import read_config

#: Settings of the variants that are not a part left out.
WHOLE = "everything"
SETTINGS: dict[str, dict[str, object]] = {
    WHOLE: {},
    # No pause ends a session: events are told apart by their place alone.
    "sessions": {"gap_ms": 2**62},
    "contrast": {"contrast_weight": 0.0},
    **{name: {"without": [name]} for name in PARTS},
}


@click.command(cls=Command)
@data_path_option
@log_format_option
@click.option("--protocol", type=click.Choice(["time", "leave-one-out"]), help="As offline.train's.")
@click.option("--epochs", type=int, help="As offline.train's.")
@click.option("--seeds", default=1, show_default=True, help="Trainings per line; the line is their mean.")
@click.option(
    "--only", multiple=True, type=click.Choice(list(SETTINGS)), help="Only these lines; may be repeated."
)
@click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    help="TOML file of settings, as offline.train's.",
)
def main(
    data_path: Path, log_format: str, seeds: int, only: tuple[str, ...], config: Path | None, **flags: object
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
    log = read_cached(data_path, read_log_format(log_format))
    click.echo(f"{'without':14}{'validation':>12}{'test':>10}{'+-':>8}{'s':>7}")
    for name in only or SETTINGS:
        click.echo(_line(name, list(_runs(log, config, {**flags, **SETTINGS[name]}, seeds))))


def _runs(
    log: BehaviourLog, config: Path | None, flags: dict[str, object], seeds: int
) -> Iterator[tuple[float, float, float]]:
    """Yield NDCG@10 of validation and test, and the seconds that a training took, by seed."""
    for seed in range(seeds):
        started = time.monotonic()
        with TemporaryDirectory() as store:
            metrics = train(log, read_config(config, {**flags, "seed": seed}), Path(store)).artifact.metrics
        figures = (metrics[name]["ndcg_at_10"] for name in ("validation", "test"))
        yield (*figures, time.monotonic() - started)


def _line(name: str, runs: list[tuple[float, float, float]]) -> str:
    """Return a line of the table; +- is the standard deviation of the test figure over the seeds."""
    validation, test, seconds = np.mean(runs, axis=0)
    spread = f"{np.std([run[1] for run in runs], ddof=1):8.4f}" if len(runs) > 1 else f"{'':8}"
    shown = f"({name})" if name == WHOLE else name
    return f"{shown:14}{validation:12.4f}{test:10.4f}{spread}{seconds:7.0f}"


if __name__ == "__main__":
    main()
