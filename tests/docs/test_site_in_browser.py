"""The site in a browser, opened from disk: the search works, nothing fails, and a phone scrolls one way only."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

_PATIENCE_S = 15.0


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    """Headless Chromium; without it, or without selenium, the test is skipped."""
    from fewshot.demo.browser_support import browser

    with browser(tmp_path_factory.mktemp("profile")) as started:
        yield started


def opened(driver: Chrome, page: Path, query: str = "") -> Chrome:
    driver.get(f"{page.as_uri()}{query}")
    return driver


def test_the_search_finds_a_word_in_pages_from_disk(driver: Chrome, site: Path) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.wait import WebDriverWait

    opened(driver, site / "search.html", "?q=staircase")
    found = (By.CSS_SELECTOR, "ul.search li a[href*='002-certified-requantization']")
    WebDriverWait(driver, _PATIENCE_S).until(lambda d: d.find_elements(*found))
    assert not driver.get_log("browser")


def test_no_page_has_an_error_in_it_or_is_wider_than_a_phone(driver: Chrome, site: Path) -> None:
    driver.get_log("browser")  # what other pages left
    phone = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    pages = sorted(site.rglob("*.html"))
    wide = []
    for page in pages:
        opened(driver, page)
        if driver.execute_script("return document.documentElement.scrollWidth > 390"):
            wide.append(page.name)
    assert (len(pages) > 40, wide, driver.get_log("browser")) == (True, [], [])
