"""One behaviour event: what is on the topic, and what is wrong with one that cannot be read."""

from enum import IntEnum
from typing import Any

import msgspec
import xxhash


class Behaviour(IntEnum):
    """What a user did with an item; Tianchi's numbers."""

    VIEW = 1
    FAVOURITE = 2
    CART = 3
    BUY = 4


#: The numbers of all behaviours.
BEHAVIOURS = frozenset(int(behaviour) for behaviour in Behaviour)

#: An event may be this far ahead of the worker's clock: one from the year 2100 would empty its user's window.
MAX_AHEAD_MS = 86_400_000

#: Click-streams are of these years, 1990 to 2033: a time that is so in another unit than ms is in that one.
LIKELY_MS = (631_152_000_000, 2_000_000_000_000)

#: How the ids of the canary's users begin (stream/canary/). Nobody learns from what they do.
CANARY_PREFIX = "twintide-canary-"


class Event(msgspec.Struct, frozen=True, gc=False):
    """One event as it stands on the topic `user-behavior`, as JSON.

    Ids are opaque: a producer may send them as strings or as integers, both mean the same user.
    `event_id` is unique per source row; None where the producer sends none. `time` is the event
    time in epoch ms.
    """

    user_id: str | int
    item_id: str | int
    behavior_type: int
    time: int
    item_category: str | int | None = ""
    user_geohash: Any = None
    event_id: str | int | None = None

    @property
    def category(self) -> str:
        """The item's category as text, "" where the producer names none."""
        return "" if self.item_category is None else str(self.item_category)


#: Stands for an event that a format says to skip; it is known by identity.
SKIPPED_EVENT = Event("", "", 0, 0)


def event_hash(event_id: str) -> int:
    """Return the 64 bits by which a window recognises an event it has already seen."""
    return xxhash.xxh3_64_intdigest(event_id.encode())
