"""Attributes are float32 in the file, and mean the number that was written."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from builders import ModelBuilder, import_bytes
from pefslc.ir.quantized import LeakyRelu

SHAPE = (1, 2, 4, 4)
WRITTEN = [(0.1, "1/10"), (0.01, "1/100"), (1 / 3, "1/3"), (11 / 48, "11/48"), (0.0625, "1/16"), (0, "0"), (1, "1")]


@pytest.mark.parametrize(("alpha", "meant"), [*WRITTEN, (0.7182819, "7182819/10000000")])
def test_alpha_is_the_number_that_was_written(alpha: float, meant: str, tmp_path: Path) -> None:
    """Its float32 is next to it; a learned one is the shortest decimal that prints it."""
    m = ModelBuilder()
    m.output(m.quant(m.node("LeakyRelu", m.quant(m.input(SHAPE)), alpha=alpha)))
    (op,) = import_bytes(m, tmp_path).of_type(LeakyRelu)
    assert op.stage.alphas == (Fraction(meant),)


def test_the_slope_of_a_hard_sigmoid_is_a_sixth(tmp_path: Path) -> None:
    """torch divides by 6: with float32's neighbour of 1/6 no tie would be one."""
    m = ModelBuilder()
    x = m.quant(m.input((1, 1, 1, 4)), 0.25, 5)
    m.output(m.quant(m.node("HardSigmoid", x, alpha=1 / 6), 0.25, 5))
    values = np.array([[[[0.75, -0.75, 2.25, 1.5]]]])
    (codes,) = import_bytes(m, tmp_path).run(values).values()
    assert codes.ravel().tolist() == [0.5, 0.5, 1.0, 0.75]  # 0.625, 0.375 and 0.875 are ties
