"""Where weights wait: in DRAM1 read in bursts, tile by tile, or in local memory from run to run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import pefslc
from pefslc.targets.tensil.cost.cycles import model_cycles
from pefslc.targets.tensil.machine.architecture import load_architecture
from pefslc.targets.tensil.machine.instructions import DataMove, LoadWeights, MoveKind
from pefslc.targets.tensil.program.tmodel import TensilProgram
from pefslc.targets.tensil.schedule.constants import Constants
from pefslc.targets.tensil.schedule.emitter import Emitter
from pefslc.targets.tensil.schedule.weight_stream import WeightStream
from pefslc.targets.tensil.schedule.weights import Tile

CNN = Path(__file__).parents[2] / "examples" / "cnn_bnfold_q2_3.onnx"
TILES = 6


def streamed(board: str, size: int) -> tuple[TensilProgram, list[int]]:
    """Tiles loaded from a buffer of so many rows, each for a MatMul of 40 vectors; the rows of the reads."""
    architecture = load_architecture(board)
    emitter, constants, a = Emitter(architecture, {256: 0}), Constants(resident=False), architecture.array_size
    tiles = [Tile(0, 0, i, (0, 0), i == 0, False, np.full((a, a), i + 1)) for i in range(TILES)]
    stream = WeightStream(tiles, 0, size, emitter, constants)
    for tile in tiles:
        stream.load(tile)
        emitter.matmul(size, 0, 40, 0, 0, accumulate=not tile.overwrites)
    program = TensilProgram.assemble(architecture, "p", emitter.instructions)
    reads = [i for i in emitter.instructions if isinstance(i, DataMove)]
    assert all(read.kind is MoveKind.DRAM1_TO_LOCAL for read in reads)
    assert sum(isinstance(i, LoadWeights) and not i.zeroes for i in emitter.instructions) == TILES
    return program, [read.vectors for read in reads]


@pytest.mark.parametrize(("board", "size", "reads"), [("custom_perf", 1000, [72]), ("custom_perf", 40, [36, 36])])
def test_a_read_costs_more_than_a_short_drain_so_that_reads_are_as_long_as_the_buffer(
    board: str, size: int, reads: list[int]
) -> None:
    assert streamed(board, size)[1] == reads


@pytest.mark.parametrize(("board", "saved"), [("zcu104", 5 * (64 - 26)), ("ultra96v2", 5 * (32 - 26))])
def test_while_a_tile_is_read_a_large_array_drains_of_the_one_before(board: str, saved: int) -> None:
    program, reads = streamed(board, 1000)
    a = load_architecture(board).array_size
    assert reads == [a] * TILES
    one_read = a * TILES * 4 if board == "zcu104" else a * TILES * 2
    together = one_read + 26 + TILES * (a + 1 + 40) + (TILES - 1) * 2 * a
    drain = 4 * a - 1  # of the last sums, which wait in the accumulators
    assert abs(together - model_cycles(program).total - saved) <= drain


@pytest.mark.parametrize(("local_depth", "resident"), [(1024, True), (512, False)])
def test_constants_stay_in_local_memory_where_three_quarters_of_it_hold_them(
    local_depth: int, resident: bool, tmp_path: Path
) -> None:
    arch = tmp_path / "mine.tarch"
    arch.write_text(json.dumps({**load_architecture("pynqz1").to_json_dict(), "local_depth": local_depth}))
    emission = pefslc.compile(CNN, target=pefslc.TensilTarget(arch=str(arch))).emission
    tmodel = json.loads(next(text for name, text in emission.files.items() if name.endswith(".tmodel")))
    assert 512 < tmodel["consts"][0]["size"] < 768
    assert tmodel["load_consts_to_local"] is resident
