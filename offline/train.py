"""`python -m offline.train`: a behaviour log -> a published artifact."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import click
from click.core import ParameterSource

from models.artifact.artifact import load
from models.artifact.stores import open_store
from models.command import LOCATION, Command, log_to_stderr
from models.errors import SettingsError
from models.location import Location
from models.log.format import log_format_option
from models.rankers.settings import KINDS
from offline.encoders.report import text_of_encoder
from offline.factors.recipe import factor_recipe
from offline.factors.settings import read_factor_config
from offline.options import data_path_option
from offline.rankers.report import text_of_ranker
from offline.rankers.settings import BATCH_SIZES, RankerTrainSettings, read_ranker_config
from offline.recurrent_graph.geometric import convolutions
from offline.recurrent_graph.recipe import recurrent_graph_recipe
from offline.recurrent_graph.settings import read_recurrent_graph_config
from offline.source import from_stream_option, read_log
from offline.training.continuing import continue_training
from offline.training.parallel import joined
from offline.training.report import (
    text_of_continued,
    text_of_epoch,
    text_of_trained,
    text_of_trial,
    text_of_tuned,
)
from offline.training.run import train
from offline.training.settings import TrainSettings, config_of, given_settings, read_config
from offline.training.teacher import load_teacher
from offline.training.tuning import check_can_tune, tune
from offline.two_tower.recipe import read_tables, two_tower_recipe
from offline.two_tower.settings import read_two_tower_config

DEFAULTS, RANKER_DEFAULTS = TrainSettings(), RankerTrainSettings()
#: What --model calls the dual towers.
TOWERS = "towers"
#: What it calls the other models that make vectors.
FACTORS, TWO_TOWER = "mf", "two-tower"
#: And those of a recurrent encoder beside a graph, by the cell.
RECURRENT_GRAPH = {"gru-gnn": "gru", "lstm-gnn": "lstm"}
#: The store of models that make vectors, where none is named.
VECTORS = Path("artifacts")


@click.command(cls=Command)
@data_path_option
@log_format_option
@from_stream_option
@click.option(
    "--model",
    type=click.Choice([TOWERS, FACTORS, TWO_TOWER, *RECURRENT_GRAPH, *KINDS]),
    default=TOWERS,
    show_default=True,
    help="What is trained: the towers, mf, two-tower, gru-gnn or lstm-gnn, which make vectors, or a ranker, "
    "which scores candidates.",
)
@click.option(
    "--save-dir",
    type=LOCATION,
    help="Store that gets the artifact and makes it the current one: a directory, or s3://, gs://, file://.  "
    "[default: artifacts; of a ranker, rankers]",
)
@click.option(
    "--continue-from",
    type=LOCATION,
    help="Artifact, or a store's current one, that goes on with the rows of the log that are newer.",
)
@click.option(
    "--teacher",
    type=LOCATION,
    help="Ranker that was trained on this log, from which the towers learn too, if that makes them better.",
)
@click.option(
    "--epochs",
    type=int,
    help="Passes over the data at most.  [default: 4 to 30, by its size; of a ranker "
    f"{RANKER_DEFAULTS.epochs}]",
)
@click.option(
    "--batch-size",
    type=int,
    help="Stretches of history per step, of a ranker targets.  [default: 8 on a CPU, up to 64 on a GPU; of a "
    f"ranker {BATCH_SIZES[0]} to {BATCH_SIZES[1]}, by its size]",
)
@click.option(
    "--lr", type=float, help=f"Learning rate.  [default: {DEFAULTS.lr}; of a ranker {RANKER_DEFAULTS.lr}]"
)
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
    "--tune",
    "minutes",
    type=float,
    metavar="MINUTES",
    help="First try settings for so long, by held-out rows; those that are given stay.",
)
@click.option(
    "--positives",
    metavar="NAMES",
    help="Of a ranker: behaviours that are positive, such as favourite,buy.  [default: all]",
)
@click.option(
    "--negatives-from",
    type=click.Choice(["drawn", "rows"]),
    help="Of a ranker: what is negative, items that are drawn, or the rows that are not positive.  "
    f"[default: {RANKER_DEFAULTS.negatives_from}]",
)
@click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    help="TOML file of settings, one `name = value` per line; flags overrule it.",
)
def main(
    data_path: tuple[str, ...],
    log_format: str,
    from_stream: bool,
    model: str,
    save_dir: Location | None,
    config: Path | None,
    continue_from: Location | None,
    teacher: Location | None,
    minutes: float | None,
    positives: str | None,
    negatives_from: str | None,
    **flags: object,
) -> None:
    """Train the dual towers on a behaviour log, or on what the stream holds, and publish the artifact.

    After every epoch it prints how well all items are ranked for the next event of the validation slice; the
    best epoch is kept and tested once. It then learns from the rows held out too, is written under its
    version and made `current`. The same command after a crash resumes after the last finished epoch, to the
    same result. Under torchrun, every process takes a part of each step.

    --continue-from costs in proportion to the new rows: the model learns them, and some older ones again,
    gets to know the new items, and keeps its space. It prints how well the model before ranked the new rows.

    With --teacher, they learn to hold likely what a ranker does, which looks at each item anew and is better
    at it; the version of it teaches that has not learned the rows held out. Both are tried, with and without.

    --model mf trains a matrix factorisation in their place, --model two-tower two towers over features, as
    the TOML file of --config says (docs/models.md).
    --model din, dsin or dien trains a ranker instead, which scores candidates by a user's history
    (docs/rankers.md).

    --tune searches the learning rate, dropout and the like; the defaults are the first trial, and trials far
    behind are given up. It prints the best and writes them to a file for --config. Killed, it goes on.

    \b
    Examples:
      python -m offline.train --data-path data/behaviour.csv --save-dir artifacts --epochs 10
      python -m offline.train --from-stream
      python -m offline.train --data-path data/behaviour.csv --continue-from artifacts
      python -m offline.train --data-path data/behaviour.csv --tune 60
      python -m offline.train --data-path data/behaviour.csv --model din
      python -m offline.train --data-path data/behaviour.csv --teacher rankers
      torchrun --nproc-per-node 4 -m offline.train --device cuda
    """
    log_to_stderr()
    read = partial(read_log, data_path, log_format, from_stream)
    of_ranker = {"positives": positives, "negatives_from": negatives_from}
    if model != TOWERS:
        _refuse(f"--model {model}", {"continue-from": continue_from, "teacher": teacher, "tune": minutes})
    if model == FACTORS:
        without = ("batch_size", "lr", "device")
        _refuse(f"--model {model}", of_ranker | {name: flags.pop(name) for name in without})
        of_factors = read_factor_config(config, flags)
        log = read()
        click.echo(text_of_encoder(log, factor_recipe(log, of_factors), save_dir or VECTORS, click.echo))
        return
    if model == TWO_TOWER:
        _refuse(f"--model {model}", of_ranker)
        of_towers = read_two_tower_config(config, {**flags, **_given_paths(data_path, save_dir)})
        tables = read_tables(of_towers)
        log = read_log(data_path if from_stream else of_towers.paths.logs, log_format, from_stream)
        recipe = two_tower_recipe(log, of_towers, tables)
        click.echo(text_of_encoder(log, recipe, of_towers.store, click.echo))
        return
    if model in RECURRENT_GRAPH:
        _refuse(f"--model {model}", of_ranker)
        of_graph = read_recurrent_graph_config(RECURRENT_GRAPH[model], config, flags)
        convolutions()
        log = read()
        recipe = recurrent_graph_recipe(log, of_graph)
        click.echo(text_of_encoder(log, recipe, save_dir or VECTORS, click.echo))
        return
    if model in KINDS:
        of_run = read_ranker_config(config, {"kind": model, **of_ranker, **flags})
        click.echo(text_of_ranker(read(), of_run, save_dir or Path("rankers"), click.echo))
        return
    _refuse(f"--model {model}", of_ranker)
    save_dir = save_dir or VECTORS
    if continue_from is not None:
        _refuse_with_continue({"config": config, "teacher": teacher, "tune": minutes, **flags})
    if teacher is not None and minutes is not None:
        raise SettingsError(
            "--teacher means nothing to the trials of --tune, which learn alone: tune first, and then give "
            "--teacher with --config and what was found"
        )
    chosen = read_config(config, flags)
    with joined(chosen.train.device) as processes:
        if minutes is not None:
            check_can_tune(minutes, processes)
        taught_by = None if teacher is None else load_teacher(teacher)
        log = processes.from_first(read) if from_stream else processes.after_first(read)
        if continue_from is not None:
            done = continue_training(load(continue_from), log, save_dir, flags, processes)
            if processes.is_first:
                click.echo(text_of_continued(done, save_dir))
            return
        if not processes.is_first:
            train(log, chosen, save_dir, processes=processes, teacher=taught_by)
            return
        left_out = f", {log.bad_rows:,} bad ones left out" if log.bad_rows else ""
        click.echo(f"{log.path}: {len(log):,} rows{left_out}")
        if minutes is not None:
            given = given_settings(config, flags)
            folder = open_store(save_dir).prepare()
            tuned = tune(
                log, given, minutes, folder, processes, lambda trial: click.echo(text_of_trial(trial))
            )
            click.echo(text_of_tuned(tuned))
            chosen = config_of(tuned.settings)
        trained = train(
            log, chosen, save_dir, lambda epoch: click.echo(text_of_epoch(epoch)), processes, taught_by
        )
        click.echo(text_of_trained(trained, save_dir))


def _given_paths(data_path: tuple[str, ...], save_dir: Location | None) -> dict[str, object]:
    """Return what the command line, and not its defaults, says of [paths]."""
    source = click.get_current_context().get_parameter_source("data_path")
    return {
        "log": None if source is ParameterSource.DEFAULT else data_path,
        "save_dir": save_dir and str(save_dir),
    }


def _refuse_with_continue(options: Mapping[str, object]) -> None:
    for name in ("tune", "config", "teacher", "epochs", "protocol"):
        if options[name] is not None:
            raise SettingsError(
                f"--{name} means nothing with --continue-from, which has the settings that the artifact was "
                "trained with: leave it out, or train anew"
            )


def _refuse(with_option: str, options: Mapping[str, object]) -> None:
    for name, value in options.items():
        if value is not None:
            raise SettingsError(f"--{name.replace('_', '-')} means nothing with {with_option}: leave it out")


if __name__ == "__main__":
    main()
