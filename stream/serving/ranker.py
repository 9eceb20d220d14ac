"""Candidates ranked for users whose vectors and newest events are read in one round trip.

Needs neither torch nor Faust; without a ranker, nothing but NumPy.
"""

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from models.artifact.stores import read_version
from models.location import Location, location
from models.windows.recent import RecentEvent, recent_events
from stream.serving.exploration import interleaved, random_of
from stream.serving.read_protocol import AtLeast, Position, UserVectors
from stream.serving.reader import Reader
from stream.serving.recommendation import Recommendation
from stream.serving.recommender import Recommender
from stream.serving.scoring import Candidate, DotProduct, Scored, Scorer, order_of

#: Candidates of the first of two stages.
RECALL = 200


@dataclass(frozen=True, slots=True)
class Question:
    """Whom to rank which candidates for; those of `exclude` are left out, and others than of `category`."""

    user_id: str
    candidates: Sequence[Candidate | str]
    exclude: Collection[str] = ()
    category: str | None = None


@dataclass(frozen=True, slots=True)
class Wish:
    """Whom to find the k best of all items for, ranked among the `recall` that the towers find."""

    user_id: str
    k: int = 10
    recall: int = RECALL
    exclude: Collection[str] = ()
    category: str | None = None
    #: The share of the list that goes to items of which little is known, and what they are drawn by.
    explore: float = 0.0
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class Ranked:
    """What to show one user: items and their scores, the best first, and what they were made from."""

    user: UserVectors
    item_ids: list[str]
    scores: list[float]
    #: Version of the ranker; empty: the scores are dot products with the items of `user.model`.
    ranker: str
    #: Candidates that have no score, as the model has no vector of them.
    unscored: list[str] = field(default_factory=list)
    #: Why live items had no part in it; empty where they had, or candidates were given.
    not_live: str = ""
    #: How many of the items appeared since the model was trained; of given candidates nobody knows.
    new_items: int = 0
    #: Where it was asked for: the newest events, oldest first, and for each item, in the order of item_ids,
    #: how much each event counted; empty where nothing can be said.
    events: list[RecentEvent] = field(default_factory=list)
    attention: list[list[float]] = field(default_factory=list)
    #: Where it was asked for: which of the items explore; their places are drawn, whatever they score.
    is_explored: list[bool] = field(default_factory=list)

    @property
    def explored_items(self) -> int:
        """Return how many of the items explore."""
        return sum(self.is_explored)


class Ranker:
    """Ranks for many users at once; may be used from several threads."""

    def __init__(
        self,
        reader: Reader,
        recommender: Recommender,
        ranker: str | Location | None = None,
        clock: Callable[[], float] = time.time,
        threads: int = 2,
    ) -> None:
        """Rank by the ranker at this location, an artifact or a store; None: by dot product.

        threads: that score a call's candidates by a ranker; with two a caller waits less, if a core is idle.

        Raises ArtifactError where there is none, UnreachableError where a bucket does not answer.
        """
        self._reader, self._recommender, self._clock = reader, recommender, clock
        self._where = location(ranker) if isinstance(ranker, str) else ranker
        self._threads = threads
        self._scorer: Scorer = DotProduct(recommender) if self._where is None else self._load(self._where)

    @property
    def version(self) -> str:
        """Return the version of the ranker, empty where there is none."""
        return self._scorer.version

    def refresh(self) -> bool:
        """Take the ranker that is published now, if it is another; return whether it was.

        To be called now and then: a call that ranks meanwhile ends with the one that it began with. Raises
        ArtifactError, and UnreachableError where a bucket does not answer; then the one that was stays.
        """
        if self._where is None or read_version(self._where) == self.version:
            return False
        self._scorer = self._load(self._where)
        return True

    def rank(
        self,
        user_id: str,
        candidates: Sequence[Candidate | str],
        *,
        exclude: Collection[str] = (),
        category: str | None = None,
        now_ms: int | None = None,
        explain: bool = False,
        at_least: Position | None = None,
        wait_s: float = 0.0,
    ) -> Ranked:
        """Return the candidates, the best for the user first; see rank_many."""
        question = Question(user_id, candidates, exclude, category)
        wanted = None if at_least is None else {user_id: at_least}
        return self.rank_many([question], now_ms=now_ms, explain=explain, at_least=wanted, wait_s=wait_s)[0]

    def rank_many(
        self,
        questions: Sequence[Question],
        *,
        now_ms: int | None = None,
        explain: bool = False,
        at_least: AtLeast | None = None,
        wait_s: float = 0.0,
    ) -> list[Ranked]:
        """Return each user's candidates, the best first; vectors and histories are one round trip.

        A ranker scores an item that it does not know by its category; a dot product cannot (`unscored`).
        `now_ms` is when it is (epoch ms); None: now. `explain` says how much each event counted.

        Raises what Reader.read does, and TwintideError where an artifact is missing or a ranker fails.
        """
        user_ids = [each.user_id for each in questions]
        users = self._reader.read(user_ids, at_least=at_least, wait_s=wait_s)
        scorer = self._scorer
        kept = [_kept(scorer, user, each) for user, each in zip(users, questions, strict=True)]
        scored = scorer.score(users, kept, self._now_ms(now_ms), explain)
        rows = zip(users, kept, scored, strict=True)
        return [_ranked(scorer, user, some, found, explain) for user, some, found in rows]

    def recommend(
        self,
        user_id: str,
        k: int = 10,
        *,
        recall: int = RECALL,
        exclude: Collection[str] = (),
        category: str | None = None,
        at_category: str = "",
        now_ms: int | None = None,
        explain: bool = False,
        explore: float = 0.0,
        seed: int | None = None,
    ) -> Ranked:
        """Return the k best of all items for a user; see recommend_many."""
        wish = Wish(user_id, k, recall, exclude, category, explore, seed)
        return self.recommend_many([wish], at_category=at_category, now_ms=now_ms, explain=explain)[0]

    def recommend_many(
        self,
        wishes: Sequence[Wish],
        *,
        at_category: str = "",
        now_ms: int | None = None,
        explain: bool = False,
        fresh: bool = True,
    ) -> list[Ranked]:
        """Return each user's best items, in two stages: found by the towers, ranked by the ranker.

        Both see the same reading of the user. Who has no vectors gets those of `at_category`, or of the
        category that all wish for. See Recommender.rank for what is left out, for `fresh`, and for `explore`.
        """
        categories = {each.category or "" for each in wishes}
        at = at_category or (categories.pop() if len(categories) == 1 else "")
        users = self._reader.read([each.user_id for each in wishes], at)
        scorer = self._scorer
        is_one_stage = isinstance(scorer, DotProduct)
        draws = [random_of(each.seed, each.user_id) if each.explore else None for each in wishes]
        found = [
            self._found(user, each, each.k if is_one_stage else max(each.k, each.recall), draw, fresh)
            for user, each, draw in zip(users, wishes, draws, strict=True)
        ]
        kept = [list(map(Candidate, each.item_ids, each.categories)) for each in found]
        if is_one_stage:
            scored = [Scored(np.array(each.scores, np.float32)) for each in found]
        else:
            scored = scorer.score(users, kept, self._now_ms(now_ms), explain)
        orders = [
            _order(scores, wish.k, of.explored_items, draw)
            for scores, wish, of, draw in zip(scored, wishes, found, draws, strict=True)
        ]
        rows = zip(users, kept, scored, orders, found, strict=True)
        return [
            _with_news(_ranked(scorer, user, some, scores, explain, order), of)
            for user, some, scores, order, of in rows
        ]

    def _found(
        self, user: UserVectors, wish: Wish, count: int, draw: np.random.Generator | None, fresh: bool
    ) -> Recommendation:
        """Return the items of the first stage, and behind them those that explore."""
        found = self._recommender.rank(user, count, exclude=wish.exclude, category=wish.category, fresh=fresh)
        if draw is None:
            return found
        return self._recommender.with_explored(
            found,
            wish.k,
            wish.explore,
            draw,
            exclude=wish.exclude,
            category=wish.category,
            fresh=fresh,
        )

    def _load(self, where: Location) -> Scorer:
        from stream.serving.history_scorer import HistoryScorer  # needs Numba and onnxruntime

        return HistoryScorer(where, self._threads)

    def _now_ms(self, now_ms: int | None) -> int:
        return int(self._clock() * 1000) if now_ms is None else now_ms


def _kept(scorer: Scorer, user: UserVectors, question: Question) -> list[Candidate]:
    """Return the candidates that are to be scored."""
    found = [each if isinstance(each, Candidate) else Candidate(each) for each in question.candidates]
    if question.exclude:
        found = [each for each in found if each.item_id not in question.exclude]
    if question.category is None:
        return found
    categories = scorer.categories(user, found)
    return [each for each, known in zip(found, categories, strict=True) if known == question.category]


def _with_news(ranked: Ranked, found: Recommendation) -> Ranked:
    """Return what was found and then ranked, with what finding it knew of live items."""
    new = {item_id for item_id, is_new in zip(found.item_ids, found.is_new, strict=False) if is_new}
    drawn = {item_id for item_id, is_it in zip(found.item_ids, found.is_explored, strict=False) if is_it}
    return replace(
        ranked,
        not_live=found.not_live,
        new_items=len(new.intersection(ranked.item_ids)),
        is_explored=[item_id in drawn for item_id in ranked.item_ids] if found.is_explored else [],
    )


def _order(scored: Scored, k: int, explored: int, draw: np.random.Generator | None) -> list[int]:
    """Return the places of the k best, of which the last `explored` have a place that is drawn."""
    if draw is None:
        return order_of(scored.score)[:k]
    others = len(scored.score) - explored
    best = order_of(scored.score[:others])[: k - explored]
    return interleaved(best, range(others, others + explored), draw)


def _ranked(
    scorer: Scorer,
    user: UserVectors,
    candidates: Sequence[Candidate],
    scored: Scored,
    explain: bool,
    order: Sequence[int] | None = None,
) -> Ranked:
    """Return scored candidates in this order, None: the best first."""
    order = order_of(scored.score) if order is None else order
    weights = scored.attention
    return Ranked(
        user,
        [candidates[place].item_id for place in order],
        scored.score[order].tolist(),
        scorer.version,
        [candidates[place].item_id for place in np.flatnonzero(np.isnan(scored.score)).tolist()],
        events=recent_events(user.recent) if explain else [],
        attention=[] if weights is None or not explain else weights[order].tolist(),
    )
