"""Headless Chromium on a page: what the tests of the demo page, and of reports, do in it, and what they ask it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

selenium = pytest.importorskip("selenium", reason="selenium, of the extra test, is not installed")

from selenium.webdriver import Chrome, ChromeOptions  # noqa: E402
from selenium.webdriver.chrome.service import Service  # noqa: E402
from selenium.webdriver.common.action_chains import ActionChains  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.support.wait import WebDriverWait  # noqa: E402

Stroke = Sequence[tuple[float, float]]  # points, 0 to 1 of the paper's sides

_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_OPTIONS = (
    "--headless=new", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--window-size=1280,900",
    "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream",  # a camera, and somebody who allows it
)  # fmt: skip
_PATIENCE_S = 15.0

# The contrast of each text on the page with what lies behind it: WCAG 2.2, relative luminance.
CONTRASTS = """
const luminance = (c) => {
  const [r, g, b] = c.map((v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const parse = (text) => text.match(/[\\d.]+/g).map(Number);
const behind = (element) => {
  for (let at = element; at; at = at.parentElement) {
    const colour = parse(getComputedStyle(at).backgroundColor);
    if (colour.length < 4 || colour[3] === 1) return colour.slice(0, 3);
    if (colour[3] !== 0) throw new Error("a transparent ground");
  }
  throw new Error("no ground");
};
const ratio = (a, b) => {
  const [low, high] = [luminance(a), luminance(b)].sort((x, y) => x - y);
  return (high + 0.05) / (low + 0.05);
};
const found = [];
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const element = walker.currentNode.parentElement;
  const text = walker.currentNode.textContent.trim();
  if (!text || !element.checkVisibility() || element.closest(".unseen")) continue;
  const style = getComputedStyle(element);
  const ink = element instanceof SVGElement ? style.fill : style.color;
  found.push([text, ratio(parse(ink).slice(0, 3), behind(element))]);
}
for (const field of document.querySelectorAll("input[placeholder]")) {
  const colour = parse(getComputedStyle(field, "::placeholder").color);
  found.push([field.placeholder, ratio(colour.slice(0, 3), behind(field))]);
}
return found;
"""


@contextmanager
def browser(folder: Path) -> Iterator[Chrome]:
    """Chromium with an empty profile in `folder`. The test is skipped where there is none."""
    binary = next(filter(None, map(shutil.which, _BROWSERS)), None)
    driver = shutil.which("chromedriver")
    if binary is None or driver is None:
        pytest.skip("no Chromium, or no chromedriver: apt-get install chromium chromium-driver")
    options = ChromeOptions()
    options.binary_location = binary
    for option in (*_OPTIONS, f"--user-data-dir={folder}"):
        options.add_argument(option)
    if hasattr(os, "getuid") and os.getuid() == 0:
        options.add_argument("--no-sandbox")  # Chromium does not run as root with one
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    started = Chrome(options=options, service=Service(driver))
    try:
        yield started
    finally:
        started.quit()


class Page:
    """The demo page in a browser, as somebody uses it."""

    def __init__(self, driver: Chrome, address: str) -> None:
        self.driver = driver
        self.address = address
        self.appear(1280, 900)
        driver.get_log("browser")  # of another test
        driver.get(address)
        driver.execute_script("performance.setResourceTimingBufferSize(10000)")  # 250 of themselves
        self.until(lambda: driver.execute_script("return document.body.dataset.ready") == "yes")

    def appear(self, width: int, height: int, scheme: str = "light") -> None:
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def until(self, holds: Callable[[], object]) -> None:
        WebDriverWait(self.driver, _PATIENCE_S, poll_frequency=0.02).until(lambda _: holds())

    def text(self, element_id: str) -> str:
        return str(self.driver.find_element(By.ID, element_id).text)

    def click(self, selector: str) -> None:
        self.driver.find_element(By.CSS_SELECTOR, selector).click()

    def draw(self, *strokes: Stroke) -> None:
        """With the mouse, on a paper that is cleared before."""
        self.click("#clear")
        paper = self.driver.find_element(By.ID, "paper")
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", paper)
        width, height = paper.size["width"], paper.size["height"]
        actions = ActionChains(self.driver, duration=0)
        for stroke in strokes:
            places = [(round((x - 0.5) * width), round((y - 0.5) * height)) for x, y in stroke]
            actions.move_to_element_with_offset(paper, *places[0]).click_and_hold()
            for place in places[1:]:
                actions.move_to_element_with_offset(paper, *place)
            actions.release()
        actions.perform()

    def type(self, *keys: str) -> None:
        """Keys for whatever has the focus."""
        ActionChains(self.driver, duration=0).send_keys(*keys).perform()

    def enrol(self, name: str) -> None:
        before = self.classes()
        self.driver.find_element(By.ID, "name").send_keys(name)
        self.click("#adding button")
        self.until(lambda: self.classes() != before)

    def classes(self) -> list[str]:
        """ "mug 2 shots" of each."""
        script = "return [...document.querySelectorAll('.enrol .name')].map((e) => e.textContent)"
        return list(self.driver.execute_script(script))

    def settled(self) -> str:
        """The verdict on what is drawn, when every frame was answered."""
        script = (
            "const done = arguments[0]; let frames = 3;"  # of the screen: moves of the pointer wait for one
            "const look = () => {"
            " if (--frames < 0 && !document.body.dataset.busy) done(document.getElementById('verdict').textContent);"
            " else requestAnimationFrame(look); };"
            "look();"
        )
        return str(self.driver.execute_async_script(script))

    def contrasts(self) -> list[tuple[str, float]]:
        return [(str(text), float(ratio)) for text, ratio in self.driver.execute_script(CONTRASTS)]

    def width(self) -> int:
        return int(self.driver.execute_script("return document.documentElement.scrollWidth"))

    def complaints(self) -> list[str]:
        """What the browser's console has."""
        return [str(entry["message"]) for entry in self.driver.get_log("browser")]

    def requested(self) -> list[str]:
        """The address of every request of the page."""
        # Not the driver's log of the network: it has every frame in it, and falls behind a camera without end.
        script = "return performance.getEntries().filter((e) => e.responseEnd !== undefined).map((e) => e.name)"
        return list(self.driver.execute_script(script))
