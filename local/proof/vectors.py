"""Are a user's vectors in Redis those that the live models make of the window?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from local.proof.expected import ExpectedUser
from local.proof.findings import Apart, Findings
from local.proof.live_inputs import Input, KeptInputs, live_inputs
from local.proof.live_vectors import LiveVectors, Slots, StoredVectors
from local.proof.windows import CheckedWindow
from models.artifact.artifact import Artifact
from models.windows.histories import Histories, histories_of_cold_start, histories_of_windows
from models.windows.window import is_empty, read_offset, window_from_bytes
from stream.settings import Settings
from stream.store.registry_state import LiveModel
from stream.store.vectors import Vector

#: Largest difference between a streamed and a batch-encoded vector that counts as equal.
VECTOR_TOLERANCE = 1e-4
#: The same where the worker computes in bfloat16 on a GPU.
BFLOAT16_TOLERANCE = 0.1

#: Where no item learner runs.
NO_INPUTS: Mapping[str, KeptInputs] = MappingProxyType({})
#: Vectors encoded at once.
USERS_PER_ENCODE = 512


@dataclass(frozen=True, slots=True)
class Judged:
    """Stored vectors, and the window that they should be of."""

    user_id: str
    stored: StoredVectors
    window: bytes
    #: What the items had become that entered, None where there is no telling.
    inputs: Mapping[int, Input] | None


class VectorCheck:
    """Compares the vectors of users, one after the other, and encodes many at a time."""

    def __init__(
        self,
        settings: Settings,
        committed: Mapping[int, int],
        live: LiveVectors,
        artifacts: Mapping[str, Artifact],
        findings: Findings,
        inputs: Mapping[str, KeptInputs] = NO_INPUTS,
    ) -> None:
        """committed: by partition, the end of the committed part; artifacts: those of the models to check.

        inputs: what Redis keeps of live inputs, by model.
        """
        #: Users whose vectors were compared, of one live model at least.
        self.users = 0
        self._settings = settings
        self._committed = committed
        self._live = live
        self._inputs = inputs
        self._artifacts = artifacts
        self.findings = findings
        self._tolerance = (
            BFLOAT16_TOLERANCE if settings.bfloat16 and settings.device != "cpu" else VECTOR_TOLERANCE
        )
        self._waiting: dict[str, list[Judged]] = {version: [] for version in artifacts}

    def check(self, key: bytes, user: ExpectedUser, checked: CheckedWindow) -> None:
        """Compare a user's vectors of every model; `checked` is what was found of the window before."""
        slots, is_counted = self._live.users[key], False
        for model in self._live.models.live:
            if model.version not in self._artifacts:
                continue
            stored = slots.get(model.version)
            if stored is None:
                if not isinstance(checked.found, Apart) and not checked.may_be_gone:
                    self._miss(key, user, model, slots)
                continue
            window = self._window(key, user, checked, stored, model)
            if window is not None:
                inputs = self._inputs_of(model.version, stored, window)
                self._add(model.version, Judged(key.decode(), stored, window, inputs))
                is_counted |= inputs is not None
        self.users += is_counted

    def check_cold_start(self, version: str, stored: Mapping[str, Slots]) -> None:
        """Compare what a model makes of cold-start users with what is stored at each category."""
        artifact = self._artifacts[version]
        categories = []
        for category, slots in stored.items():
            if version in slots:
                categories.append(category)
            elif category:
                self.findings.set_apart(Apart.CATEGORY_NOT_WRITTEN)
            elif version == self._live.models.serving.version:
                self.findings.differ(f"cold-start users: Redis has no vector of model {version}")
        for start in range(0, len(categories), USERS_PER_ENCODE):
            some = categories[start : start + USERS_PER_ENCODE]
            names = [
                f"cold-start users at category {each!r}" if each else "cold-start users" for each in some
            ]
            histories = histories_of_cold_start(some, artifact.vocabulary)
            self._compare(version, names, [stored[each][version] for each in some], histories)

    def finish(self) -> None:
        """Compare what still waits."""
        for version in self._waiting:
            self._encode(version)

    def _miss(self, key: bytes, user: ExpectedUser, model: LiveModel, slots: Slots) -> None:
        """Note that a user has no vectors of a model, unless that may be."""
        if is_empty(user.state_after(-1).value):
            return
        serves_before_all_have_it = self._live.models.coverage < 1 and bool(slots)
        if self._is_being_written(user, model) or serves_before_all_have_it:
            self.findings.set_apart(Apart.NOT_WRITTEN_YET)
        elif self._settings.ttl_s:
            self.findings.set_apart(Apart.EXPIRED)
        else:
            self.findings.differ(f"user {key.decode()!r}: Redis has no vector of model {model.version}")

    def _inputs_of(self, version: str, stored: StoredVectors, window: bytes) -> Mapping[int, Input] | None:
        """Return what the items of a window had become when its vectors were made; None: no telling."""
        if not stored.inputs:
            return {}
        artifact, kept = self._artifacts[version], self._inputs.get(version)
        newest = window_from_bytes(window).item_ids[-artifact.settings.features.short_events :]
        found = kept.at(stored.inputs, newest) if kept else None
        if found is None:
            self.findings.set_apart(Apart.INPUTS_GONE)
        return found

    def _window(
        self,
        key: bytes,
        user: ExpectedUser,
        checked: CheckedWindow,
        stored: StoredVectors,
        model: LiveModel,
    ) -> bytes | None:
        """Return which window stored vectors should be of; None where they differ, or there is no telling."""
        is_wrong = checked.found != "" and not isinstance(checked.found, Apart)
        if is_wrong:
            return None  # one difference of a user is enough
        if isinstance(checked.found, Apart) or not checked.is_exact:
            window = self._window_in_changelog(user, checked, stored)
            if window is None:
                self.findings.set_apart(Apart.WITHOUT_WINDOW)
            return window
        state = user.state_after(stored.seq)
        if stored.seq < state.applied_offset or (self._live.epoch or 0) > stored.epoch:
            if self._is_being_written(user, model):
                self.findings.set_apart(Apart.NOT_WRITTEN_YET)
                return None
            what = "was forgotten" if is_empty(state.value) else "has events"
            self.findings.differ(
                f"user {key.decode()!r}: {what} up to offset {state.applied_offset} of partition "
                f"{user.partition}, and the vector in Redis knows them up to {stored.seq}"
            )
            return None
        if is_empty(state.value):
            self.findings.differ(f"user {key.decode()!r}: was forgotten, and Redis has a vector")
            return None
        return state.value

    def _window_in_changelog(
        self, user: ExpectedUser, checked: CheckedWindow, stored: StoredVectors
    ) -> bytes | None:
        """Return the window in the changelog, proved or not, if the vectors are surely of it, else None."""
        if checked.value is None or checked.found is Apart.SPLIT:
            return None
        offset, committed = read_offset(checked.value), self._committed[user.partition]
        # Both know all that is committed: what one knows beyond the other has changed nothing.
        is_settled = offset < committed and stored.seq < committed
        return checked.value if is_settled or stored.seq == offset else None

    def _is_being_written(self, user: ExpectedUser, model: LiveModel) -> bool:
        """Return whether a backfill under way still has to bring a model's vectors of the partition."""
        return model == self._live.models.staged or user.partition in self._live.progress.to_backfill

    def _add(self, version: str, judged: Judged) -> None:
        self._waiting[version].append(judged)
        if len(self._waiting[version]) >= USERS_PER_ENCODE:
            self._encode(version)

    def _encode(self, version: str) -> None:
        some, self._waiting[version] = self._waiting[version], []
        for each in some:
            self._compare_facts(each)
        by_number: dict[str | None, list[Judged]] = {}
        for each in some:
            number = None if each.inputs is None else each.stored.inputs
            by_number.setdefault(number, []).append(each)
        for number, alike in by_number.items():
            self._encode_alike(version, number, alike)

    def _encode_alike(self, version: str, number: str | None, some: Sequence[Judged]) -> None:
        """Compare vectors that were made with the same live inputs; None: nobody knows with which."""
        artifact = self._artifacts[version]
        inputs = {bits: each for one in some for bits, each in (one.inputs or {}).items()}
        live = live_inputs(number, inputs, artifact) if number else None
        self._compare(
            version,
            [f"user {each.user_id!r}" for each in some],
            [each.stored for each in some],
            histories_of_windows([each.window for each in some], artifact.vocabulary, live),
            [each.user_id for each in some],
            ("long",) if number is None else ("vec", "long", "short"),
        )

    def _compare_facts(self, judged: Judged) -> None:
        """Compare what stands beside the vectors."""
        stored, window = judged.stored, window_from_bytes(judged.window)
        if (stored.n, stored.ts) != (len(window), window.times_ms[-1]):
            self.findings.differ(
                f"user {judged.user_id!r}: Redis says {stored.n} events, the newest at {stored.ts} ms; there "
                f"are {len(window)}, the newest at {window.times_ms[-1]} ms"
            )
        elif not stored.is_history_of(judged.window):
            self.findings.differ(f"user {judged.user_id!r}: the history in Redis is wrong")

    def _compare(
        self,
        version: str,
        names: Sequence[str],
        stored: Sequence[StoredVectors],
        histories: Histories,
        user_ids: Sequence[str] = (),
        fields: Sequence[str] = ("vec", "long", "short"),
    ) -> None:
        if not names:
            return
        made = self._artifacts[version].encode(histories, user_ids)
        for place, (name, each) in enumerate(zip(names, stored, strict=True)):
            parts = {"vec": made.user, "long": made.long, "short": made.short}
            expected = {field: parts[field][place] for field in fields if parts[field].shape[1]}
            found = {field: vector for field, vector in each.vectors().items() if field in fields}
            missing = [field for field in expected if field not in found and not self._may_expire(field)]
            wrong = [
                field
                for field, vector in found.items()
                if field not in expected or not self._is_equal(vector, expected[field], each.vector_format)
            ]
            if missing or wrong:
                what = " and ".join(
                    [*(f"no {field}" for field in missing), *(f"a wrong {field}" for field in wrong)]
                )
                self.findings.differ(f"{name}: Redis has {what} of model {version}")

    def _may_expire(self, field: str) -> bool:
        return self._settings.short_ttl_s > 0 and field != "long"

    def _is_equal(self, found: Vector, expected: Vector, vector_format: str) -> bool:
        if found.shape != expected.shape:
            return False
        difference = float(np.nan_to_num(np.abs(found - expected), nan=np.inf).max())
        self.findings.max_difference = max(self.findings.max_difference, difference)
        return difference <= self._tolerance + _rounding(expected, vector_format)


def _rounding(vector: Vector, vector_format: str) -> float:
    """Return how far the format's rounding may move a number of this vector."""
    steps = {"float32": 0.0, "float16": 2.0**-10, "int8": 1 / 127}
    return float(np.abs(vector).max()) * steps[vector_format]
