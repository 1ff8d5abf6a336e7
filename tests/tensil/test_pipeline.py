"""The list of rewrites: each applies to some network, and without any of them the codes are the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tensil_support import emit, random_codes, simulate

import pefslc
from builders import ModelBuilder, import_bytes, lower
from pefslc.ir.graph import Graph
from pefslc.ir.interpret import run_codes
from pefslc.targets.tensil.group_rewrites import leftover_channels
from pefslc.targets.tensil.machine.architecture import load_architecture
from pefslc.targets.tensil.pipeline import (
    GROUP_REWRITES,
    NATIVE_GROUP_REWRITES,
    NATIVE_WORD_REWRITES,
    REWRITE_NAMES,
    STAGES,
    WORD_REWRITES,
    lower_graph,
)
from pefslc.targets.tensil.rewriting.rewrite import Context
from pefslc.targets.tensil.word_rewrites.sums_in_packing import RequantizeWhilePacking

BOARD = replace(load_architecture("custom_perf"), array_size=6)
OF_GROUPS, OF_WORDS = ([r.name for r in rewrites] for rewrites in (GROUP_REWRITES, WORD_REWRITES))
EXACT = *OF_GROUPS, *OF_WORDS, "fold-addends", "requantize-while-adding"
NATIVE = *(r.name for r in (*NATIVE_GROUP_REWRITES, *NATIVE_WORD_REWRITES)), "fuse-sums"


def residual_network() -> ModelBuilder:
    """Every rewrite of exact networks has something to do: a grey image, 8 channels on 6 lanes, a projection and a
    clamped shortcut that are added, and layers of four pixels.
    """
    r = np.random.default_rng(2)
    m = ModelBuilder()

    def conv(x: str, outputs: int, inputs: int, kernel: int, stride: int = 1) -> str:
        weight = m.weight(r.integers(-3, 4, (outputs, inputs, kernel, kernel)) / 8, 0.125, 4)
        return m.node("Conv", x, weight, strides=[stride] * 2, pads=[kernel // 2] * 4)

    def act(x: str) -> str:
        return m.quant(m.node("Relu", x), 0.25, 4, signed=0)

    def add(x: str, y: str) -> str:
        return act(m.node("Add", x, y))

    x = m.quant(m.input([1, 1, 12, 12]), 0.25, 4)
    a = act(conv(x, 8, 1, 3))
    b = act(conv(a, 8, 8, 3))
    c = add(m.quant(conv(b, 8, 8, 3), 0.25, 4), m.quant(b, 0.25, 3, signed=0))  # a shortcut that is clamped
    d = act(conv(c, 12, 8, 3, 2))
    e = add(m.quant(conv(d, 12, 12, 3), 0.25, 4), m.quant(conv(c, 12, 8, 1, 2), 0.25, 4))  # a projection
    f = act(conv(m.node("MaxPool", e, kernel_shape=[3, 3], strides=[3, 3]), 40, 12, 3))
    g = act(conv(f, 40, 40, 3))
    m.output(m.node("Gemm", m.node("Flatten", g), m.weight(r.integers(-3, 4, (5, 160)) / 8, 0.125, 4), transB=1))
    return m


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Graph:
    return lower(import_bytes(residual_network(), tmp_path_factory.mktemp("model")))


def changed_by(graph: Graph, context: Context) -> dict[str, bool]:
    changed: dict[str, bool] = {}
    lower_graph(graph, context, observe=lambda name, _, is_changed: changed.update({name: is_changed}))
    return changed


def test_every_rewrite_says_what_it_needs_and_ensures() -> None:
    rewrites = (*GROUP_REWRITES, *WORD_REWRITES, *NATIVE_GROUP_REWRITES, *NATIVE_WORD_REWRITES)
    assert all(r.name and r.needs and r.ensures for r in rewrites)
    assert set(REWRITE_NAMES) == {*EXACT, *NATIVE}
    assert len(set(REWRITE_NAMES)) == len(REWRITE_NAMES)
    assert RequantizeWhilePacking.name == leftover_channels.SUMS_FOLLOW  # which it cannot import


def test_every_rewrite_applies_to_some_network(network: Graph, tmp_path: Path) -> None:
    exact = changed_by(network, Context(BOARD))
    assert exact == dict.fromkeys(["select", *OF_GROUPS, "place", *OF_WORDS], True), "extend residual_network()"
    m = ModelBuilder()
    r = np.random.default_rng(0)
    x = m.input([1, 1, 8, 8], "x")
    a = m.node("Relu", m.node("Conv", x, m.constant(r.uniform(-1, 1, (8, 1, 3, 3))), pads=[1, 1, 1, 1]))
    b = m.node("Conv", a, m.constant(r.uniform(-1, 1, (8, 8, 3, 3)) / 4), pads=[1, 1, 1, 1])
    m.output(m.node("GlobalAveragePool", m.node("Relu", m.node("Add", b, a))), [1, 8, 1, 1])
    program = pefslc.compile(m.save(tmp_path), target="c", fmt="Q8.8")
    native = changed_by(program.graph, Context(BOARD))
    assert [name for name, is_changed in native.items() if is_changed] == [
        "select", "pack-inputs", "split-means", "factor-leftovers", "pack-leftovers", "fuse-sums", "place",
    ]  # fmt: skip


def test_the_stages_that_are_seen_are_those_that_are_listed(network: Graph) -> None:
    seen = list(changed_by(network, Context(BOARD)))
    assert [name for name in STAGES if name in seen] == seen


@pytest.mark.parametrize("left_out", EXACT)
def test_without_a_rewrite_the_codes_are_the_same(network: Graph, left_out: str, tmp_path: Path) -> None:
    emission = emit(network, BOARD, tmp_path, leave_out=left_out)
    inputs = random_codes(network, 1)
    computed, expected = simulate(network, emission, tmp_path, inputs), run_codes(network, inputs)
    assert all(np.array_equal(computed[o.name], expected[o.value.name]) for o in network.outputs)
    whole = emit(network, BOARD, tmp_path)
    assert emission.files != whole.files, f"{left_out} was not left out"


def test_what_does_not_fit_is_tried_without_the_rewrites_that_need_most_memory(network: Graph) -> None:
    """The reason is shown, and the next try begins where they do."""
    events: list[tuple[str, str]] = []
    board = replace(BOARD, local_depth=300, accumulator_depth=24)
    lower_graph(network, Context(board), observe=lambda name, text, _: events.append((name, text)))
    names = [name for name, _ in events]
    assert names[-1] == "merge-additions"
    for at in (i for i, name in enumerate(names) if name == "retry"):
        assert events[at][1].startswith("without keep-activations")
