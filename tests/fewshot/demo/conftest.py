"""Fixtures: a demo that serves a small system, and the page of another one in a browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

import pytest

from pefslc.fewshot.demo.board import board_of
from pefslc.fewshot.demo.server import DemoServer
from pefslc.fewshot.demo.session import DemoSession
from pefslc.fewshot.system.build import build_system
from pefslc.fewshot.system.system import FewShotSystem

if TYPE_CHECKING:
    from fewshot.demo.browser_support import Page
    from selenium.webdriver import Chrome


@pytest.fixture
def server(build: Path) -> Iterator[DemoServer]:
    system = FewShotSystem.open(build)
    with DemoServer(DemoSession.open(system, None, board_of(system))) as serving:
        thread = Thread(target=serving.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield serving
        serving.shutdown()
        thread.join()


@pytest.fixture(scope="session")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    """Headless Chromium; without it, or without selenium, the test is skipped."""
    from fewshot.demo.browser_support import browser

    with browser(tmp_path_factory.mktemp("profile")) as started:
        yield started


@pytest.fixture(scope="session")
def drawn_system(driver: Chrome, tmp_path_factory: pytest.TempPathFactory) -> FewShotSystem:
    """A system that tells DRAWINGS apart."""
    from fewshot.demo.page_support import BACKBONE, MEAN, STD, scribbles

    del driver  # first: without it nothing need be built
    folder = tmp_path_factory.mktemp("system") / "build"
    build_system(BACKBONE, folder, mean=MEAN, std=STD, centre_pictures=scribbles(24), arch="custom_perf")
    return FewShotSystem.open(folder)


@pytest.fixture
def drawn_session(drawn_system: FewShotSystem) -> DemoSession:
    return DemoSession.open(drawn_system, None, board_of(drawn_system))


@pytest.fixture
def page(driver: Chrome, drawn_session: DemoSession) -> Iterator[Page]:
    from fewshot.demo.page_support import opened

    with opened(driver, drawn_session) as page:
        yield page
