"""A partition counts as written with a model only where somebody surely did it."""

from stream.rollout.coverage import Coverage
from stream.store.registry_state import LiveModel, Models

OLD, NEW = LiveModel("old", 1), LiveModel("new", 2)


def models(serving: LiveModel, staged: LiveModel | None = None, previous: LiveModel | None = None) -> Models:
    return Models(serving, staged, previous, 2, 1, 0, partitions=2, coverage=1.0)


STAGED, SERVED = models(OLD, staged=NEW), models(NEW, previous=OLD)


def coverage(**loaded_in: int) -> Coverage:
    made = Coverage()
    made.note_assignment(1)
    for version, assignment in loaded_in.items():
        made.note_loaded(version, assignment)
    return made


def test_serving_model_that_was_always_loaded_needs_nothing() -> None:
    assert coverage(old=0).missing(0, STAGED, {}, ()) == []


def test_staged_model_is_written_once() -> None:
    made = coverage(old=0, new=1)
    assert made.missing(0, STAGED, {}, ()) == [NEW]
    made.note_backfilled(0, [NEW])
    assert made.missing(0, STAGED, {}, ()) == []
    assert made.missing(1, STAGED, {}, ()) == [NEW]
    assert made.missing(0, SERVED, {}, ()) == []
    # After a rollback the model has another number, and the same vectors.
    assert made.missing(0, models(OLD, previous=LiveModel("new", 5)), {}, ()) == []


def test_model_staged_once_more_is_written_once_more() -> None:
    made = coverage(old=0, new=1)
    made.note_backfilled(0, [NEW])
    assert made.missing(0, models(OLD, staged=LiveModel("new", 3)), {}, ()) == [LiveModel("new", 3)]


def test_partition_that_comes_from_a_worker_that_had_written_it_is_not_written_again() -> None:
    made = coverage(old=0, new=0)
    assert made.missing(0, STAGED, {0: (7, 7), 1: (6, 7)}, ()) == []
    assert made.missing(1, STAGED, {0: (7, 7), 1: (6, 7)}, ()) == [NEW]


def test_partition_that_was_held_before_the_model_was_loaded_is_written_whatever_is_said() -> None:
    made = coverage(old=0, new=1)
    assert made.missing(0, STAGED, {0: (7, 7)}, ()) == [NEW]
    assert made.missing(0, SERVED, {}, ()) == [NEW]
    made.note_assignment(2)  # now it comes from somebody else, or again from here
    assert made.missing(0, STAGED, {0: (7, 7)}, ()) == []
    assert made.missing(0, SERVED, {}, ()) == []


def test_what_redis_lost_is_written_again_with_all_models() -> None:
    made = coverage(old=0, new=1)
    made.note_backfilled(0, [NEW])
    assert made.missing(0, STAGED, {}, {0}) == [OLD, NEW]
    made.note_loss()
    assert made.missing(0, STAGED, {0: (7, 7)}, ()) == [OLD, NEW]
    made.note_backfilled(0, [OLD, NEW])
    assert made.missing(0, STAGED, {}, ()) == []


def test_model_that_cannot_be_encoded_with_is_nobodys_work() -> None:
    assert coverage(old=0).missing(0, STAGED, {}, {0}) == [OLD]
    assert not coverage(old=0).is_written(0, NEW, STAGED, {0: (7, 7)})
