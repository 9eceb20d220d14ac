"""Log -> artifact: choose by held-out rows, learn from all rows, save, publish."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from models.artifact.artifact import Artifact, load, publish, save
from models.artifact.stores import open_store
from models.location import Location
from models.log.behaviour_log import BehaviourLog
from offline.stream_walk.search import Found
from offline.training.alone import alone
from offline.training.final_fit import fit_finally
from offline.training.learned_until import until_of
from offline.training.live_items import live_items_of
from offline.training.parallel import Processes, one_process
from offline.training.progress import Epoch
from offline.training.selection import Selected, checkpoint_of, select
from offline.training.settings import TrainingConfig, to_plain
from offline.training.store_kind import check_kind
from offline.training.teacher import Teacher


@dataclass(frozen=True, slots=True)
class Trained:
    """A finished run: what was published, and how what was chosen by held-out rows ranks.

    The figures are of the version `held_out`, which has not learned from these rows; the published artifact
    has, but for `final_fit = false`, where the two are one.
    """

    artifact: Artifact
    held_out: str
    selected: Selected
    #: Whether its items should go on learning from the stream; None where that could not be told.
    live_items: Found | None


def train(
    log: BehaviourLog,
    config: TrainingConfig,
    store: Location,
    on_epoch: Callable[[Epoch], None] = lambda _: None,
    processes: Processes | None = None,
    teacher: Teacher | None = None,
) -> Trained:
    """Train on a log, test the best epoch once, learn from all rows, and publish the artifact in `store`.

    The same log, settings, machine and number of processes give the same artifact, also when training was
    interrupted and is started again: it resumes after the last finished epoch. DataError where the log is too
    small, SettingsError where the store has a ranker active, TwintideError where another process does
    the same now. `processes` is what `joined` gives, where there may be several; only the first one writes.

    teacher: a ranker that the towers learn from as well, if that makes them better.
    """
    processes = processes or one_process(config.train.device)
    check_kind(store, is_ranker=False)
    if teacher is not None:
        teacher.check(log, config.train)
    folder = open_store(store).prepare()
    checkpoint = checkpoint_of(folder, log, config, processes, teacher.published.version if teacher else None)
    with alone(checkpoint) if processes.is_first else nullcontext():
        return _train(log, config, store, on_epoch, processes, teacher, checkpoint)


def _train(
    log: BehaviourLog,
    config: TrainingConfig,
    store: Location,
    on_epoch: Callable[[Epoch], None],
    processes: Processes,
    teacher: Teacher | None,
    checkpoint: Path,
) -> Trained:
    selected = select(log, config, on_epoch, checkpoint, processes, teacher.held_out if teacher else None)
    training: dict[str, Any] = {
        **to_plain(config.train),
        "learns": selected.best.learns,
        "half_lives_h": selected.half_lives.to_plain(),
        "item_weights": asdict(selected.weights),
        "cutoff_ms": selected.slices.cutoff_ms,
        **until_of(log.select(selected.slices.train)),
        "data_fingerprint": log.fingerprint,
        "data_rows": len(log),
    }
    if teacher and selected.is_taught:
        training["teacher"] = teacher.published.version
    made, live = None, None
    if processes.is_first:
        made = _save(store, selected, training)
        if config.train.final_fit and config.train.live_items:
            live = live_items_of(log, made, selected.slices.cutoff_ms)
    if live:
        selected = replace(selected, settings=replace(selected.settings, live_items=live.live))
    if config.train.final_fit:
        final = checkpoint.with_name(checkpoint.name + ".final")
        teaches = teacher.published if teacher and selected.is_taught else None
        towers, vocabulary = fit_finally(log, selected, config.train, final, processes, teaches)
        selected = replace(selected, towers=towers, vocabulary=vocabulary)
        training = {**training, **until_of(log), "held_out_version": made.version if made else ""}
        if processes.is_first:
            made = _save(store, selected, training)
    if made is not None:
        made.check_golden()  # workers refuse what is not finite, after a loss that was not
        publish(store, made.version)
        for path in checkpoint.parent.glob(f"{checkpoint.name}*"):
            path.unlink()
    processes.wait()
    artifact = load(store)
    return Trained(artifact, artifact.training.get("held_out_version", artifact.version), selected, live)


def _save(store: Location, made: Selected, training: dict[str, Any]) -> Artifact:
    return save(store, made.towers.cpu(), made.vocabulary, made.settings, made.metrics, training)
