"""The changelog of a deployment -> every user's newest window, as a worker would restore it."""

from collections.abc import Mapping, Sequence
from itertools import islice

from confluent_kafka import Message
from tqdm import tqdm

from models.errors import TwintideError
from models.events import CANARY_PREFIX
from stream.kafka.connection import KafkaConnection
from stream.kafka.topic_reader import read_between
from stream.kafka.topics import begin_offsets, end_offsets, partition_counts

#: Records looked at together.
BATCH_RECORDS = 5_000

#: The windows of a topic: partition and key -> value.
Windows = dict[tuple[int, bytes], bytes]


def read_changelog(kafka: KafkaConnection, topic: str) -> Windows:
    """Return the newest window of every user, as of when this is called or a little later.

    The canary's users are left out: nobody is to learn from them.
    Joins no group and writes nothing. Raises TwintideError where there is no such topic, and as
    `read_between` does.
    """
    if topic not in partition_counts(kafka):
        raise TwintideError(
            f"there is no topic {topic} at {kafka.bootstrap_servers}: start a worker, or set TWINTIDE_APP_ID "
            "to its own"
        )
    found: Windows = {}
    first = begin_offsets(kafka, topic)
    # Twice: while the first part is read, Kafka may compact away a window of it for one behind its end.
    for _ in range(2):
        ends = end_offsets(kafka, topic)
        _read_part(kafka, topic, first, ends, found)
        first = ends
    return found


def _read_part(
    kafka: KafkaConnection, topic: str, first: Mapping[int, int], ends: Mapping[int, int], found: Windows
) -> None:
    """Bring `found` from what stands before the offsets `first` to what stands before `ends`."""
    total = sum(end - first[partition] for partition, end in ends.items())
    with tqdm(total=total, unit="record", unit_scale=True, desc=f"reading {topic}", disable=None) as bar:
        records = read_between(kafka, topic, first, ends)
        while batch := list(islice(records, BATCH_RECORDS)):
            _take(batch, found)
            bar.update(len(batch))


def _take(records: Sequence[Message], found: Windows) -> None:
    keys = [(record.partition(), record.key() or b"") for record in records]
    for key, value in zip(keys, (record.value() for record in records), strict=True):
        if value is None or key[1].startswith(CANARY_PREFIX.encode()):
            found.pop(key, None)
        else:
            found[key] = value
