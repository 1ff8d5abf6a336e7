"""The pictures of the gallery are those that the commands above them make."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import pefslc
from links import ROOT

PICTURE = ROOT / "docs" / "pictures" / "graph.svg"


def drawn(model: Path) -> str:
    """The SVG in what a notebook shows of a graph; a file has no title of a page, so its text is black on white."""
    shown = re.search(r"<svg .*</svg>", pefslc.load(model)._repr_html_(), re.DOTALL)
    assert shown is not None
    return shown[0].replace('fill="currentColor"', 'fill="#000"') + "\n"


def test_the_picture_of_a_graph_is_what_a_notebook_shows(pytestconfig: pytest.Config) -> None:
    found = drawn(ROOT / "examples" / "cnn_bnfold_q2_3.onnx")
    if pytestconfig.getoption("--update-golden"):
        PICTURE.write_text(found)
    assert PICTURE.read_text() == found
