"""A real serving API, `python -m stream.serving`, as a child process, asked through HTTP."""

import json
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from local.worker import WorkerProcess

#: Seconds until an answer must be there.
TIMEOUT_S = 60.0


class ServingProcess(WorkerProcess):
    """A serving API; it keeps nothing in its directory but its log."""

    def __init__(self, directory: Path, environment: Mapping[str, str]) -> None:
        super().__init__(directory, environment, name="serving")
        self._environment["TWINTIDE_SERVING_PORT"] = str(self.port)

    def command(self) -> list[str]:
        """Return what is run."""
        return [sys.executable, "-m", "stream.serving"]

    def is_ready(self) -> bool:
        """Return whether it is warm."""
        try:
            return self.ask("/health/ready")[0] == 200
        except OSError:
            return False

    def ask(self, path: str, body: object = None) -> tuple[int, Any]:
        """Return status and answer of a GET, or of a POST of a body as JSON; OSError where it is down."""
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}", data, {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())
