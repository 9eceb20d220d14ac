"""The verbs of `./run`."""

import os
import signal
import subprocess
import sys

import click

from local.processes import leash
from local.servers import LOCAL, ROOT, servers
from models.command import Command, log_to_stderr
from models.errors import SettingsError

#: Arguments after these verbs belong to what they run.
PASS_ON = {"ignore_unknown_options": True, "allow_interspersed_args": False}

#: What `./run check` runs, all of it even where one fails.
CHECKS = (("ruff", "check", "."), ("ruff", "format", "--check", "."), ("mypy",))

#: How pytest runs unless it is told otherwise: tests/side_by_side.py says in how many processes. One that
#: dies ends the run: replaced, it and all others would wait for each other for ever (pytest-xdist 3.8).
SIDE_BY_SIDE = ("-n", "auto", "--dist", "loadfile", "--no-loadscope-reorder", "--max-worker-restart", "0")
SLOWEST = ("--durations", "20", "--durations-min", "5")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
def main() -> None:
    """Run Twintide on this machine: real Kafka and Redis servers as child processes, no Docker.

    KAFKA_BOOTSTRAP_SERVERS and REDIS_URL, when set, are used instead of starting a server. Data and logs are
    under .local/.

    \b
    Example:
      ./run demo                        the whole path, with a proof at its end
      eval "$(./run up)"                servers to work with, until ./run down
    """
    log_to_stderr()
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))


@main.command(cls=Command, add_help_option=False, context_settings=PASS_ON)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def demo(arguments: tuple[str, ...]) -> None:
    """Run the whole path on a sample log, then prove the result."""
    from local.demo import main as demo_command

    demo_command.main(list(arguments), prog_name="./run demo")


@main.command(cls=Command, context_settings=PASS_ON)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def test(arguments: tuple[str, ...]) -> None:
    """Run the tests (arguments go to pytest).

    Servers start when a test asks for one. Directories of tests run in several processes where there are
    cores and memory for them; files, and tests with -s, in one; -n says another number.

    \b
    Example: ./run test tests/models -k window -x
    """
    os.chdir(ROOT)
    os.execv(sys.executable, [sys.executable, "-m", "pytest", *SIDE_BY_SIDE, *SLOWEST, *arguments])


@main.command(cls=Command)
def check() -> None:
    """Check style, format and types.

    Runs ruff and mypy --strict; exit 1 where one fails.

    \b
    Example: ./run check
    """
    failed = [tool for tool in CHECKS if subprocess.run([sys.executable, "-m", *tool], cwd=ROOT).returncode]
    for tool in failed:
        click.echo(f"failed: {' '.join(tool)}", err=True)
    if failed:
        sys.exit(1)
    click.echo("check: all passed")


@main.command(cls=Command, context_settings=PASS_ON)
@click.argument("name", metavar="NAME")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def bench(name: str, arguments: tuple[str, ...]) -> None:
    """Run one benchmark with servers up.

    NAME is a module of bench/; the arguments after it go to that module.

    \b
    Example: ./run bench ingest --json ingest.json
    """
    names = sorted(path.stem.replace("_", "-") for path in (ROOT / "bench").glob("[!_]*.py"))
    if name not in names:
        raise SettingsError(f"no benchmark {name!r}; there are: {', '.join(names) or 'none yet'}")
    command = [*leash(), sys.executable, "-P", "-m", f"bench.{name.replace('-', '_')}", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    if "--help" in arguments:  # needs no servers, which may be those of another benchmark
        sys.exit(subprocess.run(command, env=environment).returncode)
    # Kafka's default: who starts together shares the partitions from the first event on.
    with servers(LOCAL / "bench", os.environ, join_delay_ms=3_000) as running:
        sys.exit(subprocess.run(command, env={**environment, **running.environment}).returncode)


@main.command(cls=Command)
def up() -> None:
    """Start Kafka and Redis and leave them running.

    Prints the variables to export to stdout, and what it did to stderr.

    \b
    Example: eval "$(./run up)"
    """
    from local import resident

    click.echo(resident.exports(resident.up(LOCAL, os.environ)))


@main.command(cls=Command)
def down() -> None:
    """Stop the servers that ./run up started.

    \b
    Example: ./run down
    """
    from local import resident

    stopped = resident.down(LOCAL)
    click.echo(
        f"stopped {' and '.join(stopped)}" if stopped else "nothing to stop: ./run up has none running"
    )


if __name__ == "__main__":
    main(prog_name="./run")
