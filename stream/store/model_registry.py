"""Which models are live: the one that serves, and one that is staged or kept for rollback.

One HASH in Redis holds it, and every change of it is one script, so whoever reads it sees one moment:

    serve ──> stage ──> report_coverage ... ──(reached)──> the staged model serves, the old one is previous
                └─> retire                                   ├─> rollback: the two change places
                                                             └─> retire: the previous one is given up

At most two models are live at a time. Each that becomes live gets a publication number greater than all
before.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

import redis

from models.errors import TwintideError
from stream.store.keys import models_key
from stream.store.scripts import script


class ModelChangeError(TwintideError):
    """A change of models that is not possible now."""


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


class ModelRegistry:
    """Reads and changes which models are live for the users of one key prefix.

    Every method is one atomic script, answers with what is live after it, and raises redis.RedisError where
    Redis does not answer. All are safe to repeat.
    """

    def __init__(self, client: "redis.Redis", key_prefix: str = "user:") -> None:
        self.key = models_key(key_prefix)
        self._client = client

    def read(self) -> Models | None:
        """Return which models are live, None where none ever served."""
        return parse_models(cast(list[bytes | None], self._client.hmget(self.key, MODELS_FIELDS)))

    def serve(self, version: str, publication: int) -> Models:
        """Have this model serve at once, whatever its coverage is; what served becomes `previous`.

        For a first start, and for a model all of whose users are written. A model that is not staged and has
        a smaller number than the serving one is older: then nothing changes, as the answer says.
        """
        return self._run("serve_model", version, publication)

    def stage(self, version: str, publication: int, partitions: int, coverage: float = 1.0) -> Models:
        """Make this model live beside the serving one, until enough users have it; then it serves.

        The number becomes `publication`, or the next free one where that is not greater than all before:
        `Models.staged.publication` is the one that counts. Another staged model, or the previous one, is
        given up. The model of `report_coverage` serves when all `partitions` are reported and `coverage`
        (0..1) of their users are done. Where no model serves, this one does at once; the serving one changes
        nothing; staging once more keeps what is reported, and takes the new `partitions` and `coverage`.

        Write the cold-start user's row of the model before the last partition is reported.
        """
        if not 0 <= coverage <= 1:
            raise ModelChangeError(f"the coverage is {coverage}; it must be from 0 to 1")
        return self._run("stage_model", version, publication, partitions, coverage)

    def report_coverage(self, version: str, partition: int, done: int, total: int) -> Models:
        """Say that `done` of a partition's `total` users have the staged model, and switch if it is time.

        Nothing changes where `version` is not staged (any more). Use `Store.report_coverage`, which makes
        sure that Redis still has what was written.
        """
        return self._run("report_coverage", version, partition, done, total)

    def progress(self) -> "ChangeProgress":
        """Return how far the change of models is, and what is left to do after it."""
        fields = cast(dict[bytes, bytes], self._client.hgetall(self.key))
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

    def request_backfill(self, partitions: Iterable[int]) -> None:
        """Have all users of these partitions written again: Redis lost some, or never had them."""
        self._client.hset(self.key, mapping={f"rewrite:{partition}": 1 for partition in partitions})

    def note_backfilled(self, partition: int) -> None:
        """Say that this is done."""
        self._client.hdel(self.key, f"rewrite:{partition}")

    def cleaned_up(self, generation: int) -> None:
        """Say that all users were cleaned up (`Store.clean_up`) with what was live at this generation."""
        self._client.hset(self.key, "settled", generation)

    def refuse(self, version: str, reason: str) -> None:
        """Say that a worker cannot use a version, for whoever published it."""
        self._client.hset(self.key, "refused", f"{version} {reason}")

    def forget_refusal(self) -> None:
        """Let a version be tried anew."""
        self._client.hdel(self.key, "refused")

    def rollback(self, version: str) -> Models:
        """Have the previous model serve again, under a new number, if `version` serves now; keep that.

        Readers follow with their next read. A repeated call changes nothing, because `version` does not
        serve any more. Raises ModelChangeError where no model is kept.
        """
        found = self._run("roll_back_model", version)
        if found.serving.version == version:
            raise ModelChangeError(
                f"model {version} serves and no previous one is kept: publish the one you want"
            )
        return found

    def retire(self, version: str) -> Models:
        """Give up the staged or previous model; `Store.clean_up` then deletes it from users."""
        return self._run("retire_model", version)

    def restore(self, models: Models) -> Models:
        """Put back what was known, where Redis lost it; all coverage must be reported again."""
        values: list[str | float] = [models.generation, models.latest, models.switched_at_ms]
        values += [models.partitions, models.coverage]
        for each in (models.serving, models.staged, models.previous):
            values += [each.version, each.publication] if each else ["", 0]
        return self._run("restore_models", *values)

    def _run(self, name: str, *arguments: str | float) -> Models:
        run = self._client.register_script(script(name))
        found = cast(list[bytes | None], run(keys=[self.key], args=list(arguments)))
        models = parse_models(found)
        if models is None:
            raise ModelChangeError(f"no model serves at {self.key}: start a worker first")
        return models
