"""Which rows of a log are replayed: of some time, of some users, and at most so many."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import xxhash

from models.errors import DataError, SettingsError
from models.log.behaviour_log import BehaviourLog
from replay.amounts import parse_share


@dataclass(frozen=True, slots=True)
class Users:
    """Users by their ids, or a share of all users."""

    ids: frozenset[str] = frozenset()
    share: float = 0.0

    @classmethod
    def of(cls, text: str) -> "Users":
        """Return the users of --users: `10%`, `@FILE` with an id a line, or ids with commas between them."""
        if text.endswith("%"):
            return cls(share=parse_share("--users", text))
        ids = _lines_of(Path(text[1:])) if text.startswith("@") else text.split(",")
        named = frozenset(user_id.strip() for user_id in ids) - {""}
        if not named:
            raise SettingsError(f"--users {text} names nobody; give ids, @FILE or a share such as 10%")
        return cls(named)

    def hold(self, user_id: str) -> bool:
        """Return whether a user is one of them; by a share, always the same ones, whatever the log."""
        return user_id in self.ids or xxhash.xxh3_64_intdigest(user_id.encode()) < self.share * 2**64


def _lines_of(path: Path) -> Sequence[str]:
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise SettingsError(f"--users @{path} cannot be read: {reason}") from error


@dataclass(frozen=True, slots=True)
class Selection:
    """What is chosen of a log; None where all of it is."""

    #: From this event time on, and before that one (epoch ms).
    first_ms: int | None = None
    end_ms: int | None = None
    users: Users | None = None
    #: How many rows, the first in time order.
    limit: int | None = None

    @classmethod
    def of(
        cls, first: datetime | None, end: datetime | None, users: str | None, limit: int | None
    ) -> "Selection":
        """Return what the options --from, --to, --users and --limit choose."""
        if first and end and first >= end:
            raise SettingsError(f"--from {first} is not before --to {end}")
        first_ms, end_ms = (None if time is None else _epoch_ms(time) for time in (first, end))
        return cls(first_ms, end_ms, None if users is None else Users.of(users), limit)

    def rows_of(self, log: BehaviourLog) -> BehaviourLog:
        """Return a log's rows of the time and of the users, in their order; the limit is not looked at."""
        is_chosen = np.ones(len(log), dtype=np.bool_)
        if self.first_ms is not None:
            is_chosen &= log.time_ms >= self.first_ms
        if self.end_ms is not None:
            is_chosen &= log.time_ms < self.end_ms
        if self.users is not None:
            are_theirs = [self.users.hold(user_id) for user_id in log.user.values]
            is_chosen &= np.array(are_theirs, dtype=np.bool_)[log.user.codes]
        return log if is_chosen.all() else log.select(is_chosen)


def no_rows(name: str, first_ms: int, last_ms: int) -> DataError:
    """Return the error of a selection of which a log that covers this time has no row."""
    return DataError(
        f"{name}: no rows are chosen; the log covers {time_text(first_ms)} to {time_text(last_ms)}: "
        "change --from, --to, --users"
    )


def time_text(time_ms: int) -> str:
    """Return a time (epoch ms) as people read it, in UTC."""
    return f"{datetime.fromtimestamp(time_ms / 1_000, UTC):%Y-%m-%d %H:%M:%S}"


def _epoch_ms(moment: datetime) -> int:
    return round(moment.replace(tzinfo=UTC).timestamp() * 1_000)
