"""What the workers decide leads to the published model, from wherever they start, and back."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.artifact.publications import Publication
from stream.rollout.decision import Decision, Situation, Step, decide
from stream.store.registry_state import LiveModel, Models

OLD, MIDDLE, NEW = LiveModel("old", 10), LiveModel("mid", 15), LiveModel("new", 20)


def situation(
    wanted: Publication | None = None,
    serving: LiveModel = OLD,
    staged: LiveModel | None = None,
    previous: LiveModel | None = None,
    loaded: str = "old new",
    refused: str = "",
    now_ms: int = 0,
) -> Situation:
    models = Models(
        serving, staged, previous, latest=20, generation=1, switched_at_ms=0, partitions=1, coverage=1.0
    )
    return Situation(wanted, models, frozenset(loaded.split()), frozenset(refused.split()), now_ms, 1_000)


PUBLISHED_NEW = Publication("new", 20)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (situation(Publication("old", 10)), Decision(Step.NOTHING)),
        (situation(None), Decision(Step.NOTHING)),
        (situation(PUBLISHED_NEW, loaded="old"), Decision(Step.LOAD, "new")),
        (situation(PUBLISHED_NEW), Decision(Step.STAGE, "new")),
        (situation(PUBLISHED_NEW, loaded="old", refused="new"), Decision(Step.NOTHING)),
        (situation(PUBLISHED_NEW, staged=NEW), Decision(Step.NOTHING)),
        (situation(PUBLISHED_NEW, staged=LiveModel("newer", 30), loaded="old newer"), Decision(Step.NOTHING)),
        (situation(PUBLISHED_NEW, staged=MIDDLE, loaded="old mid new"), Decision(Step.STAGE, "new")),
        (situation(PUBLISHED_NEW, serving=NEW, previous=OLD), Decision(Step.NOTHING)),
        (situation(PUBLISHED_NEW, serving=NEW, previous=OLD, now_ms=1_000), Decision(Step.RETIRE, "old")),
        (situation(PUBLISHED_NEW, serving=NEW, previous=OLD, loaded="new"), Decision(Step.LOAD, "old")),
        (situation(Publication("old", 30), serving=NEW, previous=OLD), Decision(Step.ROLL_BACK, "new")),
        (situation(Publication("old", 30), staged=NEW), Decision(Step.RETIRE, "new")),
        (
            situation(Publication("old", 30), serving=LiveModel("old", 21), previous=NEW, now_ms=1_000),
            Decision(Step.RETIRE, "new"),
        ),
    ],
)  # fmt: skip
def test_next_step(found: Situation, expected: Decision) -> None:
    assert decide(found) == expected


def test_copy_of_the_store_that_was_left_behind_changes_nothing() -> None:
    assert decide(situation(Publication("old", 10), serving=NEW, previous=OLD)) == Decision(Step.NOTHING)
    assert decide(situation(Publication("older", 5), loaded="old older")) == Decision(Step.NOTHING)


MODELS = [LiveModel(f"m{number}", number * 10) for number in range(1, 5)]


@given(
    st.permutations(MODELS),
    st.sampled_from(["alone", "staged", "previous"]),
    st.integers(0, 3),
    st.integers(41, 50),
    st.sets(st.sampled_from([model.version for model in MODELS])),
)
def test_every_start_leads_to_the_published_model(
    order: list[LiveModel], second: str, wanted: int, number: int, loaded: set[str]
) -> None:
    models = Models(
        order[0],
        order[1] if second == "staged" else None,
        order[1] if second == "previous" else None,
        *(40, 1, 0, 1, 1.0),
    )
    published = Publication(order[wanted].version, number)
    here = Situation(published, models, frozenset(loaded), frozenset(), 0, 1_000)
    for _ in range(10):
        decision = decide(here)
        if decision.step is Step.NOTHING and here.models.staged is None:
            break
        here = after(here, decision)
    assert here.models.serving.version == published.version
    assert here.models.staged is None


def after(here: Situation, decision: Decision) -> Situation:
    """Return what is so after a step, as the registry and the workers make it; staged models get written."""
    models, version = here.models, decision.version
    if decision.step is Step.LOAD:
        return replace(here, loaded=here.loaded | {version})
    publication = models.latest + 1
    if decision.step is Step.STAGE:
        assert here.wanted is not None
        publication = max(publication, here.wanted.number)
        models = replace(models, staged=LiveModel(version, publication), previous=None)
    elif decision.step is Step.ROLL_BACK:
        assert models.previous is not None
        models = replace(
            models, serving=LiveModel(models.previous.version, publication), previous=models.serving
        )
    elif decision.step is Step.RETIRE:
        models = replace(models, staged=None, previous=None)
    elif models.staged:
        models = replace(models, serving=models.staged, staged=None, previous=models.serving)
    return replace(here, models=replace(models, latest=publication))
