"""Projections of residual blocks: no lower clip where a ReLU does its work, and sums that the addition requantizes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tensil_support import emit, simulate

from builders import ModelBuilder, import_bytes, lower
from pefslc.ir.graph import Graph
from pefslc.ir.interpret import run_codes
from pefslc.targets.tensil.groups.selection import select
from pefslc.targets.tensil.machine.architecture import load_architecture
from pefslc.targets.tensil.matrix.group_steps import added_tensors
from pefslc.targets.tensil.rewriting.rewrite import Context
from pefslc.targets.tensil.word_rewrites.addends import DropIdleClips
from pefslc.targets.tensil.word_rewrites.sums_in_addition import RequantizeWhileAdding
from pefslc.targets.tensil.words.placement import place
from pefslc.targets.tensil.words.steps import Maximum
from pefslc.targets.tensil.words.word_program import WordProgram

BOARD = load_architecture("custom_perf")


def block(folder: Path, *, relu: bool = True, bits: int = 5, read_twice: bool = False, size: int = 16) -> Graph:
    """relu(quant(conv(x)) + quant(projection(x))), whose branches saturate at both ends for many inputs; and a layer
    after it.
    """
    r = np.random.default_rng(0)
    m = ModelBuilder()
    x = m.quant(m.input([1, 10, size, size]), 0.125, 5)
    weights = [m.weight(r.integers(-15, 16, (10, 10, k, k)) / 8, 0.125, 5) for k in (3, 1)]
    projection = m.quant(m.node("Conv", x, weights[1], strides=[2, 2]), 0.125, bits)
    branch = m.quant(m.node("Conv", x, weights[0], strides=[2, 2], pads=[1, 1, 1, 1]), 0.125, 5)
    total = m.node("Add", branch, projection)
    total = m.quant(m.node("Relu", total) if relu else total, 0.125, 5, signed=int(not relu))
    m.output(m.quant(m.node("Conv", total, weights[1]), 0.125, 5))
    if read_twice:
        m.output(m.quant(m.node("Relu", projection), 0.125, 5, signed=0))
    return lower(import_bytes(m, folder))


def stages(graph: Graph) -> tuple[WordProgram, WordProgram, WordProgram]:
    """As placed, without idle clips, with addends as sums."""
    placed = place(select(graph), BOARD.data_type)
    dropped = DropIdleClips().run(placed, Context(BOARD))
    return placed, dropped, RequantizeWhileAdding().run(dropped, Context(BOARD))


def addend_steps(placed: WordProgram) -> tuple[object, ...]:
    (added,) = [added for group in placed.groups for added in added_tensors(group)]
    return next(group.steps for group in placed.groups if group.result == added.tensor)


def test_a_projection_has_no_lower_clip_and_is_stored_as_sums(tmp_path: Path) -> None:
    placed, dropped, scaled = stages(block(tmp_path))
    assert Maximum(-16) in addend_steps(placed)
    assert Maximum(-16) not in addend_steps(dropped)
    assert not addend_steps(scaled)
    (added,) = [added for group in scaled.groups for added in added_tensors(group)]
    assert (added.ceiling, added.word) == (15, 32)


@pytest.mark.parametrize(
    "fields",
    [
        {"relu": False},  # a sum of -20 is one of -16 + -4, or of -19 + -1: not the same with the clip
        {"bits": 4},  # -8 + 15 lies above 0
        {"read_twice": True},  # the other reader wants codes
    ],
)
def test_clips_that_matter_stay(tmp_path: Path, fields: dict[str, bool]) -> None:
    placed, dropped, scaled = stages(block(tmp_path, **fields))
    assert addend_steps(placed) == addend_steps(dropped) == addend_steps(scaled)
    assert any(isinstance(step, Maximum) for step in addend_steps(placed))


@pytest.mark.parametrize("fields", [{}, {"relu": False}, {"bits": 4}, {"read_twice": True}, {"size": 5}])
@pytest.mark.parametrize("board", [{}, {"array_size": 4}, {"local_depth": 400}, {"accumulator_depth": 60}])
def test_residual_blocks_are_exact(tmp_path: Path, fields: dict[str, bool], board: dict[str, int]) -> None:
    graph = block(tmp_path, **fields)
    r = np.random.default_rng(5)
    (x,) = graph.inputs
    # Large codes of few pixels: sums that saturate at both ends, and others.
    codes = r.integers(-16, 16, (2, *x.value.type.shape[1:])) * (r.random((2, 1, *x.value.type.shape[2:])) < 0.5)
    inputs = {x.name: codes}
    found, expected = simulate(graph, emit(graph, replace(BOARD, **board), tmp_path), tmp_path, inputs), {}
    for row in range(2):
        for name, values in run_codes(graph, {x.name: codes[row : row + 1]}).items():
            expected.setdefault(name, []).append(values)
    for output in graph.outputs:
        assert np.array_equal(found[output.name], np.concatenate(expected[output.value.name]))
