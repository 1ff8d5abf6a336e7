"""Placement: which words tensors and sums are held in, what is proven of sums, what is said where there are none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tensil_support import emit, simulate

from builders import ModelBuilder, import_bytes, lower, random_network
from integer_graphs import GraphBuilder
from pefslc.diagnostics.errors import CompileError
from pefslc.ir.graph import Graph
from pefslc.ir.interpret import run_codes
from pefslc.targets.tensil.groups.selection import select
from pefslc.targets.tensil.machine.architecture import DataType, load_architecture
from pefslc.targets.tensil.words.placement import place
from pefslc.targets.tensil.words.word_group import SumHead
from pefslc.targets.tensil.words.word_program import WordProgram

FP8, FP16 = DataType["FP8BP4"], DataType["FP16BP8"]


def placed(graph: Graph, data_type: DataType = FP16, *, allow_overflow: bool = False) -> WordProgram:
    return place(select(graph), data_type, allow_overflow=allow_overflow)


def one_convolution(
    folder: Path, weight: object, *, input_bits: int = 8, bits: int = 16, bias: object = None, out: float = 0.125
) -> Graph:
    """Input in steps of 1/8, weights of 1/8, so that accumulators are in steps of 1/64."""
    m, w = ModelBuilder(), np.asarray(weight, dtype=np.float64)
    x = m.quant(m.input([1, w.shape[1], 2, 2], "input"), 0.125, input_bits, signed=0)
    added = [] if bias is None else [m.constant(np.asarray(bias) / 64)]
    m.output(m.quant(m.node("Conv", x, m.weight(w / 8, 0.125, bits), *added), out, 8), [1, len(w), 2, 2])
    return lower(import_bytes(m, folder))


@pytest.mark.parametrize("seed", range(6))
def test_no_partial_sum_of_the_words_leaves_its_bounds_and_some_reach_them(seed: int, tmp_path: Path) -> None:
    """With every word of an input at the end that counts: in integers of any size, 2^p to a word."""
    program = placed(lower(import_bytes(random_network(seed), tmp_path)), DataType["FP32BP16"])
    sums = [group for group in program.groups if isinstance(group.head, SumHead)]
    assert sums
    for group in sums:
        for channel, (least, most) in enumerate(zip(*group.partial, strict=True)):
            low = high = 0
            for term in group.terms:
                tensor = program.tensors[term.tensor]
                ends = [int(code) << tensor.exponent for code in tensor.stored.codes]
                for weight in map(int, term.weight[channel].reshape(-1)):
                    low += min(weight * ends[0], weight * ends[1], 0)
                    high += max(weight * ends[0], weight * ends[1], 0)
            assert (low, high) == (int(least) << 16, int(most) << 16)


def test_the_bits_that_are_missing_are_those_of_the_sums_with_their_biases(tmp_path: Path) -> None:
    """-2^17 takes 18 bits, 2^17 would take 19."""
    with pytest.raises(CompileError, match="it is exact with sums of 18 bits, there are 16"):
        placed(one_convolution(tmp_path, [[[[127]]], [[[1]]]], bias=[0, -(1 << 17)], out=16.0))


def test_weights_that_are_no_words_are_refused(tmp_path: Path) -> None:
    graph = one_convolution(tmp_path, [[[[255]]]], input_bits=2, bits=10)
    with pytest.raises(CompileError, match="weights of 9 bits do not fit FP8BP4"):
        placed(graph, FP8, allow_overflow=True)  # else the sums are refused


def test_an_input_is_moved_up_where_its_weights_would_be_no_words(tmp_path: Path) -> None:
    """Weights of 9 bits, by 2^8 no words, take an input that stands higher."""
    program = placed(one_convolution(tmp_path, [[[[255]]]], input_bits=4, bits=10, out=16.0))
    (port,) = program.inputs
    (group,) = program.groups
    (term,) = group.terms
    assert int(term.weight.max()) <= FP16.max_code
    assert int(term.weight.max()) << program.tensors[port.tensor].exponent == 255 << FP16.binary_point


def test_a_clipped_sum_is_multiplied_up_where_its_accumulators_have_no_room_for_that(tmp_path: Path) -> None:
    """Sums of 16 bits, whose reader has weights that are no words by 2^8."""
    b, rng = GraphBuilder("up"), np.random.default_rng(0)
    x, y = b.input((1, 3, 1, 2), 15), b.input((1, 3, 1, 2), 15)
    clipped = b.clamp(b.clamp(b.sum(x, y), -32768, 32767), 0, 40)
    s = b.conv(clipped, np.array([[1, 2, 127], [-130, -3, 5]]).reshape(2, 3, 1, 1))
    graph = b.graph(s)
    program = placed(graph)
    assert program.tensors[clipped.name].exponent == 1
    emission = emit(graph, load_architecture("pynqz1"), tmp_path)
    inputs = {name: rng.integers(-60, 60, (4, 3, 1, 2)) for name in ("x0", "x1")}
    (output,) = graph.outputs
    expected = run_codes(graph, inputs)[output.value.name]
    assert len(np.unique(expected)) > 9
    assert np.array_equal(simulate(graph, emission, tmp_path, inputs)[output.name], expected)
