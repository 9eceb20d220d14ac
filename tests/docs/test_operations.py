"""Every alert has a section that says what to do, and leads to it."""

from typing import Any

import yaml

from tests.docs.markdown import DOCS, ROOT, anchors, prose


def rules() -> list[dict[str, Any]]:
    """Return the alert rules."""
    groups = yaml.safe_load((ROOT / "deploy" / "alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def test_every_alert_leads_to_its_section() -> None:
    page = DOCS / "operations.md"
    for rule in rules():
        file, _, anchor = rule["annotations"]["runbook_url"].partition("#")
        assert ROOT / file == page
        assert anchor == rule["alert"].lower()
        assert anchor in anchors(page)


def test_every_section_about_an_alert_is_of_one_that_there_is() -> None:
    about = prose(DOCS / "operations.md").partition("\n## Alerts\n")[2]
    named = [line.removeprefix("### ") for line in about.splitlines() if line.startswith("### ")]
    assert sorted(named) == sorted(rule["alert"] for rule in rules())
