"""The parts of one worker, put together for its settings."""

import uuid
from dataclasses import dataclass
from typing import Any

from models.artifact.artifact import Artifact
from models.windows.window import WindowSettings
from stream.encoding.live_models import ArtifactSource, LiveModels, open_live_models
from stream.encoding.refresher import Refresher
from stream.kafka.producer import AcknowledgedProducer
from stream.kafka.record_size import record_bytes
from stream.rollout.backfill import Backfiller
from stream.rollout.follower import FollowSettings, ModelFollower
from stream.rollout.state import RolloutState
from stream.settings import Settings
from stream.tracing import open_trace
from stream.windows.assignment import Assignments
from stream.windows.changelog import Changelog
from stream.windows.checkpoint import Checkpointer
from stream.windows.sweep import Sweeper, SweepSettings
from stream.windows.table import WindowTable
from stream.worker.commits import Commits
from stream.worker.dead_letters import DeadLetters
from stream.worker.footprint import Footprint
from stream.worker.pipeline import Pipeline
from stream.worker.rebalance import Rebalance
from stream.worker.source import Topic
from stream.worker.topic_watch import TopicWatch

#: Seconds that Kafka has to acknowledge a checkpoint's records; then the worker ends.
ACKNOWLEDGE_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Parts:
    """What a worker is made of; the last three are None for one that keeps windows alone, without a model."""

    assignments: Assignments
    pipeline: Pipeline
    commits: Commits
    rebalance: Rebalance
    sweeper: Sweeper
    footprint: Footprint
    changelog: Changelog
    topic_watch: TopicWatch
    live_models: LiveModels | None
    refresher: Refresher | None
    follower: ModelFollower | None


def build_parts(
    settings: Settings,
    faust_table: Any,
    topic: Topic,
    models: ArtifactSource | None,
    artifact: Artifact | None,
) -> Parts:
    """Return the parts of a worker for a topic and Faust's table; `artifact` is what `models` wants now."""
    live = refresher = follower = None
    trace = open_trace(settings.trace)
    dead_letters = settings.dead_letter_topic
    window_settings = artifact.settings.window if artifact else WindowSettings()
    table = WindowTable(faust_table)
    assignments = Assignments(topic.topic_id, window_settings, table)
    if models and artifact:
        live = open_live_models(settings, models, artifact, topic.topic_id, topic.partitions)
        refresher = Refresher(settings, live, assignments, trace)
        users_per_s = settings.rewrite_users_per_s
        follower = ModelFollower(
            FollowSettings(topic.partitions, settings.model_coverage, settings.keep_previous_s, users_per_s),
            models,
            RolloutState(live, assignments),
            refresher,
            Backfiller(users_per_s, refresher, table),
        )
    limits = [record_bytes(settings.kafka, each) for each in (table.changelog_topic, dead_letters)]
    changelog = Changelog(settings.kafka, settings.app_id, table.changelog_topic, limits[0])
    producer = AcknowledgedProducer(settings.kafka, f"{settings.app_id}-{uuid.uuid4().hex[:8]}", limits[1:])
    checkpointer = Checkpointer(changelog, producer, table, ACKNOWLEDGE_TIMEOUT_S, settings.cached_windows)
    commits = Commits(settings.checkpoint_s, assignments, checkpointer)
    sweep = SweepSettings(window_settings.horizon_ms, settings.sweep_every_s)
    return Parts(
        assignments=assignments,
        pipeline=Pipeline(
            settings.waiting_users, DeadLetters(producer, dead_letters, topic, limits[1]), refresher, trace
        ),
        commits=commits,
        rebalance=Rebalance(settings.drain_s, assignments, commits, changelog, refresher),
        sweeper=Sweeper(table, live.forget if live else None, sweep),
        footprint=Footprint(table, live.store.bytes_of if live else None),
        changelog=changelog,
        topic_watch=TopicWatch(settings.kafka, topic, settings.app_id),
        live_models=live,
        refresher=refresher,
        follower=follower,
    )
