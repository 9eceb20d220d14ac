"""The demo's story of an item that did not exist: a few users click it, and others like them get it."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
from confluent_kafka import Producer

from local.items import ItemsProcess
from models.errors import TwintideError
from models.log.behaviour_log import BehaviourLog
from stream.serving.reader import Reader
from stream.serving.recommendation import Recommendation
from stream.serving.recommender import Recommender
from stream.settings import Settings

#: The new item, how many users click it, how many others are asked for it, and how long their lists are.
NEW_ITEM, CLICKING, ASKED, SHOWN = "item-that-did-not-exist", 20, 50, 1_000
#: How long a learner may take until it has learned the stream, and until the item is there (s).
START_S, THERE_S = 240.0, 30.0


@dataclass(frozen=True, slots=True)
class Story:
    """What came of the new item: its place in the lists of the users asked, the best first being 1."""

    clicks: int
    seconds: float
    #: The median place for users who last had what those who clicked had, and for others; of so many items.
    alike: float
    others: float
    items: int

    def __str__(self) -> str:
        return (
            f"clicked by {self.clicks} users; {self.seconds:.1f} s later, of {self.items:,} items, at place "
            f"{self.alike:g} (median) for others like them, {self.others:g} for the rest"
        )


def tell(settings: Settings, log: BehaviourLog, reader: Reader, learner: ItemsProcess) -> Story:
    """Have some users click a new item, once the learner has learned the stream, and see who gets it.

    Raises TwintideError where it does not come in time.
    """
    recommender = Recommender(reader, settings.artifact)
    alike, others = _users(log)
    learner.start(wait=False)
    clicking, asked = alike[:CLICKING], alike[CLICKING : CLICKING + ASKED]
    what = "the item learner has not caught up with the stream"
    _wait(lambda: _has_learned(learner) and not _recommended(recommender, asked[0]).not_live, START_S, what)
    clicked_at = time.monotonic()
    clicks = _click(settings, clicking, int(log.time_ms.max()))
    what = "the new item is in no list"
    _wait(lambda: NEW_ITEM in _recommended(recommender, asked[0]).item_ids, THERE_S, what)
    seconds = time.monotonic() - clicked_at
    items = len(_recommended(recommender, asked[0], 10_000_000).item_ids)
    places = [[_place(recommender, user) for user in users[:ASKED]] for users in (asked, others)]
    return Story(clicks, seconds, median(places[0]), median(places[1]), items)


def _users(log: BehaviourLog) -> tuple[list[str], list[str]]:
    """Return the users whose last event was of the category that most of them ended with, and the others."""
    order = np.lexsort((log.time_ms, log.user.codes))
    last = order[np.flatnonzero(np.diff(log.user.codes[order], append=-1))]
    category = log.category.codes[last]
    is_alike = category == np.bincount(category).argmax()
    names = np.array([str(log.user.values[code]) for code in log.user.codes[last]], object)
    return names[is_alike].tolist(), names[~is_alike].tolist()


def _click(settings: Settings, users: Sequence[str], time_ms: int) -> int:
    """Publish a click of each user; return how many."""
    producer = Producer({**settings.kafka.librdkafka(), "partitioner": "murmur2_random", "acks": "all"})
    for number, user in enumerate(users):
        event = {
            "event_id": f"{NEW_ITEM} {user}",
            "user_id": user,
            "item_id": NEW_ITEM,
            "behavior_type": 1,
            "time": time_ms + 1 + number,
        }
        producer.produce(settings.topic, json.dumps(event), user, timestamp=event["time"])
    if producer.flush(30):
        raise TwintideError(f"topic {settings.topic} did not take the clicks on the new item")
    return len(users)


def _has_learned(learner: ItemsProcess) -> bool:
    lags = [
        value for name, value in learner.metrics().items() if name.startswith("twintide_items_lag_events")
    ]
    return bool(lags) and not any(lags)


def _recommended(recommender: Recommender, user: str, k: int = SHOWN) -> Recommendation:
    return recommender.recommend(user, k)


def _place(recommender: Recommender, user: str) -> int:
    """Return the new item's place; the one behind the list where it is not in it."""
    item_ids = _recommended(recommender, user).item_ids
    return 1 + (item_ids.index(NEW_ITEM) if NEW_ITEM in item_ids else len(item_ids))


def _wait(condition: Callable[[], object], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TwintideError(f"{what} after {seconds:g} s: see the item learner's log")
        time.sleep(0.2)
