"""A real item learner, `python -m stream.items`, as a child process, seen from outside through HTTP."""

import sys
from collections.abc import Mapping
from pathlib import Path

from local.worker import WorkerProcess


class ItemsProcess(WorkerProcess):
    """An item learner; it keeps nothing in its directory but its log."""

    def __init__(
        self, directory: Path, environment: Mapping[str, str], snapshot_s: float = 60.0, always: bool = False
    ) -> None:
        super().__init__(directory, environment, name="items")
        self._options = ["--snapshot-s", str(snapshot_s), *(["--always"] if always else [])]

    def command(self) -> list[str]:
        """Return what is run."""
        return [sys.executable, "-m", "stream.items", *self._options, "--metrics-port", str(self.port)]
