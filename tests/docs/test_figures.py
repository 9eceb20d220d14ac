"""A figure of the README stands in docs/benchmarks.md or docs/ranking.md too, with its exact command."""

import re

from tests.docs.markdown import DOCS, README, rows


def test_figures_of_the_readme_stand_where_all_figures_do() -> None:
    told = "\n".join((DOCS / page).read_text() for page in ("benchmarks.md", "ranking.md"))
    found = rows(README, "measured on 2 cores, all servers included")
    assert len(found) == 5
    for row in found:
        figures = re.findall(r"(?<![\w.])\.?\d[\d,.]*\d?x?(?: ms)?", row[""])
        assert figures
        assert [figure for figure in figures if figure.rstrip(".,") not in told] == []
        assert row["command"].strip("`") in told
