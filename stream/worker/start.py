"""How a worker starts: the app for its settings, and Faust's worker, which checks everything first."""

import gc
import logging
import os
import socket
import ssl
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click
import faust
import redis
from confluent_kafka import KafkaException

from models.errors import TwintideError
from stream.kafka.connection import KafkaConnection
from stream.settings import Settings
from stream.windows.recovery import RestoringTable
from stream.worker import memory
from stream.worker.assignor import WindowsAssignor
from stream.worker.twintide_app import TwintideApp

logger = logging.getLogger(__name__)

#: How often the brokers are asked which topics there are (ms). A broker that has just started may know none
#: yet; a group's leader that asks it then gives nobody any partition until it asks again, by Faust's default
#: in 3 minutes.
METADATA_MAX_AGE_MS = 5_000

#: Bytes that one fetch may bring of a partition.
MAX_FETCH_BYTES = 4 << 20


class ReasonRecord(logging.LogRecord):
    """A line of the log, without the traceback of what one line explains: a TwintideError.

    Faust logs whatever ends one of its services with all of it, once for each service around that one.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        if self.exc_info and isinstance(self.exc_info[1], TwintideError):
            self.exc_info = None


class CheckedWorker(faust.Worker):  # type: ignore[misc]
    """Faust's worker, which starts only where everything it needs is there."""

    def __init__(self, app: TwintideApp, *services: Any, **options: Any) -> None:
        memory.settle_heaps()
        logging.setLogRecordFactory(ReasonRecord)
        with one_line_errors():
            app.prepare()
        memory.let_go_of_compiler()
        # Records live for one batch and refer to nothing: looking through them for garbage that is not there
        # took as long as fetching them. memory.trim looks now and then.
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
        PartitionAssignor=WindowsAssignor,
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
        consumer_metadata_max_age_ms=METADATA_MAX_AGE_MS,
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
    if kafka.ssl_certificate_file:
        context.load_cert_chain(
            kafka.ssl_certificate_file, kafka.ssl_key_file or None, password=kafka.ssl_key_password
        )
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
    except redis.RedisError as error:
        click.echo(f"Error: Redis does not do what a worker needs of it: {error}", err=True)
        raise SystemExit(1) from error
    except KafkaException as error:
        click.echo(f"Error: Kafka does not do what a worker needs of it: {error.args[0].str()}", err=True)
        raise SystemExit(1) from error
    except OSError as error:  # what the host refuses, where nothing nearer says so
        where = f"{error.filename}: " if error.filename is not None else ""
        click.echo(f"Error: {where}{error.strerror or error}", err=True)
        raise SystemExit(1) from error
