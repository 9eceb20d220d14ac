"""What Twintide relies on inside faust-streaming 0.15.3: an upgrade that changes any of it must fail here."""

import inspect
import subprocess
import sys
from importlib.metadata import version

import pytest
from aiokafka.consumer.fetcher import Fetcher
from aiokafka.consumer.group_coordinator import GroupCoordinator
from faust import App
from faust.serializers import codecs
from faust.stores.rocksdb import Store
from faust.tables.base import Collection
from faust.tables.recovery import Recovery
from faust.transport.consumer import Consumer
from faust.transport.drivers import aiokafka as driver

from local.servers import ROOT
from stream.kafka.topics import CHANGELOG_SETTINGS
from stream.worker.consumer import FETCH_MAX_WAIT_MS, BatchConsumer, BatchTransport, IdentityCodec
from stream.worker.start import METADATA_MAX_AGE_MS


def source(thing: object) -> str:
    return inspect.getsource(thing)  # type: ignore[arg-type]


def test_faust_is_the_version_that_was_read() -> None:
    assert version("faust-streaming") == "0.15.3"


@pytest.mark.parametrize(
    "name",
    [
        "getmany",
        "perform_seek",
        "_filter_tps_with_pending_acks",
        "_new_offset",
        "_add_gap",
        "_new_consumer_thread",
        "on_buffer_drop",
        "highwaters",
        "seek_wait",
        "verify_event_path",
        "verify_recovery_event_path",
    ],
)
def test_every_override_overrides_something(name: str) -> None:
    ours, theirs = getattr(BatchConsumer, name), getattr(driver.Consumer, name)
    assert ours is not theirs
    assert list(inspect.signature(ours).parameters) == list(inspect.signature(theirs).parameters)


def test_offsets_to_commit_are_asked_for_by_partition() -> None:
    assert "_filter_tps_with_pending_acks(topics)" in source(Consumer.force_commit)
    assert "self._new_offset(tp)" in source(Consumer._filter_committable_offsets)
    assert "_should_commit(tp, offset)" in source(Consumer._filter_committable_offsets)


def test_getmany_still_has_the_guards_that_ours_repeats() -> None:
    text = source(Consumer.getmany)
    for guard in ("flow_active", "consumer_generation_id", "_buffered_partitions", "perform_seek"):
        assert guard in text


def test_messages_reach_the_callback_from_drain_messages() -> None:
    text = source(Consumer._drain_messages)
    assert "getmany(timeout=" in text
    assert "offset >= r_offset" in text
    assert "_add_gap" in text


def test_drain_happens_before_tables_are_closed_and_partitions_given_away() -> None:
    stop = source(App._stop_consumer)
    assert stop.index("_consumer_wait_empty") < stop.index("tables.stop()")
    revoke = source(App._on_partitions_revoked)
    assert revoke.index("stop_flow") < revoke.index("_consumer_wait_empty")


def test_every_recovery_seeks_first_and_pauses_what_it_has_read() -> None:
    text = source(Recovery._restart_recovery.fun)
    assert text.index("_build_highwaters") < text.index("_build_offsets") < text.index("_seek_offsets")
    assert text.index("_seek_offsets") < text.index("resume_partitions)(active_tps)")
    assert "consumer.highwaters(*tps)" in source(Recovery._build_highwaters)
    assert text.index("Done reading") < text.index("pause_partitions)(active_tps)")
    assert "consumer.seek_wait(" in source(Recovery._seek_offsets)
    assert "_paused_partitions.update(" in source(Consumer.pause_partitions)
    assert "pause_partitions)(assigned)" in source(App._on_partitions_assigned)


def test_aiokafka_can_be_told_to_leave_partitions_alone() -> None:
    consumer = driver.aiokafka.AIOKafkaConsumer
    assert "self._subscription.pause(" in source(consumer.pause)
    assert "paused" in source(Fetcher._get_actions_per_node)


#: Makes the aiokafka consumer of a worker, in a process of its own: Faust leaves event loops open.
MAKE_CONSUMER = """
import asyncio
from stream.settings import Settings
from stream.worker.start import make_app

async def main():
    app = make_app(Settings())
    callbacks = dict.fromkeys(("callback", "on_partitions_revoked", "on_partitions_assigned"), print)
    thread = app.transport.create_consumer(**callbacks)._thread
    consumer = thread._create_worker_consumer(app.transport)
    print(consumer._fetch_max_wait_ms, consumer._client._metadata_max_age_ms)

asyncio.run(main())
"""


def test_worker_asks_the_brokers_as_often_as_it_is_told_to() -> None:
    made = subprocess.run(
        [sys.executable, "-c", MAKE_CONSUMER], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert made.stdout.split() == [str(FETCH_MAX_WAIT_MS), str(METADATA_MAX_AGE_MS)], made.stderr
    assert "fetch_max_wait_ms=self._fetch_max_wait_ms" in source(driver.aiokafka.AIOKafkaConsumer)


def test_leader_that_learns_of_topics_assigns_anew() -> None:
    text = source(GroupCoordinator._handle_metadata_update)
    assert "self._metadata_snapshot != metadata_snapshot" in text
    assert "_on_metadata_change()" in text


def test_transport_makes_our_consumer() -> None:
    assert "self.Consumer(" in source(driver.Transport.create_consumer)
    assert BatchTransport.Consumer is BatchConsumer


def test_identity_codec_passes_anything_through() -> None:
    batch = object()
    assert codecs.get_codec("identity").loads(batch) is batch
    assert isinstance(codecs.get_codec("identity"), IdentityCodec)


def test_partition_databases_are_opened_by_number_and_keep_their_offset_under_a_key() -> None:
    assert list(inspect.signature(Store._db_for_partition).parameters) == ["self", "partition"]
    assert Store.offset_key == b"__faust\0offset__"
    assert "self.offset_key" in source(Store.persisted_offset)
    assert "_dbs.pop(tp.partition" in source(Store.revoke_partitions)


def test_databases_are_opened_by_the_options_we_replace() -> None:
    assert "self.rocksdb_options.open(" in source(Store._open_for_partition)
    assert "self._new_store()" in source(Collection.data.fget)


def test_changelog_that_a_bootstrap_makes_is_the_one_that_faust_would_make() -> None:
    made = driver.Transport._topic_config(object(), compacting=True, deleting=None, retention=None)
    assert made == CHANGELOG_SETTINGS
    assert (Collection._changelog_compacting, Collection._changelog_deleting) == (True, None)
    assert "compacting=compacting" in source(Collection._new_changelog_topic)
