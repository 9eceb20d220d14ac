"""What to do next so that the published model serves: pure decisions, taken about once a second.

    published ──> load ──> stage ──(all users written)──> serves, the old one is kept ──> retired, cleaned up
                   └─> refused: the old one still serves    └─> published again within that time: back at once

Every worker decides for itself from the same facts: what the artifact store publishes, and what is live in
Redis (stream/store/model_registry.py), where each of these steps is one script that is safe to repeat. So
workers need no leader, and one that starts in mid-change needs to know nothing more.
"""

from dataclasses import dataclass
from enum import Enum

from models.artifact.publications import Publication
from stream.store.registry_state import LiveModel, Models


@dataclass(frozen=True, slots=True)
class Situation:
    """All that a decision depends on."""

    #: What the artifact store publishes; None where the worker follows no store, or cannot read it.
    wanted: Publication | None
    models: Models
    #: Versions that this worker can encode with.
    loaded: frozenset[str]
    #: Versions that this worker has tried to load, and could not.
    refused: frozenset[str]
    #: Wall-clock now, and how long a replaced model is kept (ms).
    now_ms: int
    keep_previous_ms: int


class Step(Enum):
    """What there is to do."""

    NOTHING = "nothing"
    LOAD = "load"
    STAGE = "stage"
    ROLL_BACK = "roll back"
    RETIRE = "retire"


@dataclass(frozen=True, slots=True)
class Decision:
    """A step, and the version that it is about."""

    step: Step
    version: str = ""


def decide(situation: Situation) -> Decision:
    """Return the next step: first what lets this worker write for all live models, then the change itself."""
    models = situation.models
    for model in models.live:
        if model.version not in situation.loaded | situation.refused:
            return Decision(Step.LOAD, model.version)
    wanted = situation.wanted
    if wanted is not None and wanted.number > models.serving.publication:
        if wanted.version == models.serving.version and models.staged:
            return Decision(Step.RETIRE, models.staged.version)  # published once more: nothing else is wanted
        if models.previous and wanted.version == models.previous.version:
            return Decision(Step.ROLL_BACK, models.serving.version)
        if wanted.version != models.serving.version and not _is_staged(models.staged, wanted):
            return _towards(situation, wanted.version)
    return _retire_previous(situation)


def _is_staged(staged: LiveModel | None, wanted: Publication) -> bool:
    """Return whether what is staged is what is wanted, or was published later than this worker has seen."""
    return staged is not None and (staged.version == wanted.version or staged.publication >= wanted.number)


def _towards(situation: Situation, version: str) -> Decision:
    if version in situation.refused:
        return _retire_previous(situation)
    return Decision(Step.STAGE if version in situation.loaded else Step.LOAD, version)


def _retire_previous(situation: Situation) -> Decision:
    models = situation.models
    if models.previous and situation.now_ms - models.switched_at_ms >= situation.keep_previous_ms:
        return Decision(Step.RETIRE, models.previous.version)
    return Decision(Step.NOTHING)
