"""Rankers that can be made smaller: the vectors of items and categories are most of one."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from models.artifact.files import METRICS, read_json
from models.errors import SettingsError
from models.ids.vocabulary_file import FIRST_KNOWN, UNKNOWN
from models.log.behaviour_log import BehaviourLog
from models.rankers.artifact import module_of, save_ranker
from models.rankers.load import LoadedRanker
from offline.compressing.contract import CompressSettings, Ranked
from offline.options import cutoff_of
from offline.rankers.evaluation import samples_before, train_settings_of
from offline.rankers.measures import gains_of, quality_of
from offline.rankers.questions import Drawer
from offline.rankers.samples import Samples
from offline.rankers.scoring import ask, giving, served
from offline.rankers.settings import RankerTrainSettings
from offline.ranking.protocols import LEAST_ROWS, are_last

#: Users who are answered to see how long it takes, and the candidates of each.
TIMED_USERS, TIMED_CANDIDATES = 100, 500


@dataclass(frozen=True, slots=True)
class CompressibleRanker:
    """A ranker; the samples of the rows held out; what draws beside them, as while the ranker learned."""

    loaded: LoadedRanker
    asked: Samples
    drawer: Drawer
    train: RankerTrainSettings

    @property
    def version(self) -> str:
        return self.loaded.version

    @property
    def items(self) -> int:
        return len(self.loaded.vocabulary.item_ids)

    @property
    def directory(self) -> Path:
        return self.loaded.directory

    @property
    def training(self) -> Mapping[str, Any]:
        return self.loaded.training

    @property
    def metrics(self) -> Mapping[str, Any]:
        return read_json(self.directory / METRICS)

    def smaller(
        self,
        folder: Path,
        settings: CompressSettings,
        metrics: Mapping[str, Any],
        training: Mapping[str, Any],
    ) -> "CompressibleRanker":
        """Write it, made smaller, into a folder; see `Compressible.smaller`."""
        if settings.prune:
            raise SettingsError(
                "--prune means nothing for a ranker, whose graphs are stored with their zeros: leave it out"
            )
        module = module_of(self.loaded)
        module.vectors.compress()
        return replace(self, loaded=save_ranker(folder, module, self.loaded.vocabulary, metrics, training))

    def ranked(self) -> Ranked:
        """Return how good it is, beside what was negative in training."""
        loaded = self.loaded
        scored = ask(self.asked, self.drawer, loaded.settings, self.train, giving(served(loaded)))
        quality = quality_of(scored)
        figures = {"ndcg@10": quality.ndcg_at_10, "auc": quality.auc, "log loss": quality.log_loss}
        return Ranked(gains_of(scored), figures)

    def read_bytes(self) -> int:
        """Return the bytes of the weights."""
        return sum(each.nbytes for each in module_of(self.loaded).state_dict().values())

    def answer(self) -> int:
        """Score candidates of some users; return how many users."""
        some = self.asked.take(np.arange(TIMED_USERS) % len(self.asked))
        item = np.arange(TIMED_USERS * TIMED_CANDIDATES).reshape(TIMED_USERS, -1) % self.items + FIRST_KNOWN
        category = self.loaded.vocabulary.categories_of(item, np.full(item.shape, UNKNOWN))
        served(self.loaded)(some, item, category)
        return TIMED_USERS


def compressible_rankers(
    published: LoadedRanker, held_out: LoadedRanker, log: BehaviourLog
) -> tuple[CompressibleRanker, CompressibleRanker]:
    """Return a ranker, and its version that has not learned the rows held out, with these. DataError."""
    train = train_settings_of(held_out)
    is_last = held_out.training["cutoff_ms"] is None
    rows = are_last(log, LEAST_ROWS) if is_last else log.time_ms >= cutoff_of(held_out, None)
    learned, asked = samples_before(log, rows, held_out, train)
    drawer = Drawer(learned, held_out.vocabulary, train)
    before, after = (CompressibleRanker(each, asked, drawer, train) for each in (published, held_out))
    return before, after
