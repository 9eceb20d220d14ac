"""A real trainer, `python -m offline.trainer`, as a child process, seen from outside through HTTP."""

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from local.worker import WorkerProcess


class TrainerProcess(WorkerProcess):
    """A trainer; it keeps nothing in its directory but its log, which goes on after a kill and a start."""

    def __init__(self, directory: Path, environment: Mapping[str, str], options: Sequence[str]) -> None:
        super().__init__(directory, environment, name="trainer")
        self._options = options

    def command(self) -> list[str]:
        """Return what is run."""
        return [sys.executable, "-m", "offline.trainer", *self._options, "--metrics-port", str(self.port)]

    def is_ready(self) -> bool:
        """Return whether it answers."""
        return bool(self.metrics())

    def leads(self) -> bool:
        """Return whether it leads."""
        return self.metrics().get("twintide_trainer_leads") == 1

    def said(self, word: str) -> int:
        """Return how many steps have ended with a line that begins with this word, over all starts."""
        log = self.process.log
        text = log.read_text(errors="replace") if log.exists() else ""
        return len(re.findall(rf"\b{word}[:;] ", text))
