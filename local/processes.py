"""A server as a child process: started, awaited, stopped, killed, started again; never left behind.

A child dies with the process that started it, even by kill -9 (local/leash.py). Where the system cannot do
that, the next start finds the leftover by its pid file and ends it. A detached server outlives its command on
purpose.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

import psutil

from local.pidfile import PidFile, ProcessRecord, is_alive
from local.ports import is_free
from models.errors import TwintideError, UnreachableError

#: Seconds that a server has to answer after its start, and to end after SIGTERM.
START_TIMEOUT_S = 180.0
STOP_TIMEOUT_S = 40.0

#: Linux ends a leashed child with the *thread* that started it; this one lives as long as the process.
_starter = ThreadPoolExecutor(max_workers=1, thread_name_prefix="starter")


def leash() -> list[str]:
    """Return what goes before a command so that it ends with the thread that starts it, even by kill -9."""
    return [sys.executable, "-I", str(Path(__file__).with_name("leash.py")), str(os.getpid())]


def spawn(
    command: Sequence[str],
    output: IO[bytes] | None = None,
    environment: Mapping[str, str] | None = None,
    leashed: bool = True,
) -> subprocess.Popen[bytes]:
    """Start a command in a session of its own, so that Ctrl-C reaches us alone, and return its process.

    Standard output and error go to `output`. A leashed command is killed when this process ends, in
    whatever way.
    """
    return _starter.submit(
        subprocess.Popen,
        [*(leash() if leashed else []), *command],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=None if output is None else subprocess.STDOUT,
        env=environment,
        start_new_session=True,
    ).result()


class ServerProcess:
    """One server on one port, with its pid file in `directory` and its output in `log`."""

    def __init__(self, name: str, directory: Path, port: int, detached: bool = False) -> None:
        self.name = name
        self.directory = directory.resolve()
        self.port = port
        self.log = self.directory.parent / "logs" / f"{name}.log"
        self._detached = detached
        self._pid_file = PidFile(self.directory / "server.pid")
        self._process: psutil.Process | None = None
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Return the id of the running process, None while there is none."""
        process = self._running()
        return process.pid if process else None

    def start(
        self,
        command: Sequence[str],
        is_ready: Callable[[], bool],
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Start the command and return when it is ready; UnreachableError with its last words if never."""
        self.end_leftover()
        if not is_free(self.port):
            raise TwintideError(f"{self.name}: port {self.port} is taken by another program; stop that first")
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as output:
            child = spawn(command, output, environment, leashed=not self._detached)
        self._process = psutil.Process(child.pid)
        owner = None if self._detached else os.getpid()
        self._pid_file.write(ProcessRecord(child.pid, self._process.create_time(), owner, self.port))
        if self._detached:
            child.returncode = 0  # from here on the pid file alone stands for it; Popen need not warn
        else:
            self._child = child
        try:
            self._await(is_ready)
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """Ask the server to end, wait, and kill it where it does not."""
        self._end(politely=True)

    def kill(self) -> None:
        """End the server at once (SIGKILL)."""
        self._end(politely=False)

    def wait(self, timeout_s: float) -> int:
        """Return the exit status once the process we started has ended by itself.

        Raises UnreachableError where it keeps running, or never ran.
        """
        if self._child is None:
            raise UnreachableError(f"{self.name} was not started here")
        try:
            return self._child.wait(timeout_s)
        except subprocess.TimeoutExpired as error:
            raise UnreachableError(f"{self.name} still runs after {timeout_s:g} s") from error

    def end_leftover(self) -> None:
        """End a server that a crashed run left here; TwintideError where a live run still owns it."""
        process, record = self._pid_file.process(), self._pid_file.read()
        if process is None or record is None:
            return
        if record.owner is None or (record.owner != os.getpid() and psutil.pid_exists(record.owner)):
            owner = "`./run up`" if record.owner is None else f"process {record.owner}"
            raise TwintideError(
                f"{self.name} of {owner} already runs in {self.directory} (process {record.pid}): "
                "wait for it or stop it first"
            )
        self.kill()

    def _end(self, politely: bool) -> None:
        process = self._running()
        if process is not None:
            _end(process, politely)
        if self._child is not None:
            self._child.wait()
        self._process = self._child = None
        self._pid_file.remove()

    def _running(self) -> psutil.Process | None:
        if self._process is None:
            return self._pid_file.process()
        if self._child is not None:
            return self._process if self._child.poll() is None else None
        return self._process if is_alive(self._process) else None

    def _await(self, is_ready: Callable[[], bool]) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not is_ready():
            if self.pid is None:
                status = f" (exit {self._child.returncode})" if self._child else ""
                raise UnreachableError(f"{self.name} ended at its start{status}: {self._last_words()}")
            if time.monotonic() > deadline:
                raise UnreachableError(
                    f"{self.name} did not answer on port {self.port} within {START_TIMEOUT_S:.0f} s: "
                    f"{self._last_words()}"
                )
            time.sleep(0.05)

    def _last_words(self) -> str:
        lines = self.log.read_text(errors="replace").strip().splitlines()[-200:] or ["it said nothing"]
        telling = [line for line in lines if "ERROR" in line or "FATAL" in line] or lines
        return f"{telling[-1].strip()[:200]}; the whole log is {self.log}"


def _end(process: psutil.Process, politely: bool) -> None:
    """End a process, with SIGTERM and a wait before SIGKILL where politely."""
    try:
        if politely:
            process.terminate()
            try:
                process.wait(STOP_TIMEOUT_S)
                return
            except psutil.TimeoutExpired:
                pass
        process.kill()
        process.wait(STOP_TIMEOUT_S)
    except psutil.NoSuchProcess:
        pass
