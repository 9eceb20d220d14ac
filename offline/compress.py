"""`python -m offline.compress`: a smaller version of an artifact, published if it ranks nearly as well."""

from collections.abc import Callable

import click

from models.artifact.artifact import load
from models.artifact.stores import find
from models.command import LOCATION, Command, log_to_stderr
from models.location import Location
from models.log.behaviour_log import BehaviourLog
from models.log.format import log_format_option
from models.rankers.load import is_ranker, load_ranker
from offline.compressing.contract import Compressible, CompressSettings
from offline.compressing.rankers import compressible_rankers
from offline.compressing.run import Compressed, TooLossyError, compress
from offline.compressing.towers import compressible_towers
from offline.options import artifact_option, data_path_option, evaluated, load_evaluated
from offline.source import from_stream_option, read_log
from offline.training.store_kind import check_kind

DEFAULTS = CompressSettings(int8=True)


@click.command(cls=Command)
@artifact_option
@data_path_option
@log_format_option
@from_stream_option
@click.option(
    "--int8",
    is_flag=True,
    help="Tables and item vectors as int8 with a scale for each row: a quarter of the bytes, in memory too.",
)
@click.option(
    "--prune",
    type=float,
    default=0.0,
    show_default=True,
    help="Share of each matrix's weights, the smallest, that become zero: fewer bytes on disk alone.",
)
@click.option(
    "--max-loss",
    type=float,
    default=DEFAULTS.max_loss,
    show_default=True,
    help="By how much NDCG@10 of the rows held out may fall.",
)
@click.option(
    "--save-dir",
    type=LOCATION,
    help="Store that gets the artifact and makes it the current one.  [default: the one that it is in]",
)
def main(
    artifact_path: Location,
    data_path: tuple[str, ...],
    log_format: str,
    from_stream: bool,
    int8: bool,
    prune: float,
    max_loss: float,
    save_dir: Location | None,
) -> None:
    """Make dual towers or a ranker smaller, and print what that costs on the rows of a log held out.

    The figures are of the version that has not learned these rows, as those of training, before and after:
    NDCG@10 (of towers over all items) with the difference, row by row, of a ranker AUC and log loss too,
    bytes on disk, bytes of the weights that are read, and how long a user takes (with a ranker, 500
    candidates). What is published is made smaller in the same way. Whoever serves takes it as any other; the
    artifact before stays in its store.

    Exit 1 where NDCG@10 falls by more than --max-loss; nothing is published then.

    \b
    Examples:
      python -m offline.compress --artifact artifacts --int8
      python -m offline.compress --artifact artifacts --int8 --prune 0.5 --max-loss 0.005
    """
    log_to_stderr()
    settings = CompressSettings(int8, prune, max_loss)
    store = save_dir or find(artifact_path).store.where
    if save_dir is not None:
        check_kind(save_dir, is_ranker=is_ranker(artifact_path))
    model, held_out = _both(artifact_path, lambda: read_log(data_path, log_format, from_stream))
    done = compress(model, held_out, settings, store)
    click.echo(f"model {held_out.version}, {held_out.items:,} items, {done.rows:,} rows held out")
    click.echo(text_of(done))
    if not done.publication:
        raise TooLossyError(
            f"NDCG@10 falls by {done.loss:.4f}, and --max-loss is {max_loss}: nothing is published; prune "
            "less, or allow more"
        )
    click.echo(f"artifact {store / done.version}")
    click.echo(f"version {done.version}, publication {done.publication}")


def _both(where: Location, read: Callable[[], BehaviourLog]) -> tuple[Compressible, Compressible]:
    """Return a model, and its version that has not learned the rows held out; the log is read last."""
    if is_ranker(where):
        return compressible_rankers(load_ranker(where), evaluated(where, None, load_ranker), read())
    return compressible_towers(load(where), load_evaluated(where, None), read())


def text_of(done: Compressed) -> str:
    """Return the figures as the lines of a table."""
    before, after = done.before, done.after
    rows: dict[str, tuple[str, float, float]] = {
        **{name: (".4f", figure, after.figures[name]) for name, figure in before.figures.items()},
        "bytes on disk": (",d", before.disk_bytes, after.disk_bytes),
        "bytes that are read": (",d", before.read_bytes, after.read_bytes),
        "us per user": (".1f", before.us_per_user, after.us_per_user),
    }
    lines = [f"{'':20}{'before':>16}{'after':>16}"]
    lines += [f"{name:20}{old:>16{form}}{new:>16{form}}" for name, (form, old, new) in rows.items()]
    lines.append(f"ndcg@10 falls by {done.loss:.4f} +- {done.error:.4f} over these rows")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
