"""Which models are live, as the registry holds it: the one that serves, and one that is staged or kept."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class LiveModel:
    """One version of the artifact, and the number under which it was last published."""

    version: str
    publication: int


@dataclass(frozen=True, slots=True)
class Models:
    """Which models are live, as of one moment."""

    serving: LiveModel
    #: Being written for all users; it serves as soon as enough of them have it. Never beside `previous`.
    staged: LiveModel | None
    #: What served before, with its vectors still there, for rollback.
    previous: LiveModel | None
    #: The greatest publication number given out so far.
    latest: int
    #: One more with every change.
    generation: int
    #: When the serving model began to serve (wall-clock of Redis, ms).
    switched_at_ms: int
    #: The staged model serves when so many partitions are reported, with this share of their users.
    partitions: int
    coverage: float

    @property
    def second(self) -> LiveModel | None:
        """Return the live model that does not serve, None where there is one model alone."""
        return self.staged or self.previous

    @property
    def live(self) -> list[LiveModel]:
        """Return the serving model, and the second where there is one."""
        return [self.serving, *([self.second] if self.second else [])]

    @property
    def publications(self) -> dict[str, int]:
        """Return version -> publication number of the live models."""
        return {each.version: each.publication for each in self.live}


@dataclass(frozen=True, slots=True)
class ChangeProgress:
    """How far a change of models is."""

    #: Partition -> (done, total) users, as reported for the staged model.
    covered: Mapping[int, tuple[int, int]] = field(default_factory=dict)
    #: Partitions whose users are to be written again with all live models.
    to_backfill: frozenset[int] = frozenset()
    #: The generation for which all users were cleaned up.
    cleaned_up: int = 0
    #: The version that a worker refused last, and why.
    refused: str = ""
    reason: str = ""


#: The fields that make a `Models`, in the order of `parse_models`.
MODELS_FIELDS = (
    *("generation", "latest", "switched_at", "partitions", "coverage"),
    *("serving", "serving_publication", "staged", "staged_publication", "previous", "previous_publication"),
)


def parse_models(fields: Sequence[bytes | None]) -> Models | None:
    """Return what the values of MODELS_FIELDS say; None where no model ever served."""
    generation, latest, switched_at, partitions, coverage, *models = fields
    serving, staged, previous = (_parse_model(*models[place : place + 2]) for place in (0, 2, 4))
    if serving is None:
        return None
    return Models(
        serving=serving,
        staged=staged,
        previous=previous,
        latest=int(latest or 0),
        generation=int(generation or 0),
        switched_at_ms=int(switched_at or 0),
        partitions=int(partitions or 0),
        coverage=float(coverage or 1),
    )


def _parse_model(version: bytes | None, publication: bytes | None) -> LiveModel | None:
    return LiveModel(version.decode(), int(publication or 0)) if version else None


def models_values(models: Models) -> list[str | float]:
    """Return the values of MODELS_FIELDS that `parse_models` makes these models of."""
    values: list[str | float] = [models.generation, models.latest, models.switched_at_ms]
    values += [models.partitions, models.coverage]
    for each in (models.serving, models.staged, models.previous):
        values += [each.version, each.publication] if each else ["", 0]
    return values


def parse_progress(fields: Mapping[bytes, bytes]) -> ChangeProgress:
    """Return what all fields of the registry's HASH say about a change of models."""
    covered, to_backfill = {}, set()
    for name, value in fields.items():
        kind, _, partition = name.partition(b":")
        if kind == b"covered":
            done, total = value.split()
            covered[int(partition)] = int(done), int(total)
        elif kind == b"rewrite":
            to_backfill.add(int(partition))
    refused, _, reason = fields.get(b"refused", b"").decode().partition(" ")
    cleaned_up = int(fields.get(b"settled", 0))
    return ChangeProgress(covered, frozenset(to_backfill), cleaned_up, refused, reason)
