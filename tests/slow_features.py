"""What rankers read of events and candidates as numbers, one after the other: what fast ones must give."""

import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

#: An event: item, category, behaviour, time (ms).
Event = tuple[int, int, int, int]
DAY_MS, HOUR_MS = 86_400_000, 3_600_000


def age_bucket(age_ms: int) -> int:
    """1 below a second, and one more each time the seconds, and one, double."""
    bucket, seconds = 1, age_ms // 1000 + 1
    while seconds >= 2:
        bucket, seconds = bucket + 1, seconds // 2
    return min(bucket, 27)


def nearness(age_ms: int) -> float:
    """1 now, 0 after a year, by the logarithm of the seconds."""
    return max(1 - math.log(1 + max(age_ms, 0) / 1000) / math.log(1 + 365 * 86_400), 0)


def user_features(events: Sequence[Event], now_ms: int, gap_ms: int, utc_offset_h: float) -> list[float]:
    """The moment and the user; events are oldest first."""
    now = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=now_ms, hours=utc_offset_h)
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    hour, weekday = (now - midnight) / timedelta(days=1), now.weekday() / 7
    ages = [now_ms - time_ms for *_, time_ms in events]
    sessions = sum(
        place == 0 or time_ms - events[place - 1][3] > gap_ms for place, (*_, time_ms) in enumerate(events)
    )
    return [
        math.sin(2 * math.pi * hour),
        math.cos(2 * math.pi * hour),
        math.sin(2 * math.pi * weekday),
        math.cos(2 * math.pi * weekday),
        *(math.log(1 + sum(event[2] == behaviour for event in events)) for behaviour in (1, 2, 3, 4)),
        math.log(1 + sum(age_ms < HOUR_MS for age_ms in ages)),
        math.log(1 + sum(age_ms < DAY_MS for age_ms in ages)),
        math.log(1 + sessions / max(ages[0] / DAY_MS, 1)) if events else 0.0,
        nearness(ages[-1]) if events else 0.0,
    ]


def candidate_features(events: Sequence[Event], now_ms: int, candidate: tuple[int, int]) -> list[float]:
    """What the user had of a candidate's item and category; 0 and 1 are no known ones."""
    found = []
    for place, value in enumerate(candidate):
        own = [event for event in events if event[place] == value and value >= 2]
        groups = [[event for event in own if event[2] in group] for group in ((1,), (2, 3), (4,))]
        found += [math.log(1 + len(group)) for group in groups]
        found += [max((nearness(now_ms - event[3]) for event in group), default=0.0) for group in groups]
    wished = [event for event in own if event[2] > 1]
    found.append(len(own) / len(events) if own else 0.0)
    found.append(len(wished) / len(own) if own else 0.0)
    return found
