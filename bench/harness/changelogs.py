"""The windows in a contestant's changelog, compared with those that follow from the events."""

from collections.abc import Callable, Iterator, Mapping

from confluent_kafka import Message

from bench.harness import topics
from bench.harness.behaviour import expected_windows
from bench.harness.stage import Stage
from bench.peers.job import LIMITS, window_from_msgpack
from bench.peers.kafka_streams import window_from_streams
from models.errors import TwintideError
from models.log.behaviour_log import BehaviourLog
from models.windows.window import Window, window_from_bytes
from stream.kafka.topic_reader import read_all
from stream.kafka.topics import changelog_topic

#: The columns of a window that every contestant must have, in its own format.
WINDOW_COLUMNS = ("times_ms", "behaviours", "item_ids", "categories", "event_hashes")
#: How the peers' windows are read; Twintide's own are read as its worker does.
READERS: Mapping[str, Callable[[bytes], Window]] = {
    "faust": window_from_msgpack,
    "quix": window_from_msgpack,
    "kafka-streams": window_from_streams,
    "kafka-streams-warm": window_from_streams,
}


def check_windows(here: Stage, name: str, log: BehaviourLog) -> None:
    """Compare the contestant's changelog with what follows from the log; TwintideError where they differ."""
    stored = {key.decode(): value for key, value in _changelog(here, name)}
    read = READERS.get(name, window_from_bytes)
    for user_id, window in expected_windows(log, LIMITS).items():
        value = stored.pop(user_id, None)
        found = read(value) if value else Window()
        for column in WINDOW_COLUMNS:
            if getattr(found, column) != getattr(window, column):
                raise TwintideError(
                    f"{name}: the window of user {user_id} is wrong: {len(found)} events stored, "
                    f"{len(window)} expected; {column} differs"
                )
    if stored:
        raise TwintideError(f"{name}: {len(stored)} windows of nobody, {next(iter(stored))!r} first")


def _changelog(here: Stage, name: str) -> Iterator[tuple[bytes, bytes | None]]:
    """Yield user id and window of every changelog record, in order."""
    is_quix = name == "quix"
    group = here.group(name)
    for topic in topics.names(here.kafka):
        if topic.startswith(f"changelog__{group}--" if is_quix else changelog_topic(group)):
            for message in read_all(here.kafka, topic):
                key = _user_of_quix_key(message) if is_quix else message.key()
                yield key, message.value()


def _user_of_quix_key(message: Message) -> bytes:
    """Return the message key that a state belongs to; Quix Streams appends the name of the state to it."""
    key: bytes = message.key()
    return key.removesuffix(b'|"window"')
