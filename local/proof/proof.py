"""The proof of a deployment: what follows from the topic's events, beside what its servers hold.

Asked of the servers, not of the worker. Every checked user's window is made once more from the topic alone,
in plain Python, and compared with the changelog's; it is encoded in a batch, and compared with the vectors in
Redis. A worker may be at work meanwhile: see expected.py.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice

import redis
from confluent_kafka import KafkaException, Message
from tqdm import tqdm

from local.proof.dead_letters import DeadLetters, read_dead_letters
from local.proof.expected import ExpectedUsers
from local.proof.extent import Extent, OffsetRange, measure, whole
from local.proof.findings import Apart, Findings
from local.proof.live_inputs import KeptInputs, read_kept_inputs
from local.proof.live_vectors import LiveVectors, live_models, read_cold_start, read_live_vectors
from local.proof.sample import UserSample
from local.proof.stored import StoredWindows
from local.proof.vectors import VectorCheck
from local.proof.windows import WindowCheck
from models.artifact.artifact import Artifact
from models.errors import ArtifactError, TwintideError, UnreachableError
from models.windows.window import WindowSettings, read_offset
from stream.encoding.live_models import ArtifactSource
from stream.events.decoder import decoder_of
from stream.kafka.topic_reader import read_between
from stream.kafka.topics import changelog_topic, end_offsets
from stream.settings import Settings
from stream.store.clients import redis_client

#: Events that are decoded together; after the first of them it is said how long all will take.
PORTION = 20_000

#: Tells the user something.
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Proof:
    """What was found; `is_ok` is the verdict."""

    published: int
    applied: int
    duplicate: int
    late: int
    malformed: int
    #: Users whose vectors were compared.
    vectors: int
    max_difference: float
    #: What contradicts the guarantee, empty where nothing does; names the first user.
    complaint: str = ""
    #: Versions of the models whose vectors were compared.
    models: frozenset[str] = field(default_factory=frozenset)
    #: How many users, or records, could not be judged, and why.
    apart: Mapping[Apart, int] = field(default_factory=dict)
    #: Events that the format says to skip.
    skipped: int = 0

    @property
    def is_ok(self) -> bool:
        """Return whether everything published is accounted for and every vector is right."""
        return not self.complaint

    def __str__(self) -> str:
        skipped = f" skipped={self.skipped}" if self.skipped else ""
        return (
            f"proof: published={self.published} applied={self.applied} duplicate={self.duplicate} "
            f"late={self.late} malformed={self.malformed}{skipped} vectors={self.vectors} "
            f"max_difference={self.max_difference:.1e} {'OK' if self.is_ok else 'FAILED'}"
        )


def prove(
    settings: Settings, *, published: int | None = None, sample: int = 0, say: Say = lambda _: None
) -> Proof:
    """Compare topic, changelog, dead letters and Redis of the deployment with these settings.

    published: how many events the producers say they sent, where they are known; sample: check so many users
    alone (0: all); say: gets a line for people now and then. Raises TwintideError where nothing can be
    proved.
    """
    try:
        return _Proving(settings, UserSample(sample), say).run(published)
    except redis.RedisError as error:
        raise UnreachableError(f"Redis at {settings.redis.place} stopped answering: {error}") from error
    except KafkaException as error:
        place = settings.kafka.bootstrap_servers
        raise UnreachableError(f"Kafka at {place} stopped answering: {error.args[0].str()}") from error


class _Proving:
    """One proof, step by step."""

    def __init__(self, settings: Settings, sample: UserSample, say: Say) -> None:
        self._settings = settings
        self._sample = sample
        self._say = say
        self._findings = Findings()
        self._are_swept = settings.sweep_every_s > 0
        self._client = redis_client(settings.redis) if settings.encode else None
        self._source = ArtifactSource(settings.artifact)
        #: The live models that can be compared, by version.
        self._artifacts: dict[str, Artifact] = {}
        self._inputs: dict[str, KeptInputs] = {}
        self._limits = WindowSettings()
        if self._client:
            serving = live_models(self._client, settings).serving.version
            self._artifacts[serving] = self._source.load(serving)
            self._limits = self._artifacts[serving].settings.window

    def run(self, published: int | None) -> Proof:
        """Read, compare, and say what was found."""
        extent = measure(self._settings)
        self._announce(extent)
        dead_letters = read_dead_letters(self._settings, extent.dead_letters)
        expected = self._read_committed(extent, dead_letters)
        live = self._read_redis(extent, expected)
        stored = self._read_changelog(extent, expected)
        self._read_on(extent, expected, stored, live)
        windows = WindowCheck(
            extent, stored, expected, self._limits.horizon_ms, self._are_swept, self._findings
        )
        vectors = self._vector_check(extent, live) if live else None
        for key, user in tqdm(expected.users.items(), desc="users", unit="user", disable=None):
            window = windows.check(key, user)
            if vectors:
                vectors.check(key, user, window)
        windows.check_strangers()
        if vectors:
            vectors.finish()
            self._check_cold_start(vectors)
        unreadable = expected.unreadable()
        dead_letters.compare(unreadable, self._findings)
        if not (windows.agreeing or self._findings.differences or (vectors and vectors.users)):
            reasons = "; ".join(f"{count:,} {reason}" for reason, count in self._findings.apart.items())
            raise TwintideError(f"nothing could be proved of any user: {reasons or 'there are none'}")
        found = self._proof(windows, vectors, len(unreadable), expected.skipped())
        return found if published is None else _with_published(found, published)

    def _announce(self, extent: Extent) -> None:
        settings = self._settings
        users = "all users" if self._sample.is_everyone else f"a sample of {self._sample.size:,} users"
        self._say(
            f"to read: {len(extent.events):,} events of {settings.topic} ({len(extent.events.ends)} "
            f"partitions), {len(extent.changelog):,} records of {changelog_topic(settings.app_id)}, "
            f"{len(extent.dead_letters):,} of {settings.dead_letter_topic}; to check: {users}"
        )
        if extent.uncommitted:
            self._say(f"not judged: {extent.uncommitted:,} events that are not committed yet")

    def _read_committed(self, extent: Extent, dead_letters: DeadLetters) -> ExpectedUsers:
        settings = self._settings
        expected = ExpectedUsers(
            extent.topic_id,
            decoder_of(settings),
            self._limits,
            self._sample,
            are_swept=self._are_swept,
            too_early=dead_letters.too_early,
        )
        started, is_said = time.monotonic(), False
        for messages in self._portions(settings.topic, extent.events):
            expected.read_committed(messages, int(time.time() * 1000))
            if len(messages) == PORTION and not is_said:
                content, is_said = sum(len(each.value() or b"") for each in messages), True
                rate = PORTION / (time.monotonic() - started)
                self._say(
                    f"that is about {content / PORTION * len(extent.events) / 1e6:,.0f} MB of events, and "
                    f"takes about {(len(extent.events) + len(extent.changelog)) / rate:,.0f} s"
                )
        return expected

    def _read_redis(self, extent: Extent, expected: ExpectedUsers) -> LiveVectors | None:
        """Return what Redis holds of the users, with the artifacts of all models that are live at hand."""
        if self._client is None:
            return None
        live = read_live_vectors(self._client, self._settings, extent.topic_id, expected.users)
        known, self._artifacts = self._artifacts, {}
        for model in live.models.live:
            try:
                loaded = known.get(model.version) or self._source.load(model.version)
                self._artifacts[model.version] = loaded
            except (ArtifactError, UnreachableError) as error:
                if model == live.models.serving:
                    raise
                self._findings.set_apart(Apart.OTHER_MODEL)
                self._say(f"model {model.version} is live, and its vectors are not compared: {error}")
        self._inputs = self._read_inputs(self._client)
        return live

    def _read_inputs(self, client: "redis.Redis") -> dict[str, KeptInputs]:
        """Return what Redis keeps of live inputs, by model; to be read after the vectors made with them."""
        found: dict[str, KeptInputs] = {}
        for version, artifact in self._artifacts.items():
            if kept := read_kept_inputs(client, self._settings.key_prefix, artifact):
                found[version] = kept
        return found

    def _read_changelog(self, extent: Extent, expected: ExpectedUsers) -> StoredWindows:
        changelog = changelog_topic(self._settings.app_id)
        stored = StoredWindows(extent.topic_id, expected.users, self._sample)
        for message in self._messages(changelog, whole(self._settings, changelog)):
            stored.read(message)
        return stored

    def _read_on(
        self, extent: Extent, expected: ExpectedUsers, stored: StoredWindows, live: LiveVectors | None
    ) -> None:
        """Read the events that came to windows and vectors while the committed part was read."""
        wanted = {key: {read_offset(value)} for key, value in stored.values.items()}
        ends = dict(stored.ends)
        for key, slots in live.users.items() if live else ():
            partition = expected.users[key].partition
            for each in slots.values():
                wanted.setdefault(key, set()).add(each.seq)
                ends[partition] = max(ends.get(partition, 0), each.seq + 1)
        committed = extent.events.ends
        expected.want(wanted, committed)
        available = end_offsets(self._settings.kafka, self._settings.topic)
        until = {partition: min(ends.get(partition, 0), available[partition]) for partition in committed}
        for messages in self._portions(self._settings.topic, OffsetRange(committed, until)):
            expected.read_on(messages, int(time.time() * 1000))
        expected.finish()

    def _vector_check(self, extent: Extent, live: LiveVectors) -> VectorCheck:
        return VectorCheck(
            self._settings, extent.events.ends, live, self._artifacts, self._findings, self._inputs
        )

    def _check_cold_start(self, vectors: VectorCheck) -> None:
        for version, artifact in self._artifacts.items():
            categories = ["", *artifact.vocabulary.category_ids]
            if self._client:
                vectors.check_cold_start(version, read_cold_start(self._client, self._settings, categories))

    def _proof(
        self, windows: WindowCheck, vectors: VectorCheck | None, malformed: int, skipped: int
    ) -> Proof:
        return Proof(
            published=windows.events + malformed + skipped,
            applied=windows.applied,
            duplicate=windows.duplicate,
            late=windows.late,
            malformed=malformed,
            vectors=vectors.users if vectors else 0,
            max_difference=self._findings.max_difference,
            complaint=self._findings.complaint,
            models=frozenset(self._artifacts),
            apart=self._findings.apart,
            skipped=skipped,
        )

    def _portions(self, topic: str, offsets: OffsetRange) -> Iterator[list[Message]]:
        """Yield what `_messages` yields, PORTION at a time."""
        messages = self._messages(topic, offsets)
        while portion := list(islice(messages, PORTION)):
            yield portion

    def _messages(self, topic: str, offsets: OffsetRange) -> Iterator[Message]:
        """Yield the messages of a offsets, with a progress bar on a terminal."""
        messages = read_between(self._settings.kafka, topic, offsets.first, offsets.ends)
        yield from tqdm(messages, desc=topic, total=len(offsets), unit="record", disable=None)


def _with_published(found: Proof, published: int) -> Proof:
    """Return a proof that holds only where the topic has all that the producers say they sent."""
    complaint = found.complaint
    if found.published != published:
        complaint = complaint or (
            f"{published} events were published, the topic holds {found.published} that are committed"
        )
    return replace(found, published=published, complaint=complaint)
