"""`python -m offline.report`: a training as one page of HTML, with its curves, figures and settings."""

from pathlib import Path

import click

from models.artifact.artifact import load
from models.command import Command, log_to_stderr
from models.location import Location
from offline.options import artifact_option
from offline.pictures.page import epochs_as_csv, page, write_text


@click.command(cls=Command)
@artifact_option
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), default=Path("report.html"), show_default=True,
    help="The page to write.",
)  # fmt: skip
@click.option(
    "--csv", "csv_path", type=click.Path(path_type=Path, dir_okay=False), help="Write the epochs as CSV too."
)
def main(artifact_path: Location, out: Path, csv_path: Path | None) -> None:
    """Write a page about a training: loss and validation by epoch, figures, settings. It needs no network.

    \b
    Example:
      python -m offline.report --artifact artifacts --out report.html
    """
    log_to_stderr()
    artifact = load(artifact_path)
    texts = {out: page(artifact)}
    if csv_path is not None:
        texts[csv_path] = epochs_as_csv(artifact)
    for path, text in texts.items():
        write_text(path, text)
        click.echo(path)


if __name__ == "__main__":
    main()
