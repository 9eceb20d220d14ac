"""`python -m offline.adopt`: an encoder that you trained elsewhere and exported to ONNX -> an artifact."""

from pathlib import Path

import click

from models.adopted.settings import EncoderSettings
from models.command import LOCATION, Command, log_to_stderr
from models.errors import SettingsError
from models.location import Location
from models.sessions import DEFAULT_GAP_MS
from models.windows.window import DAY_MS, WindowSettings
from offline.adopting.run import Given, adopt
from offline.options import parse_time

_FILE = click.Path(path_type=Path, dir_okay=False, exists=True)
_WINDOW = WindowSettings()


@click.command(cls=Command)
@click.option("--encoder", type=_FILE, required=True, help="ONNX file: windows' columns in, `user` out.")
@click.option("--items", type=_FILE, required=True, help="Parquet file: item_id, vec, and category if any.")
@click.option("--vocabulary", type=_FILE, required=True, help="JSON file: the encoder's index of each item.")
@click.option(
    "--out", "store", type=LOCATION, default=Path("artifacts"), show_default=True, help="Store of artifacts."
)
@click.option(
    "--padding", type=click.Choice(["left", "right"]), required=True, help="Where rows are filled up."
)
@click.option("--max-events", type=click.IntRange(min=1), help="Newest events it reads.  [default: all]")
@click.option(
    "--width",
    type=click.IntRange(min=1),
    help="Fill every row up to so many places: for encoders whose vectors depend on it.",
)
@click.option(
    "--cold-start",
    type=click.Choice(["encoder", "mean"]),
    default="encoder",
    show_default=True,
    help="What users without events get: what the encoder makes of padding, or the mean of all items.",
)
@click.option("--gap-s", default=DEFAULT_GAP_MS // 1000, show_default=True, help="Pause that ends a session.")
@click.option(
    "--window-events", default=_WINDOW.max_events, show_default=True, help="Events that a window keeps."
)
@click.option(
    "--horizon-days",
    default=_WINDOW.horizon_ms // DAY_MS,
    show_default=True,
    help="How far back a window goes from the newest event.",
)
@click.option("--cutoff", help="Up to when it has learned, for offline.evaluate; as of its --cutoff.")
def main(
    encoder: Path,
    items: Path,
    vocabulary: Path,
    store: Location,
    padding: str,
    max_events: int | None,
    width: int | None,
    cold_start: str,
    gap_s: int,
    window_events: int,
    horizon_days: int,
    cutoff: str | None,
) -> None:
    """Check a user encoder and its items, write them as an artifact, and publish it in the store.

    The encoder's inputs are known by name, all (users, events) and oldest first: item (required), category,
    behaviour, age_s (seconds before the newest of these events), session (0: the newest one's, 1: the one
    before ...), and length (users). Its output is user (users, D), and long and short where it has them. A
    score is the dot product with the item's vec.

    It is tried on made-up histories before anything is written: one user alone, none, few and many events,
    more padding, other users beside, NaN and inf. docs/any-model.md has examples.

    \b
    Example:
      python -m offline.adopt --encoder encoder.onnx --items items.parquet \\
        --vocabulary vocabulary.json --padding left --out artifacts
    """
    log_to_stderr()
    if min(window_events, horizon_days, gap_s) < 1:
        raise SettingsError("--window-events, --horizon-days and --gap-s must be at least 1")
    most = min(max_events or window_events, width or window_events)
    settings = EncoderSettings(
        padding="left" if padding == "left" else "right",
        max_events=most,
        width=width or 0,
        gap_ms=gap_s * 1000,
        cold_start="mean" if cold_start == "mean" else "encoder",
    )
    cutoff_ms = parse_time("--cutoff", cutoff) if cutoff else None
    training = {"protocol": "time", "cutoff_ms": cutoff_ms, "learned_until_ms": cutoff_ms}
    window = WindowSettings(window_events, horizon_days * DAY_MS)
    adopted = adopt(Given(encoder, items, vocabulary), store, settings, window, training)
    click.echo(f"adopted {encoder}: {len(adopted.item_ids):,} items, {adopted.items.dimension} dimensions")
    click.echo(f"artifact {adopted.path if isinstance(store, Path) else store / adopted.version}")
    click.echo(f"version {adopted.version}, publication {adopted.publication}")


if __name__ == "__main__":
    main()
