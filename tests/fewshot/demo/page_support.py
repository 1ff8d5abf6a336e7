"""Systems and drawings for the tests of the demo's page, and the page itself, opened and watched."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import numpy as np
from fewshot.demo.browser_support import Page, Stroke
from selenium.webdriver import Chrome

from pefslc.fewshot.data.rasterise import SUBPIXELS, coverage
from pefslc.fewshot.demo.server import DemoServer
from pefslc.fewshot.demo.session import DemoSession

BACKBONE = Path(__file__).parents[3] / "examples" / "pefsl_resnet9_16_strided_bnfold_q2_3.onnx"
MEAN, STD = ("0.485", "0.456", "0.406"), ("0.229", "0.224", "0.225")
SIZE = 32

# Drawings that this backbone, which was trained on none, tells apart.
DRAWINGS: dict[str, list[Stroke]] = {
    "zigzag": [[(0.2, 0.2), (0.8, 0.35), (0.2, 0.5), (0.8, 0.65), (0.2, 0.8)]],
    "post": [[(0.5, 0.2), (0.5, 0.8)]],
    "stairs": [[(0.2, 0.2), (0.4, 0.2), (0.4, 0.4), (0.6, 0.4), (0.6, 0.6), (0.8, 0.6), (0.8, 0.8)]],
}


def moved(strokes: list[Stroke]) -> list[Stroke]:
    """Another drawing of the same thing."""
    return [[(x + 0.03, y + 0.02) for x, y in stroke] for stroke in strokes]


def scribbles(count: int) -> np.ndarray:
    """Dark lines on light paper, [count, 32, 32, 3]: what the centre is the mean of."""
    points = np.random.default_rng(7).integers(0, SIZE * SUBPIXELS, (count, 4, 2))
    ink = coverage(points, np.array([(0, 1), (1, 2), (2, 3)]), np.full(count, SUBPIXELS * SIZE // 40), SIZE)
    grey = 240 - ink.astype(np.int64) * 210 // 255
    return np.repeat(grey.astype(np.uint8)[..., None], 3, axis=3)


@contextmanager
def opened(driver: Chrome, session: DemoSession) -> Iterator[Page]:
    """The page, opened for the first time. At its end: no complaint of the browser, no request to elsewhere."""
    with DemoServer(session) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            page = Page(driver, server.address)
            yield page
            assert page.complaints() == []
            requested = page.requested()
            assert len(requested) > 5
            assert [url for url in requested if not url.startswith(server.address)] == []
        finally:
            driver.get("about:blank")
            server.shutdown()
            thread.join()
