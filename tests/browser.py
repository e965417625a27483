"""A headless Chromium, where there is one, and what can be asked of a page in it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

OPTIONS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)

QUESTIONS = """
// What is to be seen of an element's content: whatever hides what hangs over it cuts it.
function openingOf(own, known) {
  if (!own) return { left: -Infinity, top: -Infinity, right: Infinity, bottom: Infinity };
  if (!known.has(own)) {
    const outer = openingOf(own.parentElement, known);
    known.set(own, getComputedStyle(own).overflowX === "visible" ? outer : cut(own.getBoundingClientRect(), outer));
  }
  return known.get(own);
}
function cut(a, b) {
  return { left: Math.max(a.left, b.left), top: Math.max(a.top, b.top),
    right: Math.min(a.right, b.right), bottom: Math.min(a.bottom, b.bottom) };
}
function seenTexts() {
  const found = [], known = new Map();
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode, own = node.parentElement;
    if (!node.data.trim() || own.closest("script, style, noscript, .quiet, .skip")) continue;
    if (!own.checkVisibility({ visibilityProperty: true })) continue;
    const range = document.createRange();
    range.selectNodeContents(node);
    for (const piece of range.getClientRects()) {
      const seen = cut(piece, openingOf(own, known));
      if (seen.right - seen.left < 1 || seen.bottom - seen.top < 1) continue;
      found.push({ ...seen, node, text: node.data.trim() });
    }
  }
  return found;
}
function overlaps() {
  const seen = seenTexts().sort((a, b) => a.top - b.top), found = [];
  for (let i = 0; i < seen.length; i++)
    for (let j = i + 1; j < seen.length && seen[j].top < seen[i].bottom - 3; j++)
      // what is cut short has two rectangles, one of them for the dots
      if (seen[i].node !== seen[j].node
          && Math.min(seen[i].right, seen[j].right) - Math.max(seen[i].left, seen[j].left) > 1)
        found.push(`${seen[i].text} / ${seen[j].text}`);
  return found;
}
// WCAG 2: relative luminance and contrast.
function contrast(front, back) {
  const light = (colour) => {
    const [r, g, b] = colour.match(/[\\d.]+/g).slice(0, 3).map((part) => part / 255)
      .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05;
  };
  const [a, b] = [light(front), light(back)];
  return Math.max(a, b) / Math.min(a, b);
}
function faintTexts() {
  const found = new Set(), ratios = new Map();
  for (const own of document.body.querySelectorAll("*")) {
    const text = [...own.childNodes].filter((node) => node.nodeType === 3).map((node) => node.data.trim()).join("");
    if (!text || own.closest("script, style, noscript") || !own.checkVisibility()) continue;
    let outer = own;
    while (outer && getComputedStyle(outer).backgroundColor === "rgba(0, 0, 0, 0)") outer = outer.parentElement;
    const colours = [getComputedStyle(own).color, getComputedStyle(outer).backgroundColor];
    const ratio = ratios.get(colours.join()) ?? contrast(...colours);
    ratios.set(colours.join(), ratio);
    if (ratio < 4.5) found.add(`${text}: ${ratio.toFixed(2)}`);
  }
  return [...found];
}
function cutNumbers() {
  return [...document.querySelectorAll(".number, .delay, .card dd, .badge, .label, thead button, .theme, .axis b")]
    .filter((own) => own.checkVisibility())
    .filter((own) => {
      const { left, right } = own.getBoundingClientRect();
      const edge = own.closest("button, .card, .row, summary, th, article").getBoundingClientRect();
      return own.scrollWidth > own.clientWidth + 1 && getComputedStyle(own).display !== "inline"
        || left < edge.left - 0.5 || right > edge.right + 0.5;
    })
    .map((own) => own.textContent);
}
"""


class Browser:
    """One window."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def show(self, page: Path, *, width: int = 1440, scheme: str = "light") -> None:
        """Load a page on a screen of such a width, for someone who likes such colours."""
        screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        liked = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", liked)
        self.driver.get(page.as_uri())

    def ask(self, expression: str, *arguments: Any) -> Any:
        """The value of a JavaScript expression; ``QUESTIONS`` are at hand."""
        return self.driver.execute_script(f"{QUESTIONS}\nreturn {expression}", *arguments)

    def do(self, statement: str) -> None:
        self.driver.execute_script(statement)

    def press(self, *keys: str) -> None:
        from selenium.webdriver.common.action_chains import ActionChains

        for key in keys:
            ActionChains(self.driver, duration=0).send_keys(key).perform()

    def messages(self) -> list[str]:
        """What the console has said since the last question."""
        return [entry["message"] for entry in self.driver.get_log("browser")]


@contextmanager
def opened_browser(profile: Path) -> Iterator[Browser]:
    """A browser of its own; the test is skipped where there is none."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    from selenium.webdriver.chrome.service import Service

    program, controller = shutil.which("chromium"), shutil.which("chromedriver")
    if program is None or controller is None:
        pytest.skip("no chromium and chromedriver here (Debian: apt-get install chromium chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for option in (*OPTIONS, f"--user-data-dir={profile}"):
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(controller))
    try:
        yield Browser(driver)
    finally:
        driver.quit()
