"""Where tensors live, as local memory gets smaller: which one leaves it first."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tensil_support import emit, random_codes, simulate, word_program

from builders import ModelBuilder, import_bytes, lower
from pefslc.diagnostics.errors import Origin
from pefslc.geometry.shapes import Window
from pefslc.ir.interpret import run_codes
from pefslc.targets.tensil.groups.layout import Layout
from pefslc.targets.tensil.machine.architecture import Architecture, load_architecture
from pefslc.targets.tensil.machine.instructions import MoveKind, Opcode
from pefslc.targets.tensil.program.tmodel import load_tmodel
from pefslc.targets.tensil.schedule.emitter import Emitter
from pefslc.targets.tensil.schedule.tensor_memory import TensorMemory
from pefslc.targets.tensil.words.word_group import SumHead, WordGroup, WordTerm

POINT = Window(kernel=(1, 1))
VECTORS = {"a": 10, "b": 30, "x": 20, "y": 40, "z": 40}


def sum_of(result: str, *read: str) -> WordGroup:
    """A group of which only the sizes matter here."""
    one, none = np.ones((1, 1, 1, 1), dtype=np.int64), np.zeros(1, dtype=np.int64)
    terms, layout = tuple(WordTerm(name, one, POINT) for name in read), Layout(1, VECTORS[result], 1)
    return WordGroup(result, layout, SumHead(), terms, none, (), (0, 0), (none, none), None, Origin(result, "Add"))


@pytest.mark.parametrize(
    ("before", "local_depth", "after"),
    [
        ("abx", 110, "abxy"),  # with 10 for weights, of which a sixteenth of the memory is comfort
        ("abx", 109, "axy"),  # of what is only read later, the largest leaves first
        ("abx", 100, "axy"),
        ("abx", 99, "abx"),  # no room for the result, but for a pass of it
        ("abx", 70, "abx"),
        ("abx", 69, "ax"),
        ("ax", 79, "axy"),
        ("ax", 78, "xy"),
        ("x", 65, "xy"),  # 5 for weights are enough where nothing can leave
        ("x", 64, "x"),  # the result goes, though what it is made from is smaller
        ("x", 26, "x"),
        ("x", 25, ""),  # what is read is streamed last
    ],
)
def test_bystanders_leave_first_then_the_result_then_what_is_read(
    custom_perf: Architecture, before: str, local_depth: int, after: str
) -> None:
    """While x becomes y; a and b are read later."""
    architecture = replace(custom_perf, local_depth=local_depth)
    groups = [sum_of("y", "x"), sum_of("z", "a", "b", "y")]
    program = word_program(groups, {name: Layout(1, VECTORS[name], 1) for name in "abx"}, "z")
    memory = TensorMemory(architecture, program, 0, Emitter(architecture, {}))
    for name in before:
        memory.tensors[name, 0].local = memory.allocate(memory.tensors[name, 0])
    memory.settle(groups[0], range(1), 5, 5)
    assert {name for name in VECTORS if memory.is_local((name, 0))} == set(after)


@pytest.mark.parametrize(("local_depth", "reads"), [(780, 1), (560, 5)])
def test_what_each_set_of_output_blocks_would_read_again_comes_to_local_memory_once(
    local_depth: int, reads: int, tmp_path: Path
) -> None:
    """Five output blocks, of which the accumulators hold one: an image that leaves room for half a pass is read once,
    though it fills more than half of the memory.
    """
    r, m = np.random.default_rng(5), ModelBuilder()
    x = m.quant(m.input([1, 8, 20, 20]), 0.25, 3)
    y = m.node("Conv", x, m.weight(r.integers(-3, 4, (40, 8, 1, 1)) * 0.25, 0.25, 3))
    m.output(m.quant(y, 0.25, 4))
    graph = lower(import_bytes(m.build(), tmp_path))
    machine = replace(load_architecture("pynqz1"), local_depth=local_depth, accumulator_depth=450)
    emission = emit(graph, machine, tmp_path)
    inputs = random_codes(graph, 1)
    found, expected = simulate(graph, emission, tmp_path, inputs), run_codes(graph, inputs)
    assert all(np.array_equal(found[o.name], expected[o.value.name]) for o in graph.outputs)
    table = load_tmodel(next(tmp_path.glob("*.tmodel"))).table
    moves = (table.opcode == Opcode.DATA_MOVE) & (table.flags == MoveKind.DRAM0_TO_LOCAL)
    assert int(table.vectors[moves].sum()) == reads * 400


@pytest.mark.parametrize(("times", "comes"), [(2, False), (3, True)])
def test_what_lies_in_the_midst_of_free_memory_makes_room_for_what_is_read_often(
    custom_perf: Architecture, times: int, comes: bool
) -> None:
    """Neither gap beside `a` holds x and the scratch, nor do the larger one and as many vectors as `a` has."""
    architecture = replace(custom_perf, local_depth=33)
    groups = [sum_of("y", "x"), sum_of("z", "a", "y")]
    program = word_program(groups, {name: Layout(1, VECTORS[name], 1) for name in "ax"}, "z")
    memory = TensorMemory(architecture, program, 0, Emitter(architecture, {}))
    before = memory.local.allocate(9)
    assert before is not None
    x, a = memory.tensors["x", 0], memory.tensors["a", 0]
    a.local = memory.allocate(a)
    memory.local.release(before, 9)
    assert memory.local.largest_gap()[1] + a.vectors < x.vectors + 5
    memory.fetch(x, groups[0], [x], times, 5)
    assert memory.is_local(("x", 0)) == comes
    assert memory.is_local(("a", 0)) != comes
