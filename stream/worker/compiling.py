"""The loops that every event passes, as machine code; run as a module, it makes it before a first start."""

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click

from models.command import Command
from models.compiled import must_compile
from models.librdkafka_loops import compile_loops
from models.plain_json import compile_plain
from models.windows.fold import compile_fold
from models.windows.fold_kernels import fold_users

logger = logging.getLogger(__name__)

#: What takes longest to compile, as a program.
_FOLD = "from models.windows.fold import compile_fold; compile_fold()"


@contextmanager
def compiled_loops() -> Iterator[None]:
    """Have all loops ready at the end, compiled or loaded; the body is other work of a start.

    Where nothing was kept from before, a process beside compiles the fold meanwhile, on another core; where
    that fails, this process does it.
    """
    beside = _compile_fold_beside() if must_compile(fold_users) else None
    try:
        compile_loops()
        compile_plain()
        yield
        if beside:
            beside.wait()
    finally:
        if beside:
            beside.kill()
            beside.wait()
    compile_fold()


def _compile_fold_beside() -> subprocess.Popen[bytes]:
    logger.info("compiling what every event passes; it is kept for the next start")
    return subprocess.Popen(
        [sys.executable, "-c", _FOLD],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stderr=subprocess.DEVNULL,  # what is wrong, this process meets as well
        start_new_session=True,  # ^C is for this process, which ends that one
    )


@click.command(cls=Command)
def main() -> None:
    """Compile what every event passes, so that a first start need not; it is kept.

    \b
    Example: python -m stream.worker.compiling
    """
    with compiled_loops():
        pass


if __name__ == "__main__":
    main(prog_name="python -m stream.worker.compiling")
