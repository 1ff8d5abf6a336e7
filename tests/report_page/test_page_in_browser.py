"""The page of a report in headless Chromium: read, opened, zoomed, printed, in two schemes and on a phone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("selenium", reason="selenium, of the extra test, is not installed")

from report_page.report_in_browser import ReportPage
from selenium.webdriver.common.keys import Keys


def test_a_row_opens_and_closes_by_mouse_and_by_keyboard(resnet: ReportPage) -> None:
    assert resnet.open_layers() == []
    resnet.click("#layer-3 button")
    assert resnet.open_layers() == [3]
    assert resnet.ask("document.querySelector('#layer-3 button').getAttribute('aria-expanded')") == "true"
    resnet.press(Keys.ENTER)  # the button has the focus
    assert resnet.open_layers() == []
    resnet.press(Keys.TAB, Keys.SPACE)
    assert resnet.open_layers() == [4]
    resnet.click("[data-rows='open']")
    assert resnet.open_layers() == list(range(1, 17))
    resnet.click("[data-rows='close']")
    assert resnet.open_layers() == []


def test_a_box_of_the_network_opens_its_layer(resnet: ReportPage) -> None:
    resnet.click("a.node[href='#layer-2']")
    assert resnet.open_layers() == [2]
    assert resnet.ask("document.activeElement.getAttribute('aria-controls')") == "more-2"
    resnet.click("#layer-2 button")
    assert resnet.open_layers() == []
    resnet.click("a.node[href='#layer-2']")  # chosen again
    assert resnet.open_layers() == [2]


def test_an_address_with_a_layer_opens_it(resnet: ReportPage) -> None:
    resnet.driver.get(f"{resnet.driver.current_url.split('#')[0]}#layer-5")
    assert resnet.open_layers() == [5]


def test_every_link_within_the_page_leads_somewhere(resnet: ReportPage) -> None:
    leads = "(a) => [a.getAttribute('href'), !!document.querySelector(a.getAttribute('href'))]"
    links = resnet.ask(f"[...document.querySelectorAll('a[href^=\"#\"]')].map({leads})")
    assert isinstance(links, list)
    assert len(links) > 16
    assert all(found for _, found in links)


def test_the_network_is_zoomed_by_buttons_and_keys(resnet: ReportPage) -> None:
    def width() -> float:
        found = resnet.ask("document.getElementById('graph').getBoundingClientRect().width")
        assert isinstance(found, int | float)
        return found

    resnet.click("[data-zoom='one']")
    natural = width()
    resnet.click("[data-zoom='in']")
    assert width() == pytest.approx(1.3 * natural, rel=1e-3)
    resnet.driver.execute_script("document.querySelector('.graph').focus()")
    resnet.press("-", "-")
    assert width() == pytest.approx(natural / 1.3, rel=1e-3)
    resnet.press("f")
    fits = "(() => { const f = document.querySelector('.graph'); return f.scrollHeight <= f.clientHeight + 1; })()"
    assert resnet.ask(fits)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["resnet", "c_page"])
def test_every_text_stands_out_from_its_ground(name: str, scheme: str, request: pytest.FixtureRequest) -> None:
    """WCAG 2.2, 1.4.3: 4.5 to 1; texts of the charts, too."""
    page: ReportPage = request.getfixturevalue(name)
    page.appear(1280, 900, scheme)
    page.click("[data-rows='open']")
    found = page.contrasts()
    assert len(found) > 150
    assert [(text, ratio) for text, ratio in found if ratio < 4.5] == []
    ground = page.ask("getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(16, 21, 28)") is (scheme == "dark")


@pytest.mark.parametrize("name", ["resnet", "c_page"])
@pytest.mark.parametrize("width", [390, 320])
def test_nothing_is_wider_than_a_phone(name: str, width: int, request: pytest.FixtureRequest) -> None:
    page: ReportPage = request.getfixturevalue(name)
    page.appear(width, 740)
    page.click("[data-rows='open']")
    assert page.ask("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    heights = page.ask("[...document.querySelectorAll('button')].map((b) => b.getBoundingClientRect().height)")
    assert isinstance(heights, list)
    assert min(heights) >= 24  # WCAG 2.2, 2.5.8: for fingers


def test_on_paper_every_layer_is_open_and_no_button_is_seen(resnet: ReportPage) -> None:
    resnet.appear(1000, 1400, media="print")
    assert resnet.open_layers() == list(range(1, 17))
    assert resnet.ask("document.querySelector('.zoom').checkVisibility()") is False
    assert resnet.ask("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


def test_every_picture_has_a_text_and_every_id_is_there_once(resnet: ReportPage) -> None:
    labels = resnet.ask("[...document.querySelectorAll('svg[role=\"img\"]')].map((s) => s.getAttribute('aria-label'))")
    assert isinstance(labels, list)
    assert len(labels) > 45
    assert all(label for label in labels)
    ids = resnet.ask("[...document.querySelectorAll('[id]')].map((e) => e.id)")
    assert isinstance(ids, list)
    assert len(ids) == len(set(ids))


def test_the_numbers_can_be_taken_from_the_page(resnet: ReportPage) -> None:
    text = resnet.driver.execute_async_script(
        "const done = arguments[0];"
        "fetch(document.getElementById('download').href).then((r) => r.text()).then(done, (e) => done(String(e)));"
    )
    content = json.loads(text)
    assert content["modelled_cycles"] == 241950
    assert content["against"]["other"].endswith("on tensil (pynqz1)")


def test_without_scripts_every_layer_is_open(resnet: ReportPage, pages: Path) -> None:
    resnet.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        resnet.driver.get((pages / "resnet.html").as_uri())
        rows = resnet.driver.find_elements("css selector", "tr.more")
        assert len(rows) == 16
        assert all(row.is_displayed() for row in rows)
    finally:
        resnet.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
