"""Requantization while packing: leftover channels go from sums to packed codes, exactly, where that is sound."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tensil_support import emit, random_codes, simulate

from builders import ModelBuilder, import_bytes, lower
from pefslc.ir.graph import Graph
from pefslc.ir.interpret import run_codes
from pefslc.targets.tensil.group_rewrites.leftover_channels import FactorLeftovers, PackLeftovers
from pefslc.targets.tensil.groups.group_program import Role
from pefslc.targets.tensil.groups.layout import Layout
from pefslc.targets.tensil.groups.selection import select
from pefslc.targets.tensil.machine.architecture import Architecture, load_architecture
from pefslc.targets.tensil.rewriting.rewrite import Context
from pefslc.targets.tensil.word_rewrites.sums_in_packing import RequantizeWhilePacking
from pefslc.targets.tensil.words.placement import place
from pefslc.targets.tensil.words.word_program import WordProgram

A = 6


def two_convolutions(
    folder: Path,
    *,
    residual: bool = False,
    size: tuple[int, int] = (12, 12),
    relu: bool = True,
    channels: int = 8,
    kernel: tuple[int, int] = (3, 3),
) -> Graph:
    """x -> 8 channels -> 8 channels, on 6 lanes: two leftover channels, which the second convolution reads packed."""
    r = np.random.default_rng(3)
    builder = ModelBuilder()
    x = builder.quant(builder.input([1, channels, *size]), 0.25, 4)
    pads = [kernel[0] // 2, kernel[1] // 2] * 2
    weight = [builder.weight(r.integers(-4, 5, (channels, channels, *kernel)) / 8) for _ in range(2)]
    first = builder.node("Conv", x, weight[0], pads=pads)
    first = builder.quant(builder.node("Relu", first) if relu else first, 0.25, 4, signed=int(not relu))
    second = builder.node("Conv", first, weight[1], pads=pads)
    second = builder.quant(second, 0.25, 4)
    builder.output(builder.node("Add", second, first) if residual else second)
    return lower(import_bytes(builder.build(), folder))


def small(**fields: int) -> Architecture:
    return replace(load_architecture("custom_perf"), array_size=A, **fields)


def words(graph: Graph, architecture: Architecture) -> WordProgram:
    context, program = Context(architecture), select(graph)
    for rewrite in (FactorLeftovers(), PackLeftovers()):
        program = rewrite.run(program, context)
    return RequantizeWhilePacking().run(place(program, architecture.data_type), context)


def rewritten(graph: Graph, architecture: Architecture) -> set[Role]:
    return {tensor.stored.role for tensor in words(graph, architecture).tensors.values()}


@pytest.mark.parametrize("relu", [True, False])
def test_leftover_channels_that_only_convolutions_read_are_requantized_while_packing(
    tmp_path: Path, relu: bool
) -> None:
    graph = two_convolutions(tmp_path, relu=relu)
    assert Role.SUMS in rewritten(graph, small())


def test_a_vector_of_sums_holds_two_pixels_where_lanes_are_left(tmp_path: Path) -> None:
    """On 12 lanes: 2 pixels of 4 channels, and 3 constants. Of one row or of one column, whichever costs less."""
    graph = two_convolutions(tmp_path, channels=16)
    board = load_architecture("custom_perf")
    program = words(graph, board)
    roles = {group.result: program.tensors[group.result].stored.role for group in program.groups}
    (sums,) = [group for group in program.groups if roles[group.result] is Role.SUMS]
    assert sums.layout == Layout(11, 6, 12)
    taken = [t.tensor for group in program.groups if roles[group.result] is Role.PACKED for t in group.terms]
    assert taken == [sums.result]


@pytest.mark.parametrize("channels", [7, 8, 9, 13])
@pytest.mark.parametrize(("size", "width"), [((12, 12), 3), ((12, 13), 3), ((13, 12), 3), ((11, 13), 3), ((12, 12), 5)])
def test_the_codes_are_the_same_however_many_pixels_a_vector_of_sums_holds(
    tmp_path: Path, channels: int, size: tuple[int, int], width: int
) -> None:
    """Sizes that no number divides, and a kernel whose neighbours lie further apart."""
    graph = two_convolutions(tmp_path, channels=channels, size=size, kernel=(3, width))
    emission = emit(graph, small(), tmp_path)
    inputs = random_codes(graph, 1)
    found, expected = simulate(graph, emission, tmp_path, inputs), run_codes(graph, inputs)
    assert all(np.array_equal(found[o.name], expected[o.value.name]) for o in graph.outputs)


def test_sums_do_not_read_what_gives_them_nothing(tmp_path: Path) -> None:
    """The leftover channels of the second of three layers, which take nothing from those of the first."""
    r, m = np.random.default_rng(3), ModelBuilder()
    y = m.quant(m.input([1, 8, 12, 12]), 0.25, 4)
    for _ in range(3):
        weight = r.integers(-4, 5, (8, 8, 3, 3))
        weight[A:, A:] = 0
        y = m.node("Conv", y, m.weight(weight / 8), pads=[1, 1, 1, 1])
        y = m.quant(m.node("Relu", y), 0.25, 4, signed=0)
    m.output(y)
    program = words(lower(import_bytes(m.build(), tmp_path)), small())
    roles = {name: tensor.stored.role for name, tensor in program.tensors.items()}
    read = [[roles[name] for name in group.tensors] for group in program.groups if roles[group.result] is Role.SUMS]
    assert len(read) == 2
    assert all(Role.PACKED not in of_sums for of_sums in read)
    assert any(Role.PACKED in [roles[name] for name in group.tensors] for group in program.groups)


def test_leftover_channels_that_are_added_stay(tmp_path: Path) -> None:
    graph = two_convolutions(tmp_path, residual=True)
    assert Role.PACKED in rewritten(graph, small())
    assert Role.SUMS not in rewritten(graph, small())


@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize("fields", [{}, {"local_depth": 500}, {"accumulator_depth": 100}, {"local_depth": 260}])
def test_the_codes_are_the_same_wherever_the_sums_lie(
    tmp_path: Path, relu: bool, residual: bool, fields: dict[str, int]
) -> None:
    """With all in local memory, with sums that pass through DRAM0, and in several passes."""
    graph = two_convolutions(tmp_path, residual=residual, relu=relu)
    emission = emit(graph, small(**fields), tmp_path)
    inputs = random_codes(graph, 1)
    found = simulate(graph, emission, tmp_path, inputs)
    expected = run_codes(graph, inputs)
    assert all(np.array_equal(found[o.name], expected[o.value.name]) for o in graph.outputs)


@pytest.mark.parametrize("wide", [slice(0, 6), slice(6, 8)])
def test_wide_weights_of_some_channels_move_only_those_up_a_bit(tmp_path: Path, wide: slice) -> None:
    """Then the packed channels stand elsewhere than the tensor's own: the packing copies and shifts, no more."""
    r = np.random.default_rng(0)
    builder = ModelBuilder()
    x = builder.quant(builder.input([1, 8, 12, 12]), 0.25, 3)
    first = builder.node("Conv", x, builder.weight(r.integers(-4, 4, (8, 8, 3, 3)) / 8), pads=[1, 1, 1, 1])
    first = builder.quant(builder.node("Relu", first), 0.5, 2, signed=0)
    weight = r.integers(-2, 3, (8, 8, 3, 3))
    weight[:2, wide, 1, 1] = np.array([[255], [-256]])
    second = builder.node("Conv", first, builder.weight(weight / 8, 0.125, 9), pads=[1, 1, 1, 1])
    builder.output(builder.quant(second, 4.0, 4))
    graph = lower(import_bytes(builder.build(), tmp_path))
    emission = emit(graph, small(), tmp_path)
    inputs = random_codes(graph, 1)
    found, expected = simulate(graph, emission, tmp_path, inputs), run_codes(graph, inputs)
    assert all(np.array_equal(found[o.name], expected[o.value.name]) for o in graph.outputs)
