"""16-bit activations that turn once, at a sane price: the C equals the interpreter code for code, in few constants."""

from __future__ import annotations

import numpy as np
import pytest

from builders import WIDE, ModelBuilder, import_bytes
from pefslc.passes.manager import run_passes
from pefslc.passes.pipeline import pipeline
from pefslc.targets.c.target import CTarget

CHANNELS, INPUTS = 5, 6
_FOR_A_FUNCTION = 1 << 16


def silu(m, y):  # type: ignore[no-untyped-def]
    return m.node("Mul", y, m.node("Sigmoid", y))


def gelu(m, y):  # type: ignore[no-untyped-def]
    bent = m.node("Add", m.node("Erf", m.node("Mul", y, m.constant(2**-0.5))), m.constant(1.0))
    return m.node("Mul", m.node("Mul", y, bent), m.constant(0.5))


def mish(m, y):  # type: ignore[no-untyped-def]
    return m.node("Mul", y, m.node("Tanh", m.node("Softplus", y)))


def hard_swish(m, y):  # type: ignore[no-untyped-def]
    return m.node("HardSwish", y)


def falling_prelu(m, y):  # type: ignore[no-untyped-def]
    return m.node("PRelu", y, m.constant(np.full((1, 1, 1), -0.3)))


def prelu_of_both_signs(m, y):  # type: ignore[no-untyped-def]
    return m.node("PRelu", y, m.constant(np.linspace(-1, 0.5, CHANNELS).reshape(-1, 1, 1)))


def magnitude(m, y):  # type: ignore[no-untyped-def]
    return m.node("Abs", y)


def layer(folder, function, weight_bits, *, steps_of_two=False):  # type: ignore[no-untyped-def]
    """A convolution of 16-bit codes, the function, 16 bits: per channel a slope and a bias, or one power of two."""
    rng = np.random.default_rng(weight_bits)
    m = ModelBuilder(opset=14)
    step = 2.0**-13 if steps_of_two else float(np.float32(0.000131))
    x = m.quant(m.input([1, INPUTS, 3, 4]), step, 16)
    weights = rng.normal(0, 0.4, (CHANNELS, INPUTS, 1, 1)) * np.array([1, -1, 0.5, 2, -2]).reshape(-1, 1, 1, 1)
    unit = (
        2.0 ** (2 - weight_bits)
        if steps_of_two
        else rng.uniform(0.5, 1, (CHANNELS, 1, 1, 1)) * 2.0 ** (3 - weight_bits)
    )
    bias = [] if steps_of_two else [m.constant(rng.normal(0, 1, CHANNELS))]
    y = m.node("Conv", x, m.weight(weights, np.float32(unit), weight_bits), *bias)
    m.output(m.quant(function(m, y), 2.0**-12 if steps_of_two else float(np.float32(0.000253)), 16))
    return run_passes(import_bytes(m, folder), pipeline(WIDE))[0]


def price(graph, bench):  # type: ignore[no-untyped-def]
    """Bytes of constants, and how its operations are done; the graph is added to the bench."""
    lowered = []

    class Target(CTarget):
        def lower(self, graph, options):  # type: ignore[no-untyped-def]
            lowered.append(super().lower(graph, options))
            return lowered[0]

    bench.add(graph, Target())
    constants = lowered[0].details["constant_bytes"]
    assert isinstance(constants, int)
    return constants, [str(report) for report in lowered[0].ops.values()]


@pytest.mark.parametrize(
    ("function", "weight_bits"),
    [(silu, 8), (silu, 16), (gelu, 4), (mish, 8), (hard_swish, 16), (falling_prelu, 8), (prelu_of_both_signs, 16)],
)
def test_the_constants_of_a_16_bit_activation_are_few(function, weight_bits, tmp_path, bench, sanitizer_flags):  # type: ignore[no-untyped-def]
    """Behind sums of 23 bits, of 27, and of 35."""
    constants, reports = price(layer(tmp_path, function, weight_bits), bench)
    assert constants < 2 * CHANNELS * INPUTS * 2 + _FOR_A_FUNCTION // 2
    assert not any("threshold" in report for report in reports), reports
    bench.check(sanitizer_flags, runs=40)


@pytest.mark.parametrize(("function", "ties"), [(silu, 0), (hard_swish, 1), (prelu_of_both_signs, 0), (magnitude, 0)])
def test_sums_that_lie_on_ties_take_no_tables_either(function, ties, tmp_path, bench, sanitizer_flags):  # type: ignore[no-untyped-def]
    """Of powers of two; where they are lines, ties are rounded by a shift."""
    constants, reports = price(layer(tmp_path, function, 8, steps_of_two=True), bench)
    assert constants < 2 * CHANNELS * INPUTS * 2 + _FOR_A_FUNCTION // 2
    assert not any("threshold" in report for report in reports), reports
    assert sum("ties to even" in report for report in reports) == ties, reports
    bench.check(sanitizer_flags, runs=40)


def test_clang_has_nothing_to_say_about_parts_and_ties(tmp_path, bench, clang_is_silent):  # type: ignore[no-untyped-def]
    bench.add(layer(tmp_path, hard_swish, 8, steps_of_two=True))
    clang_is_silent(bench.folder)
