"""A ranker as it is served, on rows that it has not learned: its figures, and how varied its lists are."""

from dataclasses import dataclass, replace

import msgspec
import numpy as np

from models.arrays import Doubles, Flags
from models.errors import ArtifactError
from models.ids.vocabulary import Vocabulary
from models.ids.vocabulary_file import FIRST_KNOWN, UNKNOWN
from models.log.behaviour_log import BehaviourLog
from models.rankers.load import LoadedRanker
from offline.rankers.measures import Quality, quality_of
from offline.rankers.questions import Drawer
from offline.rankers.samples import Samples, check_samples, material_of
from offline.rankers.scoring import Score, ask, giving, served
from offline.rankers.settings import RankerTrainSettings
from offline.ranking.protocols import LEAST_ROWS, are_last
from offline.ranking.variety import best_places, coverage, diversity, novelty

#: Users whose ten best items are listed, and of how many items, drawn where there are more.
LISTED_USERS, LISTED_ITEMS, LISTED_SEED = 200, 2_000, 0
#: What the ranker stands beside.
RANKER, POPULARITY = "ranker", "popularity"


@dataclass(frozen=True, slots=True)
class Variety:
    """How varied lists are (offline/ranking/variety.py), each the ten best of up to LISTED_ITEMS."""

    coverage: float
    diversity: float
    novelty: float


@dataclass(frozen=True, slots=True)
class Evaluated:
    """How good who scores is on `samples` held-out rows, and how varied its lists are, by name."""

    samples: int
    unknown_share: float
    quality: dict[str, Quality]
    variety: dict[str, Variety]


def evaluate_ranker(loaded: LoadedRanker, log: BehaviourLog, cutoff_ms: int | None) -> Evaluated:
    """Return the figures of a ranker on the rows from a time on; None: on the last of users with LEAST_ROWS.

    What is positive and what is drawn beside it is as in training, beside it popularity: how often an item is
    a positive of the rows before. It has no probabilities. DataError where there is nothing to score.
    """
    train = train_settings_of(loaded)
    rows = are_last(log, LEAST_ROWS) if cutoff_ms is None else log.time_ms >= cutoff_ms
    before, asked = samples_before(log, rows, loaded, train)
    counts = positives_of(before, loaded.vocabulary)
    scores: dict[str, Score] = {RANKER: served(loaded), POPULARITY: lambda _, item, __: counts[item]}
    drawer = Drawer(before, loaded.vocabulary, train)
    quality = {
        name: quality_of(ask(asked, drawer, loaded.settings, train, giving(score)))
        for name, score in scores.items()
    }
    untold = {"log_loss": np.nan, "calibration_error": np.nan, "observed_over_expected": np.nan}
    quality[POPULARITY] = replace(quality[POPULARITY], **untold)
    variety = {name: variety_of(score, asked, loaded.vocabulary, counts) for name, score in scores.items()}
    unknown = asked.histories.item[asked.target] < FIRST_KNOWN
    return Evaluated(len(asked), float(unknown.mean()), quality, variety)


def train_settings_of(loaded: LoadedRanker) -> RankerTrainSettings:
    """Return what a ranker learned with. ArtifactError where it does not say."""
    known = {name: loaded.training.get(name) for name in RankerTrainSettings.__dataclass_fields__}
    try:
        return msgspec.convert(
            {name: value for name, value in known.items() if value is not None}, RankerTrainSettings
        )
    except msgspec.ValidationError as error:
        raise ArtifactError(
            f"ranker {loaded.version} says of its training: {error}; train it anew"
        ) from error


def samples_before(
    log: BehaviourLog, rows: Flags, loaded: LoadedRanker, train: RankerTrainSettings
) -> tuple[Samples, Samples]:
    """Return the samples of the rows (R,) that are not asked about, and of those that are. DataError."""
    material = material_of(log, loaded.vocabulary, loaded.settings)
    asked = material.samples(rows, train)
    check_samples(log, "held-out", asked, train)
    return material.samples(~rows, train), asked


def positives_of(samples: Samples, vocabulary: Vocabulary) -> Doubles:
    """Return how often each vocabulary index (I + 2,) is a positive of samples; what is unknown never is."""
    items = samples.histories.item[samples.target]
    counts = np.bincount(items, samples.label, minlength=vocabulary.item_count).astype(np.float64)
    counts[:FIRST_KNOWN] = 0  # no item by itself is as popular as all that are unknown together
    return counts


def variety_of(score: Score, asked: Samples, vocabulary: Vocabulary, counts: Doubles) -> Variety:
    """Return how varied the lists of samples' users are; counts (I + 2,) of events by vocabulary index."""
    known = len(vocabulary.item_ids)
    random = np.random.default_rng(LISTED_SEED)
    items = np.sort(random.permutation(known)[:LISTED_ITEMS]) + FIRST_KNOWN
    category = vocabulary.categories_of(items, np.full(len(items), UNKNOWN))
    some = _spread(asked)
    lists = []
    for place in range(len(some)):
        scores = score(some.take(np.array([place])), items[None], category[None])
        lists.append(best_places(scores)[0])
    found = np.stack(lists)
    return Variety(coverage(found, len(items)), diversity(found, category), novelty(items[found], counts))


def _spread(asked: Samples) -> Samples:
    """Return the last sample of each of LISTED_USERS users, evenly spread."""
    last = np.flatnonzero(np.append(asked.user[1:] != asked.user[:-1], True))
    some = np.linspace(0, len(last) - 1, min(LISTED_USERS, len(last))).astype(np.int64)
    return asked.take(last[some])
