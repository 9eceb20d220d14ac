"""The README's commands do what it says, and its tree names what exists."""

import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet
import pytest
import redis

from local.ports import free_port
from local.processes import spawn
from local.servers import ROOT
from models.artifact import artifact as artifacts
from models.artifact.artifact import Artifact
from stream.encoding.encoder import Encoder
from stream.kafka.connection import KafkaConnection
from stream.serving.reader import Reader
from stream.store.connection import RedisConnection
from stream.store.vector_store import Store

README = (ROOT / "README.md").read_text()

#: What other pages say to do with such a deployment, in this order.
FURTHER = (
    "python -m local.proof",
    "python -m stream.forget 98047837",
    "python -m offline.report",
)

#: Returns once the worker of the commands has done all that they sent.
WAIT = """
import os
from local.proof import wait_until_committed
from stream.settings import Settings
wait_until_committed(Settings.from_environment(os.environ), timeout_s=240)
"""


def block(language: str) -> str:
    """Return all code blocks of a language as one."""
    found = re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)
    assert found
    return "\n".join(found)


@pytest.mark.integration
def test_step_by_step(
    kafka: KafkaConnection, redis_connection: RedisConnection, redis_client: redis.Redis, tmp_path: Path
) -> None:
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("TWINTIDE_")},
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "REDIS_URL": redis_connection.url,
        "TWINTIDE_METRICS_PORT": str(free_port()),
    }
    further = "\n".join(FURTHER)
    wait = shlex.join(["python", "-c", WAIT])
    script = f"set -e; cd {tmp_path}; trap 'kill %1' EXIT\n{block('sh')}\n{wait}\n{further}"
    with (tmp_path / "log").open("wb") as log:
        child = spawn(["bash", "-c", script], log, environment)
        try:
            child.wait(timeout=900)
        finally:
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()
    said = (tmp_path / "log").read_text()
    assert child.returncode == 0, said[-2000:]
    assert "\nproof: published=50000 applied=50000 " in said
    assert "\nforgotten: user '98047837'" in said
    exported = pyarrow.parquet.read_table(tmp_path / "vectors" / "users.parquet").to_pydict()
    user_ids = [user_id for user_id in exported["user_id"] if user_id]
    version = artifacts.load(tmp_path / "artifacts").version
    streamed = Reader(redis_client, model=version).read(user_ids)
    assert not [each.user_id for each in streamed if each.reason]
    of_user = dict(zip(exported["user_id"], exported["vec"], strict=True))
    assert max(abs(each.vec - of_user[each.user_id]).max() for each in streamed) < 1e-4


def test_what_is_done_further_stands_on_a_page() -> None:
    text = "\n".join(page.read_text() for page in (ROOT / "docs").glob("*.md"))
    assert [command for command in FURTHER if command not in text] == []


@pytest.mark.integration
def test_reading_from_a_ranker(
    redis_connection: RedisConnection, redis_client: redis.Redis, artifact: Artifact
) -> None:
    store = Store(redis_client)
    store.registry.serve(artifact.version, artifact.publication)
    store.upsert(Encoder(artifact).cold_start_rows(["", "c1"]), force=True)
    code = block("python").replace("redis://localhost:6379/0", redis_connection.url)
    code = code.replace('Path("artifacts")', f"Path({str(artifact.path.parent)!r})")
    finished = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert finished.returncode == 0, finished.stderr
    assert "nobody" in finished.stdout
    assert "cold_start" in finished.stdout


def test_every_room_of_the_tree_exists() -> None:
    rooms = re.findall(r"^    (\w+)/   ", README, re.MULTILINE)
    assert len(rooms) == 8
    assert all((ROOT / room).is_dir() for room in rooms)
