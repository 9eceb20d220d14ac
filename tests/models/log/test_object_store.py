"""A log in an object store: a real S3 server, and a store that refuses."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import click.testing
import pyarrow.csv
import pyarrow.parquet
import pytest
from pyarrow.fs import S3FileSystem

from local.ports import free_port
from local.processes import ServerProcess
from models.errors import DataError
from models.log import cache
from models.log.behaviour_log import read_behaviour_log
from models.log.cache import read_cached
from offline.train import main as train

HEADER = "user_id,item_id,behavior_type,user_geohash,item_category,time\n"
ROWS = "".join(f"u{number % 3},i{number},1,,c,2014-11-18 09\n" for number in range(9))
KEYS = {"accessKey": "reader", "secretKey": "s3cret"}


def connect(port: int) -> S3FileSystem:
    return S3FileSystem(
        access_key=KEYS["accessKey"], secret_key=KEYS["secretKey"], endpoint_override=f"127.0.0.1:{port}",
        scheme="http", region="us-east-1", allow_bucket_creation=True,
    )  # fmt: skip


@pytest.fixture(scope="module")
def s3_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Give the port of an S3 server whose bucket `logs` holds day=1/a.csv and day=2/b.parquet."""
    folder = tmp_path_factory.mktemp("s3")
    identity = {"name": "reader", "credentials": [KEYS], "actions": ["Admin", "Read", "Write", "List"]}
    (folder / "users.json").write_text(json.dumps({"identities": [identity]}))
    port = free_port()
    ports = [f"-{name}.port={free_port()}" for name in ("master", "volume", "filer")]
    ports += [f"-{name}.port.grpc={free_port()}" for name in ("master", "volume", "filer", "s3")]
    server = ServerProcess("s3", folder / "server", port)
    (folder / "server").mkdir()
    options = {
        **{f"{name}.port": free_port() for name in ("master", "volume", "filer")},
        **{f"{name}.port.grpc": free_port() for name in ("master", "volume", "filer", "s3")},
        **{"s3.port": port, "s3.port.iceberg": 0, "s3.port.lance": 0, "s3.config": folder / "users.json"},
        **{"ip": "127.0.0.1", "ip.bind": "127.0.0.1", "dir": folder / "server", "volume.max": 5},
    }
    flags = [f"-{name}={value}" for name, value in options.items()]
    server.start(["weed", "server", "-filer", "-s3", *flags], lambda: has_bucket(port))
    try:
        upload(connect(port), folder)
        yield port
    finally:
        server.kill()  # stopping it cleanly takes 20 s


def has_bucket(port: int) -> bool:
    try:
        connect(port).create_dir("logs")
    except OSError:
        return False
    return True


def upload(store: S3FileSystem, folder: Path) -> None:
    (folder / "b.csv").write_text(HEADER + ROWS)
    with store.open_output_stream("logs/day=1/a.csv") as stream:
        stream.write((HEADER + ROWS).encode())
    with store.open_output_stream("logs/day=2/b.parquet") as stream:
        pyarrow.parquet.write_table(pyarrow.csv.read_csv(folder / "b.csv"), stream)


@pytest.fixture
def options(s3_port: int, monkeypatch: pytest.MonkeyPatch) -> str:
    """Give what a URL of the server needs behind it; the keys are in the environment."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEYS["accessKey"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", KEYS["secretKey"])
    return f"?scheme=http&region=us-east-1&endpoint_override=127.0.0.1:{s3_port}"


@pytest.mark.integration
@pytest.mark.parametrize(
    ("path", "rows"),
    [("", 18), ("/day=1", 9), ("/day=1/a.csv", 9), ("/*/*.parquet", 9), ("/day=[12]", 18), ("/**/a.csv", 9)],
)
def test_bucket_folder_file_and_glob_are_read(options: str, path: str, rows: int) -> None:
    log = read_behaviour_log(f"s3://logs{path}{options}")
    assert len(log) == rows
    assert log.path == f"s3://logs{path}"
    assert log.places.name(int(log.line[-1])) in (
        "s3://logs/day=1/a.csv:10",
        "s3://logs/day=2/b.parquet: row 9",
    )


@pytest.mark.integration
def test_log_of_a_store_is_cached_until_it_is_written_again(
    options: str, s3_port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "MIN_BYTES", 0)
    url = f"s3://logs/_cached/log.csv{options}"
    for rows in (ROWS, ROWS + ROWS):
        with connect(s3_port).open_output_stream("logs/_cached/log.csv") as stream:
            stream.write((HEADER + rows).encode())
        expected = rows.count("\n")
        assert len(read_cached(url, directory=tmp_path)) == expected
        with monkeypatch.context() as patched:
            patched.setattr(cache, "read_behaviour_log", None)
            assert len(read_cached(url, directory=tmp_path)) == expected


@pytest.mark.integration
@pytest.mark.parametrize(
    ("path", "key", "message"),
    [
        ("logs/none.csv", "s3cret", "s3://logs/none.csv: no such file or folder"),
        ("logs/*.none", "s3cret", "s3://logs/*.none: no file of a log is there"),
        ("none/log.csv", "s3cret", "s3://none/log.csv: no such file or folder"),
        ("logs/day=1/a.csv", "wr0ng", "ACCESS_DENIED"),
    ],
)
def test_store_that_refuses_is_one_line(
    options: str, path: str, key: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key)
    found = click.testing.CliRunner().invoke(train, ["--data-path", f"s3://{path}{options}"])
    assert (found.exit_code, found.output.count("\n")) == (1, 1)
    assert message in found.output
    assert key not in found.output


class Refusing(BaseHTTPRequestHandler):
    """Answers everything with 403."""

    def do_GET(self) -> None:
        body = b'{"error": {"code": 403, "message": "no access for you"}}'
        self.send_response(403)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def refusing() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Refusing)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_bucket_of_google_that_refuses_is_one_line(refusing: str) -> None:
    with pytest.raises(DataError, match=r"gs://logs/a\.csv: cannot be read \(.*no access for you") as caught:
        read_behaviour_log(f"gs://anonymous@logs/a.csv?scheme=http&endpoint_override={refusing}")
    assert "\n" not in str(caught.value)
