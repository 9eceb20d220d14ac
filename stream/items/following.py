"""One model's learner: it goes on where its last snapshot ends, learns what comes, and keeps its state."""

import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace

import msgspec
import redis

from models.artifact.artifact import Artifact
from models.artifact.live_items import LiveItemsSettings
from models.items.learner import ItemLearner
from models.items.settings import LearnerSettings
from stream.events.decoder import Decoder, decoder_of
from stream.items import metrics
from stream.items.merge import Batch, Position
from stream.items.publisher import Publisher
from stream.items.snapshots import Snapshot, Snapshots, snapshots_topic
from stream.items.source import Source
from stream.kafka.topics import begin_offsets, offsets_from, topic_id
from stream.settings import Settings
from stream.store.item_writer import LostError, ReplacedError

logger = logging.getLogger(__name__)

#: How long before the end of what a model has learned its learner begins to count (ms).
LOOK_BACK_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class ItemsSettings:
    """How a learner publishes and keeps what it has learned."""

    #: Seconds between two publications, and between two snapshots of the state.
    publish_s: float = 1.0
    snapshot_s: float = 60.0
    #: Bytes that a reader takes in a second at most.
    bytes_per_s: int = 1_000_000
    #: Also for models on whose own log live items did not help.
    always: bool = False
    learner: LearnerSettings = field(default_factory=LearnerSettings)


class Following:
    """A learner that follows the topic. Raises what Snapshots and Source raise; Redis is tried again."""

    def __init__(
        self,
        settings: Settings,
        items: ItemsSettings,
        artifact: Artifact,
        client: "redis.Redis",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.version = artifact.version
        self._settings, self._items, self._clock = settings, items, clock
        self._topic_id = topic_id(settings.kafka, settings.topic)
        self._snapshots = Snapshots(
            settings.kafka, snapshots_topic(settings.app_id, artifact.version), settings.replication_factor
        )
        self._learner, positions = self._begin(artifact)
        self._source = Source(settings.kafka, settings.topic, self._topic_id, self._decoder(), positions)
        self._publisher = Publisher(client, settings.key_prefix, self._learner, items.bytes_per_s)
        self._keeper = ThreadPoolExecutor(max_workers=1, thread_name_prefix="keep")
        self._keeping: Future[int] | None = None
        self._publish_at = self._keep_at = clock()
        self._kept_offsets: dict[int, int] = {}
        self._keep_at += items.snapshot_s
        #: Why Redis does not take anything, and since when (monotonic, s).
        self.redis_error, self.redis_error_since = "", 0.0
        self._rejected = 0
        self._shown = dict(self._learner.counts_of_events)

    @property
    def learner(self) -> ItemLearner:
        """Return what learns."""
        return self._learner

    @property
    def offsets(self) -> dict[int, int]:
        """Return where each partition goes on."""
        return {partition: place.offset for partition, place in self._source.positions.items()}

    def is_narrow(self) -> bool:
        """Return whether the topic has got partitions that are not read, as far as Kafka says."""
        return self._source.is_narrow()

    @property
    def stopped(self) -> str:
        """Return why nothing is published, empty while all is well."""
        return self._publisher.stopped

    def step(self, timeout_s: float) -> int:
        """Learn what is there, waiting so long for the first event; publish and keep when it is time."""
        learned = sum(self._take(batch) for batch in self._source.read(timeout_s))
        now = self._clock()
        if now >= self._publish_at:
            self._publish_at = now + self._items.publish_s
            self._publish()
            self._show()
        if now >= self._keep_at:
            self._keep_at = now + self._items.snapshot_s
            self._keep()
        return learned

    def close(self) -> None:
        """Keep the state, and read no more."""
        self._await_keeping()
        if self.offsets != self._kept_offsets:
            self._snapshots.save(self._snapshot())
        self.abandon()

    def abandon(self) -> None:
        """Read no more: somebody else may learn by now."""
        self._source.close()
        self._keeper.shutdown(wait=False, cancel_futures=True)

    def drop(self) -> None:
        """Delete what is published, and read no more: the model is not live any more."""
        self.abandon()
        try:
            self._publisher.delete()
        except (redis.RedisError, ReplacedError, LostError) as error:
            logger.warning("live items of model %s stay until they expire (%s)", self.version, error)
        metrics.forget(self.version)

    # -- how

    def _decoder(self) -> Decoder:
        return decoder_of(self._settings)

    def _begin(self, artifact: Artifact) -> tuple[ItemLearner, Mapping[int, Position]]:
        """Return the learner of the last snapshot, or a new one, and where the topic goes on for it."""
        live, learner = _live_settings(artifact), self._items.learner
        found = self._snapshots.load()
        if found and (reason := self._why_not(found, learner)):
            logger.warning("model %s: its state is not taken up (%s): it begins anew", self.version, reason)
            found = None
        if found and (resumed := self._resumed(artifact, live, found)):
            return resumed, self._still_there(found)
        first = self._first_offsets(live.learned_until_ms - LOOK_BACK_MS)
        logger.info("model %s: its learner begins at offsets %s", self.version, first)
        positions = {partition: Position(offset, 0) for partition, offset in first.items()}
        return ItemLearner.start(artifact, live, learner), positions

    def _resumed(self, artifact: Artifact, live: LiveItemsSettings, found: Snapshot) -> ItemLearner | None:
        """Return the learner of a snapshot, None where it is of another version of the program."""
        try:
            learner = ItemLearner.resume(artifact, live, found.arrays, self._items.learner)
        except (KeyError, ValueError) as error:
            logger.warning(
                "model %s: its state is of another program (%s): it begins anew", self.version, error
            )
            return None
        logger.info("model %s: its learner goes on behind snapshot %d", self.version, found.number)
        return learner

    def _why_not(self, found: Snapshot, learner: LearnerSettings) -> str:
        if found.topic_id != self._topic_id:
            return f"topic {self._settings.topic} was deleted and made again"
        return "" if found.settings == _text(learner) else f"it is of other settings: {found.settings}"

    def _still_there(self, found: Snapshot) -> Mapping[int, Position]:
        """Return the snapshot's positions, and those of partitions that are new since."""
        begin = begin_offsets(self._settings.kafka, self._settings.topic)
        lost = sum(max(begin[each] - place.offset, 0) for each, place in found.positions.items())
        if lost:
            logger.warning("retention took %d events before they were learned", lost)
        return {each: found.positions.get(each, Position(first, 0)) for each, first in begin.items()}

    def _first_offsets(self, since_ms: int) -> Mapping[int, int]:
        kafka, topic = self._settings.kafka, self._settings.topic
        if since_ms <= 0:
            return begin_offsets(kafka, topic)
        return offsets_from(kafka, topic, since_ms)

    def _take(self, batch: Batch) -> int:
        learner = self._learner
        if batch.control is not None:
            forget = learner.forget_user if batch.control.kind == "user" else learner.forget_item
            forget(batch.control.id)
            return 0
        return learner.learn(batch.user_ids, batch.events) if batch.events is not None else 0

    def _publish(self) -> None:
        try:
            self._publisher.publish()
            self.redis_error = ""
        except redis.RedisError as error:
            if not self.redis_error:
                self.redis_error_since = self._clock()
                logger.warning("Redis does not take live items; it is tried again: %s", error)
            self.redis_error = str(error)

    def _snapshot(self) -> Snapshot:
        self._kept_offsets = self.offsets
        state, learner = self._learner.state(), self._items.learner
        return Snapshot(state, self._source.positions, self._topic_id, _text(learner))

    def _keep(self) -> None:
        """Begin to write the state in a thread, unless nothing changed, or the last one is still written."""
        if self._keeping and not self._keeping.done():
            return
        self._await_keeping()
        if self.offsets != self._kept_offsets:
            self._keeping = self._keeper.submit(self._snapshots.save, self._snapshot())

    def _await_keeping(self) -> None:
        """Raise what the last writing of the state raised."""
        if self._keeping:
            keeping, self._keeping = self._keeping, None
            keeping.result()
            metrics.snapshot_timestamp_seconds.labels(self.version).set(time.time())

    def _show(self) -> None:
        version, counts = self.version, self._learner.counts_of_events
        for result, count in {**counts, "rejected": self._source.rejected}.items():
            metrics.events_total.labels(version, result).inc(count - self._shown.get(result, 0))
            self._shown[result] = count
        metrics.lag_events.labels(version).set(self._source.lag())
        if self._learner.step:
            metrics.event_time_lag_seconds.labels(version).set(time.time() - self._learner.now_ms / 1000)


def _live_settings(artifact: Artifact) -> LiveItemsSettings:
    """Return how the items go on learning: from the events on that the model itself has not learned."""
    live = artifact.settings.live_items
    until_ms = int(artifact.training.get("learned_until_ms") or live.learned_until_ms)
    return replace(live, learned_until_ms=max(until_ms, live.learned_until_ms))


def _text(settings: LearnerSettings) -> str:
    return msgspec.json.encode(asdict(settings)).decode()
