"""Every link of every page leads to a file that is there and to a section that it has."""

from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.docs.markdown import DOCS, README, anchors, links, pages

#: What fits on a few screens; everything else stands in docs/.
README_BYTES = 9 << 10


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    lost = []
    for link in links(page):
        target = urlsplit(link)
        if target.scheme:
            continue
        file = (page.parent / target.path).resolve() if target.path else page
        if not file.exists() or (target.fragment and target.fragment not in anchors(file)):
            lost.append(link)
    assert not lost


def test_readme_is_short() -> None:
    assert len(README.read_bytes()) <= README_BYTES


def test_readme_leads_to_every_page() -> None:
    assert {f"docs/{page.name}" for page in DOCS.glob("*.md")} <= {
        link.partition("#")[0] for link in links(README)
    }
