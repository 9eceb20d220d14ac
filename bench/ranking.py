"""`./run bench ranking`: how well what is published ranks, beside baselines and RecTools' SASRec."""

import csv
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import click
import numpy as np

from bench.harness.report import Report, Result, print_table
from bench.peers.sasrec_run import NAME as SASREC_NAME
from bench.peers.sasrec_run import SASREC, run_sasrec
from models.arrays import Floats, Ints
from models.artifact.artifact import Artifact
from models.command import Command, log_to_stderr
from models.errors import SettingsError
from models.ids.vocabulary import Vocabulary
from models.log.behaviour_log import BehaviourLog
from models.log.cache import read_cached
from models.log.format import log_format_option, read_log_format
from offline.baselines.counting import baselines
from offline.options import data_path_option
from offline.ranking.metrics import MISSING, Ranks, gains_in_ten
from offline.ranking.protocols import Cases, are_last, cases_by_time, cases_leave_one_out, repeats
from offline.ranking.scorers import Scorer, ranks_by
from offline.training.data import slice_log
from offline.training.run import train
from offline.training.settings import TrainSettings, read_config

#: What the columns are called, and whether what a user had before is left out of the ranking.
QUESTIONS = {"": False, " new": True}
#: The ranks of the targets (B,) by question; a contestant's, with how long training took (s).
RanksOf = Mapping[str, Ranks]
Contestant = tuple[RanksOf, float]
#: The last column: how long training took (s).
TRAIN_SECONDS = "train s"


@click.command(cls=Command, context_settings={"max_content_width": 110})
@data_path_option
@log_format_option
@click.option(
    "--protocol",
    type=click.Choice(["leave-one-out", "time"]),
    default="leave-one-out",
    show_default=True,
    help="What is held back: each user's last event, or all from a time on.",
)
@click.option("--seeds", default=3, show_default=True, help="Trainings of each that has a seed.")
@click.option("--epochs", type=int, help="Of Twintide, where not its default.")
@click.option("--sasrec-epochs", default=60, show_default=True, help="Of SASRec; 0 leaves it out.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the result to this file.")
def main(
    data_path: tuple[str, ...],
    log_format: str,
    protocol: Literal["leave-one-out", "time"],
    seeds: int,
    epochs: int | None,
    sasrec_epochs: int,
    json_path: Path | None,
) -> None:
    """Hold rows back, train on all others, and rank every item for each user's first event held back.

    leave-one-out: each user's last event is held back; time: all events from the time on at which a tenth of
    the rows is left. Twintide has its default settings, as `python -m offline.train` would publish it: what
    it holds out to choose by is of the rows before. It ranks by the dot product of its vectors alone. The
    baselines and SASRec (RecTools, in an environment of its own) learn from the same rows.

    "new": what a user had before is not ranked, and who returns to it is left out; there is no such column
    where all do. "behind": by how much a ranker is behind Twintide in NDCG@10, user by user, and half the 95
    % confidence interval of that.

    \b
    Example: ./run bench ranking --data-path data/behaviour.csv --protocol time --json ranking.json
    """
    log_to_stderr()
    if seeds < 1 or sasrec_epochs < 0:
        raise SettingsError(f"--seeds {seeds} --sasrec-epochs {sasrec_epochs}: 1 and 0 are the least")
    log = read_cached(data_path, read_log_format(log_format))
    results = run(log, protocol, seeds, epochs, sasrec_epochs)
    settings = {"protocol": protocol, "seeds": seeds, "epochs": epochs}
    sasrec = {**SASREC, "epochs": sasrec_epochs}
    report = Report({**settings, "sasrec": sasrec, "fingerprint": log.fingerprint}, results)
    others = tuple(name for name in results if name != "twintide")
    report.compare("twintide", others, "ndcg@10")
    columns = {name: ".4f" for name in results["twintide"] if name != TRAIN_SECONDS} | {TRAIN_SECONDS: ",.0f"}
    print_table(f"{log.path}, {protocol}, {len(log):,} rows", results, columns)
    if json_path:
        report.write(json_path)


def run(
    log: BehaviourLog,
    protocol: Literal["leave-one-out", "time"],
    seeds: int,
    epochs: int | None,
    sasrec_epochs: int,
) -> dict[str, Result]:
    """Return the figures by name, those of what has a seed as means over the seeds."""
    cutoff_ms = slice_log(log, TrainSettings()).cutoff_ms if protocol == "time" else None
    known = log.select(log.time_ms < cutoff_ms) if cutoff_ms else log.select(~are_last(log))
    found: dict[str, list[Contestant]] = {}
    with TemporaryDirectory() as folder:
        for seed in range(seeds):
            config = read_config(None, {"protocol": protocol, "seed": seed, "epochs": epochs})
            with _timed() as seconds:
                artifact = train(known, config, Path(folder) / str(seed)).artifact
            window, vocabulary = artifact.settings.window, artifact.vocabulary
            cases = (
                cases_by_time(log, vocabulary, window, cutoff_ms)
                if cutoff_ms
                else cases_leave_one_out(log, vocabulary, window)
            )
            questions = _questions(cases)
            found.setdefault("twintide", []).append((_twintide(artifact, cases, questions), seconds[0]))
            if sasrec_epochs:
                theirs = _sasrec(cases, questions, artifact.item_ids, Path(folder), seed, sasrec_epochs)
                found.setdefault(SASREC_NAME, []).append(theirs)
            if not seed:
                gap_ms = artifact.settings.gap_ms
                found |= {name: [each] for name, each in _baselines(cases, vocabulary, gap_ms, questions)}
    return {name: _figures(each, found["twintide"]) for name, each in found.items()}


@contextmanager
def _timed() -> Iterator[list[float]]:
    started, seconds = time.monotonic(), [0.0]
    yield seconds
    seconds[0] = time.monotonic() - started


def _questions(cases: Cases) -> dict[str, bool]:
    """Return the questions that these cases can answer."""
    has_new = bool((~repeats(cases) & (cases.target >= 0)).any())
    return {name: exclude_seen for name, exclude_seen in QUESTIONS.items() if has_new or not exclude_seen}


def _twintide(artifact: Artifact, cases: Cases, questions: Mapping[str, bool]) -> RanksOf:
    users, items = artifact.encode(cases.histories, cases.user_ids).user, artifact.item_vectors.T
    ranks = {}
    for question, exclude_seen in questions.items():
        chosen = _chosen(cases, exclude_seen)
        ranks[question] = ranks_by(_by_dot(users[chosen], items), cases.take(chosen), exclude_seen)
    return ranks


def _by_dot(users: Floats, items: Floats) -> Scorer:
    return lambda some: users[some] @ items


def _baselines(
    cases: Cases, vocabulary: Vocabulary, gap_ms: int, questions: Mapping[str, bool]
) -> Iterator[tuple[str, Contestant]]:
    found: dict[str, dict[str, Ranks]] = {}
    for question, exclude_seen in questions.items():
        asked = cases.take(_chosen(cases, exclude_seen))
        for name, score in baselines(asked, vocabulary, gap_ms).items():
            found.setdefault(name, {})[question] = ranks_by(score, asked, exclude_seen)
    yield from ((name, (ranks, math.nan)) for name, ranks in found.items())


def _chosen(cases: Cases, exclude_seen: bool) -> Ints:
    """Return the cases (indices) that a question is about."""
    return np.flatnonzero(~repeats(cases)) if exclude_seen else np.arange(len(cases.target))


def _figures(runs: Sequence[Contestant], ours: Sequence[Contestant]) -> Result:
    """Return the means over the runs, and how far they are behind ours, user by user."""
    result: Result = {}
    for question in runs[0][0]:
        gains = np.mean([gains_in_ten(ranks[question]) for ranks, _ in runs], axis=0)  # (B,)
        behind = np.mean([gains_in_ten(ranks[question]) for ranks, _ in ours], axis=0) - gains
        result[f"ndcg@10{question}"] = float(gains.mean())
        recall = [(ranks[question] <= 10).mean() for ranks, _ in runs]
        result[f"recall@10{question}"] = float(np.mean(recall))
        result[f"behind{question}"] = float(behind.mean())
        result[f"+-{question}"] = float(1.96 * behind.std() / np.sqrt(len(behind)))
    result[TRAIN_SECONDS] = float(np.mean([seconds for _, seconds in runs]))
    return result


def _sasrec(
    cases: Cases, questions: Mapping[str, bool], item_ids: list[str], folder: Path, seed: int, epochs: int
) -> Contestant:
    """Return SASRec's ranks, from the ten items that it recommends to each user."""
    with _timed() as seconds:
        run_sasrec(cases.known, folder, seed, epochs)
    ranks: dict[tuple[str, str, str], int] = {}
    with (folder / "out.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            ranks[row["exclude_seen"], row["user"], row["item"]] = int(row["rank"])
    return {
        question: _ranks_of(cases.take(_chosen(cases, exclude_seen)), item_ids, ranks, str(exclude_seen))
        for question, exclude_seen in questions.items()
    }, seconds[0]


def _ranks_of(
    cases: Cases, item_ids: list[str], ranks: dict[tuple[str, str, str], int], exclude_seen: str
) -> Ranks:
    targets = [item_ids[target] if target >= 0 else "" for target in cases.target]
    pairs = zip(cases.user_ids, targets, strict=True)
    return np.array([ranks.get((exclude_seen, user, target), MISSING) for user, target in pairs])


if __name__ == "__main__":
    main()
