"""Quantized sums without a grid within 62 bits: every pair of codes, against exact rationals."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from builders import ModelBuilder, import_bytes, lower
from oracle import quantize_value
from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError
from pefslc.ir.graph import Graph
from pefslc.ir.integer import Requantize, Sum
from pefslc.ir.interpret import run

CODES = np.arange(-32, 32)


def network(
    scales: tuple[float, float, float, float], weights: list[int], bias: list[float], relu: bool
) -> ModelBuilder:
    """quantize(conv(x, weights) + y): x and y have 6 bits, the weights 20, so that the sums have 26."""
    m = ModelBuilder()
    count = len(weights)
    x, y = (
        m.quant(m.input((1, n, 64, 64), name), s, 6) for name, n, s in zip("xy", (1, count), scales[:2], strict=True)
    )
    codes = np.reshape(weights, (count, 1, 1, 1))
    weight = m.weight(codes * np.float32(scales[2]), np.float32(scales[2]), 20)
    total = m.node("Add", m.node("Conv", x, weight, m.constant(bias), kernel_shape=[1, 1]), y)
    m.output(m.quant(m.node("Relu", total) if relu else total, scales[3], 6))
    return m


def exact(scales: tuple[float, float, float, float], weight: int, bias: float, relu: bool, a: int, b: int) -> Fraction:
    s = [Fraction(float(np.float32(v))) for v in scales]
    value = a * s[0] * weight * s[2] + b * s[1] + Fraction(float(np.float32(bias)))
    return quantize_value(max(value, Fraction(0)) if relu else value, s[3], 6, True, False, "ROUND") * s[3]


def sums_of(graph: Graph) -> list[Sum]:
    return [op for op in graph.of_type(Sum) if op.result.name.endswith(".sum")]


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_every_pair_of_codes_has_the_code_of_the_definition(seed: int, relu: bool, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    scales = (0.1 * rng.uniform(1, 2), 0.1 * rng.uniform(1, 2), 2e-6 * rng.uniform(1, 2), 0.2 * rng.uniform(1, 2))
    weights, bias = [500000, -400001, 3], [0.0, *rng.normal(0, 1, 2)]
    graph = lower(import_bytes(network(scales, weights, bias, relu), tmp_path))
    assert len(sums_of(graph)) == 1, "the sums were exact already"
    x, y = np.meshgrid(CODES * float(np.float32(scales[0])), CODES * float(np.float32(scales[1])), indexing="ij")
    (found,) = run(graph, {"x": x[None, None], "y": np.stack([y] * 3)[None]}).values()
    for channel, (weight, offset) in enumerate(zip(weights, bias, strict=True)):
        expected = [[float(exact(scales, weight, offset, relu, a, b)) for b in CODES.tolist()] for a in CODES.tolist()]
        np.testing.assert_array_equal(found[0, channel], expected)
        assert channel == 2 or len(np.unique(expected)) > 16, "not saturated"


def test_ties_go_to_the_even_code(tmp_path: Path) -> None:
    """One side alone lies on the middle between two codes; the other is so small that it does nothing but decide it."""
    scales = (3 * 2.0**-5, 7 * 2.0**-60, 2.0**-18, 2.0**-4)
    graph = lower(import_bytes(network(scales, [2**18, 2**17], [0.0, 2.0**-6], relu=False), tmp_path))
    assert len(sums_of(graph)) == 1
    x, y = np.meshgrid(CODES * scales[0], CODES * scales[1], indexing="ij")
    (found,) = run(graph, {"x": x[None, None], "y": np.stack([y] * 2)[None]}).values()
    for channel, (weight, offset) in enumerate(((2**18, 0.0), (2**17, 2.0**-6))):
        expected = [[float(exact(scales, weight, offset, False, a, b)) for b in CODES.tolist()] for a in CODES.tolist()]
        np.testing.assert_array_equal(found[0, channel], expected)


def test_a_reader_that_is_no_quantizer_is_refused(tmp_path: Path) -> None:
    m = network((0.123, 0.157, 2.3e-6, 0.3), [500000, -400001], [0.0, 0.0], relu=False)
    m.outputs.clear()
    m.output(next(n for n in m.nodes if n.op_type == "Add").output[0])
    with pytest.raises(CompileError) as caught:
        lower(import_bytes(m, tmp_path))
    assert [p.code for p in caught.value.problems] == [Code.NO_COMMON_GRID]


def test_sums_that_fit_stay_exact(tmp_path: Path) -> None:
    m = network((0.125, 0.25, 2.0**-20, 0.5), [500000, -400001], [0.0, 0.0], relu=True)
    graph = lower(import_bytes(m, tmp_path))
    assert not sums_of(graph)
    assert len(list(graph.of_type(Requantize))) >= 1


@pytest.mark.parametrize("alpha", [-0.5, -0.1])
def test_an_activation_that_falls_is_refused(alpha: float, tmp_path: Path) -> None:
    m = network((0.123, 0.157, 2.3e-6, 0.3), [500000, -400001], [0.0, 0.0], relu=True)
    relu = next(n for n in m.nodes if n.op_type == "Relu")
    relu.op_type = "LeakyRelu"
    relu.attribute.append(helper.make_attribute("alpha", alpha))
    with pytest.raises(CompileError) as caught:
        lower(import_bytes(m, tmp_path))
    assert [p.code for p in caught.value.problems] == [Code.NO_COMMON_GRID]
