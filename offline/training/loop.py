"""A fit: epochs over stretches of histories, the best one kept by held-out rows."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from models.towers.dual_towers import DualTowers
from offline.ranking.metrics import summarise
from offline.training.data import Stretches
from offline.training.held_out import ONE_PROCESS, target_ranks
from offline.training.learner import Course, Learner, steps_of
from offline.training.lessons import Lessons
from offline.training.parallel import Processes
from offline.training.progress import Epoch, Learns
from offline.training.settings import TrainSettings
from offline.training.stopping import is_over

#: Where the number of epochs is not set: it is what gives about so many steps, within these bounds.
DEFAULT_STEPS, MIN_EPOCHS, MAX_EPOCHS = 1_200, 4, 30
#: Share of the epochs, from the first, in which only the direct path learns.
DIRECT_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class Stage:
    """Epochs `first` to `last`, in which the same learns; at their end or `patience` after their best one.

    begins_anew: from where the first stage ended, and not from the stage before.
    """

    learns: Learns
    first: int
    last: int
    patience: int
    begins_anew: bool = False

    def done(self, epochs: list[Epoch]) -> list[Epoch]:
        """Return those of the epochs that are of this stage."""
        return [each for each in epochs if each.learns == self.learns and each.number in self]

    def __contains__(self, number: int) -> bool:
        return self.first <= number <= self.last

    def is_over(self, epochs: list[Epoch]) -> bool:
        """Return whether nothing of this stage is left to do."""
        ndcg = [each.validation.ndcg for each in self.done(epochs)]
        return len(ndcg) > self.last - self.first or is_over(ndcg, self.patience)


def stages_of(epochs: int, settings: TrainSettings) -> list[Stage]:
    """Return what is done in so many epochs.

    In the first DIRECT_SHARE of them only the direct path learns. From there the rest is done twice, without
    the Transformers and with them, so that they are left out where they do not help.
    """
    patience = settings.patience
    if "direct" in settings.without:
        return [Stage("everything", 1, epochs, patience)]
    if "transformers" in settings.without:
        return [Stage("direct", 1, epochs, patience)]
    alone = int(epochs * DIRECT_SHARE)
    first = [Stage("direct", 1, alone, alone), Stage("direct", alone + 1, epochs, patience)]
    return [
        *(first if alone else []),
        Stage("everything", alone + 1, epochs, patience, begins_anew=alone > 0),
    ]


def fit(
    towers: DualTowers,
    train: Stretches,
    validation: Stretches,
    settings: TrainSettings,
    course: Course,
    on_epoch: Callable[[Epoch], None] = lambda _: None,
    checkpoint: Path | None = None,
    processes: Processes = ONE_PROCESS,
    lessons: Lessons | None = None,
) -> list[Epoch]:
    """Train the towers in place and return all epochs; the towers end with the best epoch's weights.

    The best epoch is that of the highest validation NDCG; the running average of the weights is what is
    validated and kept. lessons: what a teacher says of some of the training targets.

    After each epoch the whole state is written to `checkpoint`; if that file exists at the start, training
    resumes from it, to the same result. All processes train alike, and only the first one writes.
    """
    learner = Learner(towers, train, settings, course, processes, lessons)
    progress = learner.progress
    stages = stages_of(course.epochs, settings)
    with _files(checkpoint, processes) as (state, fork):
        if state.exists():
            progress.restore(state)
            for epoch in progress.epochs:
                on_epoch(epoch)
        processes.wait()  # until all have read what the first is about to write or to remove
        for stage in stages:
            if stage.begins_anew and not stage.done(progress.epochs):
                progress.restore_weights(fork)
            while not stage.is_over(progress.epochs):
                number = stage.first + len(stage.done(progress.epochs))
                loss = learner.epoch(number, stage.learns)
                found = summarise(target_ranks(learner.averaged(), validation, processes=processes))
                progress.add(Epoch(number, stage.learns, loss, found))
                if processes.is_first:
                    if stage == stages[0] and number == stage.last:
                        progress.save(fork)
                    progress.save(state)
                processes.wait()
                on_epoch(progress.epochs[-1])
    towers.load_state_dict(progress.best_weights)
    return progress.epochs


def default_epochs(train: Stretches, settings: TrainSettings, processes: Processes) -> int:
    """Return how many passes make about DEFAULT_STEPS steps."""
    passes = round(DEFAULT_STEPS / steps_of(train, settings, processes))
    return min(max(passes, MIN_EPOCHS), MAX_EPOCHS)


@contextmanager
def _files(checkpoint: Path | None, processes: Processes) -> Iterator[tuple[Path, Path]]:
    """Give where the state is kept, and the one at the end of the first stage, which is removed at last."""
    if checkpoint is None:
        with TemporaryDirectory() as folder:
            yield Path(folder) / "state", Path(folder) / "fork"
        return
    fork = checkpoint.with_name(checkpoint.name + ".fork")
    yield checkpoint, fork
    processes.wait()
    if processes.is_first:
        fork.unlink(missing_ok=True)
