"""`./run bench rankers`: how good DIN, DSIN and DIEN are on held-out rows, and how soon they have learned."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import click
import numpy as np

from bench.harness.report import Report, Result, print_table
from bench.peers.fuxictr_run import run_fuxictr
from models.command import Command, log_to_stderr
from models.errors import SettingsError
from models.log.behaviour_log import BehaviourLog
from models.log.cache import read_cached
from models.log.format import log_format_option, read_log_format
from models.rankers.settings import KINDS
from offline.options import data_path_option
from offline.rankers.measures import Quality, quality_of
from offline.rankers.questions import Drawer
from offline.rankers.run import choose, material_of_slices, with_gap, with_unknown_share
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
    "din no features": {"kind": "din", "features": False},
    "dsin no features": {"kind": "dsin", "features": False},
    "dien no features": {"kind": "dien", "features": False},
}
#: FuxiCTR's own, of the same sizes, at its own learning rate.
PEERS: Mapping[str, Mapping[str, object]] = {
    "din (FuxiCTR)": {"kind": "din", "features": False},
    "dien (FuxiCTR)": {"kind": "dien", "features": False},
}
POPULARITY = "popularity"
#: Whose AUC stands beside whose.
COMPARED = (
    ("dsin", "din"),
    ("dien", "dien no auxiliary"),
    *((kind, f"{kind} no features") for kind in KINDS),
    ("din no features", "din (FuxiCTR)"),
    ("dien no features", "dien (FuxiCTR)"),
    ("din", POPULARITY),
)
COLUMNS = {
    "auc": ".4f",
    "auc +-": ".4f",
    "user auc": ".4f",
    "log loss": ".4f",
    "ndcg@10": ".4f",
    "epochs": ".1f",
    "train s": ",.0f",
    "parameters": ",.0f",
    "trainings": ".0f",
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
    negatives, a list is all of a user's. "+-" is the standard deviation over the seeds. Beside them are
    FuxiCTR's DIN and DIEN, in an environment of their own, on the same samples, without features, and the
    popularity of items in the training rows. --json is written after each training: all learn once before any
    learns again.

    \b
    Examples:
      ./run bench rankers --data-path data/behaviour.csv --json rankers.json
      ./run bench rankers --data-path ratings.csv --positives favourite,buy --negatives-from rows
    """
    log_to_stderr()
    unknown = sorted(set(only) - {*CONTESTANTS, *PEERS})
    if unknown or seeds < 1:
        there = ", ".join([*CONTESTANTS, *PEERS])
        raise SettingsError(f"--only {unknown}, --seeds {seeds}: there are {there}; 1 is the least")
    flags = {"positives": positives, "negatives_from": negatives_from, "epochs": epochs}
    log = read_cached(data_path, read_log_format(log_format))
    settings = {**flags, "seeds": seeds, "fingerprint": log.fingerprint}
    trained: dict[str, list[Result]] = {POPULARITY: [_popularity(log, read_ranker_config(None, flags))]}
    for name, result in trainings(log, flags, only or (*CONTESTANTS, *PEERS), seeds):
        trained.setdefault(name, []).append(result)
        if json_path:
            _report(settings, trained).write(json_path)
    print_table(f"{log.path}, {len(log):,} rows", _report(settings, trained).results, COLUMNS)


def trainings(
    log: BehaviourLog, flags: Mapping[str, object], names: Sequence[str], seeds: int
) -> Iterator[tuple[str, Result]]:
    """Yield the name of a contestant and its figures after each training: each once, and then again."""
    for seed in range(seeds):
        for name in names:
            config = read_ranker_config(None, {**flags, **{**CONTESTANTS, **PEERS}[name], "seed": seed})
            result = (_peer if name in PEERS else _own)(log, config)
            click.echo(f"{name}, seed {seed}: auc {result['auc']:.4f}, {result['train s']:.0f} s", err=True)
            yield name, result


def _own(log: BehaviourLog, config: RankerConfig) -> Result:
    """Train one of ours, and return its figures."""
    chosen = choose(log, with_gap(config, log), config.train)
    parameters = sum(each.numel() for each in chosen.ranker.parameters())
    rest = {"epochs": chosen.best.number, "train s": chosen.seconds, "parameters": float(parameters)}
    return _figures(chosen.test) | rest


def _peer(log: BehaviourLog, config: RankerConfig) -> Result:
    """Train FuxiCTR's on the same samples, with the same share of items hidden, and return its figures."""
    settings = with_gap(config, log)
    vocabulary, samples = material_of_slices(log, settings, config.train)
    train = with_unknown_share(config.train, samples["validation"])
    found = run_fuxictr(settings.kind, vocabulary, samples, settings, train)
    rest = {"epochs": found.epochs, "train s": found.seconds, "parameters": float(found.parameters)}
    return _figures(found.test) | rest


def _report(settings: Mapping[str, object], trained: Mapping[str, Sequence[Result]]) -> Report:
    """Return the means over the trainings so far, and how far their AUC is apart."""
    results: dict[str, Result] = {}
    for name, found in trained.items():
        results[name] = {each: float(np.mean([one[each] for one in found])) for each in found[0]}
        results[name] |= {"auc +-": float(np.std([one["auc"] for one in found])), "trainings": len(found)}
    report = Report(settings, results)
    for one, other in COMPARED:
        report.compare(one, (other,), "auc")
    return report


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
        samples["test"], drawer, settings, config.train, lambda asked, _: counts[asked.item.cpu().numpy()]
    )
    return dict.fromkeys(COLUMNS, math.nan) | _figures(replace(quality_of(scored), log_loss=math.nan))


if __name__ == "__main__":
    main(prog_name="./run bench rankers")
