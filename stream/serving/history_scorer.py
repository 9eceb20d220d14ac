"""Scores candidates by a trained ranker, from the history that the worker keeps; needs no torch."""

import logging
from collections.abc import Sequence
from threading import Lock

import numpy as np

from models.arrays import Floats
from models.errors import TwintideError
from models.ids.vocabulary_file import FIRST_KNOWN
from models.location import Location
from models.ranker import Candidates
from models.rankers.load import LoadedRanker, load_ranker
from models.windows.histories import histories_of_windows
from models.windows.recent import event_count, window_of_recent
from stream.serving.read_protocol import UserVectors
from stream.serving.scoring import Candidate, Scored

logger = logging.getLogger(__name__)


class HistoryScorer:
    """Scores by the ranker at a location, as it was published there."""

    def __init__(self, where: Location, threads: int) -> None:
        """threads: that score candidates.

        Raises ArtifactError, and UnreachableError where a bucket does not answer.
        """
        self._loaded = load_ranker(where, threads)
        self._ranking = Lock()
        self._has_warned = False

    @property
    def version(self) -> str:
        """Return the version of the ranker."""
        return self._loaded.version

    def categories(self, user: UserVectors, candidates: Sequence[Candidate]) -> list[str]:
        """Return each candidate's category."""
        vocabulary = self._loaded.vocabulary
        names = ["", "", *vocabulary.category_ids]
        items = vocabulary.item_indices([each.item_id for each in candidates])
        known = self._loaded.item_categories[items].tolist()
        return [
            names[index] if item >= FIRST_KNOWN else each.category
            for index, item, each in zip(known, items.tolist(), candidates, strict=True)
        ]

    def score(
        self,
        users: Sequence[UserVectors],
        candidates: Sequence[Sequence[Candidate]],
        now_ms: int,
        explain: bool,
    ) -> list[Scored]:
        """Return the scores of each user's candidates, of unknown items by their categories alone.

        Raises WindowError where a stored history is damaged, TwintideError where the ranker fails.
        """
        loaded = self._loaded
        self._check_histories(users)
        windows = [window_of_recent(user.recent) for user in users]
        asked, now = _candidates(loaded, candidates), np.full(len(users), now_ms, np.int64)
        with self._ranking:
            try:
                found = loaded.ranker.rank(
                    histories_of_windows(windows, loaded.vocabulary), asked, now, explain
                )
            except RuntimeError as error:
                raise TwintideError(f"ranker {loaded.version} failed: {error}") from error
        scores = np.split(found.score, asked.starts[1:-1])
        attention: Sequence[Floats | None] = found.attention or [None] * len(users)
        return [Scored(score, weights) for score, weights in zip(scores, attention, strict=True)]

    def _check_histories(self, users: Sequence[UserVectors]) -> None:
        """Warn once where workers keep fewer events than the ranker was trained to read.

        One that reads sessions may read any event of the window.
        """
        settings = self._loaded.settings
        for user in users:
            wanted = user.n if settings.kind == "dsin" else min(user.n, settings.max_events)
            if self._has_warned or user.is_cold_start or (stored := event_count(user.recent)) >= wanted:
                continue
            self._has_warned = True
            logger.warning(
                "ranker %s reads %d events of a user, and the workers store %d: set TWINTIDE_STORE_HISTORY "
                "for the workers, or its scores are not those that it was trained for",
                *(self.version, wanted, stored),
            )


def _candidates(loaded: LoadedRanker, candidates: Sequence[Sequence[Candidate]]) -> Candidates:
    """Return the candidates of users as indices."""
    every = [each for some in candidates for each in some]
    items = loaded.vocabulary.item_indices([each.item_id for each in every])
    given = loaded.vocabulary.category_indices([each.category for each in every])
    starts = np.concatenate(([0], np.cumsum([len(some) for some in candidates]))).astype(np.int64)
    return Candidates(items, loaded.vocabulary.categories_of(items, given), starts)
