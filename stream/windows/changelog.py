"""The changelog as its workers write it: whoever takes a partition is the only one from whom Kafka takes it.

Each partition has a transactional producer of its own, named after it. To take a partition, a worker has
Kafka end what the one before it had begun, and refuse whatever that one still sends, however late: a machine
that swaps, a container that was paused or a laptop that slept may wake with windows that were changed before
others went on. What a checkpoint writes of a partition is one transaction; readers see all of it or nothing.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock
from typing import TypeVar

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from models.errors import TwintideError
from stream.kafka.connection import KafkaConnection
from stream.kafka.producer import CLIENT_RECORD_BYTES, PublishError

T = TypeVar("T")

#: A key, and its value, or None for a tombstone.
Row = tuple[bytes, bytes | None]

#: Partitions that are taken or written at the same time.
THREADS = 16

#: How long Kafka has to let a partition be taken (s).
TAKE_TIMEOUT_S = 60.0

#: Kafka ends a transaction by itself after this long (s), so that who reads what is committed need not wait
#: for a worker that died and has no successor.
TRANSACTION_TIMEOUT_S = 60.0

#: What Kafka says to a producer whose partition somebody else has taken.
_TAKEN = (KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH)


class AbandonedError(TwintideError):
    """The partitions were given away before Kafka had all: what it has by then, it may have in part."""


class FencedError(AbandonedError):
    """Another worker has taken the partition: nothing was written, and nothing ever will be by this one."""


def take_from_workers(kafka: KafkaConnection, app_id: str, topic: str, partitions: Iterable[int]) -> None:
    """Have Kafka refuse whatever workers still send, for who writes the changelog while none runs.

    Raises PublishError.
    """
    asyncio.run(Changelog(kafka, app_id, topic, CLIENT_RECORD_BYTES).take(partitions))


class Changelog:
    """Takes and writes partitions of one changelog; used from the event loop."""

    def __init__(self, kafka: KafkaConnection, app_id: str, topic: str, record_bytes: int) -> None:
        """`record_bytes` is the largest record that the topic takes (bytes)."""
        self._topic = topic
        self._names = f"{app_id}-"
        self._settings = {
            **kafka.librdkafka(),
            "compression.type": "lz4",
            "linger.ms": 5,
            "queue.buffering.max.messages": 1_000_000,
            "message.max.bytes": max(record_bytes, CLIENT_RECORD_BYTES),
            # To a broker that refuses it, a batch is one record, so none may be larger than the topic takes.
            "batch.size": min(record_bytes, CLIENT_RECORD_BYTES),
            "transaction.timeout.ms": round(TRANSACTION_TIMEOUT_S * 1000),
            "log_level": 0,  # being fenced is no emergency
        }
        self._pool = ThreadPoolExecutor(THREADS, "changelog")
        self._taking: list[Future[Producer]] = []
        self._producers: dict[int, Producer] = {}
        self._released: asyncio.Future[None] | None = None
        #: Held by the one thread that hands rows over: several would leave the event loop a fraction of the
        #: interpreter's time for as long as that takes. They wait for Kafka side by side.
        self._handing_over = Lock()

    async def take(self, partitions: Iterable[int]) -> None:
        """Be the one who writes these partitions, and no others. Raises PublishError."""
        self.release()
        # One that was begun and not waited for would take from this one what it gets.
        for before in self._taking:
            before.cancel()
        await asyncio.to_thread(_wait, self._taking)
        numbers = sorted(partitions)
        self._taking = [self._pool.submit(self._take, number) for number in numbers]
        producers = await asyncio.gather(*map(asyncio.wrap_future, self._taking))
        self._producers = dict(zip(numbers, producers, strict=True))
        self._released = asyncio.get_running_loop().create_future()

    def release(self) -> None:
        """Write none any more; who waits for a write to end gets an AbandonedError."""
        self._taking, self._producers = [], {}
        if self._released is not None and not self._released.done():
            self._released.set_result(None)

    async def write(self, rows: Mapping[int, Sequence[Row]], timeout_s: float) -> dict[int, int]:
        """Write each partition's rows in their order, and return the offset up to which each now goes.

        Raises FencedError where another worker has taken one, AbandonedError where they were released before
        Kafka had them all, and PublishError where it did not take them.
        """
        released, deadline = self._released, time.monotonic() + timeout_s
        if released is None or released.done():
            raise AbandonedError("partitions were given away before their windows were written")
        loop = asyncio.get_running_loop()
        writing = asyncio.gather(
            *(
                loop.run_in_executor(self._pool, self._write, self._producers[number], number, some, deadline)
                for number, some in rows.items()
            )
        )
        await asyncio.wait((writing, released), return_when=asyncio.FIRST_COMPLETED)
        if released.done():
            writing.add_done_callback(lambda done: done.cancelled() or done.exception())
            raise AbandonedError("partitions were given away before Kafka had acknowledged their windows")
        return dict(zip(rows, writing.result(), strict=True))

    # -- in threads of the pool

    def _take(self, number: int) -> Producer:
        producer = Producer({**self._settings, "transactional.id": f"{self._names}{number}"})
        deadline = time.monotonic() + TAKE_TIMEOUT_S
        try:
            _retried(lambda: producer.init_transactions(1.0), deadline)
        except KafkaException as error:
            raise PublishError(f"{self._place(number)} cannot be taken: {error.args[0].str()}") from error
        return producer

    def _write(self, producer: Producer, number: int, rows: Sequence[Row], deadline: float) -> int:
        first: KafkaError | None = None
        try:
            try:
                return self._transact(producer, number, rows, deadline)
            except KafkaException as error:
                first = error.args[0]
                if not first.txn_requires_abort():
                    raise
            # Kafka has forgotten a producer that sent nothing for days, or was away for too long.
            _retried(lambda: producer.abort_transaction(1.0), deadline)
            return self._transact(producer, number, rows, deadline)
        except KafkaException as error:
            reason = error.args[0]
            if reason.code() in _TAKEN:
                raise FencedError(f"{self._place(number)} is another worker's by now") from error
            # Of a second try Kafka may say no more than that it is out of turn.
            words = (first or reason).str()
            raise PublishError(f"Kafka refused windows of {self._place(number)}: {words}") from error

    def _transact(self, producer: Producer, number: int, rows: Sequence[Row], deadline: float) -> int:
        last: list[Message] = []
        producer.begin_transaction()
        with self._handing_over:
            for place, (key, value) in enumerate(rows, 1):
                told = (lambda _, message: last.append(message)) if place == len(rows) else None
                _produce(producer, self._topic, key, value, number, told)
        _retried(lambda: producer.commit_transaction(1.0), deadline)
        return int(last[0].offset() or 0) + 1  # behind the last row stands the end of the transaction

    def _place(self, number: int) -> str:
        return f"partition {number} of {self._topic}"


def _produce(
    producer: Producer,
    topic: str,
    key: bytes,
    value: bytes | None,
    partition: int,
    told: Callable[[KafkaError | None, Message], object] | None,
) -> None:
    while True:
        try:
            if told is None:  # a record that is not asked after costs no call of Python
                producer.produce(topic, value, key, partition)
            else:
                producer.produce(topic, value, key, partition, on_delivery=told)
            return
        except BufferError:  # the queue is full: let deliveries make room
            producer.poll(0.1)


def _retried(request: Callable[[], object], deadline: float) -> None:
    """Ask again what may be asked again, until the deadline (monotonic)."""
    while True:
        try:
            request()
            return
        except KafkaException as error:
            if not error.args[0].retriable() or time.monotonic() > deadline:
                raise


def _wait(futures: Iterable[Future[T]]) -> None:
    for future in futures:
        if not future.cancelled():
            future.exception()
