"""Small mode: results lie over what is no longer read, and the inputs in the arena; the same integers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from cpu_rows import LAYOUTS

from integer_graphs import GraphBuilder
from pefslc.ir.graph import Graph
from pefslc.ir.value import Value
from pefslc.targets.c.arena import Arena, Slot, overlaps, plan_arena
from pefslc.targets.c.cpus import GENERIC, SMALL, adapted, cpu_named
from pefslc.targets.c.plan import plan_program
from pefslc.targets.c.steps import DotStep, Program
from pefslc.targets.c.target import CTarget
from pefslc.targets.c.units import distances, units_of


def _chain(name: str, seed: int) -> Graph:
    """Layers whose results lie over their sources: windows of every kind, tiles that do not fill a line, additions."""
    rng = np.random.default_rng(seed)
    b = GraphBuilder(name)

    def conv(x: Value, outputs: int, kernel: int, groups: int = 1, **window: object) -> Value:
        weight = rng.integers(-9, 10, (outputs, x.type.shape[1] // groups, kernel, kernel))
        return b.clamp(b.conv(x, weight, None, groups, **window), -60, 61)  # type: ignore[arg-type]

    x = b.input((1, int(rng.integers(1, 5)), int(rng.integers(7, 12)), int(rng.integers(7, 12))), 7)
    y = conv(x, 6, 3, pads=(1, 1, 1, 1))
    for _ in range(7):
        channels, size = y.type.shape[1], min(y.type.shape[2:])
        kind = rng.integers(0, 6)
        if kind == 0:
            y = conv(
                y,
                int(rng.integers(2, 12)),
                int(rng.integers(1, 4)),
                pads=(1, 1, 1, 1),
                strides=(int(rng.integers(1, 3)),) * 2,
            )
        elif kind == 1:
            y = conv(y, channels, 3, channels, pads=(1, 0, 1, 2))
        elif kind == 2:
            y = b.clamp(b.sum(y, conv(y, channels, 3, pads=(1, 1, 1, 1))), -50, 50)
        elif kind == 3:
            y = b.clamp(b.sum(conv(y, channels, 1), conv(y, channels, 3, pads=(1, 1, 1, 1))), -50, 50)
        elif kind == 4 and size > 3:
            y = b.pool(y, True, kernel=(2, 2), strides=(int(rng.integers(1, 3)), 1))
        elif kind == 5 and size > 4:
            y = conv(y, channels, 2, dilations=(2, 3), pads=(2, 0, 0, 2))
    return b.graph(conv(y, 3, 1))


def test_chains_equal_the_interpreter(bench, sanitizer_flags):  # type: ignore[no-untyped-def]
    """For each processor. Arenas of the caller hold other bytes before each run."""
    overlaid = 0
    for i in range(2 * len(LAYOUTS)):
        graph = _chain(f"chain{i}", i)
        calls = 400 if i % 5 == 2 else None
        bench.add(graph, CTarget(cpu=LAYOUTS[i // 2], memory=SMALL, caller_arena=i % 3 != 0, steps=calls))
        program = plan_program(graph)
        overlaid += sum(map(plan_arena(program, SMALL, inputs=True).overlaid, program.steps))
    assert overlaid > 3 * len(LAYOUTS)
    bench.check(sanitizer_flags)


def test_random_graphs_equal_the_interpreter(bench, random_graphs, sanitizer_flags):  # type: ignore[no-untyped-def]
    for i in range(8):
        bench.add(random_graphs(500 + i), CTarget(memory=SMALL, cpu=LAYOUTS[i % len(LAYOUTS)], caller_arena=i % 3 != 0))
    bench.check(sanitizer_flags)


def _wide(name: str, seed: int) -> Graph:
    """Layers whose weights of 5 bits are unpacked in several passes over the pixels; the last tiles overlap."""
    rng = np.random.default_rng(seed)
    b = GraphBuilder(name)
    x = b.clamp(b.conv(b.input((1, 2, 25, 7), 7), rng.integers(-16, 16, (24, 2, 3, 3)), pads=(1, 1, 1, 1)), -60, 61)
    y = b.clamp(b.conv(x, rng.integers(-16, 16, (24, 24, 3, 3)), pads=(1, 1, 1, 1)), -60, 61)
    z = b.clamp(b.sum(y, b.conv(y, rng.integers(-16, 16, (24, 24, 3, 3)), pads=(1, 1, 1, 1))), -50, 50)
    return b.graph(b.clamp(b.conv(z, rng.integers(-16, 16, (40, 24, 3, 3)), strides=(2, 1)), -50, 50))


def test_results_of_several_passes_equal_the_interpreter(bench, sanitizer_flags):  # type: ignore[no-untyped-def]
    for i, cpu in enumerate(("generic", "cortex-m4", "cortex-m0", "rv32")):
        graph = _wide(f"wide{i}", i)
        bench.add(graph, CTarget(cpu=cpu, memory=SMALL, pack=True, caller_arena=True, steps=90_000 if i % 2 else None))
        program = plan_program(graph, adapted(cpu_named(cpu), memory=SMALL, packs=True, widens=False))
        arena = plan_arena(program, SMALL, inputs=True)
        runs = [step for step in program.steps if isinstance(step, DotStep) and step.parts[0].run]
        assert any(map(arena.overlaid, runs))
        assert list(overlaps(arena, program)) == []
    bench.check(sanitizer_flags)


def _at(arena: Arena, source: Slot, offset: int) -> Arena:
    return replace(arena, slots={**arena.slots, source.buffer.name: replace(source, offset=offset)})


def _refused(arena: Arena, program: Program, name: str, result: Slot, offset: int) -> bool:
    """Whether buffer `name` must not lie there."""
    close = _at(arena, arena.slots[name], offset)
    return any({a.buffer.name, b.buffer.name} == {name, result.buffer.name} for a, b in overlaps(close, program))


def test_a_result_one_element_closer_is_refused() -> None:
    """For each step at its least distance, whatever lies around the two."""
    seen = set()
    packed = adapted(GENERIC, memory=SMALL, packs=True, widens=False)
    programs = [plan_program(_chain("close", seed)) for seed in range(10)] + [plan_program(_wide("close", 0), packed)]
    for program in programs:
        arena = plan_arena(program, SMALL, inputs=True)
        for i, step in enumerate(program.steps):
            for name, distance in distances(step).items():
                source, result = arena.slots.get(name), arena.slots.get(step.result.buffer.name)
                if source is None or result is None or source.last != i or name == result.buffer.name:
                    continue
                there = replace(result, offset=1000)
                moved = replace(arena, slots={**arena.slots, result.buffer.name: there})

                assert not _refused(moved, program, name, there, 1000 + distance)
                if 1000 + distance - 1 + source.buffer.elements > 1000:  # else it is below the result
                    assert _refused(moved, program, name, there, 1000 + distance - 1)
                    passes = isinstance(step, DotStep) and step.parts[0].run > 0
                    seen.add((type(step).__name__, passes))
    assert seen == {("DotStep", False), ("DotStep", True), ("DepthwiseStep", False), ("PoolStep", False)}


def test_bytes_hold_one_width_after_another_but_never_two_at_a_time() -> None:
    """Sums of 32 bits lie where codes of 8 bits lay; not over the codes that they are made of."""
    b = GraphBuilder("widths")
    x = b.clamp(b.input((1, 4, 6, 6)), -3, 9)
    sums = b.conv(x, np.full((4, 4, 1, 1), 9000), None)
    y = b.clamp(b.conv(sums, np.ones((1, 4, 6, 6), dtype=np.int64)), 0, 9)
    program = plan_program(b.graph(b.clamp(y, 0, 8)))
    arena = plan_arena(program, SMALL, inputs=True)
    assert arena.widths == [1, 4]
    assert list(overlaps(arena, program)) == []
    slots = list(arena.slots.values())
    pairs = [(a, b) for a in slots for b in slots if a.buffer.type.bits < b.buffer.type.bits]
    assert any(a.offset < b.end and b.offset < a.end for a, b in pairs)
    step = next(step for step in program.steps if step.result.type.bits == 32)
    source, result = arena.slots[step.source.buffer.name], arena.slots[step.result.buffer.name]
    assert _refused(arena, program, source.buffer.name, result, result.end - 1)
    assert _refused(arena, program, source.buffer.name, result, result.offset)


def test_a_gate_and_a_tensor_that_is_read_later_are_not_touched() -> None:
    b = GraphBuilder("gate")
    x = b.clamp(b.input((1, 4, 6, 6)), -3, 9)
    gate = b.clamp(b.pool(x, False, kernel=(6, 6)), -9, 9)
    y = b.clamp(b.product(x, gate), -30, 31)
    program = plan_program(b.graph(b.conv(y, np.ones((4, 4, 1, 1), dtype=np.int64))))
    arena = plan_arena(program, SMALL, inputs=True)
    assert list(overlaps(arena, program)) == []
    (step,) = (step for step in program.steps if step.added)
    gates, result = arena.slots[step.added[0].buffer.name], arena.slots[step.result.buffer.name]
    on_gates = _at(arena, gates, result.offset + result.buffer.elements - 1)
    refused = [{a.buffer.name, b.buffer.name} for a, b in overlaps(on_gates, program)]
    assert {gates.buffer.name, result.buffer.name} in refused


def test_steps_in_parts_at_one_time_are_not_overlaid() -> None:
    program = plan_program(_chain("threads", 1))
    divided: Program = replace(program, steps=tuple(replace(step, threads=2) for step in program.steps))
    assert not any(units_of(step) for step in divided.steps)
    arena = plan_arena(divided, SMALL, inputs=True)
    assert not any(map(arena.overlaid, divided.steps))


def test_an_input_has_a_place_where_it_costs_nothing() -> None:
    """Always in small mode; never where rows share an arena."""
    wide = [(1, 8, 6, 6), (1, 1, 20, 20)]
    for shape in wide:
        b = GraphBuilder("input")
        x = b.input(shape)
        y = b.clamp(b.conv(x, np.ones((4, shape[1], 3, 3), dtype=np.int64)), 0, 9)
        program = plan_program(b.graph(b.conv(y, np.ones((2, 4, 3, 3), dtype=np.int64)), *[x] * (shape[1] == 8)))
        free = plan_arena(program, inputs=None)
        assert ("input0" in free.slots) == (plan_arena(program, inputs=True).bytes == plan_arena(program).bytes)
        assert "input0" in plan_arena(program, SMALL, inputs=True).slots
