"""Clamps of addends: done by the addition where they clip the tensor as it lies, and only there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tensil_support import emit, random_codes, simulate

from builders import ModelBuilder, import_bytes, lower
from pefslc.ir.graph import Graph
from pefslc.ir.interpret import run_codes
from pefslc.targets.tensil.group_rewrites.room import clamped_addends
from pefslc.targets.tensil.groups.selection import select
from pefslc.targets.tensil.machine.architecture import load_architecture
from pefslc.targets.tensil.rewriting.rewrite import Context
from pefslc.targets.tensil.word_rewrites.addends import FoldAddends
from pefslc.targets.tensil.words.placement import place

BOARD = load_architecture("custom_perf")


def residual(folder: Path, shortcut: str) -> Graph:
    """ReLU(conv(x) + clip(shortcut(x))), and a convolution after it."""
    r = np.random.default_rng(0)
    m = ModelBuilder()

    def conv(x: str, k: int, **attrs: object) -> str:
        return m.node("Conv", x, m.weight(r.integers(-4, 4, (8, 8, k, k)) / 8, 0.125, 4), **attrs)

    x = m.quant(m.node("Relu", conv(m.quant(m.input([1, 8, 8, 8]), 0.25, 4), 1)), 0.25, 4, signed=0)
    y, strides, pads = x, [1, 1], [1, 1, 1, 1]
    match shortcut:
        case "average":
            y, strides = m.node("AveragePool", x, kernel_shape=[1, 1], strides=[2, 2]), [2, 2]
        case "convolution":
            y, strides = m.node("Conv", x, m.weight(np.eye(8)[:, :, None, None], 1.0, 3), strides=[2, 2]), [2, 2]
        case "padding":
            y, pads = m.node("Pad", x, m.constant([0, 0, 1, 1, 0, 0, 1, 1], dtype=np.int64)), [2, 2, 2, 2]
    clipped = m.quant(y, 0.25, 3, signed=0)
    branch = m.quant(conv(x, 3, strides=strides, pads=pads), 0.25, 4)
    total = m.quant(m.node("Relu", m.node("Add", branch, clipped)), 0.25, 4, signed=0)
    m.output(conv(total, 1))
    return lower(import_bytes(m, folder))


@pytest.mark.parametrize("shortcut", ["identity", "average", "convolution", "padding"])
def test_only_a_clamp_of_the_tensor_as_it_lies_is_left_to_the_addition(shortcut: str, tmp_path: Path) -> None:
    """What takes every other pixel, or adds a border, is no identity though its weights are."""
    graph = residual(tmp_path, shortcut)
    selected = select(graph)
    placed = place(selected, BOARD.data_type)
    folded = FoldAddends().run(placed, Context(BOARD))
    assert len(placed.groups) - len(folded.groups) == (shortcut == "identity")
    assert bool(clamped_addends(selected)) == (shortcut == "identity")
    assert (folded is placed) == (shortcut != "identity"), "a rewrite that has nothing to do returns the same program"


@pytest.mark.parametrize("shortcut", ["identity", "average", "convolution", "padding"])
def test_residuals_with_clamped_shortcuts_are_exact(shortcut: str, tmp_path: Path) -> None:
    graph = residual(tmp_path, shortcut)
    inputs = random_codes(graph, 1)
    found = simulate(graph, emit(graph, BOARD, tmp_path), tmp_path, inputs)
    expected = run_codes(graph, inputs)
    assert all(np.array_equal(found[o.name], expected[o.value.name]) for o in graph.outputs)
