"""--fmt Qm.n of a float model: no sign after a ReLU, unless an accumulator or a word has no room for it."""

from __future__ import annotations

import numpy as np
import pytest

from ir_text import body
from pefslc.analysis.limits import TargetLimits
from pefslc.ir.graph import Graph
from pefslc.ir.parse import parse_graph
from pefslc.numeric.format import FixedPoint
from pefslc.passes.fit_accumulators import FittedUniformFormat
from pefslc.passes.manager import run_passes
from pefslc.passes.pipeline import pipeline, to_integer
from pefslc.passes.quantize_after_training import quantized_by

TWO_LAYERS = """
    %v: real[2,2,1,1] = constant data=[2,2,1,1]{0.5, 1.0, -1.0, 0.25}  // (Conv) v
    %c: real[1,2,2,2] = conv %x %v bias=none window(1x1) groups=1  // (Conv) c
    %r: real[1,2,2,2] = relu %c  // (Relu) r
    %w: real[2,2,1,1] = constant data=[2,2,1,1]{1.5, 1.5, -1.5, -1.5}  // (Conv) w
    %d: real[1,2,2,2] = conv %r %w bias=none window(1x1) groups=1  // (Conv) d
    %s: real[1,2,2,2] = relu %d  // (Relu) s
    %p: real[1,2,1,1] = average_pool %s window(2x2)  // (AveragePool) p
    output "y" = %p
"""


def float_graph(text: str) -> Graph:
    return parse_graph('graph "g" quantized\ninput "x" as %x: real[1,2,2,2]  // (input) x\n' + body(text))


def formats(graph: Graph, fmt: str, accumulator_bits: int = 64) -> dict[str, str]:
    limits = TargetLimits(accumulator_bits, "the accumulator")
    plan = FittedUniformFormat(FixedPoint.parse(fmt), limits, to_integer(limits)).plan(graph)
    assert plan.uniform == FixedPoint.parse(fmt)
    assert {str(q) for q in plan.weights.values()} == {fmt}
    return {name: str(q) for name, q in plan.activations.items()}


def test_what_follows_a_relu_has_no_sign() -> None:
    assert formats(float_graph(TWO_LAYERS), "Q2.1") == {"x": "Q2.1", "r": "UQ2.1", "s": "UQ2.1"}


def test_values_above_the_signed_range_are_kept() -> None:
    """x = 1 gives 1.5 and -0.75, then 2.25 and 0: Q2.3 ends at 1.875, UQ2.3 at 3.875."""
    graph = float_graph(TWO_LAYERS)
    limits = TargetLimits(64, "the accumulator")
    x = np.ones((1, 2, 2, 2))
    expected = graph.run(x)["y"]
    assert expected.ravel().tolist() == [2.25, 0.0]
    fitted = FittedUniformFormat(FixedPoint(2, 3), limits, to_integer(limits)).plan(graph)
    assert np.array_equal(quantized_by(fitted, graph).run(x)["y"], expected)


@pytest.mark.parametrize(("bits", "r"), [(6, "UQ2.1"), (5, "Q2.1"), (4, "Q2.1")])
def test_a_layer_without_room_reads_codes_with_a_sign(bits: int, r: str) -> None:
    """Weights of 1.0 are codes of 2. Both channels of r reach 4: 2 * 4 + 2 * 4 = 16 takes 6 bits.

    With a sign r ends at 3: 12 takes 5 bits. What does not fit with a sign, either, the accumulator check refuses.
    """
    graph = float_graph(TWO_LAYERS.replace("1.5, 1.5, -1.5, -1.5", "1.0, 1.0, -1.0, -1.0"))
    without_mean = float_graph(
        TWO_LAYERS.replace("1.5, 1.5, -1.5, -1.5", "1.0, 1.0, -1.0, -1.0")
        .replace("    %p: real[1,2,1,1] = average_pool %s window(2x2)  // (AveragePool) p\n", "")
        .replace('"y" = %p', '"y" = %s')
    )
    assert formats(without_mean, "Q2.1", bits) == {"x": "Q2.1", "r": r, "s": "UQ2.1"}
    # Four codes of s in a sum: 4 * 7 = 28 takes 6 bits, 4 * 3 = 12 takes 5.
    assert formats(graph, "Q2.1", bits)["s"] == ("UQ2.1" if bits > 5 else "Q2.1")


@pytest.mark.parametrize(("bits", "r"), [(16, "Q2.14"), (17, "UQ2.14")])
def test_codes_stay_words(bits: int, r: str) -> None:
    """UQ2.14 needs 17 bits of a signed word. Nothing else exceeds the accumulator where weights are zero."""
    zero = TWO_LAYERS.replace("1.5, 1.5, -1.5, -1.5", "0.0, 0.0, 0.0, 0.0")
    assert formats(float_graph(zero), "Q2.14", bits)["r"] == r


def test_what_is_joined_has_one_sign() -> None:
    graph = float_graph(
        """
        %v: real[2,2,1,1] = constant data=[2,2,1,1]{0.5, 1.0, -1.0, 0.25}  // (Conv) v
        %c: real[1,2,2,2] = conv %x %v bias=none window(1x1) groups=1  // (Conv) c
        %r: real[1,2,2,2] = relu %c  // (Relu) r
        %j: real[1,4,2,2] = concat inputs=(%r, %x) axis=1  // (Concat) j
        %p: real[1,4,1,1] = average_pool %j window(2x2)  // (AveragePool) p
        output "y" = %p
        """
    )
    assert formats(graph, "Q2.1") == {"x": "Q2.1", "r": "Q2.1"}


@pytest.mark.parametrize("bits", [6, 7, 64])
def test_the_pipeline_proves_what_was_fitted(bits: int) -> None:
    graph = float_graph(TWO_LAYERS)
    integer, _ = run_passes(graph, pipeline(TargetLimits(bits, "the accumulator"), fmt=FixedPoint(2, 1)))
    x = np.random.default_rng(0).normal(size=(8, 2, 2, 2)) * 2
    limits = TargetLimits(bits, "the accumulator")
    plan = FittedUniformFormat(FixedPoint(2, 1), limits, to_integer(limits)).plan(graph)
    expected = np.concatenate([quantized_by(plan, graph).run(row[None])["y"] for row in x])
    got = np.concatenate([integer.run(row[None])["y"] for row in x])
    assert np.array_equal(got, expected)
