"""The rooms of the code and who imports whom, read from the files; and how docs/architecture.md draws them.

A room is a folder of Python files. Of a package that has folders, each file beside them is a room by itself:
stream/settings.py stands below most of stream/, stream/app.py above all of it.

`python -m tests.docs.house` brings the drawing in docs/architecture.md up to date. The order of the rooms is
the only thing that a person decides: it is taken from the drawing as it stands.
"""

import ast
import re
from collections.abc import Iterable, Mapping
from functools import cache
from itertools import groupby
from pathlib import Path

ROOT = Path(__file__).parents[2]
ARCHITECTURE = ROOT / "docs" / "architecture.md"
PACKAGES = ("models", "stream", "replay", "offline", "local", "bench")

BEGIN, END = "<!-- drawn by tests/docs/house.py -->", "<!-- drawn up to here -->"

#: Who imports whom: (importing, imported), both as paths below ROOT.
Arrows = frozenset[tuple[str, str]]


@cache
def files() -> list[str]:
    """Return the paths of all Python files of the packages."""
    found = (path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
    return sorted(str(path.relative_to(ROOT)) for path in found)


def rooms() -> set[str]:
    """Return all rooms."""
    return {room_of(file) for file in files()} - {f"{package}/__init__.py" for package in PACKAGES}


@cache
def room_of(file: str) -> str:
    """Return the room of a file: its folder, with a slash at its end, or the file where that is a room."""
    folder = file.rpartition("/")[0]
    has_rooms = any((path / "__init__.py").exists() for path in (ROOT / folder).iterdir())
    return file if has_rooms else f"{folder}/"


@cache
def file_arrows() -> Arrows:
    """Return which files import which others, also inside functions."""
    modules = {_module(path): path for path in files()}
    return frozenset(
        (path, imported)
        for path in modules.values()
        for name in _imported_names(ast.parse((ROOT / path).read_text()))
        if (imported := _file_of(name, modules)) is not None and imported != path
    )


@cache
def room_arrows() -> Arrows:
    """Return which rooms import which others."""
    pairs = ((room_of(importing), room_of(imported)) for importing, imported in file_arrows())
    return frozenset(pair for pair in pairs if pair[0] != pair[1])


def on_a_cycle(arrows: Arrows) -> set[str]:
    """Return what cannot be put into an order: whatever leads back to itself."""
    reached = _reached(arrows)
    return {each for each, others in reached.items() if each in others}


def line_of(path: str) -> str:
    """Return the first line of a file's docstring, or of a room's."""
    file = ROOT / path / "__init__.py" if path.endswith("/") else ROOT / path
    return (ast.get_docstring(ast.parse(file.read_text())) or "").partition("\n")[0]


def drawn_order(drawing: str) -> list[str]:
    """Return the rooms in the order in which a drawing has them."""
    return re.findall(r"^([\w/.]+/|[\w/]+\.py)(?= |$)", drawing, re.MULTILINE)


def drawing() -> str:
    """Return what stands drawn in docs/architecture.md."""
    return ARCHITECTURE.read_text().partition(BEGIN)[2].partition(END)[0]


def draw(order: Iterable[str]) -> str:
    """Return the rooms in this order: first with what each imports, then each with a line per file."""
    order = list(order)
    arrows, width = _without_detours(room_arrows()), max(map(len, order))
    lines = ["", "```"]
    for room in order:
        imported = " ".join(other for other in order if (room, other) in arrows)
        lines.append(f"{room:{width}}  {'-> ' + imported if imported else ''}".rstrip())
    lines += ["```", ""]
    for package, of_package in groupby(order, lambda room: room.partition("/")[0]):
        lines += [f"### {package}/", "", line_of(f"{package}/"), ""]
        for room in of_package:
            if room != f"{package}/":
                lines.append(f"- **`{room.removeprefix(package + '/')}`**: {line_of(room)}")
            if room.endswith("/"):
                indent = "" if room == f"{package}/" else "  "
                lines += [f"{indent}- `{Path(file).name}`: {line_of(file)}" for file in _files_of(room)]
        lines.append("")
    return "\n".join([*lines, ""])


def _files_of(room: str) -> list[str]:
    return [file for file in files() if room_of(file) == room and not file.endswith("__init__.py")]


def _module(path: str) -> str:
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def _imported_names(tree: ast.Module) -> Iterable[str]:
    """Yield what is imported, `from a import b` as a.b."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level or not node.module:
                raise ValueError("a relative import: write the whole path")
            yield from (f"{node.module}.{each.name}" for each in node.names)


def _file_of(name: str, modules: Mapping[str, str]) -> str | None:
    return modules.get(name) or modules.get(name.rpartition(".")[0])


def _reached(arrows: Arrows) -> dict[str, set[str]]:
    """Return all that each can be followed to."""
    direct: dict[str, set[str]] = {}
    for importing, imported in arrows:
        direct.setdefault(importing, set()).add(imported)
    reached = {}
    for start in direct:
        found, waiting = set(), list(direct[start])
        while waiting:
            if (each := waiting.pop()) not in found:
                found.add(each)
                waiting += direct.get(each, ())
        reached[start] = found
    return reached


def _without_detours(arrows: Arrows) -> Arrows:
    """Return the arrows without those that others lead to anyway."""
    reached = _reached(arrows)
    return frozenset(
        (importing, imported)
        for importing, imported in arrows
        if not any(imported in reached.get(between, ()) for other, between in arrows if other == importing)
    )


if __name__ == "__main__":
    text = ARCHITECTURE.read_text()
    ARCHITECTURE.write_text(text.replace(drawing(), draw(drawn_order(drawing()))))
