"""Which models are live: the one that serves, and one that is staged or kept for rollback.

One HASH in Redis holds it, and every change of it is one script, so whoever reads it sees one moment:

    serve ──> stage ──> report_coverage ... ──(reached)──> the staged model serves, the old one is previous
                └─> retire                                   ├─> rollback: the two change places
                                                             └─> retire: the previous one is given up

At most two models are live at a time. Each that becomes live gets a publication number greater than all
before.
"""

from collections.abc import Iterable
from typing import cast

import redis

from models.errors import TwintideError
from stream.store.keys import models_key
from stream.store.registry_state import (
    MODELS_FIELDS,
    ChangeProgress,
    Models,
    models_values,
    parse_models,
    parse_progress,
)
from stream.store.scripts import script


class ModelChangeError(TwintideError):
    """A change of models that is not possible now."""


class ModelRegistry:
    """Reads and changes which models are live for the users of one key prefix.

    What changes the live models is one atomic script, and answers with what is live after it; all else is one
    command. Each raises redis.RedisError where Redis does not answer, and is safe to repeat. Keeps nothing in
    memory, so it may be used from several threads.
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

    def progress(self) -> ChangeProgress:
        """Return how far the change of models is, and what is left to do after it."""
        fields = cast(dict[bytes, bytes], self._client.hgetall(self.key))
        return parse_progress(fields)

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
        return self._run("restore_models", *models_values(models))

    def _run(self, name: str, *arguments: str | float) -> Models:
        run = self._client.register_script(script(name))
        found = cast(list[bytes | None], run(keys=[self.key], args=list(arguments)))
        models = parse_models(found)
        if models is None:
            raise ModelChangeError(f"no model serves at {self.key}: start a worker first")
        return models
