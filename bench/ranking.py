"""`./run bench ranking`: how well vectors rank, beside baselines and RecTools' SASRec on the same split."""

import csv
import json
import logging
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import numpy as np

from bench.harness.report import Report, Result, print_table
from bench.peers.environment import python_with
from local.servers import LOCAL
from models.artifact.artifact import Artifact
from models.command import Command, log_to_stderr
from models.errors import SettingsError, TwintideError
from models.log.behaviour_log import BehaviourLog
from models.log.cache import read_cached
from models.log.format import log_format_option, read_log_format
from offline.evaluation.evaluation import evaluate
from offline.ranking.metrics import MISSING, Ranking, Ranks, summarise
from offline.ranking.protocols import Cases, cases_leave_one_out, repeats, without_repeats
from offline.training.run import train
from offline.training.settings import read_config

logger = logging.getLogger(__name__)

RECTOOLS = ["rectools[torch]==0.19.0"]
PEER = Path(__file__).parent / "peers" / "sasrec.py"
#: SASRec's settings: RecTools' own but for the length of the vectors, which is ours, and the epochs.
SASREC = {"n_factors": 128, "session_max_len": 100, "loss": "softmax"}
#: What the columns are called, and whether what a user had before is left out of the ranking.
QUESTIONS = {"": False, " new": True}
#: The last column: how long training took (s).
TRAIN_SECONDS = "train s"


@click.command(cls=Command, context_settings={"max_content_width": 110})
@click.option("--data-path", multiple=True, required=True, help="Behaviour log, as offline.train takes it.")
@log_format_option
@click.option("--seeds", default=3, show_default=True, help="Trainings of each that has a seed.")
@click.option("--epochs", type=int, help="Of Twintide, where not its default.")
@click.option("--sasrec-epochs", default=60, show_default=True, help="Of SASRec; 0 leaves it out.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the result to this file.")
def main(
    data_path: tuple[str, ...],
    log_format: str,
    seeds: int,
    epochs: int | None,
    sasrec_epochs: int,
    json_path: Path | None,
) -> None:
    """Train on all but each user's last events, and rank every item for each user's last one.

    Leave-one-out, full ranking. Twintide has its default settings: it holds out the last two, chooses its
    epoch by the one before the last, and ranks only by the dot product of its vectors. The baselines and
    SASRec (RecTools, in an environment of its own) learn from all but the last. "new": what a user had before
    is not ranked, and who returns to it is left out; there is no such column where all do.

    \b
    Example: ./run bench ranking --data-path data/behaviour.csv --json ranking.json
    """
    log_to_stderr()
    if seeds < 1 or sasrec_epochs < 0:
        raise SettingsError(f"--seeds {seeds} --sasrec-epochs {sasrec_epochs}: 1 and 0 are the least")
    log = read_cached(data_path, read_log_format(log_format))
    results = run(log, seeds, epochs, sasrec_epochs)
    settings = {"seeds": seeds, "epochs": epochs, "sasrec": {**SASREC, "epochs": sasrec_epochs}}
    report = Report({**settings, "fingerprint": log.fingerprint}, results)
    others = tuple(name for name in results if name != "twintide")
    report.compare("twintide", others, "ndcg@10")
    columns = {name: ".4f" for name in results["twintide"] if name != TRAIN_SECONDS} | {TRAIN_SECONDS: ",.0f"}
    print_table(f"{log.path}, leave-one-out, {len(log):,} rows", results, columns)
    if json_path:
        report.write(json_path)


def run(log: BehaviourLog, seeds: int, epochs: int | None, sasrec_epochs: int) -> dict[str, Result]:
    """Return the figures by name, those of what has a seed as means over the seeds."""
    results: dict[str, Result] = {}
    ours, theirs = [], []
    with TemporaryDirectory() as folder:
        for seed in range(seeds):
            config = read_config(None, {"protocol": "leave-one-out", "seed": seed, "epochs": epochs})
            with _timed() as seconds:
                artifact = train(log, config, Path(folder) / str(seed)).artifact
            cases = cases_leave_one_out(log, artifact.vocabulary, artifact.settings.window)
            questions = _questions(cases)
            found = _figures(artifact, cases, questions)
            ours.append({**found.pop("twintide"), TRAIN_SECONDS: seconds[0]})
            results |= found
            if sasrec_epochs:
                theirs.append(_sasrec(cases, questions, artifact.item_ids, Path(folder), seed, sasrec_epochs))
                logger.info("seed %d: twintide %s, SASRec %s", seed, ours[-1], theirs[-1])
    means = {"twintide": _mean(ours)} | ({"SASRec (RecTools)": _mean(theirs)} if theirs else {})
    return means | results


@contextmanager
def _timed() -> Iterator[list[float]]:
    started, seconds = time.monotonic(), [0.0]
    yield seconds
    seconds[0] = time.monotonic() - started


def _questions(cases: Cases) -> dict[str, bool]:
    """Return the questions that these cases can answer."""
    has_new = bool((~repeats(cases) & (cases.target >= 0)).any())
    return {name: exclude_seen for name, exclude_seen in QUESTIONS.items() if has_new or not exclude_seen}


def _figures(artifact: Artifact, cases: Cases, questions: Mapping[str, bool]) -> dict[str, Result]:
    """Return the figures of the model and of the baselines."""
    figures: dict[str, Result] = {}
    for question, exclude_seen in questions.items():
        for name, ranking in evaluate(artifact, cases, exclude_seen=exclude_seen).rankings.items():
            figures.setdefault(name, {TRAIN_SECONDS: float("nan")}).update(_named(ranking, question))
    return figures


def _named(ranking: Ranking, question: str) -> Result:
    return {f"ndcg@10{question}": ranking.ndcg_at_10, f"recall@10{question}": ranking.recall_at_10}


def _mean(results: list[Result]) -> Result:
    return {name: float(np.mean([result[name] for result in results])) for name in results[0]}


def _sasrec(
    cases: Cases, questions: Mapping[str, bool], item_ids: list[str], folder: Path, seed: int, epochs: int
) -> Result:
    """Return SASRec's figures, from the ten items that it recommends to each user."""
    python = python_with(RECTOOLS, LOCAL / "bench-rectools", "give --sasrec-epochs 0")
    job = {"train": str(folder / "train.csv"), "out": str(folder / "out.csv"), "seed": seed, "epochs": epochs}
    _write_train(cases.known, folder / "train.csv")
    (folder / "job.json").write_text(json.dumps(job | {"model": SASREC}))
    with _timed() as seconds:
        done = subprocess.run(
            [str(python), str(PEER), str(folder / "job.json")], capture_output=True, text=True, cwd=folder
        )
    if done.returncode:
        raise TwintideError(f"SASRec failed with {done.returncode}: {done.stderr.strip()[-300:]}")
    ranks: dict[tuple[str, str, str], int] = {}
    with (folder / "out.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            ranks[row["exclude_seen"], row["user"], row["item"]] = int(row["rank"])
    result: Result = {TRAIN_SECONDS: seconds[0]}
    for question, exclude_seen in questions.items():
        asked = without_repeats(cases) if exclude_seen else cases
        result |= _named(summarise(_ranks_of(asked, item_ids, ranks, str(exclude_seen))), question)
    return result


def _ranks_of(
    cases: Cases, item_ids: list[str], ranks: dict[tuple[str, str, str], int], exclude_seen: str
) -> Ranks:
    targets = [item_ids[target] if target >= 0 else "" for target in cases.target]
    pairs = zip(cases.user_ids, targets, strict=True)
    return np.array([ranks.get((exclude_seen, user, target), MISSING) for user, target in pairs])


def _write_train(known: BehaviourLog, path: Path) -> None:
    """Write who had which item, in the order of each user's history."""
    ordered = known.select(known.by_user())
    rows = zip(ordered.user.strings(), ordered.item.strings(), range(len(ordered)), strict=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["user", "item", "place"])
        writer.writerows(rows)


if __name__ == "__main__":
    main()
