"""`./run bench learning`: what it is worth that a model goes on learning, and what it costs."""

import time
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import numpy as np

from bench.harness.report import Report, Result, print_table
from models.arrays import Flags, Ints
from models.artifact.artifact import Artifact
from models.command import Command, log_to_stderr
from models.errors import SettingsError
from models.ids.vocabulary_file import FIRST_KNOWN
from models.log.behaviour_log import BehaviourLog
from models.log.cache import read_cached
from models.log.format import log_format_option, read_log_format
from offline.options import data_path_option
from offline.pictures.plots import new_figure
from offline.ranking.metrics import gains_in_ten
from offline.training.continuing import continue_training
from offline.training.held_out import target_ranks
from offline.training.pieces import has_targets, material_of
from offline.training.run import train
from offline.training.settings import read_config

#: Share of the rows, the last by time, that is walked.
WALKED_SHARE = 0.2
#: What is compared: from the artifact of the step before, the log so far and a folder, the next artifact.
Way = Callable[[Artifact, BehaviourLog, Path], Artifact]
#: NDCG@10 of each step, NaN where nothing is asked in it, and seconds of CPU spent on learning before it.
Walk = list[tuple[float, float]]


@click.command(cls=Command, context_settings={"max_content_width": 110})
@data_path_option
@log_format_option
@click.option("--steps", default=10, show_default=True, help="Steps in which the last fifth is walked.")
@click.option("--often", default=5, show_default=True, help="Times that one goes on within a step; 0: not.")
@click.option("--seed", default=0, show_default=True, help="Of everything random.")
@click.option("--png", type=click.Path(path_type=Path), help="Draw the walks into this file.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the result to this file.")
def main(
    data_path: tuple[str, ...],
    log_format: str,
    steps: int,
    often: int,
    seed: int,
    png: Path | None,
    json_path: Path | None,
) -> None:
    """Walk the last fifth of a log in time order, and rank each step's events by a model of before it.

    Each event is ranked from all events of its user before it; an item that the model does not know is a
    miss. The model is of the first four fifths and never learns again; or is trained anew before each step,
    from all rows until then; or goes on (--continue-from), before each step, or several times within one.

    \b
    Example: ./run bench learning --data-path data/behaviour.csv --png learning.png
    """
    log_to_stderr()
    if steps < 1 or often < 0:
        raise SettingsError(f"--steps {steps} --often {often}: 1 and 0 are the least")
    log = read_cached(data_path, read_log_format(log_format)).in_time_order()
    walks = run(log, steps, often, seed)
    anew = _result(walks["anew"])
    results = {name: _compared(_result(walk), anew) for name, walk in walks.items()}
    report = Report({"steps": steps, "often": often, "seed": seed, "fingerprint": log.fingerprint}, results)
    columns = {"ndcg@10": ".4f", "of anew": ".1%", "CPU s per step": ".1f", "CPU s of anew": ".1%"}
    print_table(f"{log.path}, the last fifth in {steps} steps", results, columns)
    if json_path:
        report.write(json_path)
    if png:
        _draw(walks, png)
        click.echo(png)


def run(log: BehaviourLog, steps: int, often: int, seed: int) -> dict[str, Walk]:
    """Return the walks by name, of a log in time order."""
    with TemporaryDirectory() as folder:
        first = _trained(log.select(np.arange(_rows(log))), Path(folder) / "first", seed)
        ways: dict[str, Way] = {
            "never again": lambda before, known, store: before,
            "anew": lambda before, known, store: _trained(known, store, seed),
            "going on": lambda before, known, store: continue_training(before, known, store).artifact,
        }
        walks = {
            name: _walk(log, _bounds(log, steps), first, way, Path(folder) / name)
            for name, way in ways.items()
        }
        if often:
            fine = _walk(log, _bounds(log, steps * often), first, ways["going on"], Path(folder) / "often")
            walks[f"going on, {often} times a step"] = _joined(fine, often)
        return walks


def _rows(log: BehaviourLog) -> int:
    """Return how many rows come before the walk."""
    return len(log) - int(len(log) * WALKED_SHARE)


def _bounds(log: BehaviourLog, steps: int) -> Ints:
    """Return the rows at which steps begin, and the end (S + 1,); rows of one time are in one step."""
    bounds = np.linspace(_rows(log), len(log), steps + 1).astype(np.int64)
    bounds[:-1] = np.searchsorted(log.time_ms, log.time_ms[bounds[:-1]])
    return np.unique(bounds)


def _walk(log: BehaviourLog, bounds: Ints, first: Artifact, way: Way, folder: Path) -> Walk:
    artifact, walk = first, []
    for step, (begin, end) in enumerate(pairwise(bounds.tolist())):
        started = time.process_time()
        if step:  # before the first step there is nothing new
            artifact = way(artifact, log.select(np.arange(begin)), folder / str(step))
        seconds = time.process_time() - started
        is_asked = np.arange(len(log)) >= begin
        walk.append((_ndcg(artifact, log.select(np.arange(end)), is_asked[:end]), seconds))
    return walk


def _ndcg(artifact: Artifact, log: BehaviourLog, is_asked: Flags) -> float:
    """Return NDCG@10 over the rows asked for (R,) that have an earlier one of their user."""
    material = material_of(log, artifact.vocabulary, artifact.settings)
    stretches = material.stretches(is_asked[log.by_user()])
    asked = stretches.weight > 0
    asked[stretches.histories.starts[:-1]] = False
    if not asked.any():
        return float("nan")
    known_share = float((stretches.histories.item[asked] >= FIRST_KNOWN).mean())
    gains = gains_in_ten(target_ranks(artifact.towers, stretches)) if has_targets(stretches) else np.zeros(1)
    return float(gains.mean()) * known_share


def _trained(log: BehaviourLog, store: Path, seed: int) -> Artifact:
    return train(log, read_config(None, {"seed": seed}), store).artifact


def _joined(fine: Walk, often: int) -> Walk:
    """Return the walk in steps of which each has `often` of this one's: the mean figure, and all seconds."""
    parts = [fine[at : at + often] for at in range(0, len(fine), often)]
    return [(float(np.nanmean([ndcg for ndcg, _ in part])), sum(s for _, s in part)) for part in parts]


def _result(walk: Walk) -> Result:
    ndcg, seconds = np.array(walk).T
    return {"ndcg@10": float(np.nanmean(ndcg)), "CPU s per step": float(seconds[1:].mean())}


def _compared(result: Result, anew: Result) -> Result:
    """Return the result with what it is of training anew."""
    shares = {
        "of anew": result["ndcg@10"] / anew["ndcg@10"],
        "CPU s of anew": result["CPU s per step"] / anew["CPU s per step"],
    }
    return result | shares


def _draw(walks: Mapping[str, Walk], path: Path) -> None:
    figure = new_figure(8, 4)
    axes = figure.subplots()
    for name, walk in walks.items():
        ndcg = [ndcg for ndcg, _ in walk]
        axes.plot(range(1, len(ndcg) + 1), ndcg, marker="o", label=name)
    axes.set(xlabel="step of the last fifth of the log", ylabel="NDCG@10 of its events", ylim=(0, None))
    axes.legend(title="the model learns")
    axes.grid(alpha=0.3)
    figure.savefig(path)


if __name__ == "__main__":
    main()
