"""Options of a command in groups, each under a title of its own in its help."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from models.command import Command

F = TypeVar("F", bound=Callable[..., Any])


class GroupedOption(click.Option):
    """An option that stands under a title."""

    def __init__(self, *arguments: Any, title: str, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.title = title


class GroupedCommand(Command):
    """A command whose help shows options in groups; one without a title stands with the one before it."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options of each group, in their order."""
        groups: dict[str, list[tuple[str, str]]] = {}
        title = "Options"
        for param in self.get_params(ctx):
            title = getattr(param, "title", title)
            if record := param.get_help_record(ctx):
                groups.setdefault(title, []).append(record)
        for title, records in groups.items():
            with formatter.section(title):
                formatter.write_dl(records)


def group(title: str, *options: Callable[..., Any]) -> Callable[[F], F]:
    """Give a command options, made by `option`, under a title."""

    def give(command: F) -> F:
        for make in reversed(options):
            command = make(title)(command)
        return command

    return give


def option(*names: str, **settings: Any) -> Callable[[str], Callable[[F], F]]:
    """Return what makes an option under a title."""
    return lambda title: click.option(*names, cls=GroupedOption, title=title, **settings)
