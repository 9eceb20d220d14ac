"""`python -m offline.train`: a behaviour log -> a published artifact."""

from pathlib import Path

import click

from models.command import LOCATION, Command, log_to_stderr
from models.location import Location
from models.log.cache import read_cached
from models.log.format import log_format_option, read_log_format
from offline.options import data_path_option
from offline.training.parallel import joined
from offline.training.progress import Epoch
from offline.training.run import Trained, train
from offline.training.settings import TrainSettings, read_config

DEFAULTS = TrainSettings()


@click.command(cls=Command)
@data_path_option
@log_format_option
@click.option(
    "--save-dir",
    type=LOCATION,
    default=Path("artifacts"),
    show_default=True,
    help="Store that gets the artifact and makes it the current one: a directory, or s3://, gs://, file://.",
)
@click.option("--epochs", type=int, help="Passes over the data at most.  [default: 4 to 30, by its size]")
@click.option(
    "--batch-size", type=int, help=f"Stretches of history per step.  [default: {DEFAULTS.batch_size}]"
)
@click.option("--lr", type=float, help=f"Learning rate.  [default: {DEFAULTS.lr}]")
@click.option(
    "--device",
    type=click.Choice(["cpu", "cuda", "auto"]),
    help=f"Where it trains.  [default: {DEFAULTS.device}]",
)
@click.option("--seed", type=int, help=f"Of everything random.  [default: {DEFAULTS.seed}]")
@click.option(
    "--protocol",
    type=click.Choice(["time", "leave-one-out"]),
    help=f"How rows are held out.  [default: {DEFAULTS.protocol}]",
)
@click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    help="TOML file of settings, one `name = value` per line; flags overrule it.",
)
def main(data_path: Path, log_format: str, save_dir: Location, config: Path | None, **flags: object) -> None:
    """Train the dual towers on a behaviour log and publish the artifact.

    After every epoch it prints how well all items are ranked for the next event of the validation slice; the
    best epoch is kept, tested once, written under its version and made `current`. The same command after a
    crash resumes after the last finished epoch, to the same result. Under torchrun, every process takes a
    part of each step.

    \b
    Examples:
      python -m offline.train --data-path data/behaviour.csv --save-dir artifacts --epochs 10
      torchrun --nproc-per-node 4 -m offline.train --device cuda
    """
    log_to_stderr()
    chosen = read_config(config, flags)
    with joined(chosen.train.device) as processes:
        log = read_cached(data_path, read_log_format(log_format))
        if not processes.is_first:
            train(log, chosen, save_dir, processes=processes)
            return
        left_out = f", {log.bad_rows:,} bad ones left out" if log.bad_rows else ""
        click.echo(f"{data_path}: {len(log):,} rows{left_out}")
        _print(train(log, chosen, save_dir, _print_epoch, processes), save_dir)


def _print(done: Trained, store: Location) -> None:
    test = done.test
    click.echo(f"best epoch {done.artifact.metrics['best_epoch']} of {len(done.epochs)}")
    click.echo(
        f"test: recall@10 {test.recall_at_10:.4f}  ndcg@10 {test.ndcg_at_10:.4f}  mrr@10 {test.mrr_at_10:.4f}"
    )
    click.echo(f"artifact {done.artifact.path if isinstance(store, Path) else store / done.artifact.version}")
    click.echo(f"version {done.artifact.version}, publication {done.artifact.publication}")


def _print_epoch(epoch: Epoch) -> None:
    found = epoch.validation
    click.echo(
        f"epoch {epoch.number:3d}  loss {epoch.loss:.4f}  validation: recall@10 {found.recall_at_10:.4f}  "
        f"ndcg@10 {found.ndcg_at_10:.4f}  mrr@10 {found.mrr_at_10:.4f}"
    )


if __name__ == "__main__":
    main()
