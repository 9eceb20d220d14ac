"""Which users a sample takes."""

import random

from local.proof.sample import UserSample

KEYS = [f"user {number}".encode() for number in range(1_000)]


def sampled(keys: list[bytes], size: int) -> tuple[set[bytes], UserSample]:
    """Return who is left of these keys, some of which come again and again."""
    sample, users = UserSample(size), set[bytes]()
    for key in keys:
        if sample.covers(key) and key not in users:
            users.add(key)
            users.discard(sample.add(key) or b"")
        assert len(users) <= size
    return users, sample


def test_sample_is_the_same_in_whatever_order_the_topic_is_read() -> None:
    first, _ = sampled(KEYS, 50)
    shuffled = KEYS * 3
    random.Random(1).shuffle(shuffled)
    second, _ = sampled(shuffled, 50)
    assert len(first) == 50
    assert first == second


def test_user_who_is_left_was_covered_from_their_first_event_on() -> None:
    users, sample = sampled(KEYS, 20)
    assert {key for key in KEYS if sample.covers(key)} == users


def test_small_topic_is_checked_whole_and_no_size_is_everyone() -> None:
    assert sampled(KEYS[:10], 20)[0] == set(KEYS[:10])
    everyone = UserSample()
    assert everyone.is_everyone
    assert all(everyone.covers(key) and everyone.add(key) is None for key in KEYS)
