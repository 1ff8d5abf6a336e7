"""Sums of two scales in fewer bits: the same codes for every pair, and where it is not tried."""

from __future__ import annotations

from fractions import Fraction
from math import lcm
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import pefslc
from builders import ModelBuilder, import_bytes
from pefslc.analysis.limits import TargetLimits
from pefslc.ir.graph import Graph
from pefslc.ir.integer import Requantize, Sum
from pefslc.ir.interpret import run_codes
from pefslc.numeric.format import FixedPoint
from pefslc.passes.manager import run_passes
from pefslc.passes.pipeline import pipeline

INT64 = TargetLimits(64, "int64")
WORDS = TargetLimits(16, "words of 16 bits", FixedPoint(8, 8))


def residual(scales: tuple[float, float, float], bits: tuple[int, int, int], signed: tuple[int, int]) -> ModelBuilder:
    """relu(a + b), each of the three with a quantizer; the inputs hold every pair of codes."""
    m = ModelBuilder()
    a, b = (
        m.quant(m.input([1, 1, 1 << bits[0], 1 << bits[1]], name), scale, width, signed=sign)
        for name, scale, width, sign in zip("ab", scales, bits, signed, strict=False)
    )
    m.output(m.quant(m.node("Relu", m.node("Add", a, b)), scales[2], bits[2], signed=0, output="y"))
    return m


def every_pair(bits: tuple[int, int, int], signed: tuple[int, int]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    ranges = [np.arange(1 << n) - sign * (1 << (n - 1)) for n, sign in zip(bits, signed, strict=False)]
    a, b = np.meshgrid(*ranges, indexing="ij")
    return a, b


def meant(scales: tuple[float, float, float], bits: tuple[int, int, int], signed: tuple[int, int]) -> NDArray[np.int64]:
    """The output codes of every pair, from the definition, in integers: the scales over their common denominator."""
    exact = [Fraction(float(np.float32(scale))) for scale in scales]
    denominator = lcm(*(v.denominator for v in exact))
    s, t, u = (int(v * denominator) for v in exact)
    a, b = every_pair(bits, signed)
    codes = []
    for p, q in zip(a.ravel().tolist(), b.ravel().tolist(), strict=True):
        code, rest = divmod(max(s * p + t * q, 0), u)
        code += 2 * rest > u or (2 * rest == u and code % 2 == 1)  # half to even
        codes.append(min(code, 2 ** bits[2] - 1))
    return np.array(codes).reshape(a.shape)


def sum_and_requantize(m: ModelBuilder, limits: TargetLimits, folder: Path) -> tuple[Graph, Sum, Requantize]:
    graph = run_passes(import_bytes(m, folder), pipeline(limits, allow_overflow=True))[0]
    (total,) = graph.of_type(Sum)
    (behind,) = graph.of_type(Requantize)
    return graph, total, behind


CASES = [
    ((0.0123, 0.0711, 0.083), (8, 8, 8), (1, 0)),
    ((0.0081, 0.0312, 0.0337), (8, 8, 8), (1, 1)),
    ((0.3, 0.0007, 0.21), (6, 8, 8), (0, 1)),
    ((0.117, 0.0113, 0.25), (4, 4, 4), (0, 1)),
]


@pytest.mark.parametrize(("scales", "bits", "signed"), CASES, ids=[str(c[0]) for c in CASES])
def test_compiled_c_gives_the_meant_code_for_every_pair(
    scales: tuple[float, float, float], bits: tuple[int, int, int], signed: tuple[int, int], tmp_path: Path
) -> None:
    program = pefslc.compile(residual(scales, bits, signed).save(tmp_path), target="c")
    a, b = every_pair(bits, signed)
    inputs = {
        name: (codes * np.float64(np.float32(scale)))[None, None]
        for name, codes, scale in zip("ab", (a, b), scales, strict=False)
    }
    assert np.array_equal(program.run(inputs, codes=True)["y"][0, 0], meant(scales, bits, signed))


@pytest.mark.parametrize(("scales", "bits", "signed"), CASES, ids=[str(c[0]) for c in CASES])
@pytest.mark.parametrize("limits", [INT64, WORDS, TargetLimits(24, "24 bits")], ids=["64", "16", "24"])
def test_shorter_factors_give_the_meant_code_for_every_pair(
    scales: tuple[float, float, float],
    bits: tuple[int, int, int],
    signed: tuple[int, int],
    limits: TargetLimits,
    tmp_path: Path,
) -> None:
    graph, total, behind = sum_and_requantize(residual(scales, bits, signed), limits, tmp_path)
    a, b = every_pair(bits, signed)
    values = run_codes(graph, {name: codes[None, None] for name, codes in zip("ab", (a, b), strict=True)})
    assert np.array_equal(values[behind.result.name][0, 0], meant(scales, bits, signed))
    sums = values[total.result.name]
    assert total.result.type.codes.low <= sums.min()
    assert sums.max() <= total.result.type.codes.high


def test_sums_of_far_scales_fit_32_bits(tmp_path: Path) -> None:
    m = residual((0.0123, 0.0711, 0.083), (8, 8, 8), (1, 0))
    _, total, _ = sum_and_requantize(m, INT64, tmp_path)
    assert total.result.type.codes.high < 1 << 31


def test_a_sum_that_has_room_stays_as_it_is(tmp_path: Path) -> None:
    """Scales of one binade: their factors have 24 bits."""
    m = residual((0.008, 0.0079, 0.012), (8, 8, 8), (0, 0))
    _, total, _ = sum_and_requantize(m, INT64, tmp_path)
    s, t = (Fraction(float(np.float32(v))) for v in (0.008, 0.0079))
    assert total.result.type.codes.high * total.result.type.codes.scale.step == 255 * (s + t)


def test_an_output_and_wide_codes_keep_their_exact_sums(tmp_path: Path) -> None:
    """A sum that the host reads is the sum itself; pairs of 16 bits are too many to try."""
    for bits, is_output in (((8, 8, 8), True), ((16, 16, 8), False)):
        m = ModelBuilder()
        a, b = (m.quant(m.input([1, 2], n), s, k) for n, s, k in zip("ab", (0.0123, 0.711), bits, strict=False))
        total = m.node("Add", a, b)
        m.output(m.quant(total, 0.9, bits[2]))
        if is_output:
            m.output(total)
        graph = run_passes(import_bytes(m, tmp_path), pipeline(INT64))[0]
        (op,) = graph.of_type(Sum)
        step = op.result.type.codes.scale.step
        assert (Fraction(float(np.float32(0.0123))) / step).denominator == 1
        assert (Fraction(float(np.float32(0.711))) / step).denominator == 1


def test_a_branch_that_is_0_all_over_may_have_any_scale(tmp_path: Path) -> None:
    """Its factor fits no 64 bits, and its sum does."""
    m = ModelBuilder()
    x = m.quant(m.input([1, 2, 2, 2]), 0.125, 8)
    zero = m.quant(m.node("Conv", x, m.weight(np.ones((2, 2, 1, 1)), 0.0371, 4)), 1e30, 8)
    m.output(m.quant(m.node("Add", x, zero), 0.25, 8))
    program = pefslc.compile(m.save(tmp_path), target="c")
    data = np.arange(-128, 128).reshape(-1, 2, 2, 2) / 8
    (found,) = program.run(data).values()
    np.testing.assert_array_equal(found, np.rint(data * 4) / 4)
