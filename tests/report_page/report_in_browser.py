"""The page of a report in headless Chromium, as somebody reads it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fewshot.demo.browser_support import CONTRASTS
from selenium.webdriver import Chrome
from selenium.webdriver.common.action_chains import ActionChains


class ReportPage:
    """The page, opened from a disk; no request may leave it."""

    def __init__(self, driver: Chrome, path: Path) -> None:
        self.driver = driver
        self.appear(1280, 900)
        driver.get("about:blank")
        driver.get_log("browser")  # of another test
        driver.get(path.as_uri())

    def appear(self, width: int, height: int, scheme: str = "light", media: str = "screen") -> None:
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": features})

    def ask(self, script: str) -> object:
        return self.driver.execute_script(f"return {script}")

    def press(self, *keys: str) -> None:
        ActionChains(self.driver, duration=0).send_keys(*keys).perform()

    def click(self, selector: str) -> None:
        self.driver.execute_script("document.querySelector(arguments[0]).scrollIntoView({block: 'center'})", selector)
        self.driver.find_element("css selector", selector).click()

    def open_layers(self) -> list[int]:
        """The numbers of the layers whose rows are open."""
        script = "[...document.querySelectorAll('tr.more')].map((row) => row.checkVisibility())"
        shown = self.ask(script)
        assert isinstance(shown, list)
        return [number for number, is_open in enumerate(shown, 1) if is_open]

    def contrasts(self) -> list[tuple[str, float]]:
        return [(str(text), float(ratio)) for text, ratio in self.driver.execute_script(CONTRASTS)]

    def complaints(self) -> list[str]:
        """What the browser's console has."""
        return [str(entry["message"]) for entry in self.driver.get_log("browser")]


@contextmanager
def opened(driver: Chrome, path: Path) -> Iterator[ReportPage]:
    """The page at a path. At the end, nothing stands in the console, and it has asked for nothing but itself."""
    page = ReportPage(driver, path)
    yield page
    assert page.complaints() == []
    asked = page.ask("performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert isinstance(asked, list)
    assert [name for name in asked if not name.startswith(("data:", "blob:"))] == []
