"""Where tensors live, as local memory gets smaller: which one leaves it first."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tensil_support import word_program

from pefslc.diagnostics.errors import Origin
from pefslc.geometry.shapes import Window
from pefslc.targets.tensil.groups.layout import Layout
from pefslc.targets.tensil.machine.architecture import Architecture
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
        memory.tensors[name, 0].local = memory.local.allocate(VECTORS[name])
    memory.settle(groups[0], range(1), 5, 5)
    assert {name for name in VECTORS if memory.is_local((name, 0))} == set(after)
