"""How the demo page looks, in headless Chromium: contrast, ink, and the width of a phone."""

from __future__ import annotations

import numpy as np
import pytest
from fewshot.demo.browser_support import Page
from fewshot.demo.page_support import DRAWINGS
from selenium.webdriver.common.by import By


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_stands_out_from_its_ground(page: Page, scheme: str) -> None:
    """WCAG 2.2, 1.4.3: 4.5 to 1."""
    page.appear(1280, 900, scheme)
    page.click("summary")
    page.driver.execute_script("document.getElementById('problem').hidden = false")
    page.driver.execute_script("document.getElementById('problem').textContent = 'a problem'")

    def weak() -> list[tuple[str, float]]:
        found = page.contrasts()
        assert len(found) > 25
        return [(text, ratio) for text, ratio in found if ratio < 4.5]

    assert weak() == []
    page.draw(*DRAWINGS["post"])
    page.enrol("post")
    page.until(lambda: page.text("verdict") == "post")
    page.click("#classes .act:last-child")  # "Sure?"
    assert weak() == []
    ground = page.driver.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(16, 21, 28)") is (scheme == "dark")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_drawings_are_ink_on_paper_in_both_schemes(page: Page, scheme: str) -> None:
    page.appear(1280, 900, scheme)
    page.draw(*DRAWINGS["post"])
    page.settled()
    pixels = np.array(
        page.driver.execute_script(
            "const c = document.getElementById('paper').getContext('2d');"
            "return [...c.getImageData(0, 0, 256, 256).data]"
        )
    ).reshape(256, 256, 4)[..., :3]
    assert (pixels[:, :16] >= 150).all()
    assert (pixels[128, 126:130] <= 110).all()
    dark = int((pixels[128, :, 0] <= 110).sum())
    assert 2 * 0.016 <= dark / 256 <= 2 * 0.036  # the strokes of the glyphs that backbones are trained on


def test_nothing_is_wider_than_a_small_phone(page: Page) -> None:
    page.appear(360, 740)
    page.click("summary")
    page.draw(*DRAWINGS["post"])
    page.enrol("W" * 32)
    page.draw(*DRAWINGS["zigzag"])
    page.enrol("i")
    for source in (1, 2, 3):
        page.click(f".sources label:nth-of-type({source})")
        assert 300 < page.width() <= 360, source
    for button in page.driver.find_elements(By.CSS_SELECTOR, "button"):
        if button.is_displayed():
            assert button.size["height"] >= 24, button.text  # WCAG 2.2, 2.5.8: for fingers
