"""Options that the commands of offline/ share."""

from pathlib import Path

import click

artifact_option = click.option(
    "--artifact",
    "artifact_path",
    type=click.Path(path_type=Path),
    default=Path("artifacts"),
    show_default=True,
    help="Artifact, or the store whose current one is meant.",
)

data_path_option = click.option(
    "--data-path",
    type=click.Path(path_type=Path),
    default=Path("data/behaviour.csv"),
    show_default=True,
    help="Behaviour log (CSV).",
)
