"""The page in headless Chromium: all that it should show, by keyboard too, light and dark, 360 px wide."""

import re
import shutil
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, Literal
from urllib.parse import quote

import pytest

from stream.kafka.partitioner import partition_of
from stream.metrics import dlq_total
from tests.stream.explain.conftest import HELD, ODD_USERS, PARTITIONS

api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (the extra `dev`)")

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not on the PATH (apt-get install chromium)"),
]

HERE = next(f"user {n}" for n in range(10) if partition_of(f"user {n}".encode(), PARTITIONS) in HELD)
THERE = next(f"user {n}" for n in range(10) if partition_of(f"user {n}".encode(), PARTITIONS) not in HELD)
Scheme = Literal["light", "dark"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Give a headless Chromium."""
    with api.sync_playwright() as playwright:
        # Without its own sandbox, which root may not use; it opens this test's pages alone.
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


class Tab:
    """A page of the browser, and everything that it complained of or asked of other hosts."""

    def __init__(self, browser: Any, width: int, scheme: Scheme) -> None:
        self.page = browser.new_page(viewport={"width": width, "height": 740}, color_scheme=scheme)
        self.page.set_default_timeout(30_000)
        self.complaints: list[str] = []
        self.asked: set[str] = set()
        self.page.on("console", lambda said: self._note(said.type, said.text))
        self.page.on("pageerror", lambda error: self._note("error", str(error)))
        self.page.on("request", lambda request: self.asked.add(request.url))

    def _note(self, kind: str, text: str) -> None:
        if kind in ("error", "warning"):
            self.complaints.append(text)

    def show(self, url: str, user_id: str) -> None:
        """Open the page at a user and wait until all of it is there."""
        self.page.goto(f"{url}#user={quote(user_id, safe='')}")
        self.page.get_by_role("heading", name="Nearest items").wait_for()
        self.page.locator("#throughput canvas").wait_for()

    def text(self, selector: str) -> str:
        """Return what stands there."""
        return str(self.page.locator(selector).inner_text())


@pytest.mark.parametrize(("width", "scheme"), [(360, "light"), (360, "dark"), (1200, "dark")])
def test_page_shows_a_user_without_scrolling_sideways_in_colours_that_can_be_read(
    browser: Any, url: str, width: int, scheme: Scheme
) -> None:
    tab = Tab(browser, width, scheme)
    tab.show(url, HERE)
    shown = tab.text("#user")
    assert "which this worker holds" in shown and "40 events in 4 sessions" in shown
    assert "the user's own vector" in shown and "gives the same vector" in shown
    assert tab.page.locator("#timeline svg rect").count() == 40
    assert tab.page.locator("[aria-label='Nearest items'] tbody tr").count() == 10
    tab.page.get_by_text("The events as a table").click()
    assert tab.page.locator("[aria-label='Events of the window'] tbody tr").count() == 40
    assert tab.page.evaluate("document.documentElement.scrollWidth") <= width
    assert not too_faint(tab.page)
    assert {address.startswith(url) for address in tab.asked} == {True}
    assert not tab.complaints
    tab.page.close()


def test_every_picture_has_words_and_the_weights_can_be_chosen_by_keyboard(browser: Any, url: str) -> None:
    tab = Tab(browser, 800, "light")
    tab.page.goto(url)
    tab.page.keyboard.press("Tab")
    assert tab.page.evaluate("document.activeElement.id") == "user-id"
    tab.page.keyboard.type(HERE)
    tab.page.keyboard.press("Enter")
    tab.page.get_by_role("heading", name="Nearest items").wait_for()
    before = tab.page.locator("#timeline svg").get_attribute("aria-label")
    assert "by influence. The heaviest is the" in before
    tab.page.get_by_role("radio", name="influence").focus()
    tab.page.keyboard.press("ArrowDown")
    assert "by direct path" in tab.page.locator("#timeline svg").get_attribute("aria-label")
    assert "in the sum of the last items" in tab.text("#user")
    unnamed = "[...document.querySelectorAll('svg:not([aria-hidden]), [role=img]')].filter(each => " \
        "!each.getAttribute('aria-label') && !each.getAttribute('aria-labelledby')).length"  # fmt: skip
    assert tab.page.evaluate(unnamed) == 0
    levels = tab.page.evaluate("[...document.querySelectorAll('h1, h2, h3')].map(each => +each.tagName[1])")
    assert levels[0] == 1 and all(after - before <= 1 for before, after in pairwise(levels))
    tab.page.close()


def test_odd_and_unknown_ids_are_text_and_get_a_plain_answer(browser: Any, url: str) -> None:
    tab = Tab(browser, 360, "light")
    for user_id in (*ODD_USERS, "nobody", ""):
        tab.page.goto("about:blank")
        tab.page.goto(f"{url}#user={quote(user_id, safe='')}")
        tab.page.locator("#user[aria-busy=false]").wait_for()
        shown = tab.text("#user")
        assert ("Partition" in shown) is (user_id != "")
        assert ("give one user id" in shown) is (user_id == "")
        assert ("cold-start user" in shown) is (user_id == "nobody")
        assert tab.page.locator("#user img, #user b, #user script").count() == 0
        assert tab.page.evaluate("document.documentElement.scrollWidth") <= 360
    assert [text for text in tab.complaints if "400 (Bad Request)" not in text] == []
    tab.page.close()


def test_user_of_another_worker_and_dead_letters_are_shown(browser: Any, url: str) -> None:
    dlq_total.labels("no_item").inc(3)
    tab = Tab(browser, 360, "dark")
    tab.show(url, THERE)
    assert "http://other-host:9109" in tab.text("#user") and "the user's own vector" in tab.text("#user")
    tab.page.locator("#dead-letters td", has_text="no_item").wait_for()
    assert "3 of 4 partitions" in tab.text("#state")
    assert tab.page.locator("#partitions tbody tr").count() == len(HELD)
    tab.page.close()


def test_page_asks_for_the_token_and_keeps_it_out_of_every_address(browser: Any, guarded_url: str) -> None:
    tab = Tab(browser, 360, "light")
    tab.page.goto(f"{guarded_url}#user={quote(HERE)}")
    tab.page.get_by_label("This worker asks for its token").fill("0123456789abcdef")
    tab.page.keyboard.press("Enter")
    tab.page.get_by_role("heading", name="Nearest items").wait_for()
    assert not tab.page.locator("#token-form").is_visible()
    assert not [address for address in tab.asked if "0123456789abcdef" in address]
    tab.page.close()


def test_what_is_too_faint_would_be_noticed(browser: Any, url: str) -> None:
    tab = Tab(browser, 800, "light")
    tab.show(url, HERE)
    tab.page.evaluate("document.documentElement.style.setProperty('--muted', '#999999')")
    assert too_faint(tab.page)
    tab.page.close()


def too_faint(page: Any) -> list[str]:
    """Return what has a contrast below WCAG's AA: texts below 4.5, bars below 3."""
    texts = page.evaluate(
        """() => [...document.querySelectorAll('body *')].flatMap(each => {
            const style = getComputedStyle(each);
            const isText = [...each.childNodes].some(child => child.nodeType === 3 && child.data.trim());
            const isBar = each.matches('#timeline rect:not(.unknown)');
            if (!(isText || isBar) || !each.getClientRects().length || each.closest('title')) return [];
            let under = each;
            const ground = () => getComputedStyle(under).backgroundColor;
            while (under.parentElement && /, 0\\)$/.test(ground())) under = under.parentElement;
            const ink = each instanceof SVGElement ? style.fill : style.color;
            return [[each.outerHTML.slice(0, 80), ink, ground(), isBar ? 3 : 4.5]];
        })"""
    )
    return [what for what, ink, ground, least in texts if contrast(ink, ground) < least]


def contrast(one: str, other: str) -> float:
    """Return the contrast of two colours as CSS writes them, by WCAG 2.2."""
    darker, lighter = sorted(map(_luminance, (one, other)))
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(colour: str) -> float:
    shares = [int(each) / 255 for each in re.findall(r"\d+", colour)[:3]]
    linear = [each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in shares]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
