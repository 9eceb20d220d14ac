"""`python -m offline.ensemble`: trained rankers -> one that scores by all of them."""

from pathlib import Path
from typing import cast, get_args

import click

from models.command import LOCATION, Command, log_to_stderr
from models.location import Location
from models.log.format import log_format_option
from models.rankers.ensemble import How
from offline.options import data_path_option
from offline.rankers.ensembling import make_ensemble
from offline.rankers.report import text_of
from offline.source import from_stream_option, read_log


@click.command(cls=Command)
@click.option(
    "--ranker",
    "stores",
    type=LOCATION,
    multiple=True,
    required=True,
    help="Store of a ranker that was trained on the log; give it again for each.",
)
@data_path_option
@log_format_option
@from_stream_option
@click.option(
    "--how",
    type=click.Choice(get_args(How)),
    default="weighted",
    show_default=True,
    help="What their log-odds are added up with: 1 over their number; shares that predict the validation "
    "slice best; or any weights and a bias that do.",
)
@click.option(
    "--save-dir",
    type=LOCATION,
    default=Path("rankers"),
    show_default=True,
    help="Store that gets the artifact and makes it the current one.",
)
def main(
    stores: tuple[Location, ...],
    data_path: tuple[str, ...],
    log_format: str,
    from_stream: bool,
    how: str,
    save_dir: Location,
) -> None:
    """Make one ranker of several, publish it, and print how good each and all together are on the test slice.

    The rankers were trained on the same log, with the same rows held out and the same positives and
    negatives; their kind, sizes, seed and losses may differ. Weights are found by the versions that have not
    learned the rows held out, and used for those that are published. What is made is served as any ranker.

    \b
    Example:
      python -m offline.ensemble --ranker din --ranker dsin --data-path data/behaviour.csv --how stacked
    """
    log_to_stderr()
    log = read_log(data_path, log_format, from_stream)
    done = make_ensemble(log, stores, cast(How, how), save_dir)
    for store, weight, quality in zip(stores, done.settings.weights, done.members, strict=True):
        click.echo(f"{store}, weight {weight:.3f}, test: {text_of(quality)}")
    click.echo(f"{how}, bias {done.settings.bias:.3f}, test: {text_of(done.together)}")
    click.echo(f"artifact {save_dir / done.artifact.version}")
    click.echo(f"version {done.artifact.version}, publication {done.publication}")


if __name__ == "__main__":
    main()
