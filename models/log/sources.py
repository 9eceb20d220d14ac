"""Where a value of an event comes from: a column or path, parts put together, or the first that is there.

"user_id", "payload.user.id"      the value of a column, or at a path of nested JSON
"{tenant}:{payload.user.id}"      put together; missing where a part is
{ constant = "view" }             the same in every event
["user_id", "device:{device}"]    the first of these that is there
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import chain, zip_longest
from string import Formatter
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from models.errors import SettingsError

#: The names that lead to a value, from the outermost.
KeyPath = tuple[str, ...]

_NAME = r'(?:"[^"]+"|[^."]+)'
_PATH = re.compile(rf"{_NAME}(?:\.{_NAME})*")


class Constant(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A value that is the same in every event."""

    constant: str | int


#: A source as a format file gives it; "": there is none.
Given = str | Constant | tuple[str | Constant, ...]


@dataclass(frozen=True, slots=True)
class Template:
    """Texts and, between them, the values at paths: one text more than paths."""

    texts: tuple[str, ...]
    paths: tuple[KeyPath, ...]


@dataclass(frozen=True, slots=True)
class Source:
    """The first of some templates whose values are all there; none: the value is always missing."""

    #: As the format gives it, for messages.
    label: str
    templates: tuple[Template, ...]

    @property
    def paths(self) -> tuple[KeyPath, ...]:
        """Return all paths, each once."""
        return tuple(dict.fromkeys(chain.from_iterable(each.paths for each in self.templates)))

    @property
    def is_path(self) -> bool:
        """Return whether the value is what stands at one path."""
        return len(self.templates) == 1 and self.templates[0].texts == ("", "")

    def text(self, text_at: Callable[[KeyPath], str]) -> str:
        """Return the value of one event, whose texts are "" where they are missing; "" where it is."""
        for template in self.templates:
            parts = [text_at(path) for path in template.paths]
            if all(parts):
                return "".join(chain.from_iterable(zip_longest(template.texts, parts, fillvalue="")))
        return ""

    def column(self, texts: Mapping[KeyPath, Any], rows: int) -> Any:
        """Return the values of some events as Arrow's texts (R,), "" where one is missing.

        texts: the texts (R,) at each path, null or "" where they are missing.
        """
        if self.is_path:
            found = texts[self.paths[0]]
            return pc.fill_null(found, "") if found.null_count else found
        there = {path: pc.if_else(pc.equal(texts[path], ""), None, texts[path]) for path in self.paths}
        columns = [_put_together(template, there, rows) for template in self.templates]
        return pc.coalesce(*columns, pa.repeat("", rows))


def name_of(path: KeyPath) -> str:
    """Return what a path is called where columns are flat."""
    return ".".join(path)


@cache
def source_of(given: Given) -> Source:
    """Return the source that a format gives; SettingsError where it is none."""
    alternatives = given if isinstance(given, tuple) else (given,) if given != "" else ()
    templates = tuple(_template(each) for each in alternatives)
    labels = (str(each.constant) if isinstance(each, Constant) else each for each in alternatives)
    label = name_of(templates[0].paths[0]) if _is_path(given) else " or ".join(labels)
    return Source(label, templates)


def _is_path(given: Given) -> bool:
    return isinstance(given, str) and bool(given) and not re.search("[{}]", given)


def _template(given: str | Constant) -> Template:
    if isinstance(given, Constant):
        return Template((str(given.constant),), ())
    if _is_path(given):
        return Template(("", ""), (_path(given),))
    try:
        parsed = [*Formatter().parse(given)]
    except ValueError as error:
        raise SettingsError(
            f"{given!r} is no template ({error}): write it like '{{shop}}:{{user.id}}'"
        ) from error
    texts, paths = [""], []
    for text, name, form, conversion in parsed:
        if form or conversion:
            raise SettingsError(f"{given!r}: in braces stands a path alone, like '{{shop}}:{{user.id}}'")
        texts[-1] += text
        if name is not None:
            paths.append(_path(name))
            texts.append("")
    return Template(tuple(texts), tuple(paths))


def _path(text: str) -> KeyPath:
    if not _PATH.fullmatch(text):
        raise SettingsError(
            f"{text!r} is no path: write names with dots between, like payload.user.id, and a name that has "
            'a dot in it in quotes, like payload."user.id"'
        )
    return tuple(name.strip('"') for name in re.findall(_NAME, text))


def _put_together(template: Template, texts: Mapping[KeyPath, Any], rows: int) -> Any:
    """Return the values of a template (R,), null where one of its parts is."""
    first, *others = template.texts
    parts = [pa.repeat(first, rows)]
    for path, text in zip(template.paths, others, strict=True):
        parts += [texts[path], pa.repeat(text, rows)]
    return pc.binary_join_element_wise(*parts, "", null_handling="emit_null")
