"""The overflow proof: against every order of every sum, and the width to the bit."""

from __future__ import annotations

from dataclasses import replace
from itertools import accumulate, permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from integer_graphs import GraphBuilder
from pefslc.analysis.limits import TargetLimits
from pefslc.analysis.ranges import partial_sums
from pefslc.diagnostics.errors import CompileError
from pefslc.ir.graph import Graph
from pefslc.ir.integer import Conv2d, Dense, Rescale, Sum, SumPool
from pefslc.ir.value import Value
from pefslc.numeric.accumulate import bits_for_range, prefix_bounds
from pefslc.numeric.format import FixedPoint
from pefslc.passes.check_accumulators import CheckAccumulators, accumulator_bits


def bounded(b: GraphBuilder, shape: tuple[int, ...], low: int, high: int) -> Value:
    """An input whose codes lie in [low, high]."""
    x = b.input(shape, 32)
    value = replace(x, type=replace(x.type, element=replace(x.type.codes, low=low, high=high)))
    b.inputs[-1] = replace(b.inputs[-1], value=value)
    return value


def width(sums: set[int]) -> int:
    """Of the narrowest two's complement integer for all of these, by trying."""
    return next(n for n in range(1, 65) if all(-(2 ** (n - 1)) <= s < 2 ** (n - 1) for s in sums))


def prefixes(terms: list[int]) -> set[int]:
    """What an accumulator holds on the way, in every order."""
    return {0} | {s for order in permutations(terms) for s in accumulate(order)}


def fits(graph: Graph, bits: int) -> bool:
    try:
        return CheckAccumulators(TargetLimits(bits, "it")).run(graph) is graph
    except CompileError as e:
        return "the accumulator needs" not in str(e)


@settings(max_examples=60)
@given(
    st.lists(st.integers(-7, 7), min_size=1, max_size=3),
    st.integers(-3, 3),
    st.integers(0, 3),
    st.none() | st.integers(-70, 70),
    st.booleans(),
)
def test_a_layer_needs_the_bits_of_every_partial_sum_in_any_order(
    weights: list[int], low: int, size: int, bias: int | None, convolution: bool
) -> None:
    b, fan_in = GraphBuilder("g"), len(weights)
    terms = None if bias is None else np.array([bias])
    if convolution:
        y = b.conv(bounded(b, (1, fan_in, 1, 1), low, low + size), np.array(weights).reshape(1, -1, 1, 1), terms)
    else:
        y = b.dense(bounded(b, (1, fan_in), low, low + size), np.array([weights]), terms)
    sums: set[int] = set()
    for x in product(range(low, low + size + 1), repeat=fan_in):
        sums |= prefixes([w * v for w, v in zip(weights, x, strict=True)] + ([] if bias is None else [bias]))
    graph = b.graph(y)
    needed = width(sums)
    assert isinstance(graph.ops[0], Conv2d | Dense)
    assert partial_sums(graph.ops[0]) == (min(sums), max(sums))
    assert accumulator_bits(graph.ops[0]) == needed
    assert fits(graph, needed)
    assert not fits(graph, needed - 1)


def test_a_bias_that_makes_the_sums_small_again_comes_too_late() -> None:
    """Four products of 10,000 and a bias of -20,000: the result fits 16 bits, the sum before the bias does not."""
    b = GraphBuilder("g")
    y = b.dense(bounded(b, (1, 4), 0, 100), np.full((1, 4), 100), np.array([-20_000]))
    assert bits_for_range(y.type.codes.low, y.type.codes.high) == 16
    assert not fits(b.graph(y), 16)
    assert fits(b.graph(y), 17)


def test_taps_that_a_dilated_input_keeps_apart_are_not_summed() -> None:
    """Zeros between the pixels: of two taps only one lies on a pixel."""
    b = GraphBuilder("g")
    y = b.conv(bounded(b, (1, 1, 1, 3), 0, 10), np.array([[[[10, 10]]]]), input_dilations=(1, 2))
    op = b.graph(y).ops[0]
    assert isinstance(op, Conv2d)
    assert accumulator_bits(op) == width({0, 100})


@pytest.mark.parametrize(("low", "high"), [(-8, 7), (0, 15), (3, 9), (-9, -2)])
def test_sums_pools_and_multiples_need_the_bits_of_their_results(low: int, high: int) -> None:
    b = GraphBuilder("g")
    x, y = bounded(b, (1, 1, 2, 2), low, high), bounded(b, (1, 1, 2, 2), -3, 2)
    results = [b.sum(x, y), b.rescale(x, -5), b.pool(x, is_max=False, kernel=(2, 2))]
    codes = range(low, high + 1)
    wanted = [
        {a + c for a in codes for c in range(-3, 3)},
        {-5 * a for a in codes},
        {4 * low, 4 * high},
    ]
    graph = b.graph(*results)
    for op, values in zip(graph.ops, wanted, strict=True):
        assert isinstance(op, Sum | Rescale | SumPool)
        assert accumulator_bits(op) == width(values)
        one = replace(graph, ops=(op,))
        assert fits(one, width(values))
        assert not fits(one, width(values) - 1)


def test_every_output_counts_and_so_does_its_own_bias() -> None:
    """Each output with its own bias: the widest is neither the first nor the last."""
    assert prefix_bounds([-1, -9, 0], [1, 0, 5], [0, -4, 7]) == (-13, 12)
    assert prefix_bounds([-1], [1], [30]) == (-1, 31)
    assert prefix_bounds([-1], [1], [-30]) == (-31, 1)
    assert prefix_bounds([0], [0], [0]) == (0, 0)


def test_only_a_model_in_the_targets_own_arithmetic_is_excused() -> None:
    """There sums saturate by definition; in any other format the proof holds."""
    b = GraphBuilder("g")
    graph = b.graph(b.dense(bounded(b, (1, 4), 0, 100), np.full((1, 4), 100)))
    native, other = FixedPoint(8, 8), FixedPoint(6, 10)
    check = CheckAccumulators(TargetLimits(16, "it", native_format=native))
    assert check.run(replace(graph, uniform_format=native)) is not None
    for uniform in (None, other):
        with pytest.raises(CompileError, match="needs 17 bits"):
            check.run(replace(graph, uniform_format=uniform))
    for limits in (TargetLimits(16, "it"), TargetLimits(16, "it", native_format=other)):
        with pytest.raises(CompileError, match="needs 17 bits"):
            CheckAccumulators(limits).run(replace(graph, uniform_format=native))
