"""Several pixels of few channels in a vector: the same codes, in fewer cycles."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tensil_support import emit, random_codes, simulate

import pefslc
from builders import Feature, ModelBuilder, import_bytes, lower, random_network
from pefslc.ir.graph import Graph
from pefslc.ir.interpret import run_codes
from pefslc.targets.tensil.group_rewrites.grouped_pixels import GroupPixels
from pefslc.targets.tensil.groups.group import Group, LinearHead
from pefslc.targets.tensil.groups.group_program import GroupProgram
from pefslc.targets.tensil.groups.layout import Layout
from pefslc.targets.tensil.groups.selection import select
from pefslc.targets.tensil.machine.architecture import Architecture, load_architecture
from pefslc.targets.tensil.pipeline import lower_graph
from pefslc.targets.tensil.rewriting.rewrite import Context

BOARD = replace(load_architecture("custom_perf"), array_size=16)
NAME = GroupPixels.name
EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


class Network:
    """Convolutions of few channels, named by letters: x is the input."""

    def __init__(self, seed: int = 5) -> None:
        self.m, self.r = ModelBuilder(), np.random.default_rng(seed)

    def input(self, channels: int, height: int, width: int) -> str:
        return self.m.quant(self.m.input([1, channels, height, width]), 0.25, 4)

    def conv(self, x: str, outputs: int, inputs: int, kernel: int = 3, stride: int = 1, dilation: int = 1) -> str:
        weight = self.m.weight(self.r.integers(-3, 4, (outputs, inputs, kernel, kernel)) / 8, 0.125, 4)
        bias = self.m.constant(self.r.integers(-40, 41, outputs).astype(np.float32) / 32)
        pads = [(kernel - 1) * dilation // 2] * 4
        return self.m.node("Conv", x, weight, bias, strides=[stride] * 2, pads=pads, dilations=[dilation] * 2)

    def act(self, x: str, scale: float = 0.25) -> str:
        return self.m.quant(self.m.node("Relu", x), scale, 4, signed=0)

    def layer(self, x: str, outputs: int, inputs: int, kernel: int = 3, stride: int = 1, dilation: int = 1) -> str:
        return self.act(self.conv(x, outputs, inputs, kernel, stride, dilation))

    def graph(self, output: str, folder: Path) -> Graph:
        self.m.output(output)
        return lower(import_bytes(self.m.build(), folder))


def chain(folder: Path, channels: tuple[int, int, int], size: tuple[int, int], last: tuple[int, int, int]) -> Graph:
    """Three layers of the first channels, then one with the kernel, stride and dilation of `last`."""
    n = Network()
    x = n.input(channels[0], *size)
    y = n.layer(n.layer(n.layer(x, channels[1], channels[0]), channels[1], channels[1]), channels[1], channels[1])
    return n.graph(n.layer(y, channels[2], channels[1], *last), folder)


def grouped(graph: Graph, architecture: Architecture) -> GroupProgram:
    return GroupPixels().run(select(graph), Context(architecture))


def heads(group: Group) -> LinearHead:
    assert isinstance(group.head, LinearHead)
    return group.head


def layouts(program: GroupProgram) -> list[Layout]:
    return [group.layout for group in program.groups]


def assert_exact(graph: Graph, architecture: Architecture, folder: Path, leave_out: str | None = None) -> int:
    emission = emit(graph, architecture, folder, leave_out)
    inputs = random_codes(graph, 1)
    found, expected = simulate(graph, emission, folder, inputs), run_codes(emission.computed or graph, inputs)
    assert all(np.array_equal(found[o.name], expected[o.value.name]) for o in graph.outputs)
    assert emission.cycles is not None
    return emission.cycles


def test_a_vector_holds_two_pixels_of_half_the_lanes(tmp_path: Path) -> None:
    graph = chain(tmp_path, (20, 8, 20), (12, 12), (3, 2, 1))
    assert layouts(select(graph)) == [Layout(8, 12, 12)] * 3 + [Layout(20, 6, 6)]
    program = grouped(graph, BOARD)
    assert layouts(program) == [Layout(16, 12, 6)] * 3 + [Layout(20, 6, 6)]
    windows = [term.window for group in program.groups for term in heads(group).terms]
    assert [w.kernel for w in windows] == [(3, 4), (3, 3), (3, 3), (3, 2)]
    assert [w.strides for w in windows] == [(1, 2), (1, 1), (1, 1), (2, 1)]


@pytest.mark.parametrize("last", [(3, 1, 1), (3, 2, 1), (1, 2, 1), (3, 1, 2), (5, 3, 1)])
@pytest.mark.parametrize(
    ("channels", "size"),
    [((20, 8, 20), (12, 12)), ((3, 8, 8), (9, 16)), ((16, 5, 20), (12, 15)), ((20, 1, 2), (6, 16))],
)
def test_the_codes_are_the_same(
    tmp_path: Path, channels: tuple[int, int, int], size: tuple[int, int], last: tuple[int, int, int]
) -> None:
    graph = chain(tmp_path, channels, size, last)
    faster, plain = assert_exact(graph, BOARD, tmp_path), assert_exact(graph, BOARD, tmp_path, NAME)
    assert faster < plain


@pytest.mark.parametrize(
    "fields", [{"accumulator_depth": 40}, {"local_depth": 400}, {"stride0_depth": 1, "stride1_depth": 1}]
)
def test_in_several_passes_spilled_and_without_strides(tmp_path: Path, fields: dict[str, int]) -> None:
    graph = chain(tmp_path, (20, 8, 20), (12, 12), (3, 2, 1))
    board = replace(BOARD, **fields)
    assert layouts(grouped(graph, board)) != layouts(select(graph))
    assert_exact(graph, board, tmp_path)


def test_tensors_that_are_added_lie_alike(tmp_path: Path) -> None:
    """A clamped shortcut, and one through a convolution."""
    n = Network()
    x = n.layer(n.input(20, 12, 12), 8, 20)
    y = n.m.quant(n.conv(n.layer(x, 8, 8), 8, 8), 0.25, 4)
    z = n.act(n.m.node("Add", y, n.m.quant(x, 0.25, 3, signed=0)))
    projected = n.m.quant(n.conv(z, 4, 8, 1, 2), 0.25, 4)
    w = n.act(n.m.node("Add", n.m.quant(n.conv(n.layer(z, 4, 8, 3, 2), 4, 4), 0.25, 4), projected))
    graph = n.graph(n.layer(w, 20, 4), tmp_path)
    program = grouped(graph, BOARD)
    kept = {group.result: group.layout for group in select(graph).groups}
    assert all(group.layout.width < kept[group.result].width for group in program.groups[:-1])
    assert assert_exact(graph, BOARD, tmp_path) < assert_exact(graph, BOARD, tmp_path, NAME)


def test_what_the_host_or_a_maximum_reads_stays_as_it_is(tmp_path: Path) -> None:
    n = Network()
    x = n.layer(n.input(20, 12, 12), 8, 20)
    y = n.layer(n.m.node("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2]), 8, 8)
    graph = n.graph(y, tmp_path)
    program = select(graph)
    assert GroupPixels().run(program, Context(BOARD)) is program


def test_columns_that_no_number_divides_stay_alone(tmp_path: Path) -> None:
    graph = chain(tmp_path, (20, 8, 20), (12, 13), (3, 2, 1))
    program = select(graph)
    assert GroupPixels().run(program, Context(BOARD)) is program


def test_layers_of_few_pixels_and_much_to_read_stay_alone(tmp_path: Path) -> None:
    graph = chain(tmp_path, (20, 8, 20), (2, 2), (3, 1, 1))
    program, board = select(graph), replace(BOARD, local_depth=300)
    assert GroupPixels().run(program, Context(board)) is program


def batch_normed(folder: Path) -> Graph:
    """Factors that are no powers of two: requantized per channel, not exactly."""
    n = Network()

    def normed(x: str, outputs: int, inputs: int) -> str:
        factors = [n.r.uniform(0.3, 0.9, outputs), n.r.uniform(-1, 1, outputs), n.r.uniform(-1, 1, outputs)]
        variance = n.r.uniform(0.5, 2, outputs)
        constants = [n.m.constant(v.astype(np.float32)) for v in (*factors, variance)]
        return n.m.node("Relu", n.m.node("BatchNormalization", n.conv(x, outputs, inputs), *constants))

    x = n.layer(n.input(20, 8, 12), 4, 20)
    y = n.m.quant(normed(x, 4, 4), 2.0**-6, 7, signed=0)
    return n.graph(n.layer(n.m.quant(normed(y, 4, 4), 0.25, 4, signed=0), 20, 4), folder)


def test_channels_of_all_pixels_of_a_vector_have_one_requantization(tmp_path: Path) -> None:
    """What differs from the model is listed for the tensor's own channels, as without the rewrite."""
    graph = batch_normed(tmp_path)
    assert all(layout.channels in (8, 12, 16) for layout in layouts(grouped(graph, BOARD))[:3])
    assert assert_exact(graph, BOARD, tmp_path) < assert_exact(graph, BOARD, tmp_path, NAME)
    found, plain = emit(graph, BOARD, tmp_path), emit(graph, BOARD, tmp_path, NAME)
    listed = {name: report.deviations for name, report in found.ops.items()}
    assert any(deviations is not None for deviations in listed.values()), "nothing is bounded"
    assert listed == {name: report.deviations for name, report in plain.ops.items()}


def test_a_float_network_in_native_words_has_its_pixels_grouped(tmp_path: Path) -> None:
    m, r = ModelBuilder(), np.random.default_rng(0)

    def conv(x: str, outputs: int, inputs: int) -> str:
        weight = m.constant(r.uniform(-1, 1, (outputs, inputs, 3, 3)).astype(np.float32) / 4)
        return m.node("Relu", m.node("Conv", x, weight, pads=[1, 1, 1, 1]))

    a = conv(m.input([1, 1, 8, 8], "x"), 4, 1)
    b = conv(a, 4, 4)
    m.output(m.node("GlobalAveragePool", m.node("Relu", m.node("Add", conv(b, 4, 4), b))), [1, 4, 1, 1])
    program = pefslc.compile(m.save(tmp_path), target="c", fmt="Q8.8")
    changed: dict[str, bool] = {}
    lower_graph(program.graph, Context(BOARD), observe=lambda name, _, is_changed: changed.update({name: is_changed}))
    assert changed[NAME]


@pytest.mark.parametrize("seed", range(12))
def test_random_networks_on_wide_arrays(seed: int, tmp_path: Path) -> None:
    feature = Feature(
        batch_norm=False, leaky=False, most_bits=3, most_pixels=14, most_channels=9, transposed=seed % 2 == 1
    )
    graph = lower(import_bytes(random_network(seed, feature), tmp_path))
    assert_exact(graph, replace(BOARD, array_size=(16, 24, 32)[seed % 3]), tmp_path)


@pytest.mark.parametrize("board", ["custom_perf", "pynqz1", "ultra96v2", "zcu104"])
@pytest.mark.parametrize("network", ["pefsl_resnet9_16_strided_bnfold_q2_3", "glyphs_resnet9", "cnn_bnfold_q2_3"])
def test_grouped_pixels_cost_no_more_than_others(network: str, board: str) -> None:
    """On the boards there are, by the cycle model; on 32 lanes residual networks of 16 channels gain."""
    path = EXAMPLES / f"{network}.onnx"
    grouped, alone = (
        pefslc.compile(path, target="tensil", arch=board, leave_out=left_out).emission.cycles
        for left_out in (None, NAME)
    )
    assert grouped is not None
    assert alone is not None
    assert grouped <= alone
    if board == "zcu104" and "resnet9" in network:
        assert grouped < 0.95 * alone
