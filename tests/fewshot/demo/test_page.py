"""The demo page in headless Chromium: draw, drop and film, enrol, and be recognised; by mouse and by keys alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fewshot.demo.browser_support import Page
from fewshot.demo.page_support import DRAWINGS, SIZE, moved, opened
from fewshot.system_support import tiny_backbone
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from pefslc.fewshot.demo.session import DemoSession
from pefslc.fewshot.system.build import build_system
from pefslc.fewshot.system.system import FewShotSystem

Image = pytest.importorskip("PIL.Image", reason="pillow, of the extra fewshot, is not installed")


def test_three_drawings_are_enrolled_and_three_others_recognised(page: Page, drawn_session: DemoSession) -> None:
    assert page.text("hint") == "Draw something on the paper, give it a name, and press Enrol."
    for name, strokes in DRAWINGS.items():
        page.draw(*strokes)
        page.settled()
        page.enrol(name)
    assert page.classes() == ["zigzag 1 shot", "post 1 shot", "stairs 1 shot"]
    assert page.text("hint").startswith("Draw one of them again: it is recognised.")
    for name, strokes in DRAWINGS.items():
        page.draw(*moved(strokes))
        assert page.settled() == name
        assert page.driver.find_element(By.CSS_SELECTOR, ".best .name").text.startswith(name)
        assert page.text("reason").startswith("squared cosine 0.")
        page.until(lambda said=name: page.text("announce") == said)
    scores = [float(e.text) for e in page.driver.find_elements(By.CSS_SELECTOR, ".score")]
    assert max(scores) == scores[2] < 1
    board = drawn_session.board
    assert board is not None
    assert board.milliseconds is not None
    assert page.text("board-time") == f"{board.milliseconds:.2f} ms"
    assert page.text("board-note").startswith(f"{board.cycles:,} cycles at 50 MHz")
    assert page.text("here").endswith(" ms")
    # What the network sees, of its own size, not of the paper's.
    size = page.driver.execute_script("const c = document.getElementById('seen'); return [c.width, c.height]")
    assert size == [SIZE, SIZE]


def test_shots_and_classes_are_forgotten_and_doubt_is_rejected(page: Page, drawn_session: DemoSession) -> None:
    for name, strokes in DRAWINGS.items():
        page.draw(*strokes)
        page.enrol(name)
    page.draw(*moved(DRAWINGS["post"]))
    page.settled()
    page.type("2")
    page.until(lambda: page.classes()[1] == "post 2 shots")
    page.draw(*moved(DRAWINGS["zigzag"]))  # what was enrolled last is still on the paper: nothing but this
    assert page.settled() == "zigzag"
    page.driver.execute_script(
        "const slider = document.getElementById('threshold');"
        "slider.value = 100; slider.dispatchEvent(new Event('input'))"
    )
    page.until(lambda: page.text("verdict") == "none of them")
    assert page.text("threshold-text") == "below a squared cosine of 1.00"
    assert page.text("reason").startswith("nearest: zigzag 0.")
    page.click("#classes li:nth-child(2) .act:nth-of-type(2)")  # the last shot of post
    page.until(lambda: page.classes()[1] == "post 1 shot")
    page.click("#classes li:nth-child(1) .act:nth-of-type(3)")
    assert page.driver.find_element(By.CSS_SELECTOR, ".sure").text == "Sure?"
    assert len(drawn_session.classes()) == 3
    page.click(".sure")
    page.until(lambda: page.classes() == ["post 1 shot", "stairs 1 shot"])
    assert [c.name for c in drawn_session.classes()] == ["post", "stairs"]


def test_the_keyboard_is_enough(page: Page) -> None:
    back = {Keys.UP: Keys.DOWN, Keys.DOWN: Keys.UP, Keys.LEFT: Keys.RIGHT, Keys.RIGHT: Keys.LEFT}

    def pen(moves: str, steps: int) -> None:
        """Draw from the middle of a paper that is empty, and put the pen back there, up."""
        keys = [{"u": Keys.UP, "d": Keys.DOWN, "l": Keys.LEFT, "r": Keys.RIGHT}[m] for m in moves for _ in range(steps)]
        page.type("c", " ", *keys, " ")
        page.type(*(back[key] for key in reversed(keys)))

    things = {"rise": "u", "hook": "rdll", "wave": "lurrdd"}
    focused = "return document.activeElement.id || document.activeElement.value"
    while page.driver.execute_script(focused) != "paper":
        page.type(Keys.TAB)
    for name, moves in things.items():
        pen(moves, 10)
        page.settled()
        page.type("n")
        page.type(name, Keys.ENTER)
        page.until(lambda said=name: f"{said} 1 shot" in page.classes())
        page.until(lambda: page.driver.execute_script(focused) == "paper")
    for i, (name, moves) in enumerate(things.items()):
        pen(moves, 9)
        assert page.settled() == name
        page.type(str(i + 1))
        page.until(lambda said=name: f"{said} 2 shots" in page.classes())
    page.type("u")
    page.until(lambda: "wave 1 shot" in page.classes())

    reached = set()
    for _ in range(40):
        page.type(Keys.TAB)
        visible, name = page.driver.execute_script(
            "const at = document.activeElement;"
            "const ring = at.name === 'source' ? at.nextElementSibling : at.id === 'chosen' ? at.parentElement : at;"
            "const style = getComputedStyle(ring);"
            "return [style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2,"
            " at.id || at.value || at.getAttribute('aria-label') || at.textContent]"
        )
        reached.add(name)
        assert visible or name in ("", None) or "Learns" in name, name  # the body, between the last and the first
    assert {"draw", "paper", "brush", "clear", "name", "Enrol", "threshold"} <= reached
    assert {"Enrol what is seen as hook, 2 shots", "Forget the last shot of hook", "Forget hook"} <= reached
    assert "Keys, and what is computed" in reached


def test_what_is_wrong_is_said_on_the_page(page: Page) -> None:
    page.driver.find_element(By.ID, "name").send_keys("mug", Keys.ENTER)
    page.until(lambda: page.text("problem") == "there is nothing to enrol\ndraw something on the paper first")
    page.draw(*DRAWINGS["post"])
    page.driver.find_element(By.ID, "name").clear()
    page.click("#adding button")
    page.until(lambda: page.text("problem").startswith("the class has no name"))
    page.driver.find_element(By.ID, "name").send_keys("ß" * 32, Keys.ENTER)
    page.until(lambda: "has 64 bytes" in page.text("problem"))
    assert "at most 32 bytes" in page.text("problem")
    # The console tells each answer with a status of 4xx: that is its matter.
    assert [c for c in page.complaints() if " 400 " not in c] == []


def test_pictures_are_chosen_recognised_and_enrolled_together(page: Page, tmp_path: Path) -> None:
    draw = np.random.default_rng(3)
    paths = []
    for i, colour in enumerate(((200, 60, 40), (30, 90, 220), (210, 70, 50))):
        noisy = np.clip(draw.normal(colour, 30, (60, 80, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(tmp_path / f"{i}.png")
        paths.append(str(tmp_path / f"{i}.png"))
    (tmp_path / "text.png").write_text("no picture")
    page.click(".sources label:nth-of-type(2)")
    chosen = page.driver.find_element(By.ID, "chosen")
    chosen.send_keys(str(tmp_path / "text.png"))
    page.until(lambda: page.text("problem") == "no picture that this browser reads: text.png")
    chosen.send_keys("\n".join(paths))
    thumbs = "#thumbs button"
    page.until(lambda: len(page.driver.find_elements(By.CSS_SELECTOR, thumbs)) == 3)
    for i, name in enumerate(("red", "blue")):
        page.driver.find_elements(By.CSS_SELECTOR, thumbs)[i].click()
        page.enrol(name)

    def captions() -> list[str]:
        return [button.text for button in page.driver.find_elements(By.CSS_SELECTOR, thumbs)]

    page.until(lambda: captions() == ["red", "blue", "red"])
    page.driver.find_elements(By.CSS_SELECTOR, thumbs)[2].click()
    page.until(lambda: page.text("verdict") == "red")
    page.click("#all")
    page.type("1")
    page.until(lambda: page.classes() == ["red 4 shots", "blue 1 shot"])
    page.click("#remove")
    page.until(lambda: page.text("verdict") == "–")
    # One that is dropped is shown, wherever the page was.
    page.click(".sources label:nth-of-type(1)")
    page.driver.execute_async_script(
        "const done = arguments[0], canvas = new OffscreenCanvas(80, 60), context = canvas.getContext('2d');"
        "context.fillStyle = 'rgb(30, 90, 220)'; context.fillRect(0, 0, 80, 60);"
        "canvas.convertToBlob().then((blob) => {"
        " const dataTransfer = new DataTransfer(); dataTransfer.items.add(new File([blob], 'sea.png'));"
        " document.body.dispatchEvent(new DragEvent('drop', { dataTransfer, bubbles: true, cancelable: true }));"
        " done(); });"
    )
    page.until(lambda: page.text("verdict") == "blue")
    page.until(lambda: captions() == ["blue"])


def test_a_picture_has_the_codes_that_the_command_gives_it(
    page: Page, drawn_session: DemoSession, tmp_path: Path
) -> None:
    """A PNG goes through the browser byte for byte, in its own size, and what is transparent lies on white."""
    from pefslc.fewshot.data.pictures import decode_picture

    rgba = np.random.default_rng(4).integers(0, 256, (45, 70, 4), dtype=np.uint8)
    rgba[..., 3] = np.where(rgba[..., 3] < 128, 0, 255)
    Image.fromarray(rgba, "RGBA").save(tmp_path / "x.png")
    expected = drawn_session.system.codes(decode_picture(tmp_path / "x.png")[None])[0]
    page.click(".sources label:nth-of-type(2)")
    page.driver.find_element(By.ID, "chosen").send_keys(str(tmp_path / "x.png"))
    page.until(lambda: page.driver.find_elements(By.CSS_SELECTOR, "#thumbs button"))
    page.enrol("x")
    page.until(lambda: page.text("reason") == "squared cosine 1.000")
    drawn_session.enrol("y", decode_picture(tmp_path / "x.png"))
    (x, y) = drawn_session.classes()
    state = drawn_session._state.classifier
    assert (state.sums(x.class_id) == state.sums(y.class_id)).all()
    assert (state.sums(x.class_id) == expected).all()


def test_the_camera_is_recognised_frame_by_frame(page: Page) -> None:
    page.click(".sources label:nth-of-type(3)")
    page.click("#start")
    page.until(lambda: page.text("verdict") == "nothing learned yet")
    page.enrol("film")
    page.until(lambda: page.text("verdict") == "film")
    page.until(lambda: page.text("rate").endswith(" frames/s"))
    page.click("#vote")
    page.until(lambda: page.text("reason") == "by vote; this frame: film")
    page.click("#start")
    page.until(lambda: page.text("verdict") == "–")
    page.click(".sources label:nth-of-type(1)")
    assert page.text("hint").startswith("Now draw something else")


def test_a_camera_that_is_started_twice_is_one_camera(page: Page) -> None:
    """Pressed again while the browser asks whether it may: nothing films on when it is stopped."""
    page.driver.execute_script(
        "const devices = navigator.mediaDevices, ask = devices.getUserMedia.bind(devices);"
        "window.streams = []; window.answers = [];"
        "devices.getUserMedia = async (wanted) => {"
        " await new Promise((go) => answers.push(go));"
        " streams.push(await ask(wanted)); return streams.at(-1); };"
    )
    page.click(".sources label:nth-of-type(3)")
    page.click("#start")
    page.click("#start")
    page.driver.execute_script("for (const go of answers) go()")
    page.until(lambda: page.text("verdict") == "nothing learned yet")
    assert page.text("start") == "Stop the camera"
    page.click("#start")
    states = "return streams.flatMap((s) => s.getTracks()).map((t) => t.readyState)"
    assert page.driver.execute_script(states) == ["ended"]
    # Left while the browser asks, and back: it is not asked twice.
    page.click("#start")
    page.click(".sources label:nth-of-type(1)")
    page.click(".sources label:nth-of-type(3)")
    page.click("#start")
    page.driver.execute_script("for (const go of answers) go()")
    page.until(lambda: page.text("verdict") == "nothing learned yet")
    page.click(".sources label:nth-of-type(1)")
    assert page.driver.execute_script(states) == ["ended", "ended"]
    assert not page.driver.find_element(By.ID, "problem").is_displayed()


def test_what_was_enrolled_before_a_problem_is_shown(driver: Chrome, tmp_path: Path) -> None:
    build_system(tiny_backbone(tmp_path), tmp_path / "build", mean="0.5", std="0.25", max_shots=3)
    paths = []
    for i in range(5):
        Image.fromarray(np.full((20, 20, 3), 40 * i, dtype=np.uint8)).save(tmp_path / f"{i}.png")
        paths.append(str(tmp_path / f"{i}.png"))
    with opened(driver, DemoSession.open(FewShotSystem.open(tmp_path / "build"))) as page:
        page.click(".sources label:nth-of-type(2)")
        page.driver.find_element(By.ID, "chosen").send_keys("\n".join(paths))
        page.until(lambda: page.driver.find_elements(By.CSS_SELECTOR, "#thumbs button")[4:])
        page.click("#all")
        page.driver.find_element(By.ID, "name").send_keys("mug", Keys.ENTER)
        page.until(lambda: page.text("problem").startswith("3 of 5 enrolled: 4 shots of class 'mug' are too many"))
        assert page.classes() == ["mug 3 shots"]
        page.until(lambda: page.text("verdict") == "mug")
        page.until(lambda: [e.text for e in page.driver.find_elements(By.CSS_SELECTOR, "#thumbs span")] == ["mug"] * 5)
        assert page.text("problem").startswith("3 of 5 enrolled")
        page.click("#thumbs button")
        page.type("u")
        page.until(lambda: page.classes() == ["mug 2 shots"])
        assert not page.driver.find_element(By.ID, "problem").is_displayed()
        assert [c for c in page.complaints() if " 400 " not in c] == []


def test_key_u_goes_back_shot_by_shot(page: Page, drawn_session: DemoSession) -> None:
    for name in ("zigzag", "post", "stairs"):
        page.draw(*DRAWINGS[name])
        page.enrol(name)
    page.draw(*DRAWINGS["zigzag"])
    page.settled()
    page.type("1")
    page.until(lambda: page.classes()[0] == "zigzag 2 shots")
    page.type("u")
    page.until(lambda: page.classes()[0] == "zigzag 1 shot")
    page.click("#classes li:nth-child(2) .act:nth-of-type(2)")  # of post, which the key then passes over
    page.until(lambda: page.classes() == ["zigzag 1 shot", "stairs 1 shot"])
    page.type("u")
    page.until(lambda: page.classes() == ["zigzag 1 shot"])
    page.type("u")
    page.until(lambda: page.classes() == [])
    page.type("u")  # there is nothing more
    page.draw(*DRAWINGS["post"])
    for name in ("post", "pile"):
        page.enrol(name)
        page.draw(*DRAWINGS["stairs"])
    # Refused, as another window took the shot back: the next press is for the one before.
    drawn_session.forget_last_shot("pile")
    page.type("u")
    page.until(lambda: page.text("problem").startswith("there is no class 'pile'"))
    page.type("u")
    page.until(lambda: page.classes() == [])
    assert [c for c in page.complaints() if " 400 " not in c] == []


def test_distances_are_shown_where_the_head_has_distances(driver: Chrome, tmp_path: Path) -> None:
    build_system(tiny_backbone(tmp_path), tmp_path / "build", mean="0.5", std="0.25", kind="euclid")
    session = DemoSession.open(FewShotSystem.open(tmp_path / "build"), tmp_path / "desk.state")
    with opened(driver, session) as page:
        page.click("summary")
        assert page.text("keeping") == f"Every change is saved in {tmp_path / 'desk.state'}."
        assert not page.driver.find_element(By.ID, "board").is_displayed()  # it was built for none
        for name in ("post", "zigzag"):
            page.draw(*DRAWINGS[name])
            page.enrol(name)
        page.draw(*moved(DRAWINGS["post"]))
        assert page.settled() == "post"
        assert page.text("reason").startswith("squared distance ")
        near, far = (float(e.text) for e in page.driver.find_elements(By.CSS_SELECTOR, ".score"))
        assert 0 < near < far
        page.driver.execute_script(
            "const slider = document.getElementById('threshold');"
            "slider.value = 100; slider.dispatchEvent(new Event('input'))"
        )
        page.until(lambda: page.text("verdict") == "none of them")
        assert page.text("threshold-text") == "beyond a squared distance of 0"
