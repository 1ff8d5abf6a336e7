"""Residual additions of two float scales on the TCU: exact by shorter factors, else advice that helps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import pefslc
from builders import ModelBuilder
from pefslc.diagnostics.errors import CompileError

INPUTS = np.random.default_rng(3).normal(0, 1, (4, 4, 5, 5)).astype(np.float32)


def block(scales: tuple[float, float], bits: int = 4, result: float = 0.25) -> ModelBuilder:
    """A residual block as Brevitas exports it: relu(quantized convolution + the block's input)."""
    rng = np.random.default_rng(7)
    m = ModelBuilder()
    x = m.quant(m.input([1, 4, 5, 5], "x"), 0.2343, bits)
    first, second = (m.weight(rng.integers(-4, 4, (4, 4, 1, 1)) / 8, 0.125, 3) for _ in range(2))
    x = m.quant(m.node("Relu", m.node("Conv", x, first)), scales[0], bits, signed=0)
    y = m.quant(m.node("Conv", x, second), scales[1], bits)
    m.output(m.quant(m.node("Relu", m.node("Add", x, y)), result, bits, signed=0))
    return m


@pytest.mark.parametrize("scales", [(0.1171875, 0.1131875), (0.09, 0.21)], ids=str)
def test_sums_of_four_bits_are_exact_in_words_of_sixteen(scales: tuple[float, float], tmp_path: Path) -> None:
    program = pefslc.compile(block(scales).save(tmp_path), target="tensil")
    assert program.exact
    assert program.verify({"x": INPUTS}).equal


@pytest.mark.parametrize(("scales", "bits"), [((0.117, 0.0713), 4), ((0.0083, 0.0371), 8)], ids=str)
def test_other_sums_are_bounded_by_one_code_and_listed(scales: tuple[float, float], bits: int, tmp_path: Path) -> None:
    program = pefslc.compile(block(scales, bits).save(tmp_path), target="tensil")
    (total,) = (row for row in program.layers if row.op == "Sum")
    assert not total.exact
    assert all(abs(d.by) == 1 for found in total.deviations for d in found.found)
    assert program.verify({"x": INPUTS}).as_predicted


def test_advice_for_a_sum_that_alignment_makes_too_wide_helps(tmp_path: Path) -> None:
    with pytest.raises(CompileError) as caught:
        pefslc.compile(block((0.0312, 0.0371), 8, 0.0313).save(tmp_path), target="tensil")
    assert any("share one quantizer between the branches" in (p.hint or "") for p in caught.value.problems)
    for advised in ((0.0371, 0.0371), (0.03125, 0.0625)):
        program = pefslc.compile(block(advised, 8, 0.0313).save(tmp_path), target="tensil")
        assert program.verify({"x": INPUTS}).as_predicted
