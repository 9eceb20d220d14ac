"""The Faust app class: its transport is the pipeline's, and it checks everything before it starts."""

import gc
import logging
import os
import socket
import ssl
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click
import faust
from faust.types import TP

from models.errors import SettingsError, TwintideError
from models.windows.fold import compile_fold
from models.windows.window import WindowSettings
from stream import metrics
from stream.encoding.live_models import ArtifactSource, open_live_models
from stream.events.decoder import make_decoder
from stream.events.incoming import Incoming, read_records
from stream.kafka.connection import KafkaConnection
from stream.kafka.producer import AcknowledgedProducer
from stream.kafka.record_source import RecordSource
from stream.kafka.topics import ensure_topic, partition_counts, topic_id
from stream.rollout.follower import FollowSettings, ModelFollower
from stream.settings import Settings
from stream.windows.recovery import BATCH_RECORDS, ChangelogBatch, RestoringTable, read_changelog
from stream.windows.table import WindowTable
from stream.worker import health
from stream.worker.consumer import BatchTransport
from stream.worker.parts import Parts, Topic
from stream.worker.pipeline import Pipeline

logger = logging.getLogger(__name__)

#: Bytes that one fetch may bring of a partition.
MAX_FETCH_BYTES = 4 << 20


class TwintideApp(faust.App):  # type: ignore[misc]
    """A Faust app whose behaviour topic comes in batches and whose offsets follow the checkpoints."""

    settings: Settings
    pipeline: Pipeline
    source: RecordSource[Incoming]
    changelog: RecordSource[ChangelogBatch]
    metrics_port: int
    _follower: ModelFollower | None = None

    @property
    def behaviour_topic(self) -> str:
        """Return the name of the topic that travels in batches."""
        return self.settings.topic

    @property
    def changelog_topic(self) -> str:
        """Return the name of the topic that holds the last window of every user."""
        return str(self.tables["windows"].changelog_topic.get_topic_name())

    def assigned_partitions(self) -> set[TP]:
        """Return the partitions this worker holds now."""
        return set(self._assignment or ())

    def _new_transport(self) -> BatchTransport:
        return BatchTransport(self.conf.broker_consumer, self)

    async def _consumer_wait_empty(self, consumer: Any, logger: Any) -> None:
        # Called before partitions are given away and before the worker stops, while both Kafka and the
        # tables are still there.
        await self.pipeline.drain(consumer)

    def on_rebalance_start(self) -> None:
        """Count the rebalance, beside what Faust does."""
        metrics.rebalances_total.inc()
        super().on_rebalance_start()

    def prepare(self) -> None:
        """Check artifact, Kafka and Redis, and have everything ready that the worker needs."""
        compile_fold()
        self.pipeline = self._open_pipeline()
        settings = self.settings
        decoder = make_decoder(settings.event_fields, settings.event_decoder)
        self.source = RecordSource(
            settings.kafka,
            settings.topic,
            settings.batch_records,
            lambda partition, records: read_records(
                records, decoder, f"{self.pipeline.topic_id}/{partition}"
            ),
        )
        self.changelog = RecordSource(settings.kafka, self.changelog_topic, BATCH_RECORDS, read_changelog)
        metrics.commit_age_seconds.set_function(self.pipeline.uncommitted_s)
        self.metrics_port = health.serve(
            settings.metrics_host, settings.metrics_port, lambda: health.check(self)
        )

    async def on_start(self) -> None:
        """Say what this worker works with."""
        logger.info(
            "model %s, topic %s; metrics and health on http://%s:%d",
            *(
                self.pipeline.model_version,
                self.settings.topic,
                self.settings.metrics_host,
                self.metrics_port,
            ),
        )
        await super().on_start()

    async def fold(self, event: Any) -> None:
        """Fold one batch; a failure stops the worker.

        Faust would acknowledge the batch and restart the agent with the next one, and the next commit would
        step over the lost one.
        """
        try:
            await self.pipeline.fold(self.consumer, event.message.partition, event.value)
        except Exception as error:
            await self.crash(error)
            raise

    def _open_pipeline(self) -> Pipeline:
        settings = self.settings
        source = ArtifactSource(settings.artifact) if settings.encode else None
        artifact = source.load(source.wanted().version) if source else None
        partitions = self._follow_topic()
        identity = topic_id(settings.kafka, settings.topic)
        _check_writable(settings.data_dir)
        live = (
            open_live_models(settings, source, artifact, identity, partitions)
            if source and artifact
            else None
        )
        pipeline = Pipeline(
            settings,
            Parts(
                topic=Topic(settings.topic, identity),
                window_settings=artifact.settings.window if artifact else WindowSettings(),
                publisher=AcknowledgedProducer(settings.kafka, f"{settings.app_id}-{uuid.uuid4().hex[:8]}"),
                table=WindowTable(self.tables["windows"]),
                live_models=live,
            ),
        )
        if source and live:
            following = FollowSettings(
                partitions, settings.model_coverage, settings.keep_previous_s, settings.rewrite_users_per_s
            )
            self._follower = ModelFollower(following, source, live, pipeline.refresher, pipeline.backfiller)
        return pipeline

    async def follow(self) -> None:
        """Follow what is published for ever; a failure stops the worker."""
        if self._follower is not None:
            try:
                await self._follower.run(self.held_partitions)
            except Exception as error:
                await self.crash(error)
                raise

    def held_partitions(self) -> list[int]:
        """Return the partitions of the behaviour topic that this worker holds and has restored."""
        recovery = self.tables.recovery
        if self.rebalancing or recovery.in_recovery or not recovery.completed.is_set():
            return []
        return [tp.partition for tp in self.assigned_partitions() if tp.topic == self.behaviour_topic]

    def _follow_topic(self) -> int:
        """Have the topics, give the table as many partitions as the behaviour topic has; return how many."""
        settings, table = self.settings, self.tables["windows"]
        partitions = ensure_topic(settings.kafka, settings.topic, settings.partitions)
        ensure_topic(settings.kafka, settings.dead_letter_topic, partitions)
        changelog = self.changelog_topic
        stored = partition_counts(settings.kafka).get(changelog, partitions)
        if stored != partitions:
            raise SettingsError(
                f"topic {settings.topic} has {partitions} partitions, its table's changelog {changelog} has "
                f"{stored}: a user's events and state must share a partition; make the topic with {stored} "
                "partitions, or delete the changelog to start with empty windows"
            )
        table.partitions = table.changelog_topic.partitions = partitions
        return partitions


def _check_writable(data_dir: Path) -> None:
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=data_dir):
            pass
    except OSError as error:
        raise SettingsError(
            f"TWINTIDE_DATA_DIR is {data_dir}, where nothing can be written ({error.strerror})"
        ) from error


class CheckedWorker(faust.Worker):  # type: ignore[misc]
    """Faust's worker, which starts only where everything it needs is there."""

    def __init__(self, app: TwintideApp, *services: Any, **options: Any) -> None:
        with one_line_errors():
            app.prepare()
        # Records live for one batch and refer to nothing: looking through them for garbage that is not there
        # took as long as fetching them.
        gc.freeze()
        gc.set_threshold(500_000, 50, 1000)
        # Fetching and folding take turns; five milliseconds, Python's own, are a long turn to wait for.
        sys.setswitchinterval(0.0005)
        super().__init__(app, *services, **options)

    def _shutdown_loop(self) -> None:
        # The last thing a worker does; where it crashed, this raises the reason, and the exit status is 1.
        try:
            super()._shutdown_loop()
        except Exception as error:
            logger.critical("this worker has ended, and nothing is lost: %s", error)
            logging.shutdown()
            # What libraries print while Python is taken down must not come after the reason.
            os._exit(1)


def make_app(settings: Settings) -> TwintideApp:
    """Return the app for these settings; nothing is connected yet."""
    app = TwintideApp(
        settings.app_id,
        Table=RestoringTable,
        Worker=CheckedWorker,
        broker=[f"kafka://{server}" for server in settings.kafka.bootstrap_servers.split(",")],
        broker_credentials=_credentials(settings.kafka),
        broker_session_timeout=10.0,
        broker_heartbeat_interval=3.0,
        broker_rebalance_timeout=20.0,
        broker_max_poll_records=settings.batch_records,
        broker_max_poll_interval=86_400.0,  # a Redis outage pauses reading for as long as it lasts
        broker_commit_interval=settings.checkpoint_s,
        consumer_auto_offset_reset="earliest",
        consumer_group_instance_id=settings.instance_id or None,
        # What the group remembers of a static member must still be true when it is back: its own is by port.
        canonical_url=f"http://127.0.0.1/{quote(settings.instance_id)}" if settings.instance_id else None,
        consumer_max_fetch_size=MAX_FETCH_BYTES,
        datadir=Path(settings.data_dir),
        store="rocksdb://",
        stream_buffer_maxsize=8,
        stream_wait_empty=False,
        topic_replication_factor=settings.replication_factor,
        table_standby_replicas=settings.standby_replicas,
        web_bind="127.0.0.1",
        web_port=_free_port(),
    )
    app.settings = settings
    return app


def _free_port() -> int:
    """Return a port that is free now, for Faust's own web server; a host's second worker needs another."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _credentials(kafka: KafkaConnection) -> Any:
    if kafka.security_protocol == "PLAINTEXT":
        return None
    context = ssl.create_default_context(cafile=kafka.ssl_ca_file or None)
    if kafka.security_protocol == "SSL":
        return faust.SSLCredentials(context)
    return faust.SASLCredentials(
        mechanism=kafka.sasl_mechanism,
        username=kafka.sasl_username,
        password=kafka.sasl_password,
        ssl_context=context if kafka.security_protocol == "SASL_SSL" else None,
    )


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn a user's mistake into one line and an exit code: Faust's CLI would print a traceback."""
    try:
        yield
    except TwintideError as error:
        click.echo(f"Error: {error}", err=True)
        raise SystemExit(error.exit_code) from error
