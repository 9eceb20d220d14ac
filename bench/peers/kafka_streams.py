"""Kafka Streams as a command, compiled where it is not yet, and how to read its windows.

The compiler is Eclipse's, a jar like the others: any Java that runs Kafka will do, a JDK is not needed.
"""

import shutil
import struct
import subprocess
import tempfile
from pathlib import Path

from bench.peers.job import COMMIT_INTERVAL_S, LIMITS
from local.jars import fetched_jars, locked_jars, sha256_of
from local.java import OLDEST, find_java
from local.servers import LOCAL
from models.errors import TwintideError
from models.windows.window import Window

SOURCE = Path(__file__).with_name("KafkaStreamsApp.java")
LOCK = Path(__file__).with_name("kafka-streams.lock")
STREAMS_VERSION = next(jar.version for jar in locked_jars(LOCK) if jar.artifact == "kafka-streams")
#: The heap holds the cache of 256 MB with room to spare; of two cores, this collector takes least.
JVM = ("-Xms1g", "-Xmx1g", "-XX:+UseParallelGC", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn")
#: An event in a window: time, hash, behaviour, bytes of its item and of its category.
EVENT = struct.Struct(">qQBHH")


def kafka_streams_command(is_warm: bool = False) -> list[str]:
    """Return the command that does the job; warm, it first reads the topic once in the same JVM."""
    jars = list(map(str, fetched_jars(LOCK, "leave kafka-streams out of --peers")))
    class_path = ":".join([str(_compiled(jars)), *jars])
    limits = (LIMITS.max_events, LIMITS.horizon_ms, int(COMMIT_INTERVAL_S * 1000))
    command = [str(find_java()), *JVM, "-cp", class_path, SOURCE.stem, *map(str, limits)]
    return [*command, "warm"] if is_warm else command


def window_from_streams(value: bytes) -> Window:
    """Return the window of a value that KafkaStreamsApp wrote."""
    window, place = Window(), 2 + 8 * int.from_bytes(value[:2])
    while place < len(value):
        time_ms, event_hash, behaviour, item_bytes, category_bytes = EVENT.unpack_from(value, place)
        item = place + EVENT.size
        category = item + item_bytes
        place = category + category_bytes
        window.times_ms.append(time_ms)
        window.event_hashes.append(event_hash)
        window.behaviours.append(behaviour)
        window.item_ids.append(value[item:category].decode())
        window.categories.append(value[category:place].decode())
    return window


def _compiled(jars: list[str]) -> Path:
    """Return the directory of the classes, made where this source has not been compiled yet."""
    classes = LOCAL / "bench-kafka-streams" / sha256_of(SOURCE)[:16]
    if classes.exists():
        return classes
    classes.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=classes.parent))
    compiler = [str(find_java()), "-cp", ":".join(jars), "org.eclipse.jdt.internal.compiler.batch.Main"]
    options = ["-nowarn", f"-{OLDEST}", "-cp", ":".join(jars), "-d", str(partial), str(SOURCE)]
    done = subprocess.run(
        [*compiler, *options], capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=120
    )
    if done.returncode:
        shutil.rmtree(partial)
        raise TwintideError(f"{SOURCE.name} does not compile: {done.stderr.strip() or done.stdout.strip()}")
    partial.rename(classes)
    return classes
