"""What commutes with a quantizer: it moves in front of pools and movements, where no channel falls."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from builders import ModelBuilder, import_bytes, lower
from ir_text import X, check, unchanged
from pefslc.ir.integer import Requantize
from pefslc.ir.structural import MaxPool
from pefslc.passes.quantize_before_movement import QuantizeBeforeMovement

LEAKY = "%a: real[1,2,2,2] = leaky_relu %q stage=leaky_relu(2^-3)  // (LeakyRelu)"


def test_a_quantizer_moves_in_front_of_a_pool() -> None:
    check(
        QuantizeBeforeMovement(),
        X,
        f"""
        {LEAKY}
        %p: real[1,2,1,1] = max_pool %a window(2x2)  // (MaxPool)
        %y: UQ1.1[1,2,1,1] = quantize %p stages=(relu)  // (Quant)
        output "y" = %y
        """,
        f"""
        {LEAKY}
        %p: real[1,2,1,1] = max_pool %a window(2x2)  // (MaxPool)
        %y.codes: UQ1.1[1,2,2,2] = quantize %a stages=(relu)  // (Quant)
        %y: UQ1.1[1,2,1,1] = max_pool %y.codes window(2x2)  // (Quant)
        output "y" = %y
        """,
    )


@pytest.mark.parametrize(
    ("before", "stages"),
    [("%a: real[1,2,2,2] = relu %q  // (Relu)", ""), (LEAKY, " stages=(affine({-1}, {0}, {1}, {0}))")],
    ids=["sums whose lowest code is 0", "a quantizer that falls"],
)
def test_a_quantizer_stays_behind_a_pool_of(before: str, stages: str) -> None:
    text = f"""
        {before}
        %p: real[1,2,1,1] = max_pool %a window(2x2)  // (MaxPool)
        %y: UQ1.1[1,2,1,1] = quantize %p{stages}  // (Quant)
        output "y" = %y
        """
    unchanged(QuantizeBeforeMovement(), X, text)


@pytest.mark.parametrize("gamma", [(0.7, 1.3), (0.7, -1.3), (-0.7, -1.3), (0.0, -1.3)], ids=str)
def test_a_pool_before_a_batch_norm_of_either_sign_is_exact(gamma: tuple[float, float], tmp_path: Path) -> None:
    """Where it rises the quantizer is in front; else the pool is of sums, whose largest is the smallest value."""
    m = ModelBuilder()
    x = m.quant(m.input([1, 2, 4, 4], "x"), 0.0625, 8)
    rng = np.random.default_rng(1)
    sums = m.node("Conv", x, m.weight(rng.normal(0, 1, (2, 2, 3, 3)), 0.05, 6), m.constant([0.31, -0.77]))
    pooled = m.node("MaxPool", sums, kernel_shape=[2, 2])
    parts = (gamma, (0.3, -0.2), (0.1, 0.4), (1.5, 0.7))
    normed = m.node("BatchNormalization", pooled, *(m.constant(p) for p in parts), epsilon=1e-5)
    m.output(m.quant(m.node("Relu", normed), 0.11, 6, signed=0, output="y"))
    graph = lower(import_bytes(m, tmp_path))  # each pass is compared with the interpreter
    (pool,) = graph.of_type(MaxPool)
    (requantize,) = graph.of_type(Requantize)
    assert (pool.input.name == requantize.result.name) == (min(gamma) >= 0)
