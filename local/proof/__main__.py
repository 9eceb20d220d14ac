"""`python -m local.proof`: the demo's proof, for a deployment of one's own."""

import os
import sys
from functools import partial

import click

from local.proof.proof import prove
from models.command import Command
from models.errors import TwintideError
from stream.settings import Settings


class NotProvableError(TwintideError):
    """The proof could not be made: something is missing, or does not answer."""

    exit_code = 2


@click.command(cls=Command)
@click.option(
    "--sample", type=click.IntRange(min=1), metavar="USERS",
    help="Check this many users alone, the same ones each time.",
)  # fmt: skip
def main(sample: int | None) -> None:
    """Prove that windows and vectors of a deployment are what its topic's events make them.

    Reads the behaviour topic up to the offsets that the worker's group has committed, the windows' changelog,
    the dead letters and Redis, and writes nothing; workers and producers may keep running. Makes every user's
    window once more from the topic alone, event by event, encodes it, and compares. Reads the worker's
    settings (KAFKA_*, REDIS_*, TWINTIDE_*); the artifact must be readable here.

    The last line is the proof, on stdout; what it is about to read, how long that takes, and what could not
    be judged is on stderr. Exit 0 where all agrees, 1 where something differs (the first user is named), 2
    where nothing could be proved.

    Without --sample it holds every user's window in memory, about 25 KB each.

    \b
    Example:
      python -m local.proof
      TWINTIDE_TOPIC=clicks python -m local.proof --sample 1000
    """
    say = partial(click.echo, err=True)
    try:
        found = prove(Settings.from_environment(os.environ), sample=sample or 0, say=say)
    except TwintideError as error:
        raise NotProvableError(str(error)) from error
    for reason, count in sorted(found.apart.items()):
        say(f"not judged: {count:,} {reason}")
    if found.complaint:
        say(f"the proof failed: {found.complaint}")
    click.echo(str(found))
    sys.exit(0 if found.is_ok else 1)


if __name__ == "__main__":
    main(prog_name="python -m local.proof")
