"""In which order a pass works on its tiles: all together, or input block by input block where those are streamed."""

from __future__ import annotations

from unittest.mock import Mock

import numpy as np
import pytest

from pefslc.diagnostics.errors import Origin
from pefslc.geometry.shapes import Window
from pefslc.targets.tensil.groups.layout import Layout
from pefslc.targets.tensil.machine.architecture import Architecture, DataType
from pefslc.targets.tensil.matrix.step_choice import Choice
from pefslc.targets.tensil.schedule.pass_plan import Needs
from pefslc.targets.tensil.schedule.tile_phases import Phase, TilePhases
from pefslc.targets.tensil.schedule.weights import tiles_of, with_carried
from pefslc.targets.tensil.words.word_group import SumHead, WordGroup, WordTerm

A, FP16 = 2, DataType["FP16BP8"]
BY_SIMD = Choice(None, 2, False, 0)
POINT = Window(kernel=(1, 1))
LAYOUTS = {"x": Layout(5, 2, 2), "y": Layout(3, 2, 2)}


def phases_of(architecture: Architecture, in_dram: set[str], carried: int = 0, *, has_room: bool = True) -> TilePhases:
    """Two output blocks from two tensors, of three input blocks and of two."""
    r = np.random.default_rng(0)
    terms = tuple(
        WordTerm(name, r.integers(1, 9, (4, layout.channels, 1, 1)) * FP16.one, POINT)
        for name, layout in LAYOUTS.items()
    )
    partial = np.full(4, -900), np.full(4, 900)
    group = WordGroup(
        "z", Layout(4, 2, 2), SumHead(), terms, np.arange(1, 5), (), (-900, 900), partial, None,
        Origin("z", "Conv"), carried,
    )  # fmt: skip
    needs = Needs.of(group, LAYOUTS, architecture, in_dram, result_in_dram=False, weight_rows=30, tile_rows=A + 1)
    tiles = tiles_of(group, LAYOUTS, A, set(), FP16.one, bias_alone=bool(in_dram))

    def carrying(block: int, word: int) -> object:
        return with_carried(group, LAYOUTS, tiles[block], word, FP16) if has_room else None

    return TilePhases(group, needs, LAYOUTS, A, tiles, Mock(carrying=carrying))


def test_without_streaming_a_pass_is_one_phase_block_after_block(custom_perf: Architecture) -> None:
    """So SIMD steps of the first block run behind the tiles of the second."""
    phases = phases_of(custom_perf, set())
    tiles = [tile for block in phases.tiles for tile in block]
    assert phases.of([0, 1], BY_SIMD, 1) == [Phase(-1, range(0), tiles)]
    assert [tile.out_block for tile in tiles] == [0] * 5 + [1] * 5


@pytest.mark.parametrize("whole", [1, 2, 3])
def test_a_streamed_term_has_a_phase_for_so_many_input_blocks(custom_perf: Architecture, whole: int) -> None:
    """Between the biases and what comes last; a term in local memory has one phase."""
    first, *middle, last = phases_of(custom_perf, {"x"}).of([0, 1], BY_SIMD, whole)
    assert [(tile.tap, tile.out_block) for tile in first.tiles] == [(None, 0), (None, 1)]
    assert (last.term, last.tiles) == (-1, [])
    parts = [range(i, min(i + whole, 3)) for i in range(0, 3, whole)]
    assert [(phase.term, phase.blocks) for phase in middle] == [*((0, part) for part in parts), (1, range(2))]
    for phase in middle:
        assert {(t.term, t.in_block) for t in phase.tiles} == {(phase.term, block) for block in phase.blocks}
        assert {t.out_block for t in phase.tiles} == {0, 1}
    assert sum(len(phase.tiles) for phase in middle) == 2 * 5


@pytest.mark.parametrize(("in_dram", "has_room"), [(set(), True), (set(), False), ({"x"}, True), ({"x", "y"}, True)])
def test_stored_sums_carry_their_constant_in_biases_or_by_the_last_addition(
    custom_perf: Architecture, in_dram: set[str], has_room: bool
) -> None:
    """In the biases of their own tiles where these have room and stay in their order; else by a tile for each block,
    after all others, for the addition may saturate.
    """
    word = 30_000
    phases = phases_of(custom_perf, in_dram, word, has_room=has_room).of([0, 1], BY_SIMD, 1)
    tiles = [tile for phase in phases for tile in phase.tiles]
    constants = [tile.rows[0] for tile in tiles if tile.tap is None and not tile.overwrites]
    if has_room and not in_dram:
        assert not constants
        ends = [[t.rows[0] for t in tiles if t.out_block == block and t.has_bias] for block in (0, 1)]
        assert np.array_equal([first + last for first, last in ends], np.array([[1, 2], [3, 4]]) + word)
    else:
        assert [tile.out_block for tile in tiles[-2:]] == [0, 1]
        assert np.array_equal(constants, [[word] * A] * 2)
        assert all(tile.tap is None for tile in tiles[-2:])
