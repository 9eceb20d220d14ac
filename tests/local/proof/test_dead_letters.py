"""Unreadable events against the dead-letter topic."""

from local.proof.dead_letters import DeadLetters
from local.proof.findings import Apart, Findings


def letters(*places: tuple[int, int], has_lost: bool = False) -> DeadLetters:
    found = DeadLetters(has_lost=has_lost)
    for partition, offset in places:
        found.offsets[partition].append(offset)
    return found


def test_unreadable_event_without_a_dead_letter_is_named() -> None:
    findings = Findings()
    letters((0, 5), (1, 6), (0, 5)).compare([(0, 5), (1, 6)], findings)
    assert findings.complaint == ""
    letters((0, 5), (1, 6)).compare([(0, 5), (1, 7), (2, 1)], findings)
    assert findings.complaint == (
        "the event at offset 7 of partition 1 is unreadable, and the dead-letter topic does not have it "
        "(1 more differ)"
    )


def test_dead_letters_that_are_gone_are_set_apart() -> None:
    findings = Findings()
    letters((0, 5), has_lost=True).compare([(0, 4), (0, 5)], findings)
    assert (findings.complaint, findings.apart) == ("", {Apart.DEAD_LETTER_EXPIRED: 1})
