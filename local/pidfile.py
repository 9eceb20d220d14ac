"""Which process serves a directory: a file with its id, and a check that the id still means that process."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

#: A process with the recorded id that began this much earlier or later is another one (s).
SAME_START_S = 2.0


@dataclass(frozen=True, slots=True)
class ProcessRecord:
    """What a pid file says."""

    #: The server's process id.
    pid: int
    #: When that process began (s since 1970).
    started: float
    #: The process that stops it; None for a server that outlives its command (`./run up`).
    owner: int | None
    #: Where it listens on 127.0.0.1.
    port: int


@dataclass(frozen=True, slots=True)
class PidFile:
    """The record of one server."""

    path: Path

    def write(self, record: ProcessRecord) -> None:
        """Write the record; a reader never sees half of it."""
        fresh = self.path.with_suffix(".new")
        fresh.write_text(json.dumps(asdict(record)))
        fresh.replace(self.path)

    def read(self) -> ProcessRecord | None:
        """Return the record, or None where there is none that can be read."""
        try:
            return ProcessRecord(**json.loads(self.path.read_text()))
        except (FileNotFoundError, ValueError, TypeError):
            return None

    def process(self) -> psutil.Process | None:
        """Return the server's process while it runs; a stranger that got its id since is not it."""
        record = self.read()
        if record is None:
            return None
        try:
            process = psutil.Process(record.pid)
            is_ours = abs(process.create_time() - record.started) < SAME_START_S
        except psutil.Error:
            return None
        return process if is_ours and is_alive(process) else None

    def remove(self) -> None:
        """Forget the server."""
        self.path.unlink(missing_ok=True)


def is_alive(process: psutil.Process) -> bool:
    """Return whether a process runs still; a zombie does not."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
