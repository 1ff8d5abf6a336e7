"""Pages of reports, and a browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import pefslc
from pefslc.model_report.collect import collect_report
from pefslc.model_report.comparison import compare
from pefslc.report_page.page import report_page

if TYPE_CHECKING:
    from report_page.report_in_browser import ReportPage
    from selenium.webdriver import Chrome

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.fixture(scope="session")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """resnet.html, of the accelerator, with inputs and compared; c.html, of a float model as C."""
    folder = tmp_path_factory.mktemp("pages")
    name = "pefsl_resnet9_16_strided_bnfold_q2_3"
    reports = [
        collect_report(pefslc.compile(EXAMPLES / f"{name}.onnx", target="tensil", arch=arch), EXAMPLES / f"{name}.npz")
        for arch in ("custom_perf", "pynqz1")
    ]
    (folder / "resnet.html").write_bytes(report_page(reports[0], compare(*(r.to_json() for r in reports))))
    program = pefslc.compile(EXAMPLES / "cnn_float.onnx", target="c", fmt="Q3.4")
    (folder / "c.html").write_bytes(report_page(collect_report(program, EXAMPLES / "cnn_float.npz")))
    return folder


@pytest.fixture(scope="session")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    """Headless Chromium; without it, or without selenium, the test is skipped."""
    from fewshot.demo.browser_support import browser

    with browser(tmp_path_factory.mktemp("profile")) as started:
        yield started


@pytest.fixture
def resnet(driver: Chrome, pages: Path) -> Iterator[ReportPage]:
    from report_page.report_in_browser import opened

    with opened(driver, pages / "resnet.html") as page:
        yield page


@pytest.fixture
def c_page(driver: Chrome, pages: Path) -> Iterator[ReportPage]:
    from report_page.report_in_browser import opened

    with opened(driver, pages / "c.html") as page:
        yield page
