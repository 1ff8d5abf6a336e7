"""Where the tensors of a batch lie when local memory is short, and what it is expected to cost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from batch_support import assert_computes, deep_network, lowered_network
from tensil_architectures import NARROW, SMALL
from tensil_support import word_program

from pefslc.diagnostics.errors import CompileError, Origin
from pefslc.geometry.shapes import Window
from pefslc.targets.tensil.cost.cycles import Kind, model_cycles
from pefslc.targets.tensil.groups.layout import Layout, View
from pefslc.targets.tensil.machine.architecture import Architecture, load_architecture
from pefslc.targets.tensil.machine.instructions import MoveKind
from pefslc.targets.tensil.pipeline import lower_graph
from pefslc.targets.tensil.program.tmodel import TensilProgram
from pefslc.targets.tensil.rewriting.rewrite import Context
from pefslc.targets.tensil.schedule.allocator import Allocator
from pefslc.targets.tensil.schedule.as_program import program_of
from pefslc.targets.tensil.schedule.batch_choice import alive_vectors, schedule_batch, schedule_batch_below
from pefslc.targets.tensil.schedule.batch_places import BatchPlaces
from pefslc.targets.tensil.schedule.batch_trial import BatchTrial, RunCosts
from pefslc.targets.tensil.schedule.batches import Batches
from pefslc.targets.tensil.schedule.group_passes import GroupPasses
from pefslc.targets.tensil.schedule.pass_order import PassOrder
from pefslc.targets.tensil.schedule.schedule import schedule
from pefslc.targets.tensil.schedule.tensor_memory import TensorMemory
from pefslc.targets.tensil.words.word_group import SumHead, WordGroup, WordTerm

POINT = Window(kernel=(1, 1))

# --- blocks -----------------------------------------------------------------------------------------------------------


class Moves:
    """Writes down what it receives."""

    def __init__(self) -> None:
        self.seen: list[tuple[MoveKind, int, int, int]] = []

    def dram(self, kind: MoveKind, local: int, dram: int, vectors: int) -> None:
        self.seen.append((kind, local, dram, vectors))


def copy(result: str, read: str, layout: Layout) -> WordGroup:
    """A group of which only the sizes matter here."""
    none, term = np.zeros(36, dtype=np.int64), WordTerm(read, np.ones((36, 36, 1, 1), dtype=np.int64), POINT)
    return WordGroup(result, layout, SumHead(), (term,), none, (), (0, 0), (none, none), None, Origin(result, "Conv"))


def memory_of_blocks(local_depth: int) -> tuple[TensorMemory, Moves]:
    """Tensors x of three blocks of 4 vectors, of two pictures, in DRAM0."""
    machine, layout = replace(load_architecture("custom_perf"), local_depth=local_depth), Layout(36, 4, 1)
    program = word_program([copy("y", "x", layout)], {"x": layout}, "y")
    moves = Moves()
    return TensorMemory(machine, program, 0, moves, 2), moves


def with_free(memory: TensorMemory, *intervals: tuple[int, int]) -> TensorMemory:
    memory.local = Allocator(0, 0)
    for begin, end in intervals:
        memory.local.release(begin, end - begin)
    return memory


def test_blocks_lie_apart_only_where_no_gap_holds_them_all() -> None:
    memory, _ = memory_of_blocks(40)
    tensor = memory.tensors["x", 0]
    assert memory.allocate(tensor, apart=True) == (0, 4, 8)
    with_free(memory, (3, 8), (10, 15), (20, 25))
    assert memory.allocate(tensor) is None
    assert memory.allocate(tensor, apart=True) == (3, 10, 20)
    assert memory.local.intervals == [(7, 8), (14, 15), (24, 25)]


def test_nothing_is_taken_where_not_all_blocks_find_room() -> None:
    memory = with_free(memory_of_blocks(40)[0], (0, 9))
    assert memory.allocate(memory.tensors["x", 0], apart=True) is None
    assert memory.local.intervals == [(0, 9)]


def test_what_must_lie_as_a_whole_does() -> None:
    memory = with_free(memory_of_blocks(40)[0], (0, 5), (10, 19))
    memory.tensors["x", 0].whole = True
    assert memory.allocate(memory.tensors["x", 0], apart=True) is None


def test_tensors_that_lie_one_behind_the_other_come_by_one_move() -> None:
    memory, moves = memory_of_blocks(60)
    first, second = (memory.tensors["x", picture] for picture in range(2))
    first.local, second.local = (0, 4, 8), (12, 16, 30)
    memory.load([first, second])
    assert moves.seen == [(MoveKind.DRAM0_TO_LOCAL, 0, 0, 20), (MoveKind.DRAM0_TO_LOCAL, 30, 20, 4)]


def test_a_view_finds_blocks_wherever_they_lie() -> None:
    layout = Layout(36, 2, 3)
    apart, whole = View.whole((7, 40, 20), layout), View.whole((7, 13, 19), layout)
    assert [apart.address(block, 1, 2) for block in range(3)] == [12, 45, 25]
    assert not whole.apart
    assert [whole.address(block, 1, 2) for block in range(3)] == [12, 18, 24]


# --- results over what dies -------------------------------------------------------------------------------------------


def tight_programs(
    seed: int, folder: Path
) -> Iterator[tuple[Callable[[], TensilProgram], Callable[[TensilProgram], None]]]:
    """Of a random network on a small array, and batches whose groups all work on all pictures at once in local memory
    that holds some of what they read and make: how its program is made, and what asserts that it computes the codes.
    """
    machine = replace(load_architecture("custom_perf"), array_size=3 + seed % 2)
    found = lowered_network(seed, (SMALL, NARROW)[seed % 2], machine, folder)
    if found is None:
        return
    graph, lowered = found
    r, (alive, _) = np.random.default_rng(seed), alive_vectors(lowered.program, machine.array_size)
    for batch in (2, 4):
        depth = int(max(alive) * r.uniform(0.6, batch)) + 3 * (machine.array_size + 1)
        tight = replace(machine, local_depth=depth, accumulator_depth=int(r.integers(20, 200)))

        def made(tight: Architecture = tight, batch: int = batch) -> TensilProgram:
            shared = Batches.uniform(lowered.program.groups, batch)
            return program_of("x", tight, schedule(lowered.program, tight, batches=shared))

        yield made, partial(assert_computes, graph=graph, lowered=lowered, batch=batch, seed=seed)


@pytest.fixture
def over_the_dead(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The results that were placed over what died, so far."""
    seen: list[str] = []
    places = BatchPlaces._over_the_dead

    def watched(self: BatchPlaces) -> bool:
        placed = places(self)
        if placed:
            seen.append(self.group.result)
        return placed

    monkeypatch.setattr(BatchPlaces, "_over_the_dead", watched)
    return seen


@pytest.mark.parametrize("first", [200, 208])
def test_results_over_what_died_are_the_same_codes(first: int, over_the_dead: list[str], tmp_path: Path) -> None:
    compared = 0
    for seed in range(first, first + 8):
        for made, assert_same in tight_programs(seed, tmp_path):
            before = len(over_the_dead)
            try:
                program = made()
            except CompileError:
                continue  # no room at all
            if len(over_the_dead) > before:
                assert_same(program)
                compared += 1
    assert compared >= 4, "few programs are tight: they compare nothing"


def test_results_over_what_is_still_read_are_seen(
    over_the_dead: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What the comparison is good for: an order in which all dies at once."""
    of = PassOrder.of

    def hasty(*arguments: Any, **named: Any) -> PassOrder | None:
        order = of(*arguments, **named)
        return None if order is None else replace(order, free_from={})

    monkeypatch.setattr(PassOrder, "of", hasty)
    for seed in range(200, 230):
        for made, assert_same in tight_programs(seed, tmp_path):
            try:
                program = made()
            except CompileError:
                continue
            try:
                assert_same(program)
            except AssertionError:
                assert over_the_dead
                return
    pytest.fail("no program computes anything else")


# --- what a way to share a batch should cost --------------------------------------------------------------------------


@pytest.mark.parametrize("local_depth", [900, 1500, 4000])
def test_what_moves_is_known_without_a_program(local_depth: int, tmp_path: Path) -> None:
    machine = replace(load_architecture("custom_perf"), local_depth=local_depth)
    program = lower_graph(deep_network(tmp_path), Context(machine)).program
    passes = GroupPasses(program, machine, keeps=True)
    trial = BatchTrial(program, machine, 8, passes, RunCosts.measured(program, machine, 8, passes))
    names = [group.result for group in program.groups]
    for at_once in ([1] * len(names), [2] * len(names), [1, *[4] * (len(names) - 1)]):
        batches = Batches(8, dict(zip(names, at_once, strict=True)))
        plan = schedule(program, machine, batches=batches)
        report = model_cycles(program_of("x", machine, plan), plan.segments)
        assert trial.cycles(batches) == pytest.approx(report.total, rel=0.03)
        assert trial.cycles(batches, below=report.total / 2) == inf
        moved = report.of(list(report.spent)).get(Kind.DRAM0, 0)
        assert trial.cycles(batches) - trial.costs.least(batches) == pytest.approx(moved, abs=2)


def test_a_batch_that_cannot_take_fewer_cycles_is_not_scheduled(tmp_path: Path) -> None:
    machine = load_architecture("custom_perf")
    program = lower_graph(deep_network(tmp_path), Context(machine)).program
    plan = schedule_batch(program, machine, 4)
    total = model_cycles(program_of("x", machine, plan), plan.segments).total
    assert schedule_batch_below(total / 2, program, machine, 4) is None
    found = schedule_batch_below(2 * total, program, machine, 4)
    assert found is not None
    assert found.code == plan.code
