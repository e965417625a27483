"""The page in a real browser: what is seen, what keys do, and that nothing overlaps."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import co3d_compile
from co3d_compile.report.data import Report
from co3d_compile.report.page.axis import axis_of
from co3d_compile.report.page.html import render_page
from tests.browser import Browser, opened_browser
from tests.test_page import Block, Gated, Tower, report_of
from tests.zoo_models import ZOO

pytestmark = pytest.mark.slow

ENTER, SPACE, TAB = "\ue007", "\ue00d", "\ue004"
WIDTHS = (390, 1440)
SCHEMES = ("light", "dark")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with opened_browser(tmp_path_factory.mktemp("profile")) as found:
        yield found


class Again(nn.Module):
    """A module that runs before and after another."""

    def __init__(self) -> None:
        super().__init__()
        self.shared = nn.Conv3d(2, 2, 1)
        self.between = nn.Conv3d(2, 2, 1)

    def forward(self, clip: Tensor) -> Tensor:
        return self.shared(self.between(self.shared(clip)))


def page_of(report: Report, folder: Path) -> Path:
    page = folder / "report.html"
    page.write_text(render_page(report, "cont.pt"))
    return page


def published(name: str) -> Report:
    zoo = ZOO[name]
    clips = zoo.clips()
    with torch.device("meta"):
        clip = torch.empty(clips) if isinstance(clips, tuple) else [torch.empty(shape) for shape in clips]
        return co3d_compile.compile(zoo.build(), clip).report


def tab_to(browser: Browser, selector: str) -> None:
    """Press Tab until the element is reached."""
    for _ in range(80):
        browser.press(TAB)
        if browser.ask("document.activeElement.matches(arguments[0])", selector):
            return
    pytest.fail(f"Tab does not reach {selector}")


def column(browser: Browser, number: int) -> list[str]:
    cells = f"#layers tbody tr > :nth-child({number})"
    found: list[str] = browser.ask("[...document.querySelectorAll(arguments[0])].map(cell => cell.textContent)", cells)
    return found


def require_readable(browser: Browser, width: int) -> None:
    """Nothing overlaps, hangs over or is too faint, and the console is silent."""
    assert browser.ask("document.documentElement.scrollWidth") <= width
    assert browser.ask("overlaps()") == []
    assert browser.ask("cutNumbers()") == []
    assert browser.ask("faintTexts()") == []
    assert browser.messages() == []


@pytest.mark.parametrize("name", ["r3d_18", "x3d_m", "slowfast_8x8"])
def test_published_networks_are_readable(browser: Browser, name: str, tmp_path: Path) -> None:
    """On a phone and on a desk, light and dark, as it opens and unfolded, with the facts of some rows."""
    page = page_of(published(name), tmp_path)
    for width in WIDTHS:
        for scheme in SCHEMES:
            browser.show(page, width=width, scheme=scheme)
            require_readable(browser, width)
        browser.do("document.querySelectorAll('details').forEach(part => { part.open = true })")
        browser.do("document.querySelector('#unfold').click()")
        rows = "[...document.querySelectorAll('.row:not(.module) > button')]"
        browser.do(f"{rows}.filter((_, number) => number % 9 === 0).forEach(button => button.click())")
        require_readable(browser, width)


def test_the_questions_find_what_they_ask_for(browser: Browser, tmp_path: Path) -> None:
    """A page with an overlap, a faint text and a number that hangs over, so that silence means something."""
    page = tmp_path / "bad.html"
    page.write_text(
        "<!doctype html><body style='background: #fff'><p style='margin: 0 0 60px; color: #ccc'>faint</p>"
        "<p style='position: absolute; top: 0'>above</p>"
        "<div class='card' style='width: 20px'><dd class='number' style='margin: 0'>123456789</dd></div>"
    )
    browser.show(page)

    assert browser.ask("overlaps()") == ["faint / above"]
    assert browser.ask("faintTexts()") == ["faint: 1.61"]
    assert browser.ask("cutNumbers()") == ["123456789"]


def test_all_parts_are_there_and_hold_the_reports_numbers(browser: Browser, tmp_path: Path) -> None:
    report = report_of(Tower())
    browser.show(page_of(report, tmp_path))

    assert browser.ask("document.title") == "cont.pt: continual network"
    headings = browser.ask("[...document.querySelectorAll('h2')].map(head => head.textContent)")
    assert headings == ["In short", "Outputs", "The network along time", "Schedule", "All layers"]
    assert column(browser, 5) == [str(layer.delay) for layer in report.layers]
    assert column(browser, 12) == [str(layer.history + layer.sums or "") for layer in report.layers]
    assert browser.ask("document.querySelectorAll('.phase').length") == report.totals.period
    counts = browser.ask("[...document.querySelectorAll('.phase')].map(phase => phase.querySelectorAll('li').length)")
    assert counts == [len(firings) for firings in report.schedule]
    assert browser.ask("performance.getEntriesByType('resource').length") == 0


def test_spans_and_waits_are_drawn_to_scale(browser: Browser, tmp_path: Path) -> None:
    report = report_of(Block())
    browser.show(page_of(report, tmp_path))
    axis = axis_of(report.layers)
    width = "document.querySelector(arguments[0]).getBoundingClientRect().width"
    tick = browser.ask(width, ".rows .strip") / (axis.stop - axis.start)

    # the input's element waits from tick 0 to tick 2; the branch depends on frames -2 to 2
    assert browser.ask(width, ".rows i.wait:not(.inside)") == pytest.approx(2 * tick, abs=1)
    spans = browser.ask("[...document.querySelectorAll('.rows i.span')].map(s => s.getBoundingClientRect().width)")
    assert max(spans) == pytest.approx(5 * tick, abs=1)


def test_links_meet_the_rows_they_join(browser: Browser, tmp_path: Path) -> None:
    """Each line begins at the row that makes and ends in the middle of the row that reads, also after folding."""
    browser.show(page_of(report_of(Block()), tmp_path))
    ends = """[...document.querySelectorAll('#links path')].map(path => {
        const box = path.getBoundingClientRect();
        const strips = [...document.querySelectorAll('.rows .strip')].filter(strip => strip.checkVisibility());
        const middle = strips.map(strip => strip.getBoundingClientRect()).map(edge => (edge.top + edge.bottom) / 2);
        return middle.filter(y => Math.abs(y - box.bottom) < 1).length;
    })"""

    assert browser.ask(ends) == [1] * 4
    browser.do("document.querySelector('#fold').click()")
    assert browser.ask(ends) == [1] * 3


def test_links_lead_up_where_a_module_runs_again(browser: Browser, tmp_path: Path) -> None:
    browser.show(page_of(report_of(Again()), tmp_path))
    ends = "[...document.querySelectorAll('#links path')].map(path => path.getAttribute('d').match(/ (.*)V(.*)/))"
    lengths = browser.ask(f"{ends}.map(([_, from, to]) => Math.sign(to - from))")

    assert lengths == [1, -1, 1]


def test_keys_reach_everything(browser: Browser, tmp_path: Path) -> None:
    browser.show(page_of(report_of(Tower()), tmp_path))
    focused = "getComputedStyle(document.activeElement).outlineStyle"

    tab_to(browser, ".skip")
    tab_to(browser, "#theme")
    assert browser.ask(focused) != "none"
    tab_to(browser, "#fold")
    browser.press(ENTER)
    rows = "[...document.querySelectorAll('.rows > .row')].filter(row => !row.hidden).length"
    assert browser.ask(rows) == 5
    tab_to(browser, ".module > .name")
    assert browser.ask(focused) != "none"
    browser.press(ENTER)
    assert browser.ask("document.activeElement.getAttribute('aria-expanded')") == "true"
    assert browser.ask(rows) == 8
    browser.press(SPACE)
    assert browser.ask(rows) == 5
    tab_to(browser, ".row:not(.module) > .name")
    browser.press(ENTER)
    facts = "document.getElementById(document.activeElement.getAttribute('aria-controls')).checkVisibility()"
    assert browser.ask(facts) is True
    tab_to(browser, "#filter")
    tab_to(browser, ".scroll")
    assert browser.messages() == []


def test_enter_sorts_the_table(browser: Browser, tmp_path: Path) -> None:
    report = report_of(Tower())
    browser.show(page_of(report, tmp_path))
    delays = sorted(layer.delay for layer in report.layers)
    sort = "document.activeElement.parentElement.getAttribute('aria-sort')"

    tab_to(browser, "thead th:nth-child(5) button")
    browser.press(ENTER)
    assert browser.ask(sort) == "ascending"
    assert column(browser, 5) == [str(delay) for delay in delays]
    browser.press(ENTER)
    assert browser.ask(sort) == "descending"
    assert column(browser, 5) == [str(delay) for delay in reversed(delays)]
    assert browser.ask("document.querySelectorAll('thead [aria-sort=none]').length") == 17


def test_sizes_sort_by_size_and_not_by_their_text(browser: Browser, tmp_path: Path) -> None:
    report = report_of(Tower())
    browser.show(page_of(report, tmp_path))
    sizes = {layer.path or layer.name: layer.state_bytes for layer in report.layers}

    browser.do("document.querySelectorAll('thead button')[12].click()")

    assert [sizes[name] for name in column(browser, 2)] == sorted(sizes[name] for name in column(browser, 2))
    assert len(set(sizes.values())) > 2


def test_the_table_shows_what_is_looked_for(browser: Browser, tmp_path: Path) -> None:
    report = report_of(Tower())
    browser.show(page_of(report, tmp_path))
    wanted = sum(layer.operation == "conv3d" for layer in report.layers)

    tab_to(browser, "#filter")
    browser.press(*"Conv3d")

    assert browser.ask("[...document.querySelectorAll('tbody tr')].filter(row => !row.hidden).length") == wanted
    assert browser.ask("document.querySelector('#found').textContent") == f"{wanted} layers"


@pytest.mark.parametrize("scheme", SCHEMES)
def test_colours_follow_the_system_and_then_the_button(browser: Browser, scheme: str, tmp_path: Path) -> None:
    light, dark = "rgb(246, 247, 249)", "rgb(18, 22, 28)"
    liked, other = (light, dark) if scheme == "light" else (dark, light)
    browser.show(page_of(report_of(Gated()), tmp_path), scheme=scheme)
    back = "getComputedStyle(document.documentElement).backgroundColor"
    pressed = "document.querySelector('#theme').getAttribute('aria-pressed')"

    assert (browser.ask(back), browser.ask(pressed)) == (liked, str(scheme == "dark").lower())
    tab_to(browser, "#theme")
    browser.press(ENTER)
    assert (browser.ask(back), browser.ask(pressed)) == (other, str(scheme == "light").lower())
    browser.press(SPACE)
    assert browser.ask(back) == liked


def test_without_scripts_all_rows_are_seen(browser: Browser, tmp_path: Path) -> None:
    page = page_of(report_of(Tower()), tmp_path)
    browser.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.show(page)
        rows = browser.ask("[...document.querySelectorAll('.rows > .row')].map(row => row.checkVisibility())")
    finally:
        browser.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})

    assert len(rows) > 10
    assert all(rows)
