"""Several rows in a packed vector, pixels of rows and columns in a vector of sums: the same codes in fewer cycles."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from plain_support import board, compiled, driven, on_grid
from tensil_support import emit, random_codes, simulate
from wide_support import shift

import pefslc
from builders import ModelBuilder
from integer_graphs import GraphBuilder
from pefslc.ir.graph import Graph
from pefslc.ir.interpret import run_codes
from pefslc.targets.tensil.group_rewrites.packed_rows import PackRows
from pefslc.targets.tensil.group_rewrites.plain_ends import with_plain_ends
from pefslc.targets.tensil.groups.group_program import Role
from pefslc.targets.tensil.groups.layout import Layout
from pefslc.targets.tensil.groups.selection import select
from pefslc.targets.tensil.machine.architecture import Architecture, load_architecture
from pefslc.targets.tensil.pipeline import GROUP_REWRITES, lower_graph
from pefslc.targets.tensil.rewriting.rewrite import Context
from pefslc.targets.tensil.word_rewrites.sums_in_packing import RequantizeWhilePacking
from pefslc.targets.tensil.words.placement import place

NAME = PackRows.name


def layers(
    folder: Path,
    size: tuple[int, int],
    *,
    kernel: tuple[int, int] = (3, 3),
    stride: int = 1,
    outputs: int = 16,
    bits: int = 5,
    branch: bool = False,
) -> Path:
    """A picture, quantized on the TCU, two convolutions of few channels one behind the other, and one beside them."""
    m, r = ModelBuilder(), np.random.default_rng(7)

    def conv(x: str, to: int, of: int, kernel: tuple[int, int], stride: int) -> str:
        weight = m.weight(r.integers(-3, 4, (to, of, *kernel)) / 8, 0.125, 4)
        pads = [kernel[0] // 2, kernel[1] // 2] * 2
        return m.quant(m.node("Conv", x, weight, strides=[stride] * 2, pads=pads), 0.25, 5)

    x = m.quant(m.input([1, 3, *size], "input"), 0.125, bits)
    m.output(conv(conv(x, outputs, 3, kernel, stride), 16, outputs, (3, 3), 1))
    if branch:
        m.output(conv(x, 16, 3, (1, 1), 2))
    return m.save(folder)


def helpers(program: pefslc.Program, architecture: Architecture, *left_out: str) -> dict[Role, Layout]:
    """How the helpers of the input lie, by their roles."""
    context = Context(architecture, plain_host=True).without(*left_out)
    tensors = lower_graph(program.graph, context).program.tensors.values()
    return {tensor.stored.role: tensor.layout for tensor in tensors if tensor.stored.of}


@pytest.mark.parametrize("size", [(16, 16), (15, 16), (17, 12), (16, 18)])
@pytest.mark.parametrize("kernel", [(3, 3), (5, 3), (1, 3), (2, 2)])
@pytest.mark.parametrize("stride", [1, 2])
def test_the_codes_are_the_same(size: tuple[int, int], kernel: tuple[int, int], stride: int, tmp_path: Path) -> None:
    """Rows that no number divides, an even kernel, windows that step over groups."""
    path, architecture = layers(tmp_path, size, kernel=kernel, stride=stride, branch=stride == 1), board(32, "zcu104")
    x = on_grid((1, 3, *size), 5)
    wanted = pefslc.load(path).run({"input": x})
    program = compiled(path, architecture, require_exact=True)
    found = driven(program, tmp_path, architecture, {"input": x})
    assert all(np.array_equal(found[name], wanted[name]) for name in wanted)


def test_two_rows_share_a_packed_vector_and_four_pixels_one_of_sums(tmp_path: Path) -> None:
    """Of four pixels of a row, for two of the result, there were six: 12 lanes of 32 are enough. Sums of the pixels of
    rows 2k and 2k + 1 and of columns 2x - 1 and 2x: two of them hold a packed vector.
    """
    architecture = board(32, "zcu104")
    program = compiled(layers(tmp_path, (32, 32)), architecture)
    assert helpers(program, architecture) == {Role.PACKED: Layout(24, 16, 16), Role.SUMS: Layout(15, 16, 17)}
    assert helpers(program, architecture, NAME)[Role.PACKED] == Layout(18, 32, 16)
    odd = compiled(layers(tmp_path, (31, 32)), architecture)
    assert helpers(odd, architecture)[Role.PACKED] == Layout(24, 16, 16)


@pytest.mark.parametrize(("bias", "begins_before"), [(0, True), (16, True), (17, False)])
def test_sums_begin_before_the_image_only_where_those_outside_are_of_code_0(
    bias: int, begins_before: bool, tmp_path: Path
) -> None:
    """A code is 32 words. Outside, where the convolution counts on 0, the sum is the bias: half a code goes to 0."""
    context = Context(board(32, "zcu104"), plain_host=True)
    groups = with_plain_ends(select(compiled(layers(tmp_path, (32, 32)), context.architecture).graph), 32)
    for rewrite in GROUP_REWRITES:
        groups = rewrite.run(groups, context)
    words = place(groups, context.data_type)
    biased = [replace(g, bias=g.bias + bias) if g.tensors == [words.inputs[0].tensor] else g for g in words.groups]
    words = RequantizeWhilePacking().run(words.with_groups(biased), context)
    (sums,) = [tensor.layout for tensor in words.tensors.values() if tensor.stored.role is Role.SUMS]
    assert bool(32 % sums.width or 32 % sums.height) == begins_before


@pytest.mark.parametrize("size", [(16, 16), (32, 32), (15, 14)])
@pytest.mark.parametrize("outputs", [8, 16, 20, 32])
def test_packed_rows_cost_no_more_than_others(size: tuple[int, int], outputs: int, tmp_path: Path) -> None:
    path, architecture = layers(tmp_path, size, outputs=outputs), board(32, "zcu104")
    cycles = [compiled(path, architecture, leave_out=out).emission.cycles for out in ("", NAME)]
    assert cycles[0] is not None
    assert cycles[1] is not None
    assert cycles[0] <= cycles[1]


@pytest.mark.parametrize("fields", [{"accumulator_depth": 100}, {"local_depth": 400}, {"stride0_depth": 1}])
def test_in_several_passes_spilled_and_without_strides(fields: dict[str, int], tmp_path: Path) -> None:
    path, architecture = layers(tmp_path, (16, 16)), replace(board(32, "zcu104"), **fields)
    x = on_grid((1, 3, 16, 16), 5)
    wanted = pefslc.load(path).run({"input": x})
    found = driven(compiled(path, architecture, require_exact=True), tmp_path, architecture, {"input": x})
    assert all(np.array_equal(found[name], wanted[name]) for name in wanted)


def test_an_ordinary_host_gains_by_it_too(tmp_path: Path) -> None:
    b, r = GraphBuilder("rows"), np.random.default_rng(1)
    x = b.input((1, 3, 15, 14), 5, signed=False)
    for outputs in (13, 12):
        weight = r.integers(-2, 3, (outputs, x.type.channels, 3, 3))
        x = b.steps(s := b.conv(x, weight, r.integers(-20, 20, outputs), pads=(1, 1, 1, 1)), shift(s, 6, 0, 31))
    graph, architecture = b.graph(x), load_architecture("custom_perf")
    heights = []
    for left_out in ((), (NAME,)):
        program = lower_graph(graph, Context(architecture).without(*left_out)).program
        heights += [t.layout.height for t in program.tensors.values() if t.stored.role is Role.PACKED]
    assert heights == [8, 15]
    assert_exact(graph, architecture, tmp_path)


def assert_exact(graph: Graph, architecture: Architecture, folder: Path) -> None:
    inputs = random_codes(graph, 1)
    computed = simulate(graph, emit(graph, architecture, folder), folder, inputs)
    expected = run_codes(graph, inputs)
    assert all(np.array_equal(computed[o.name], expected[o.value.name]) for o in graph.outputs)
