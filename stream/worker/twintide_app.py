"""The Faust app class: it checks everything before it starts, and hands Faust's calls on to the parts."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import faust
from faust.types import TP
from yarl import URL

from models.errors import SettingsError
from stream import metrics
from stream.encoding.first_model import first_model
from stream.encoding.live_models import ArtifactSource
from stream.events.decoder import decoder_of
from stream.events.incoming import Incoming, read_records
from stream.kafka.group import check_may_join
from stream.kafka.record_size import DEFAULT_RECORD_BYTES, ensure_record_bytes
from stream.kafka.record_source import RecordSource
from stream.kafka.topics import (
    CHANGELOG_SETTINGS,
    WINDOWS_TABLE,
    ensure_topic,
    partition_counts,
    repartition_marker,
    topic_id,
)
from stream.settings import Settings
from stream.windows.assignment import Assignments
from stream.windows.disk import hold_windows_of
from stream.windows.moves import read_moves
from stream.windows.recovery import BATCH_RECORDS, ChangelogBatch, read_changelog
from stream.worker import health
from stream.worker.compiling import compiled_loops
from stream.worker.consumer import BatchTransport
from stream.worker.parts import Parts, build_parts
from stream.worker.source import Topic

#: What the dead-letter topic must take at least: key, reason, place and beginning of a record (bytes).
LEAST_DEAD_LETTER_BYTES = 131_072


class TwintideApp(faust.App):  # type: ignore[misc]
    """A Faust app whose behaviour topic comes in batches and whose offsets follow the checkpoints."""

    settings: Settings
    parts: Parts
    source: RecordSource[Incoming]
    changelog: RecordSource[ChangelogBatch]
    metrics_port: int
    #: What the web server of /metrics and /health answers beside these: path, all below it included -> page.
    pages: Mapping[str, health.Page] = MappingProxyType({})

    @property
    def behaviour_topic(self) -> str:
        """Return the name of the topic that travels in batches."""
        return self.settings.topic

    @property
    def changelog_topic(self) -> str:
        """Return the name of the topic that holds the last window of every user."""
        return str(self.tables[WINDOWS_TABLE].changelog_topic.get_topic_name())

    @property
    def assignments(self) -> Assignments:
        """Return what says which partitions this worker holds now."""
        return self.parts.assignments

    def prepare(self) -> None:
        """Check artifact, Kafka and Redis, and have everything ready that the worker needs."""
        settings = self.settings
        decoder = decoder_of(settings)
        with compiled_loops():
            models = ArtifactSource(settings.artifact) if settings.encode else None
            artifact = first_model(settings, models) if models else None
        partitions = self._follow_topic()
        check_may_join(settings.kafka, settings.app_id)
        topic = Topic(settings.topic, topic_id(settings.kafka, settings.topic), partitions)
        moves = read_moves(settings.kafka, self.changelog_topic, topic.topic_id)
        _check_writable(settings.data_dir)
        changelog_id = topic_id(settings.kafka, self.changelog_topic)
        hold_windows_of(self.conf.tabledir, self.changelog_topic, changelog_id)
        self.parts = build_parts(settings, self.tables[WINDOWS_TABLE], topic, models, artifact)
        self.source = RecordSource(
            settings.kafka,
            settings.topic,
            settings.batch_records,
            lambda partition, records: read_records(
                records, decoder, f"{topic.topic_id}/{partition}", moves.left_out(partition)
            ),
            on_overtaken=self._count_overtaken,
        )
        self.changelog = RecordSource(
            settings.kafka, self.changelog_topic, BATCH_RECORDS, read_changelog, tells_end=True
        )
        for partition in range(partitions):  # a counter that begins at 1 has not grown, to Prometheus
            metrics.overtaken_events_total.labels(str(partition))
        metrics.commit_age_seconds.set_function(self.parts.commits.uncommitted_s)
        self.metrics_port = health.serve(
            settings.metrics_host, settings.metrics_port, lambda: health.check(self), pages=self.pages
        )
        if not settings.instance_id:  # a static member must be called the same when it is back
            self.conf.canonical_url = URL(f"http://{self.conf.web_host}:{self.metrics_port}")

    def _count_overtaken(self, partition: int, events: int) -> None:
        """Say that retention was faster than this worker; called from the source's thread."""
        metrics.overtaken_events_total.labels(str(partition)).inc(events)
        self.log.error(
            "%d events of partition %d are lost: topic %s kept them for less long than they waited",
            *(events, partition, self.behaviour_topic),
        )

    def _follow_topic(self) -> int:
        """Have the topics, give the table as many partitions as the behaviour topic has; return how many."""
        settings, table = self.settings, self.tables[WINDOWS_TABLE]
        partitions = ensure_topic(settings.kafka, settings.topic, settings.partitions)
        ensure_topic(settings.kafka, settings.dead_letter_topic, partitions)
        ensure_record_bytes(settings.kafka, settings.dead_letter_topic, LEAST_DEAD_LETTER_BYTES)
        changelog = self.changelog_topic
        if repartition_marker(changelog) in partition_counts(settings.kafka):
            raise SettingsError(
                f"windows of {changelog} are being moved to other partitions: wait for, or start again, "
                "`python -m stream.repartition`"
            )
        replicas = settings.replication_factor
        stored = ensure_topic(settings.kafka, changelog, partitions, CHANGELOG_SETTINGS, replicas)
        ensure_record_bytes(settings.kafka, changelog, DEFAULT_RECORD_BYTES)
        if stored > partitions:
            raise SettingsError(
                f"topic {settings.topic} has {partitions} partitions, its table's changelog {changelog} has "
                f"{stored}: a user's events and state must share a partition; make the topic with {stored} "
                "partitions, or delete the changelog to start with empty windows"
            )
        table.partitions = table.changelog_topic.partitions = stored
        return stored

    # -- what app.py runs

    async def handle(self, event: Any) -> None:
        """Have one batch folded; a failure stops the worker.

        Faust would acknowledge the batch and restart the agent with the next one, and the next commit would
        step over the lost one. So would one of the fold's own, on the way out: what it left half-done is
        never committed.
        """
        try:
            await self.parts.pipeline.process(self.consumer, event.message.partition, event.value)
        except Exception as error:
            event.value.assignment.spoil()
            await self.crash(error)
            raise

    async def follow(self) -> None:
        """Follow what is published for ever; a failure stops the worker."""
        if self.parts.follower is not None:
            try:
                await self.parts.follower.run()
            except Exception as error:
                await self.crash(error)
                raise

    async def watch_topic(self) -> None:
        """Watch the topic for ever; one that was made again stops the worker, and nothing is committed."""
        try:
            await self.parts.topic_watch.run()
        except Exception as error:
            self.assignments.current.spoil()
            await self.crash(error)
            raise

    # -- what Faust calls

    def _new_transport(self) -> BatchTransport:
        return BatchTransport(self.conf.broker_consumer, self)

    async def _consumer_wait_empty(self, consumer: Any, logger: Any) -> None:
        # Called before partitions are given away and before the worker stops, while both Kafka and the
        # tables are still there.
        await self.parts.rebalance.drain(consumer)

    def on_rebalance_start(self) -> None:
        """Count the rebalance, beside what Faust does."""
        metrics.rebalances_total.inc()
        super().on_rebalance_start()

    async def on_start(self) -> None:
        """Say what this worker works with."""
        settings, live = self.settings, self.parts.live_models
        self.log.info(
            "model %s, topic %s; metrics and health on http://%s:%d",
            *(live.serving if live else "(none)", settings.topic, settings.metrics_host, self.metrics_port),
        )
        await super().on_start()

    async def on_shutdown(self) -> None:
        """Close what reads Kafka beside Faust's own client."""
        await super().on_shutdown()
        for source in (self.source, self.changelog):
            await source.close()

    @property
    def address(self) -> str:
        """Return what the group knows this worker by: where it answers, or the name of a static member."""
        return str(self.conf.canonical_url)

    @property
    def window_partitions(self) -> int:
        """Return how many partitions windows are kept for."""
        return int(self.tables[WINDOWS_TABLE].partitions)

    def owners(self) -> dict[int, str]:
        """Return the address of the worker that each partition was given to; from the event loop."""
        by_worker = self.assignor.tables_metadata()
        return {
            number: str(address)
            for address, topics in by_worker.items()
            for number in topics.get(self.changelog_topic, ())
        }

    def assigned_partitions(self) -> set[TP]:
        """Return the partitions that the group gave this worker, restored or not."""
        return set(self._assignment or ())


def _check_writable(data_dir: Path) -> None:
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=data_dir):
            pass
    except OSError as error:
        raise SettingsError(
            f"TWINTIDE_DATA_DIR is {data_dir}, where nothing can be written ({error.strerror})"
        ) from error
