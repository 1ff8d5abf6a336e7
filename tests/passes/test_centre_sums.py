"""Pools of unsigned codes around 0: the same outputs, in accumulators of a bit less."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import pefslc
from builders import ModelBuilder, import_bytes, lower
from pefslc.analysis.limits import TargetLimits
from pefslc.analysis.ranges import result_range
from pefslc.analysis.verify import verify
from pefslc.ir.graph import Graph
from pefslc.ir.integer import Requantize, SumPool
from pefslc.ir.interpret import run_codes
from pefslc.numeric.accumulate import bits_for_range
from pefslc.passes.centre_sums import CentreSums


def pooled(
    folder: Path,
    size: int = 4,
    *,
    bits: int = 4,
    batch: int = 1,
    twice: bool = False,
    out: bool = False,
    **pool: object,
) -> Graph:
    """Codes 0..2^bits-1, their mean, quantized; `twice`: something else reads the codes, `out`: the mean is read."""
    m = ModelBuilder()
    x = m.quant(m.input([batch, 2, size, size], "x"), 0.5, bits + 1)
    codes = m.quant(m.node("Relu", x), 0.5, bits, signed=0)
    made = m.node("AveragePool", codes, count_include_pad=1, **pool) if pool else m.node("GlobalAveragePool", codes)
    m.output(m.quant(m.node("Flatten", made), 0.5, bits), [batch, 2])
    if twice:
        m.output(m.quant(codes, 1.0, bits), [batch, 2, size, size])
    if out:
        m.output(made, [batch, 2, 1, 1])
    return lower(import_bytes(m, folder))


def sum_bits(graph: Graph) -> int:
    (pool,) = graph.of_type(SumPool)
    return bits_for_range(*result_range(pool))


@pytest.mark.parametrize(("size", "bits"), [(3, 4), (3, 5), (4, 3), (4, 4), (4, 5)])
def test_the_outputs_stay_and_the_sum_takes_a_bit_less(size: int, bits: int, tmp_path: Path) -> None:
    graph = pooled(tmp_path, size, bits=bits)
    wanted = sum_bits(graph) - 1
    centred = CentreSums(TargetLimits(wanted, "a narrow accumulator")).run(graph)
    assert sum_bits(centred) <= wanted
    assert not verify(centred)
    for op in centred.of_type(Requantize):
        codes = op.input.type.codes
        assert (op.staircase.domain_low, op.staircase.domain_high) == (codes.low, codes.high)
    low, high = graph.inputs[0].value.type.codes.low, graph.inputs[0].value.type.codes.high
    shape = (200, *graph.inputs[0].value.type.shape[1:])
    x = np.random.default_rng(0).integers(low, high + 1, shape)
    x[0], x[1] = low, high
    found, expected = (run_codes(g, {"x": x}) for g in (centred, graph))
    for output in graph.outputs:
        assert np.array_equal(found[output.value.name], expected[output.value.name])


@pytest.mark.parametrize(
    "network",
    [{"twice": True}, {"out": True}, {"kernel_shape": [6, 6], "pads": [1, 1, 1, 1]}],
    ids=["another reader", "the sum is an output", "padded"],
)
def test_a_pool_stays_as_it_is_where_its_codes_or_its_sum_are_read_otherwise(
    network: dict[str, object], tmp_path: Path
) -> None:
    graph = pooled(tmp_path, **network)  # type: ignore[arg-type]
    assert CentreSums(TargetLimits(sum_bits(graph) - 1, "")).run(graph) is graph


def test_nothing_changes_where_the_sum_fits_or_would_not_fit_either_way(tmp_path: Path) -> None:
    """9 codes of 0..7 fill 64 numbers, but no whole code is their middle."""
    for graph, changes in ((pooled(tmp_path), (0, 1, -2)), (pooled(tmp_path, 3, bits=3), (-1,))):
        for change in changes:
            assert CentreSums(TargetLimits(sum_bits(graph) + change, "")).run(graph) is graph


def test_a_pool_of_what_follows_a_pool_is_centred_with_it(tmp_path: Path) -> None:
    """The requantize between them reads codes that are less, and makes codes that are less."""
    m = ModelBuilder()
    codes = m.quant(m.node("Relu", m.quant(m.input([1, 2, 7, 7], "x"), 0.5, 5)), 0.5, 4, signed=0)
    for _ in range(2):
        codes = m.quant(m.node("AveragePool", codes, kernel_shape=[4, 4]), 0.5, 4, signed=0)
    m.output(codes, [1, 2, 1, 1])
    graph = lower(import_bytes(m, tmp_path))
    limits = TargetLimits(8, "a narrow accumulator")
    centred = CentreSums(limits).run(graph)
    assert not verify(centred)
    assert [bits_for_range(*result_range(pool)) for pool in centred.of_type(SumPool)] == [8, 8]
    x = np.random.default_rng(0).integers(-16, 16, (200, 2, 7, 7))
    x[0], x[1] = -16, 15
    found, expected = (run_codes(g, {"x": x}) for g in (centred, graph))
    for output in graph.outputs:
        assert np.array_equal(found[output.value.name], expected[output.value.name])


@pytest.mark.parametrize("size", [16, 14])
def test_means_of_many_unsigned_codes_run_on_16_bits(size: int, tmp_path: Path) -> None:
    """Of 256 codes of 8 bits: exact, where the mean is a shift. Of 196: as predicted."""
    m = ModelBuilder()
    x = m.quant(m.input([1, 3, size, size], "x"), 2.0**-5, 8)
    weight = m.weight(np.random.default_rng(1).uniform(-1, 1, (5, 3, 1, 1)), 0.25, 4)
    codes = m.quant(m.node("Relu", m.node("Conv", x, weight)), 2.0**-5, 8, signed=0)
    m.output(m.quant(m.node("GlobalAveragePool", codes), 2.0**-5, 8), [1, 5, 1, 1])
    program = pefslc.compile(m.save(tmp_path), target="tensil", arch="custom_perf")
    assert program.exact == (size == 16)
    assert max(row.accumulator_bits or 0 for row in program.layers) == 16
    inputs = np.random.default_rng(2).normal(0, 3, (6, 3, size, size))
    inputs[0], inputs[1] = 4, -4
    verified = program.verify({"x": inputs})
    assert verified.as_predicted
    assert verified.equal or size == 14


def test_a_sum_that_is_wider_still_is_made_of_several_words(tmp_path: Path) -> None:
    m = ModelBuilder()
    codes = m.quant(m.node("Relu", m.quant(m.input([1, 2, 20, 20], "x"), 0.5, 9)), 0.5, 8, signed=0)
    m.output(m.quant(m.node("GlobalAveragePool", codes), 0.5, 8), [1, 2, 1, 1])
    program = pefslc.compile(m.save(tmp_path), target="tensil", arch="custom_perf")
    assert max(row.accumulator_bits or 0 for row in program.layers) == 18
    assert program.verify({"x": np.random.default_rng(2).normal(0, 90, (4, 2, 20, 20))}).as_predicted
