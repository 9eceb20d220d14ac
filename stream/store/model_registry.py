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


# What every script begins and ends with: the state as a table, its change, its fields as the answer.
_HEAD = """
local key = KEYS[1]
local function get(name) return redis.call('HGET', key, name) or '' end
local function number(name) return tonumber(redis.call('HGET', key, name) or nil) or 0 end
local function forget_coverage()
  for _, name in ipairs(redis.call('HKEYS', key)) do
    if string.sub(name, 1, 8) == 'covered:' then redis.call('HDEL', key, name) end
  end
end
local function next_publication(wanted)
  local latest = redis.call('HGET', key, 'latest')
  local publication = tonumber(wanted)
  if latest and publication <= tonumber(latest) then publication = tonumber(latest) + 1 end
  redis.call('HSET', key, 'latest', publication)
  return publication
end
local function put(role, version, publication)
  redis.call('HSET', key, role, version, role .. '_publication', publication)
end
local function changed() redis.call('HINCRBY', key, 'generation', 1) end
local function serve(version, publication, previous, previous_publication)
  local now = redis.call('TIME')
  put('serving', version, publication)
  put('previous', previous, previous_publication)
  put('staged', '', 0)
  redis.call('HSET', key, 'switched_at', now[1] * 1000 + math.floor(now[2] / 1000))
  forget_coverage()
  changed()
end
local serving, serving_publication = get('serving'), number('serving_publication')
local staged, staged_publication = get('staged'), number('staged_publication')
local previous, previous_publication = get('previous'), number('previous_publication')
"""

_TAIL = f"""
return redis.call('HMGET', key, {", ".join(f"'{name}'" for name in MODELS_FIELDS)})
"""

# ARGV: version, publication
_SERVE = f"""{_HEAD}
local version, publication = ARGV[1], tonumber(ARGV[2])
if version ~= serving then
  if version == staged then
    serve(version, staged_publication, serving, serving_publication)
  elseif serving == '' or publication >= serving_publication then
    serve(version, next_publication(publication), serving, serving_publication)
  end
end
{_TAIL}"""

# ARGV: version, publication, partitions, wanted coverage
_STAGE = f"""{_HEAD}
local version = ARGV[1]
if serving == '' then
  serve(version, next_publication(ARGV[2]), '', 0)
elseif version ~= serving then
  redis.call('HSET', key, 'partitions', ARGV[3], 'coverage', ARGV[4])
  if version ~= staged then
    put('staged', version, next_publication(ARGV[2]))
    put('previous', '', 0)
    forget_coverage()
    changed()
  end
end
{_TAIL}"""

# ARGV: version, partition, done, total
_COVERAGE = f"""{_HEAD}
if ARGV[1] == staged then
  redis.call('HSET', key, 'covered:' .. ARGV[2], ARGV[3] .. ' ' .. ARGV[4])
  local partitions, done, total = 0, 0, 0
  local all = redis.call('HGETALL', key)
  for place = 1, #all, 2 do
    if string.sub(all[place], 1, 8) == 'covered:' then
      local of_partition, of_total = string.match(all[place + 1], '^(%d+) (%d+)$')
      partitions, done, total = partitions + 1, done + tonumber(of_partition), total + tonumber(of_total)
    end
  end
  if partitions >= number('partitions') and done >= tonumber(get('coverage')) * total then
    serve(staged, staged_publication, serving, serving_publication)
  end
end
{_TAIL}"""

# ARGV: the version to get away from
_ROLLBACK = f"""{_HEAD}
if ARGV[1] == serving and previous ~= '' then
  serve(previous, next_publication(0), serving, serving_publication)
end
{_TAIL}"""

# ARGV: version
_RETIRE = f"""{_HEAD}
if ARGV[1] ~= '' and (ARGV[1] == staged or ARGV[1] == previous) then
  put('staged', '', 0)
  put('previous', '', 0)
  forget_coverage()
  changed()
end
{_TAIL}"""

_RESTORED = ", ".join(f"'{name}', ARGV[{place}]" for place, name in enumerate(MODELS_FIELDS, start=1))

# ARGV: the values of MODELS_FIELDS
_RESTORE = f"""{_HEAD}
forget_coverage()
if number('generation') < tonumber(ARGV[1]) then
  redis.call('HSET', key, {_RESTORED})
end
{_TAIL}"""


class ModelRegistry:
    """Reads and changes which models are live for the users of one key prefix.

    Every method is one atomic script, answers with what is live after it, and raises redis.RedisError where
    Redis does not answer. All are safe to repeat.
    """

    def __init__(self, client: "redis.Redis", key_prefix: str = "user:") -> None:
        self.key = models_key(key_prefix)
        self._client = client
        self._scripts = {
            text: client.register_script(text)
            for text in (_SERVE, _STAGE, _COVERAGE, _ROLLBACK, _RETIRE, _RESTORE)
        }

    def read(self) -> Models | None:
        """Return which models are live, None where none ever served."""
        return parse_models(cast(list[bytes | None], self._client.hmget(self.key, MODELS_FIELDS)))

    def serve(self, version: str, publication: int) -> Models:
        """Have this model serve at once, whatever its coverage is; what served becomes `previous`.

        For a first start, and for a model all of whose users are written. A model that is not staged and has
        a smaller number than the serving one is older: then nothing changes, as the answer says.
        """
        return self._run(_SERVE, version, publication)

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
        return self._run(_STAGE, version, publication, partitions, coverage)

    def report_coverage(self, version: str, partition: int, done: int, total: int) -> Models:
        """Say that `done` of a partition's `total` users have the staged model, and switch if it is time.

        Nothing changes where `version` is not staged (any more). Use `Store.report_coverage`, which makes
        sure that Redis still has what was written.
        """
        return self._run(_COVERAGE, version, partition, done, total)

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
        found = self._run(_ROLLBACK, version)
        if found.serving.version == version:
            raise ModelChangeError(
                f"model {version} serves and no previous one is kept: publish the one you want"
            )
        return found

    def retire(self, version: str) -> Models:
        """Give up the staged or previous model; `Store.clean_up` then deletes it from users."""
        return self._run(_RETIRE, version)

    def restore(self, models: Models) -> Models:
        """Put back what was known, where Redis lost it; all coverage must be reported again."""
        values: list[str | float] = [models.generation, models.latest, models.switched_at_ms]
        values += [models.partitions, models.coverage]
        for each in (models.serving, models.staged, models.previous):
            values += [each.version, each.publication] if each else ["", 0]
        return self._run(_RESTORE, *values)

    def _run(self, script: str, *arguments: str | float) -> Models:
        found = cast(list[bytes | None], self._scripts[script](keys=[self.key], args=list(arguments)))
        models = parse_models(found)
        if models is None:
            raise ModelChangeError(f"no model serves at {self.key}: start a worker first")
        return models
