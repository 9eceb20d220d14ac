"""A behaviour log -> the state that a worker would have left that had followed it."""

import asyncio
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from confluent_kafka import Message
from tqdm import tqdm

from models.artifact.stores import is_there
from models.errors import SettingsError, TwintideError
from models.log.behaviour_log import BehaviourLog
from models.windows.window import Window, WindowSettings, window_to_bytes
from offline.warm_start.windows import windows_of_log
from stream.encoding.live_models import ArtifactSource, LiveModels, open_live_models
from stream.kafka.group import committed_offsets, has_members, set_offsets
from stream.kafka.partitioner import partition_of
from stream.kafka.producer import AcknowledgedProducer
from stream.kafka.topic_reader import read_all
from stream.kafka.topics import (
    CHANGELOG_SETTINGS,
    changelog_topic,
    end_offsets,
    ensure_topic,
    offsets_from,
    topic_id,
)
from stream.settings import Settings
from stream.windows.changelog import take_from_workers

#: Header of the changelog records that a bootstrap writes: another may replace them, if it was interrupted.
BOOTSTRAP_HEADER = "twintide-bootstrap"

#: Kafka has this long to acknowledge a portion of the windows (s).
DELIVERY_TIMEOUT_S = 60.0

#: Above every offset.
ANY_OFFSET = 2**53


class BootstrapRefusedError(TwintideError):
    """There is state already that a bootstrap would destroy."""


@dataclass(frozen=True, slots=True)
class Bootstrapped:
    """What a bootstrap wrote, and where the worker continues."""

    users: int
    events: int
    vectors: int
    #: Of each partition the offset of the first event that the worker will read.
    offsets: Mapping[int, int]

    def __str__(self) -> str:
        places = ",".join(f"{partition}:{offset}" for partition, offset in sorted(self.offsets.items()))
        return (
            f"bootstrapped: users={self.users} events={self.events} vectors={self.vectors} "
            f"continues_at={places}"
        )


class Deployment:
    """Where a bootstrap writes: the changelog of a deployment without workers, its Redis and its offsets."""

    def __init__(self, settings: Settings, live_from_ms: int | None) -> None:
        """Make missing topics; the worker continues at the live topic's end, or at an event time."""
        kafka = settings.kafka
        partitions = ensure_topic(kafka, settings.topic, settings.partitions)
        self.changelog = changelog_topic(settings.app_id)
        width = ensure_topic(
            kafka, self.changelog, partitions, CHANGELOG_SETTINGS, settings.replication_factor
        )
        if width != partitions:
            raise SettingsError(
                f"topic {settings.topic} has {partitions} partitions, {self.changelog} has {width}: a user's "
                "events and state must share a partition; delete the changelog, or set TWINTIDE_TOPIC"
            )
        self.settings = settings
        self.topic_id = topic_id(kafka, settings.topic)
        self.offsets = (
            end_offsets(kafka, settings.topic)
            if live_from_ms is None
            else offsets_from(kafka, settings.topic, live_from_ms)
        )
        self._publisher = AcknowledgedProducer(kafka, f"{settings.app_id}-bootstrap-{uuid.uuid4().hex[:8]}")

    def refuse_state(self) -> None:
        """Raise BootstrapRefusedError where a worker has run, or others have written to the changelog."""
        committed = committed_offsets(self.settings.kafka, self.settings.app_id, self.settings.topic)
        if committed:
            raise BootstrapRefusedError(
                f"group {self.settings.app_id} has read {self.settings.topic} already (partition "
                f"{min(committed)} up to {committed[min(committed)]}): set another TWINTIDE_APP_ID, or throw "
                "its windows away with --replace"
            )
        if not all(_is_bootstrap(record) for record in read_all(self.settings.kafka, self.changelog)):
            raise BootstrapRefusedError(
                f"topic {self.changelog} holds a worker's windows: set another TWINTIDE_APP_ID, or throw "
                "them away with --replace"
            )

    def refuse_workers(self) -> None:
        """Raise BootstrapRefusedError where a worker runs; have Kafka refuse one that is frozen."""
        if has_members(self.settings.kafka, self.settings.app_id):
            raise BootstrapRefusedError(
                f"a worker of group {self.settings.app_id} is running: stop all of them, wait 10 s, try again"
            )
        take_from_workers(self.settings.kafka, self.settings.app_id, self.changelog, self.offsets)

    def clear(self) -> list[str]:
        """Have what the changelog holds forgotten, and return whose windows that were."""
        is_kept = {
            record.key(): record.value() is not None
            for record in read_all(self.settings.kafka, self.changelog)
        }
        users = [key for key, has_value in is_kept.items() if has_value and key is not None]
        for key in users:
            self._send(key, self.partition_of(key), None)
        self._delivered()
        return [key.decode() for key in users]

    def write_windows(self, users: Sequence[tuple[str, Window]]) -> list[tuple[str, bytes]]:
        """Append windows to the changelog, as folded up to the offset at which the worker continues.

        Returns their values.
        """
        values = []
        for user_id, window in users:
            key = user_id.encode()
            partition = self.partition_of(key)
            window.topic_id, window.partition = self.topic_id, partition
            window.offset = self.offsets[partition] - 1
            values.append((user_id, window_to_bytes(window)))
            self._send(key, partition, values[-1][1])
        self._delivered()
        return values

    def finish(self) -> None:
        """Commit the offsets at which the worker continues; until this is done, all of it can be repeated."""
        set_offsets(self.settings.kafka, self.settings.app_id, self.settings.topic, self.offsets)

    def partition_of(self, key: bytes) -> int:
        """Return the partition that a producer with the Java clients' partitioner gives a key."""
        return partition_of(key, len(self.offsets))

    def _send(self, key: bytes, partition: int, value: bytes | None) -> None:
        headers = [(BOOTSTRAP_HEADER, b"1")]
        self._publisher.send(self.changelog, key, value, partition=partition, headers=headers)

    def _delivered(self) -> None:
        asyncio.run(self._publisher.delivered(DELIVERY_TIMEOUT_S))


def _is_bootstrap(record: Message) -> bool:
    return any(name == BOOTSTRAP_HEADER for name, _ in record.headers() or ())


def bootstrap(
    settings: Settings, log: BehaviourLog, live_from_ms: int | None = None, *, replace: bool = False
) -> Bootstrapped:
    """Fill windows and Redis with a log, and have the worker continue at the live topic's end or at a time.

    The offsets come last, so that after an interruption it is right to do it all again. Without an artifact
    only windows are written. Raises BootstrapRefusedError where there is state already, unless `replace`.
    """
    deployment = Deployment(settings, live_from_ms)
    deployment.refuse_workers()
    if not replace:
        deployment.refuse_state()
    live = _open_live_models(deployment)
    forgotten = deployment.clear()
    if live and replace:
        live.forget([(user_id, ANY_OFFSET) for user_id in forgotten])
    limits = live.window_settings if live else WindowSettings()
    users = written = 0
    with tqdm(total=len(np.unique(log.user.codes)), unit="user", desc="bootstrap", disable=None) as bar:
        for portion in windows_of_log(log, limits):
            values = deployment.write_windows(portion)
            if live:
                written += live.store.upsert(live.rows(values), force=replace)
            users += len(portion)
            bar.update(len(portion))
    if live:
        for partition in deployment.offsets:  # a worker need not do it again
            live.store.registry.note_backfilled(partition)
    deployment.finish()
    return Bootstrapped(users, len(log), written, deployment.offsets)


def _open_live_models(deployment: Deployment) -> LiveModels | None:
    """Return what makes and takes vectors; None where there is no artifact yet."""
    settings = deployment.settings
    if not settings.encode or not is_there(settings.artifact):
        return None
    source = ArtifactSource(settings.artifact)
    artifact = source.load(source.wanted().version)
    live = open_live_models(settings, source, artifact, deployment.topic_id, len(deployment.offsets))
    for version in live.loaded:
        live.write_cold_start(version, live.categories(version))
    return live
