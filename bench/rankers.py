"""`./run bench rankers`: how good DIN, DSIN and DIEN are on held-out rows, and how soon they have learned."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import click
import numpy as np

from bench.harness.report import Report, Result, print_table
from models.command import Command, log_to_stderr
from models.errors import SettingsError
from models.log.behaviour_log import BehaviourLog
from models.log.cache import read_cached
from models.log.format import log_format_option, read_log_format
from offline.options import data_path_option
from offline.rankers.measures import Quality, quality_of
from offline.rankers.questions import Drawer
from offline.rankers.run import choose, material_of_slices, with_gap
from offline.rankers.scoring import ask
from offline.rankers.settings import RankerConfig, read_ranker_config

#: What takes part, by name: the settings in which each differs from the defaults.
CONTESTANTS: Mapping[str, Mapping[str, object]] = {
    "din": {"kind": "din"},
    "din softmax": {"kind": "din", "softmax": True},
    "din regularised": {"kind": "din", "regularisation": 0.01},
    "dsin": {"kind": "dsin"},
    "dien": {"kind": "dien"},
    "dien no auxiliary": {"kind": "dien", "auxiliary_weight": 0.0},
}
POPULARITY = "popularity"
COLUMNS = {
    "auc": ".4f",
    "auc +-": ".4f",
    "user auc": ".4f",
    "log loss": ".4f",
    "ndcg@10": ".4f",
    "epochs": ".1f",
    "train s": ",.0f",
    "parameters": ",.0f",
}


@click.command(cls=Command, context_settings={"max_content_width": 110})
@data_path_option
@log_format_option
@click.option("--positives", metavar="NAMES", help="Behaviours that are positive.  [default: all]")
@click.option(
    "--negatives-from", type=click.Choice(["drawn", "rows"]), help="What is negative.  [default: drawn]"
)
@click.option("--seeds", default=3, show_default=True, help="Trainings of each.")
@click.option("--epochs", type=int, help="Passes over the data at most, where not the default.")
@click.option(
    "--only", multiple=True, help="A contestant by its name; give it again for more.  [default: all]"
)
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the result to this file.")
def main(
    data_path: tuple[str, ...],
    log_format: str,
    positives: str | None,
    negatives_from: str | None,
    seeds: int,
    epochs: int | None,
    only: tuple[str, ...],
    json_path: Path | None,
) -> None:
    """Hold the last fifth of the rows back, learn from the others, and score the last tenth once.

    Each learns as `python -m offline.train --model` does, but for the last fit on all rows: the best pass is
    chosen by the tenth before the last. Where items are drawn, each positive stands in a list with 50 drawn
    ones, the same for all; the log loss is as if there were as many as in training. Where rows are the
    negatives, a list is all of a user's. "+-" is the standard deviation over the seeds. Beside them is the
    popularity of items in the training rows.

    \b
    Examples:
      ./run bench rankers --data-path data/behaviour.csv --json rankers.json
      ./run bench rankers --data-path ratings.csv --positives favourite,buy --negatives-from rows
    """
    log_to_stderr()
    unknown = sorted(set(only) - CONTESTANTS.keys())
    if unknown or seeds < 1:
        raise SettingsError(
            f"--only {unknown}, --seeds {seeds}: there are {', '.join(CONTESTANTS)}; 1 is the least"
        )
    flags = {"positives": positives, "negatives_from": negatives_from, "epochs": epochs}
    log = read_cached(data_path, read_log_format(log_format))
    results = run(log, flags, only or tuple(CONTESTANTS), seeds)
    print_table(f"{log.path}, {len(log):,} rows", results, COLUMNS)
    report = Report({**flags, "seeds": seeds, "fingerprint": log.fingerprint}, results)
    for one, other in (("dsin", "din"), ("dien", "dien no auxiliary"), ("din", POPULARITY)):
        if one in results:
            report.compare(one, (other,), "auc")
    if json_path:
        report.write(json_path)


def run(
    log: BehaviourLog, flags: Mapping[str, object], names: Sequence[str], seeds: int
) -> dict[str, Result]:
    """Return the figures by contestant, means over the seeds."""
    results: dict[str, Result] = {POPULARITY: _popularity(log, read_ranker_config(None, flags))}
    for name in names:
        found = []
        for seed in range(seeds):
            config = read_ranker_config(None, {**flags, **CONTESTANTS[name], "seed": seed})
            chosen = choose(log, with_gap(config, log), config.train)
            parameters = sum(each.numel() for each in chosen.ranker.parameters())
            rest = {"epochs": chosen.best.number, "train s": chosen.seconds, "parameters": float(parameters)}
            found.append(_figures(chosen.test) | rest)
            click.echo(f"{name}, seed {seed}: auc {chosen.test.auc:.4f}, {chosen.seconds:.0f} s", err=True)
        results[name] = {each: float(np.mean([one[each] for one in found])) for each in found[0]}
        results[name]["auc +-"] = float(np.std([one["auc"] for one in found]))
    return results


def _figures(quality: Quality) -> Result:
    return {
        "auc": quality.auc,
        "user auc": quality.user_auc,
        "log loss": quality.log_loss,
        "ndcg@10": quality.ndcg_at_10,
    }


def _popularity(log: BehaviourLog, config: RankerConfig) -> Result:
    """Return the figures of how often an item is a positive of the training rows; it has no probabilities."""
    settings = with_gap(config, log)
    vocabulary, samples = material_of_slices(log, settings, config.train)
    learned = samples["train"]
    counts = np.bincount(
        learned.histories.item[learned.target], weights=learned.label, minlength=vocabulary.item_count
    )
    drawer = Drawer(learned, vocabulary, config.train)
    scored = ask(
        samples["test"], drawer, settings, config.train, lambda asked: counts[asked.item.cpu().numpy()]
    )
    return dict.fromkeys(COLUMNS, math.nan) | _figures(replace(quality_of(scored), log_loss=math.nan))


if __name__ == "__main__":
    main(prog_name="./run bench rankers")
