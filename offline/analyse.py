"""`python -m offline.analyse`: how items and users lie to each other, and what users' vectors look at."""

from collections.abc import Mapping
from pathlib import Path

import click
import numpy as np

from models.artifact.artifact import Artifact, load
from models.command import Command, log_to_stderr
from models.errors import SettingsError
from models.location import Location
from models.log.behaviour_log import BehaviourLog
from models.log.cache import read_cached
from models.log.format import log_format_option, read_log_format
from models.windows.histories import Histories
from offline.evaluation.attention import attention, describe, some_histories
from offline.evaluation.similarity import items_with_category, similarity
from offline.evaluation.user_groups import read_groups, users_of_groups
from offline.options import artifact_option, data_path_option
from offline.pictures.plots import attention_plot, map_plot


@click.command(cls=Command)
@artifact_option
@click.option("--png", type=click.Path(path_type=Path, dir_okay=False), help="Draw it too; needs matplotlib.")
@click.option("--attention", "of_attention", is_flag=True, help="Show which events users' vectors look at.")
@data_path_option
@log_format_option
@click.option("--user", "user_id", help="With --attention: this user, instead of the mean over 1,000.")
@click.option(
    "--groups",
    type=click.Path(path_type=Path, dir_okay=False),
    help="CSV file of user_id and group: show users of the log by their vectors instead.",
)
def main(
    artifact_path: Location,
    png: Path | None,
    of_attention: bool,
    data_path: tuple[str, ...],
    log_format: str,
    user_id: str | None,
    groups: Path | None,
) -> None:
    """Print how similar items of one category are, and of different ones, and draw all on a map.

    The cosine of the item vectors, over all pairs of the 2,000 most frequent items that have a category. The
    map is t-SNE's, by the same cosine; the largest categories have a colour of their own.

    With --groups instead: the same of the users of a log, by their vectors without what all have in common,
    and the groups that the file names; and how often a user's nearest user is of the same group.

    With --attention instead: how much the direct path and each head of the towers look at the newest event of
    a user's history, at the one before, and so on, and a heat map of it.

    \b
    Examples:
      python -m offline.analyse --artifact artifacts --png items.png
      python -m offline.analyse --groups tastes.csv --data-path data/behaviour.csv --png users.png
      python -m offline.analyse --attention --data-path data/behaviour.csv --png attention.png
    """
    log_to_stderr()
    if of_attention and groups is not None:
        raise SettingsError("--attention and --groups show different things: give one of them")
    if user_id is not None and not of_attention:
        raise SettingsError("--user means nothing without --attention: add that, or leave --user out")
    artifact = load(artifact_path)
    if groups is not None:
        known = read_groups(groups)
        show_users(artifact, read_cached(data_path, read_log_format(log_format)), known, png)
    elif of_attention:
        log = read_cached(data_path, read_log_format(log_format))
        show_attention(artifact, some_histories(artifact, log, user_id), png)
    else:
        show_items(artifact, png)


def show_items(artifact: Artifact, png: Path | None) -> None:
    """Print how similar items are, and draw them on a map where it has a file to go to."""
    vectors, categories = items_with_category(artifact)
    found = similarity(vectors, categories)
    click.echo(
        f"model {artifact.version}, {len(vectors):,} items of {len(np.unique(categories)):,} categories"
    )
    click.echo(f"mean cosine: {found.within:.4f} within a category, {found.between:.4f} between two")
    if png is not None:
        names = artifact.vocabulary.category_ids
        map_plot(vectors, categories, names, "items", "category").savefig(png)
        click.echo(png)


def show_users(artifact: Artifact, log: BehaviourLog, group_of: Mapping[str, str], png: Path | None) -> None:
    """Print how similar users of the same group are, and draw them where there is a file to go to."""
    found = users_of_groups(artifact, log, group_of)
    cosine = similarity(found.vectors, found.groups)
    click.echo(f"model {artifact.version}, {len(found.vectors):,} users of {len(found.names):,} groups")
    click.echo(f"mean cosine: {cosine.within:.4f} within a group, {cosine.between:.4f} between two")
    click.echo(f"nearest user of the same group: {found.same_share():.1%}, by chance {found.by_chance():.1%}")
    if png is not None:
        map_plot(found.vectors, found.groups, found.names, "users", "group").savefig(png)
        click.echo(png)


def show_attention(artifact: Artifact, histories: Histories, png: Path | None) -> None:
    """Print which events these users' vectors look at, and draw it where it has a file to go to."""
    found = attention(artifact.towers, artifact.settings.features, histories)
    click.echo(f"model {artifact.version}, mean over users: {len(histories):,}")
    for name, weights in found.items():
        click.echo(f"{name:20}{describe(weights)}")
    if png is not None:
        attention_plot(found).savefig(png)
        click.echo(png)


if __name__ == "__main__":
    main()
