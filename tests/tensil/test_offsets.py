"""Tensors stored with an offset: plans that are a step shorter, exact networks, and where no tensor has one."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from matrix_steps_by_hand import FP8, by_hand, wanted
from tensil_support import emit, random_codes, simulate

from builders import ModelBuilder, import_bytes, lower
from pefslc.ir.graph import Graph
from pefslc.ir.interpret import run_codes
from pefslc.targets.tensil.machine.architecture import load_architecture
from pefslc.targets.tensil.matrix.addition_plan import Addend, matrix_plan_with_addend
from pefslc.targets.tensil.matrix.matrix_plan import (
    matrix_plan,
    plan_of_bare_sums,
)
from pefslc.targets.tensil.pipeline import lower_graph
from pefslc.targets.tensil.rewriting.rewrite import Context
from pefslc.targets.tensil.words.steps import AddOffset, Maximum, Minimum, Multiply
from pefslc.targets.tensil.words.word_program import WordProgram

BOARD = load_architecture("pynqz1")
EVERY_WORD = range(FP8.min_code, FP8.max_code + 1)


@pytest.mark.parametrize(("shift", "lower", "upper"), list(product((1, 2, 3), (-4, 0), (7, 15))))
def test_plans_end_at_the_offset_for_every_word(shift: int, lower: int, upper: int) -> None:
    clips = Multiply(FP8.one >> shift), Maximum(lower), Minimum(upper)
    for offset in (-upper - 1, -1, 5):
        steps = *clips, AddOffset(offset)
        plans = [matrix_plan(steps, *_ENDS, FP8)]
        plans += [] if lower else [plan_of_bare_sums(steps, *_ENDS, FP8)]  # -128 + lower is a bias
        for plan in plans:
            assert plan is not None
            found = [by_hand(plan.alone, word, FP8) for word in EVERY_WORD]
            assert found == [wanted(steps, word, FP8) for word in EVERY_WORD]
    if lower:
        return
    bare, shorter = (plan_of_bare_sums(each, *_ENDS, FP8) for each in (clips, (*clips, AddOffset(-upper - 1))))
    assert bare is not None
    assert shorter is not None
    assert len(shorter.steps) == len(bare.steps) - 1


_ENDS = FP8.min_code, FP8.max_code


@pytest.mark.parametrize("upper", [None, 5])
@pytest.mark.parametrize("ceiling", [None, 5])
@pytest.mark.parametrize("carried", [0, -1])
def test_plans_with_an_addend_end_at_the_offset(upper: int | None, ceiling: int | None, carried: int) -> None:
    """Every word, and every addend, which may itself be stored with an offset."""
    leading = Multiply(FP8.one >> 1), *(() if upper is None else (Minimum(upper),))
    addend = Addend(0, 11, ceiling, None, carried)
    lengths = []
    for end in ((), (AddOffset(-1),)):
        trailing = Maximum(0), *end
        plan = matrix_plan_with_addend(leading, trailing, -100, 100, addend, FP8)
        assert plan is not None
        lengths.append(len(plan.steps))
        for word, added in product(range(-100, 101), range(12)):
            total = wanted(leading, word, FP8) + (added if ceiling is None else min(added, ceiling))
            assert by_hand(plan.alone, word, FP8, added + carried) == wanted(trailing, total, FP8)
    assert lengths[1] == lengths[0] - 1


def network(folder: Path, seed: int) -> Graph:
    """Residual blocks of padded and strided convolutions: shortcuts that are clamped, added as they are, projected."""
    r = np.random.default_rng(seed)
    m = ModelBuilder()
    channels, size = int(r.choice([8, 10])), int(r.choice([10, 13]))

    def conv(x: str, outputs: int, inputs: int, kernel: int = 3, stride: int = 1) -> str:
        weight = m.weight(r.integers(-7, 8, (outputs, inputs, kernel, kernel)) / 8, 0.125, 4)
        bias = m.constant(r.integers(-40, 41, outputs) / 64)
        return m.node("Conv", x, weight, bias, strides=[stride] * 2, pads=[kernel // 2] * 4)

    def act(x: str) -> str:
        return m.quant(m.node("Relu", x), 0.25, 5, signed=0)

    a = act(conv(m.quant(m.input([1, 3, size, size]), 0.125, 5), channels, 3))
    b = act(conv(act(conv(a, channels, channels)), channels, channels))
    shortcut = m.quant(b, 0.25, 5) if r.random() < 0.5 else b
    c = act(m.node("Add", m.quant(conv(act(conv(b, channels, channels)), channels, channels), 0.25, 5), shortcut))
    d = m.quant(conv(act(conv(c, 2 * channels, channels, 3, 2)), 2 * channels, 2 * channels), 0.25, 5)
    m.output(act(m.node("Add", d, m.quant(conv(c, 2 * channels, channels, 1, 2), 0.25, 5))))
    return lower(import_bytes(m, folder))


MACHINES = (
    {},
    {"array_size": 4},
    {"array_size": 12, "local_depth": 900, "accumulator_depth": 300},
)


@pytest.mark.parametrize("seed", range(6))
def test_networks_are_exact_and_no_slower_with_offsets(seed: int, tmp_path: Path) -> None:
    graph, machine = network(tmp_path, seed), replace(BOARD, **MACHINES[seed % len(MACHINES)])
    inputs = random_codes(graph, seed)
    expected, cycles = run_codes(graph, inputs), []
    for left_out in (None, "store-with-offsets"):
        emission = emit(graph, machine, tmp_path, left_out)
        found = simulate(graph, emission, tmp_path, inputs)
        assert all(np.array_equal(found[o.name], expected[o.value.name]) for o in graph.outputs)
        cycles.append(emission.cycles)
    assert cycles[0] is not None
    assert cycles[1] is not None
    assert cycles[0] < cycles[1] if machine.local_depth == BOARD.local_depth else cycles[0] <= cycles[1]


def offsets(graph: Graph) -> list[int]:
    program: WordProgram = lower_graph(graph, Context(BOARD)).program
    return [tensor.offset for tensor in program.tensors.values() if tensor.offset]


def two_layers(folder: Path, weight: int = 3, *, output: bool = False, pooled: bool = False) -> Graph:
    """relu codes in 0..31 of 16 channels, and what reads them: a dense layer at each pixel, with this weight."""
    m = ModelBuilder()
    r = np.random.default_rng(0)
    x = m.quant(m.input([1, 16, 16, 16]), 0.125, 4)
    y = m.node("Conv", x, m.weight(r.integers(-7, 8, (16, 16, 3, 3)) / 8, 0.125, 4), pads=[1] * 4)
    y = m.quant(m.node("Relu", y), 0.25, 5, signed=0)
    m.output(m.node("Conv", y, m.weight(np.full((2, 16, 1, 1), weight / 64), 1 / 64, 8)))
    if output:
        m.output(y)
    if pooled:
        m.output(m.node("MaxPool", y, kernel_shape=[2, 2], strides=[2, 2]))
    return lower(import_bytes(m, folder))


def test_a_tensor_has_an_offset_where_its_readers_know_it(tmp_path: Path) -> None:
    assert offsets(two_layers(tmp_path)) == [-32]
    assert offsets(two_layers(tmp_path, output=True)) == []
    assert offsets(two_layers(tmp_path, pooled=True)) == []


def test_a_tensor_has_no_offset_where_a_sum_on_its_way_would_leave_a_word(tmp_path: Path) -> None:
    """Sums of 16 codes up to 31 times a weight: with lanes that still hold 32 times it, 64 is one too many. Then codes
    stand at -1, for which the sums before the clips carry a constant.
    """
    assert offsets(two_layers(tmp_path, 63)) == [-32]
    assert 16 * 31 * 65 < 1 << 15 <= 16 * 32 * 65
    assert offsets(two_layers(tmp_path, 65)) == [-1]


def test_codes_that_are_clamped_as_they_are_added_stand_near_0(tmp_path: Path) -> None:
    """-64 and the way to the rail above a clamp at 31 are together more than a word; -1 and that way are one."""
    r, m = np.random.default_rng(0), ModelBuilder()

    def conv(x: str, inputs: int) -> str:
        weight = m.weight(r.integers(-7, 8, (8, inputs, 3, 3)) / 8, 0.125, 4)
        return m.node("Conv", x, weight, pads=[1, 1, 1, 1])

    x = m.quant(m.node("Relu", conv(m.quant(m.input([1, 3, 16, 16]), 0.125, 5), 3)), 0.125, 6, signed=0)
    y = m.quant(m.node("Relu", conv(x, 8)), 0.125, 6, signed=0)
    total = m.node("Add", m.quant(conv(y, 8), 0.125, 6), m.quant(x, 0.125, 6))
    m.output(conv(m.quant(m.node("Relu", total), 0.125, 6, signed=0), 8))
    graph = lower(import_bytes(m, tmp_path))
    assert offsets(graph) == [-1, -64, -1], "the addend, the layer that nobody adds, and the sum"
    inputs = random_codes(graph, 0)
    found, expected = simulate(graph, emit(graph, BOARD, tmp_path), tmp_path, inputs), run_codes(graph, inputs)
    assert all(np.array_equal(found[o.name], expected[o.value.name]) for o in graph.outputs)
