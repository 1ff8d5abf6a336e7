"""What the parts of a program cost, against a plain reading of its instructions."""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import pefslc
from builders import Feature, random_network
from pefslc.geometry.shapes import Window
from pefslc.targets.tensil.cost.cycles import model_cycles
from pefslc.targets.tensil.cost.program_costs import live_vectors, program_costs
from pefslc.targets.tensil.group_rewrites.convolution_cost import convolution_cycles, inside_cycles
from pefslc.targets.tensil.groups.layout import Layout
from pefslc.targets.tensil.machine.architecture import Architecture, load_architecture
from pefslc.targets.tensil.machine.instructions import DataMove, MatMul, MoveKind, Segment
from pefslc.targets.tensil.program.accesses import AccessKind, Memory, accesses_of
from pefslc.targets.tensil.program.tmodel import TensilProgram, load_tmodel

EXAMPLE = Path(__file__).parents[2] / "examples" / "cnn_bnfold_q2_3.onnx"


def test_a_vector_lives_from_its_write_to_its_last_read(custom_perf: Architecture) -> None:
    program = TensilProgram.assemble(
        custom_perf,
        "p",
        [
            DataMove(MoveKind.DRAM0_TO_LOCAL, 0, 0, 4),  # local 0 to 3
            DataMove(MoveKind.DRAM0_TO_LOCAL, 10, 0, 1),  # written, and never read
            MatMul(0, 0, 2),  # the last read of 0 and 1; accumulators 0 and 1
            MatMul(2, 0, 2, accumulate=True),
            DataMove(MoveKind.ACCUMULATOR_TO_LOCAL, 2, 0, 2),  # over what is no longer read
            DataMove(MoveKind.LOCAL_TO_DRAM0, 2, 0, 1),
        ],
    )
    assert live_vectors(program, Memory.LOCAL).tolist() == [4, 5, 4, 2, 2, 1]
    assert live_vectors(program, Memory.ACCUMULATORS).tolist() == [0, 0, 2, 2, 2, 0]


def plain_live_vectors(program: TensilProgram, memory: Memory) -> list[int]:
    """The same, one vector at a time, backwards: a read makes it live before, a write ends that."""
    reads: dict[int, set[int]] = {}
    writes: dict[int, set[int]] = {}
    for access in accesses_of(program.table):
        if access.memory is memory:
            for row, address in zip(*(column.tolist() for column in access.expanded()), strict=True):
                if access.kind is not AccessKind.WRITE:
                    reads.setdefault(row, set()).add(address)
                else:
                    writes.setdefault(row, set()).add(address)
    alive: set[int] = set()
    if program.load_consts_to_local and memory is Memory.LOCAL:
        alive = {block.base + i for block in program.constants for i in range(len(block.vectors))}
    found = []
    for row in reversed(range(len(program.table))):
        touched = reads.get(row, set()) | writes.get(row, set())
        found.append(len(alive | touched))
        alive = (alive - writes.get(row, set())) | reads.get(row, set())
    return found[::-1]


@pytest.mark.parametrize("arch", ["cmoda7", "small"])
@pytest.mark.parametrize("memory", [Memory.LOCAL, Memory.ACCUMULATORS])
def test_live_vectors_of_a_program_equal_the_plain_count(memory: Memory, arch: str, tmp_path: Path) -> None:
    folder, small = tmp_path / "built", tmp_path / "small.tarch"
    small.write_text(json.dumps({**load_architecture("cmoda7").to_json_dict(), "local_depth": 700}))
    pefslc.compile(EXAMPLE, target="tensil", arch=str(small) if arch == "small" else arch).save(folder)
    program = load_tmodel(next(folder.glob("*.tmodel")))
    assert program.load_consts_to_local == (arch == "cmoda7"), "both kinds are tried"
    assert live_vectors(program, memory).tolist() == plain_live_vectors(program, memory)


def test_parts_add_up(custom_perf: Architecture) -> None:
    instructions = [
        DataMove(MoveKind.DRAM1_TO_LOCAL, 0, 0, 3),
        DataMove(MoveKind.DRAM0_TO_LOCAL, 8, 0, 5),
        MatMul(0, 0, 2),
        DataMove(MoveKind.LOCAL_TO_DRAM0, 8, 0, 4),
    ]
    program = TensilProgram.assemble(custom_perf, "p", instructions)
    segments = [Segment("a", 0, 1), Segment("a+", 1, 2), Segment("b", 2, 3), Segment("", 3, 4)]
    parts = [(("a",), ("a", "a+")), (("b", "c"), ("b",))]
    cycles = model_cycles(program, segments)
    costs = program_costs(program, segments, parts, cycles, "custom_perf")
    assert [part.ops for part in costs.parts] == [(), ("a",), ("b", "c")]
    assert [part.instructions for part in costs.parts] == [1, 2, 1]
    vector = 24  # 12 words of two bytes
    assert [part.bytes["DRAM0"] for part in costs.parts] == [4 * vector, 5 * vector, 0]
    assert [part.bytes["DRAM1"] for part in costs.parts] == [0, 3 * vector, 0]
    assert [part.peaks["local"] for part in costs.parts] == [4, 7, 6]
    assert sum(sum(part.cycles.values()) for part in costs.parts) == cycles.total
    assert costs.peak_macs == 144


@pytest.mark.parametrize("seed", [0, 1, 2, 4, 5, 7, 8, 9, 10, 12, 13, 15])  # networks that FP16BP8 takes
def test_a_programs_layers_add_up_to_its_cycles_exactly(seed: int, tmp_path: Path) -> None:
    model = tmp_path / "model.onnx"
    model.write_bytes(random_network(seed, Feature(batch_norm=False, leaky=False, most_bits=4)).SerializeToString())
    program = pefslc.compile(model, target="tensil", arch="custom_perf")
    report = program.costs
    assert report is not None
    assert report.total.total_cycles == program.emission.cycles
    by_kind: Counter[str] = Counter()
    for layer in report.layers:
        by_kind.update(layer.cycles)
    assert dict(by_kind) == report.total.cycles
    assert sum(by_kind.values()) == program.emission.cycles
    assert report.total.macs == sum(row.macs for row in program.layers)
    # What the layer table says about a row is what the report says about the part that holds it.
    assert {row.cycles for row in program.layers if row.cycles} <= {c.total_cycles for c in report.layers}
    assert all(np.isfinite(report.peak_share(c) or 0) and (report.peak_share(c) or 0) <= 1 for c in report.layers)


@pytest.mark.parametrize("kernel", [(1, 3), (3, 2), (2, 1)])
def test_matmuls_on_padding_are_what_convolutions_cost_less_inside(
    kernel: tuple[int, int], custom_perf: Architecture
) -> None:
    """A MatMul for each tile of a tap and each pixel under which that tap sees padding; without any, nothing."""
    a = custom_perf.array_size
    weight = np.ones((2 * a, a + 1, *kernel), dtype=np.int64)  # two blocks of two: four tiles a tap
    source = Layout(a + 1, 6, 5)
    for pads in ((0, 0, 0, 0), (1, 0, 2, 1)):
        window = Window(kernel=kernel, pads=pads)
        output = Layout(2 * a, *window.output_size(source.height, source.width))
        on_padding = window.taps * output.pixels - window.inside(source.height, source.width)
        whole = convolution_cycles(weight, output.pixels, custom_perf)
        assert whole - inside_cycles(weight, window, source, output, custom_perf) == 4 * on_padding
        assert (on_padding > 0) == any(pads)


def plain_timelines(program: TensilProgram, parts: int) -> dict[str, list[float]]:
    """What is held and moved, instruction by instruction: each lasts until the next is issued."""
    cycles = model_cycles(program)
    begins, ends = cycles.issued.tolist(), [*cycles.issued.tolist()[1:], float(cycles.total)]
    edges = [cycles.total * i / parts for i in range(parts + 1)]
    found: dict[str, list[float]] = {"local": [], "accumulators": [], "DRAM0": [], "DRAM1": []}
    columns = {m.value: live_vectors(program, m).tolist() for m in (Memory.LOCAL, Memory.ACCUMULATORS)}
    size = program.architecture.vector_size_bytes
    moves = {"DRAM0": (MoveKind.DRAM0_TO_LOCAL, MoveKind.LOCAL_TO_DRAM0)}
    moves["DRAM1"] = (MoveKind.DRAM1_TO_LOCAL, MoveKind.LOCAL_TO_DRAM1)
    for low, high in pairwise(edges):
        lasting = [n for n, (a, b) in enumerate(zip(begins, ends, strict=True)) if (a < high and b > low) or a == low]
        for name, column in columns.items():
            found[name].append(max(column[n] for n in lasting))
        for name, kinds in moves.items():
            moved = 0.0
            for n in lasting:
                instruction = program.instructions[n]
                if isinstance(instruction, DataMove) and instruction.kind in kinds and ends[n] > begins[n]:
                    inside = (min(ends[n], high) - max(begins[n], low)) / (ends[n] - begins[n])
                    moved += inside * size * instruction.vectors
            found[name].append(moved)
    return found


def test_timelines_equal_a_plain_reading_of_the_program(custom_perf: Architecture) -> None:
    program = TensilProgram.assemble(
        custom_perf,
        "p",
        [
            DataMove(MoveKind.DRAM0_TO_LOCAL, 0, 0, 100),
            DataMove(MoveKind.DRAM1_TO_LOCAL, 200, 0, 30),
            MatMul(0, 0, 60),
            MatMul(60, 0, 40, accumulate=True),
            DataMove(MoveKind.ACCUMULATOR_TO_LOCAL, 0, 0, 60),
            DataMove(MoveKind.LOCAL_TO_DRAM0, 0, 300, 60),
        ],
    )
    cycles = model_cycles(program)
    costs = program_costs(program, [Segment("a", 0, 6)], [(("a",), ("a",))], cycles, "custom_perf")
    wanted = plain_timelines(program, len(costs.timelines[0].values))
    assert [line.memory for line in costs.timelines] == list(wanted)
    for line in costs.timelines:
        if not line.moves:
            assert list(line.values) == wanted[line.memory]
        else:  # whole bytes, rounded where each part ends
            running = np.cumsum(line.values) - np.cumsum(wanted[line.memory])
            assert np.abs(running).max() <= 0.5 + 1e-6
    assert [part.begins for part in costs.parts] == [None, 0]


def test_a_bus_is_never_busier_than_it_can_be() -> None:
    costs = pefslc.compile(EXAMPLE, target="tensil", arch="pynqz1").emission.costs
    assert costs is not None
    found = costs()
    assert found.bytes_per_cycle is not None
    moving = [line for line in found.timelines if line.moves]
    assert moving
    for line in moving:
        assert max(line.values) <= found.bytes_per_cycle * line.end / len(line.values) + 1
