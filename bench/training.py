"""`./run bench training`: how fast the towers learn, beside RecTools' SASRec."""

import time
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import numpy as np
import torch

from bench.harness.report import Report, Result, print_table
from bench.peers.sasrec_run import NAME as SASREC_NAME
from bench.peers.sasrec_run import SASREC, SESSION_MAX_LEN, run_sasrec
from models.command import Command, log_to_stderr
from models.errors import SettingsError
from models.log.behaviour_log import BehaviourLog
from models.log.cache import read_cached
from models.log.format import log_format_option, read_log_format
from models.towers.dual_towers import DualTowers
from offline.options import data_path_option
from offline.training.learner import Course, Learner
from offline.training.objective import loss_name
from offline.training.parallel import one_process
from offline.training.progress import Learns
from offline.training.selection import Ground, prepare, untrained
from offline.training.settings import TrainingConfig, read_config

WAYS: dict[str, Learns] = {"twintide, direct path": "direct", "twintide": "everything"}
#: SASRec draws negatives for each target by itself, so that as many as ours do not fit in memory.
SASREC_NEGATIVES = 64


@click.command(cls=Command, context_settings={"max_content_width": 110})
@data_path_option
@log_format_option
@click.option("--device", type=click.Choice(["cpu", "cuda", "auto"]), default="auto", show_default=True)
@click.option("--batch-size", type=int, help="Stretches per step, where not that of the device.")
@click.option("--sasrec-epochs", default=2, show_default=True, help="Of SASRec, on the CPU; 0 leaves it out.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the result to this file.")
def main(
    data_path: tuple[str, ...],
    log_format: str,
    device: str,
    batch_size: int | None,
    sasrec_epochs: int,
    json_path: Path | None,
) -> None:
    """Time an epoch of either half of a training: the direct path alone, and with the Transformers.

    "events" are targets that are learned. SASRec (RecTools, in an environment of its own) learns from the
    same rows, with vectors of the same length: the last 100 events of each user, by full softmax where
    Twintide does, else against 64 negatives of each target (Twintide: 1,024 shared by a step's).

    \b
    Example: ./run bench training --data-path data/behaviour.csv --json training.json
    """
    log_to_stderr()
    if sasrec_epochs < 0:
        raise SettingsError(f"--sasrec-epochs {sasrec_epochs}: 0 is the least")
    log = read_cached(data_path, read_log_format(log_format))
    config = read_config(None, {"device": device, "batch_size": batch_size})
    ground = prepare(log, config)
    results = {name: _epoch(ground, config, learns) for name, learns in WAYS.items()}
    if sasrec_epochs:
        is_full = loss_name(_towers(ground, config), config.train) == "full-softmax"
        results[SASREC_NAME] = _sasrec(log.select(ground.slices.train), sasrec_epochs, is_full)
    report = Report({"device": device, "fingerprint": log.fingerprint, "torch": torch.__version__}, results)
    for name in WAYS:
        report.compare(name, (SASREC_NAME,), "events/s")
    columns = {"events": ",.0f", "events/s": ",.0f", "s per epoch": ",.1f", "cpu s per epoch": ",.1f"}
    items = len(ground.vocabulary.item_ids)
    print_table(f"{log.path}, {len(log):,} rows, {items:,} items known", results, columns)
    if json_path:
        report.write(json_path)


def _epoch(ground: Ground, config: TrainingConfig, learns: Learns) -> Result:
    """Return the figures of one epoch, the first that the towers learn."""
    train, settings = ground.pieces["train"], config.train
    course = Course(1, ground.half_lives.popularity_h)
    learner = Learner(_towers(ground, config), train, settings, course, one_process(settings.device))
    started, started_cpu = time.monotonic(), time.process_time()
    learner.epoch(1, learns)
    took = time.monotonic() - started, time.process_time() - started_cpu
    events = float((train.share * (train.last - train.begin)).sum())
    return _result(events, *took, epochs=1)


def _sasrec(log: BehaviourLog, epochs: int, is_full: bool) -> Result:
    loss = {} if is_full else {"loss": "sampled_softmax", "n_negatives": SASREC_NEGATIVES}
    with TemporaryDirectory() as folder:
        found = run_sasrec(log, Path(folder), 0, epochs, SASREC | loss)
    read = np.clip(np.bincount(log.user.codes) - 1, 0, SESSION_MAX_LEN)
    return _result(float(read.sum()), found["seconds"], found["cpu_seconds"], epochs)


def _towers(ground: Ground, config: TrainingConfig) -> DualTowers:
    return untrained(ground.vocabulary, ground.settings, ground.pieces["train"], config.train)


def _result(events: float, seconds: float, cpu_seconds: float, epochs: int) -> Result:
    """Return the figures of so many epochs of so many events each, which took so long together."""
    per_second = events * epochs / seconds
    took = {"s per epoch": seconds / epochs, "cpu s per epoch": cpu_seconds / epochs}
    return {"events": events, "events/s": per_second} | took


if __name__ == "__main__":
    main()
