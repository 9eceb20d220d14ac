"""Which of a key's changelog records stays."""

from models.windows.newest import newest
from models.windows.window import Window, window_to_bytes


def window(offset: int) -> bytes:
    return window_to_bytes(Window(topic_id="t", partition=0, offset=offset))


def test_last_record_of_a_key_stays() -> None:
    assert newest([b"a", b"a"], [window(1), window(2)], {}) == {b"a": window(2)}


def test_older_window_written_late_by_a_zombie_does_not_count() -> None:
    assert newest([b"a", b"a"], [window(200), window(150)], {}) == {b"a": window(200)}
    assert newest([b"a"], [window(150)], {b"a": window(200)}) == {}


def test_tombstone_counts_and_what_follows_it_too() -> None:
    assert newest([b"a", b"a"], [window(5), None], {}) == {b"a": None}
    assert newest([b"a", b"a"], [None, window(1)], {b"a": window(9)}) == {b"a": window(1)}
