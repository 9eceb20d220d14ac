"""The Markdown files of the repository: their sections, links, tables and commands."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]

README = ROOT / "README.md"
DOCS = ROOT / "docs"


def pages() -> list[Path]:
    """Return all Markdown files that people read."""
    return [README, ROOT / "CHANGELOG.md", *sorted(DOCS.glob("*.md"))]


def prose(page: Path) -> str:
    """Return a page without its blocks of code."""
    return re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)


def headings(page: Path) -> list[str]:
    """Return the headings of a page."""
    return re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """Return what a link may name behind `#`, as GitHub makes it of the headings."""
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings(page)}


def links(page: Path) -> list[str]:
    """Return the targets of all links and pictures."""
    return re.findall(r"\]\(([^)\s]+)\)", prose(page))


def rows(page: Path, first_column: str) -> list[dict[str, str]]:
    """Return the rows of those tables whose first column has this name, each by the names of its columns."""
    found: list[dict[str, str]] = []
    names: list[str] = []
    for line in prose(page).splitlines():
        if not line.startswith("|"):
            names = []
            continue
        cells = [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if not names:
            names = cells
        elif names[0] == first_column and not set(line) <= set("|- :"):
            found.append(dict(zip(names, cells, strict=True)))
    return found


def plain(cell: str) -> str:
    """Return a cell without its backquotes, empty for the word `nothing`."""
    return "" if cell == "nothing" else cell.replace("`", "")


def blocks(page: Path, language: str) -> list[str]:
    """Return the blocks of code of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)


def code(page: Path) -> list[str]:
    """Return every piece of code between backquotes, in one line each, without the blocks."""
    return [" ".join(piece.split()) for piece in re.findall(r"`([^`]+)`", prose(page))]
