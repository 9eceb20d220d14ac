"""Is a user's window in the changelog the one that the topic's events make?"""

from dataclasses import dataclass

from local.proof.expected import ExpectedUser, ExpectedUsers, State
from local.proof.extent import Extent
from local.proof.findings import Apart, Findings
from local.proof.stored import StoredWindows
from models.windows.window import Window, is_empty, read_header, read_offset, window_from_bytes

#: What of a window is compared, and what it is called.
COMPARED_COLUMNS = {
    "times_ms": "times of events",
    "behaviours": "behaviours",
    "item_ids": "items",
    "categories": "categories",
    "event_hashes": "event ids",
    "edge_hashes": "ids of events that just fell out",
}


@dataclass(frozen=True, slots=True)
class CheckedWindow:
    """What was found of one user's window."""

    #: What is wrong, or why there is no telling; empty where it is right.
    found: str | Apart
    #: The window in the changelog; None where there is none.
    value: bytes | None
    #: A worker may rightly have dropped the user by now: forgotten, or not seen for long.
    may_be_gone: bool


@dataclass(slots=True)
class WindowCheck:
    """Compares windows, one user after the other, and counts what became of their events."""

    extent: Extent
    stored: StoredWindows
    expected: ExpectedUsers
    #: A window whose newest event is this much older than its partition's is dropped (ms), where `are_swept`.
    horizon_ms: int
    are_swept: bool
    findings: Findings
    #: Users whose window is right.
    agreeing: int = 0
    #: The checked users' events, and what became of them.
    events: int = 0
    applied: int = 0
    duplicate: int = 0
    late: int = 0

    def check(self, key: bytes, user: ExpectedUser) -> CheckedWindow:
        """Compare a user's window with the stored one; note a difference, or why there is no telling."""
        value = self.stored.values.get(key)
        state = user.state_after(read_offset(value) if value else -1)
        may_be_gone = self._may_be_gone(user)
        found = self._judge(user, state, value, may_be_gone)
        is_wrong = found != "" and not isinstance(found, Apart)
        if isinstance(found, Apart):
            self.findings.set_apart(found)
        elif is_wrong:
            self.findings.differ(f"user {key.decode()!r}: {found}")
        self.agreeing += found == ""
        self._count(user, state, value if is_wrong else state.value)
        return CheckedWindow(found, value, may_be_gone)

    def check_strangers(self) -> None:
        """Note windows of users who have no event on the topic."""
        for key, (partition, offset) in sorted(self.stored.strangers.items()):
            if offset >= self.extent.events.ends[partition]:
                continue  # they came after the part that was read
            if self._may_predate(partition):
                self.findings.set_apart(Apart.BEGAN_BEFORE)
            else:
                self.findings.differ(
                    f"user {key.decode()!r}: the changelog has a window, the topic has no event"
                )

    def _may_be_gone(self, user: ExpectedUser) -> bool:
        """Return whether a worker may rightly have dropped the user since."""
        if user.forgotten_offset >= self.extent.events.ends[user.partition]:
            return True
        newest_ms = max(each.newest_ms.get(user.partition, 0) for each in (self.stored, self.expected))
        times_ms = user.window.times_ms
        return self.are_swept and bool(times_ms) and times_ms[-1] < newest_ms - self.horizon_ms

    def _judge(self, user: ExpectedUser, state: State, value: bytes | None, may_be_gone: bool) -> str | Apart:
        """Return what is wrong, or why there is no telling; empty where all is right."""
        if user.is_split:
            return Apart.SPLIT
        if value is None:
            if is_empty(state.value):
                return ""
            return Apart.DROPPED if may_be_gone else "the changelog has no window"
        header = read_header(value)
        if is_empty(state.value):
            return f"was forgotten at offset {user.forgotten_offset}, and the changelog has a window"
        if (header.topic_id, header.partition) != (self.extent.topic_id, user.partition):
            return "the window in the changelog knows no event of this topic"
        if header.offset != state.last_offset:
            if state.last_offset < header.offset < self.stored.bootstrapped.get(user.partition, 0):
                return Apart.BEGAN_BEFORE
            return (
                f"{_accounted(window_from_bytes(value), state.window)}: it knows them up to offset "
                f"{header.offset}, the user's last is at {state.last_offset} of partition {user.partition}"
            )
        return "" if value == state.value else self._difference(user, state, window_from_bytes(value))

    def _difference(self, user: ExpectedUser, state: State, found: Window) -> str | Apart:
        expected = state.window
        wrong = [
            name
            for column, name in COMPARED_COLUMNS.items()
            if getattr(found, column) != getattr(expected, column)
        ]
        surplus = _events(found) - _events(expected)
        has_same_counts = _counts(found) == _counts(expected)
        if self._may_predate(user.partition) and (surplus > 0 or self._follows_bootstrap(user)):
            return Apart.BEGAN_BEFORE if wrong else ""
        if not state.is_content_certain and wrong:
            return Apart.DROPPED
        if not has_same_counts and state.is_count_certain:
            counts = ", ".join(
                f"{ours} {name} where the topic makes {theirs}"
                for name, ours, theirs in zip(
                    ("applied", "duplicate", "late"), _counts(found), _counts(expected), strict=True
                )
                if ours != theirs
            )
            return f"{_accounted(found, expected)}: {counts}"
        return f"wrong in the window in the changelog: {', '.join(wrong)}" if wrong else ""

    def _may_predate(self, partition: int) -> bool:
        """Return whether a window of the partition may hold events that are not on the topic (any more)."""
        return (
            self.extent.events.first[partition] > 0
            or partition in self.stored.bootstrapped
            or self.stored.has_earlier_topic
        )

    def _follows_bootstrap(self, user: ExpectedUser) -> bool:
        """Return whether some of the topic's events were left to a bootstrap's file."""
        first = self.extent.events.first[user.partition]
        return self.stored.bootstrapped.get(user.partition, 0) > first

    def _count(self, user: ExpectedUser, state: State, value: bytes | None) -> None:
        """Count what became of the user's events, as a window of this value says."""
        expected, found = state.window, window_from_bytes(value) if value else Window()
        self.events += user.applied + user.duplicate + user.late
        self.applied += user.applied + found.applied - expected.applied
        self.duplicate += user.duplicate + found.duplicate - expected.duplicate
        self.late += user.late + found.late - expected.late


def _accounted(found: Window, expected: Window) -> str:
    return f"{_events(found)} of {_events(expected)} events are accounted for in the window in the changelog"


def _counts(window: Window) -> tuple[int, int, int]:
    return window.applied, window.duplicate, window.late


def _events(window: Window) -> int:
    return sum(_counts(window))
