"""Hashes of texts where they lie are what the library says of each."""

from hypothesis import example, given
from hypothesis import strategies as st

from models.events import event_hash
from models.ids.hashing import hashes_of_texts
from models.ids.texts import texts_of

EVERY_LENGTH = ["x" * length for length in range(300)] + ["ü商"[length % 2] * length for length in range(100)]


@given(st.lists(st.text(max_size=150), max_size=20))
@example(EVERY_LENGTH)
@example([chr(33 + length % 90) * (length // 2) + "ab" * (length // 4) for length in range(150)])
def test_hashes_are_those_by_which_windows_know_events(ids: list[str]) -> None:
    ids = [each.encode(errors="ignore").decode() for each in ids]
    assert hashes_of_texts(texts_of(ids)).tolist() == list(map(event_hash, ids))
