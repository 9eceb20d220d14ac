"""`python -m offline.compress`: a smaller version of an artifact, published if it ranks nearly as well."""

import click

from models.artifact.artifact import load
from models.artifact.stores import find
from models.command import LOCATION, Command, log_to_stderr
from models.location import Location
from models.log.format import log_format_option
from offline.compressing.run import Compressed, CompressSettings, TooLossyError, compress
from offline.options import artifact_option, data_path_option, load_evaluated
from offline.source import from_stream_option, read_log

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
    """Make an artifact of dual towers smaller, and print what that costs on the rows of a log held out.

    The figures are of the version that has not learned these rows, as those of training, before and after:
    NDCG@10 over all items with the difference, row by row, bytes on disk, bytes of the weights that
    encoding reads, and how long a user takes. What is published is made smaller in the same way. Workers and
    readers take it as any other; the artifact before stays in its store.

    Exit 1 where NDCG@10 falls by more than --max-loss; nothing is published then.

    \b
    Examples:
      python -m offline.compress --artifact artifacts --int8
      python -m offline.compress --artifact artifacts --int8 --prune 0.5 --max-loss 0.005
    """
    log_to_stderr()
    settings = CompressSettings(int8, prune, max_loss)
    artifact, held_out = load(artifact_path), load_evaluated(artifact_path, None)
    store = save_dir or find(artifact_path).store.where
    log = read_log(data_path, log_format, from_stream)
    done = compress(artifact, held_out, log, settings, store)
    click.echo(f"model {held_out.version}, {len(held_out.item_ids):,} items, {done.rows:,} rows held out")
    click.echo(text_of(done))
    if not done.publication:
        raise TooLossyError(
            f"NDCG@10 falls by {done.loss:.4f}, and --max-loss is {max_loss}: nothing is published; prune "
            "less, or allow more"
        )
    click.echo(f"artifact {store / done.version}")
    click.echo(f"version {done.version}, publication {done.publication}")


def text_of(done: Compressed) -> str:
    """Return the figures as the lines of a table."""
    rows = {
        "ndcg@10": (".4f", done.before.ndcg_at_10, done.after.ndcg_at_10),
        "bytes on disk": (",d", done.before.disk_bytes, done.after.disk_bytes),
        "bytes encoding reads": (",d", done.before.read_bytes, done.after.read_bytes),
        "us per user": (".1f", done.before.us_per_user, done.after.us_per_user),
    }
    lines = [f"{'':20}{'before':>16}{'after':>16}"]
    lines += [f"{name:20}{before:>16{form}}{after:>16{form}}" for name, (form, before, after) in rows.items()]
    lines.append(f"ndcg@10 falls by {done.loss:.4f} +- {done.error:.4f} over these rows")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
