"""The figure of a sweep: the lines that it has, and equal bytes for equal rows."""

from __future__ import annotations

import io
import sys
from xml.etree import ElementTree

import numpy as np
import pytest
from fewshot.sweep_support import SETTING, dead, result

from pefslc.diagnostics.errors import CompileError
from pefslc.fewshot.sweep.cells import Cell, Method
from pefslc.fewshot.sweep.plot import figure_files, series_of
from pefslc.fewshot.sweep.rows import Row, rows_of

RIGHT = {1: [4, 3, 4, 2, 4, 4, 3, 4], 5: [4, 4, 4, 3, 4, 4, 4, 4]}


def rows() -> tuple[Row, ...]:
    cells = [
        Cell(method=Method.FLOAT),
        *(Cell(method=method, fmt=fmt) for method in (Method.QAT, Method.PTQ) for fmt in ("auto:4", "auto:2", "Q2.3")),
    ]
    lost = Cell(method=Method.QAT, fmt="Q2.1")
    return rows_of([*((cell, result(cell, RIGHT)) for cell in cells), (lost, dead(lost))])


def test_a_method_and_a_way_of_choosing_formats_are_a_line() -> None:
    lines = {(line.name, line.shots): [bits for bits, _, _ in line.points] for line in series_of(rows())}
    names = {
        "float": [None],
        "QAT, a format a tensor": [2, 4],
        "QAT, one format, Q2.n": [5],
        "PTQ, a format a tensor": [2, 4],
        "PTQ, one format, Q2.n": [5],
    }
    assert lines == {(name, shots): bits for name, bits in names.items() for shots in (1, 5)}
    level = series_of(rows())[0]
    assert level.points[0][1] == 100 * sum(RIGHT[1]) / 32


def test_equal_rows_give_equal_bytes() -> None:
    pytest.importorskip("matplotlib", reason="matplotlib, of the extra sweep, is not installed")
    first, second = figure_files(rows(), SETTING), figure_files(rows(), SETTING)
    assert first == second
    svg = first["svg"].decode()
    ElementTree.fromstring(svg)
    for text in ("QAT, a format a tensor", "5-shot", "dead: QAT Q2.1", "bits of weights and activations"):
        assert text in svg
    assert "<dc:date>" not in svg


def test_the_picture_shows_something() -> None:
    pytest.importorskip("matplotlib", reason="matplotlib, of the extra sweep, is not installed")
    image = pytest.importorskip("PIL.Image", reason="pillow, of the extra fewshot, is not installed")
    with image.open(io.BytesIO(figure_files(rows(), SETTING)["png"])) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    assert pixels.shape[1] == 1280
    assert {(0, 114, 178), (213, 94, 0)} <= {tuple(p) for p in np.unique(pixels.reshape(-1, 3), axis=0).tolist()}


def test_no_matplotlib_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(CompileError, match="the figure of a sweep needs matplotlib"):
        figure_files(rows(), SETTING)
