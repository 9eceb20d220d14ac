"""`python -m offline.sample`: write a made-up behaviour log of Tianchi's form, at any size."""

from pathlib import Path

import click

from models.command import Command
from models.errors import SettingsError
from offline.synthetic.behaviour import TIANCHI_ROWS, SampleSettings
from offline.synthetic.file import write_sample

TIANCHI_USERS = 10_000


@click.command(cls=Command)
@click.option("--users", default=2_000, show_default=True, help="Users, each with at least one row.")
@click.option("--rows", default=200_000, show_default=True, help="Rows (events).")
@click.option("--seed", default=7, show_default=True, help="The same seed gives the same file.")
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("data/behaviour.csv"), show_default=True,
    help="The file to write; replaced if it exists.",
)  # fmt: skip
@click.option(
    "--precision", type=click.Choice(["hour", "second"]), default="hour", show_default=True,
    help="How exactly times are written; the real file knows only the hour.",
)  # fmt: skip
@click.option(
    "--like-tianchi", is_flag=True,
    help=f"As large as the real file: {TIANCHI_USERS:,} users, {TIANCHI_ROWS:,} rows, 2.8 million items.",
)  # fmt: skip
@click.option(
    "--tastes", type=click.Path(path_type=Path, dir_okay=False),
    help="Also write which taste each user was given, for `offline.analyse --groups`.",
)  # fmt: skip
@click.pass_context
def main(
    context: click.Context,
    users: int,
    rows: int,
    seed: int,
    out: Path,
    precision: str,
    like_tianchi: bool,
    tastes: Path | None,
) -> None:
    """Write a made-up behaviour log (CSV) of Tianchi's form, with structure worth learning.

    Users' drifting interests, sessions, successions of items, new items, the daily rhythm and the sale of
    12 December; not in time order, as the real file is not. For example:

    \b
        python -m offline.sample --users 2000 --rows 200000 --seed 7 --out data/behaviour.csv
    """
    if like_tianchi:
        for name in ("users", "rows"):
            if context.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT:
                raise SettingsError(f"--{name} and --like-tianchi both say how large: give one of them")
        users, rows = TIANCHI_USERS, TIANCHI_ROWS
    to_second = precision == "second"
    items = write_sample(SampleSettings(users, rows, seed), out, to_second=to_second, tastes=tastes)
    click.echo(f"path={out} rows={rows} users={users} items={items}")


if __name__ == "__main__":
    main()
