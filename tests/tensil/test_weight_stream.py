"""Where weights wait: in DRAM1 read in bursts, tile by tile, or in local memory from run to run."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import pefslc
from pefslc.targets.tensil.cost.cycles import model_cycles
from pefslc.targets.tensil.machine.architecture import Architecture, load_architecture
from pefslc.targets.tensil.machine.instructions import DataMove, LoadWeights, MoveKind
from pefslc.targets.tensil.program.tmodel import TensilProgram
from pefslc.targets.tensil.schedule.constants import Constants
from pefslc.targets.tensil.schedule.emitter import Emitter
from pefslc.targets.tensil.schedule.weight_stream import WeightStream, hidden_behind
from pefslc.targets.tensil.schedule.weights import Tile
from pefslc.targets.tensil.simulate.simulator import Machine

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


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("seed", range(12))
def test_the_array_holds_each_tile_though_its_rows_of_zeros_are_not_stored(
    custom_perf: Architecture, seed: int, whole: bool
) -> None:
    """Tiles with and without a bias row, which may be zero, for some of the lanes or all; a MatMul for each."""
    r, a = np.random.default_rng(seed), 4
    machine = replace(custom_perf, array_size=a)
    one = machine.data_type.one
    tiles, expected = [], []
    pixels = r.integers(-9, 10, (2, a))
    for i in range(10):
        has_bias, lanes = bool(r.integers(2)), int(r.integers(1, a + 1))
        rows = r.integers(-5, 6, (has_bias + lanes, a)) * (r.random((has_bias + lanes, 1)) < seed / 12)
        tiles.append(Tile(i, 0, 0, (0, 0), True, has_bias, rows * one))
        full = np.pad(rows, ((1 - has_bias, a - lanes), (0, 0)))
        used = np.where(np.arange(a) < lanes, pixels, 0)
        expected.append(used @ full[1:] + full[0] * one)
    emitter, constants = Emitter(machine, {0: 2047}), Constants(resident=False)
    emitter.clear_weights()
    stream = WeightStream(tiles, 100, int(r.integers(a + 1, 40)), emitter, constants, whole=whole)
    for i, tile in enumerate(tiles):
        stream.load(tile)
        emitter.matmul(4 * i, 2 * i, 2, 0, 0, accumulate=False)
    rows = constants.rows()
    assert stream.rows == len(rows)
    if not whole:  # of bias rows, and of tiles that are all zero, one row is stored though it is zero
        stored = [t for before, t in pairwise([None, *tiles]) if before is None or not t.loads_the_same_as(before)]
        assert len(rows) == sum(max(t.adding_rows + (t.has_bias and not t.rows[0].any()), 1) for t in stored)
    program = TensilProgram.assemble(machine, "p", emitter.instructions, constants=rows, inputs=[], outputs=[])
    simulated = Machine(machine, poison_seed=seed)
    simulated.load_constants(program)
    for i, tile in enumerate(tiles):
        lanes = len(tile.rows) - tile.has_bias
        simulated.local[4 * i : 4 * i + 2] = np.where(np.arange(a) < lanes, pixels, 0)
    simulated.run(program)
    assert np.array_equal(simulated.acc[:20], np.concatenate(expected))


def test_what_hides_simd_are_the_rows_that_are_read(custom_perf: Architecture) -> None:
    rows = np.eye(12, dtype=np.int64) * (np.arange(12) % 3 == 0)
    tile = Tile(0, 0, 0, (0, 0), True, False, rows)
    assert hidden_behind(tile, custom_perf, is_read=True) - hidden_behind(tile, custom_perf, is_read=False) == 3 * 4


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
