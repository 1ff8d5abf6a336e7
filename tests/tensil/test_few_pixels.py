"""Layers of few pixels with activations in the array and weights moving through it: the same codes, in fewer cycles."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tensil_support import emit, random_codes, simulate

from builders import Feature, ModelBuilder, import_bytes, lower, random_network
from pefslc.ir.graph import Graph
from pefslc.ir.interpret import run_codes
from pefslc.targets.tensil.group_rewrites import stationary_activations as few_pixels
from pefslc.targets.tensil.group_rewrites.stationary_activations import KeepActivations
from pefslc.targets.tensil.groups.group import LinearHead
from pefslc.targets.tensil.groups.selection import select
from pefslc.targets.tensil.machine.architecture import Architecture, DataType, load_architecture
from pefslc.targets.tensil.rewriting.rewrite import Context
from pefslc.targets.tensil.schedule.stationary_emitter import StationaryLayer

BOARD = load_architecture("pynqz1")


def small_images(folder: Path, *, residual: bool = True, relu: bool = True) -> Graph:
    """Convolutions on 4 x 4 and 2 x 2 pixels, with as many channels as make their weights the most of the work."""
    r = np.random.default_rng(4)
    m = ModelBuilder()

    def conv(x: str, outputs: int, inputs: int, kernel: int, stride: int) -> str:
        weight = m.weight(r.integers(-1, 2, (outputs, inputs, kernel, kernel)) * 0.25, 0.25, 3)
        bias = m.constant(r.integers(-8, 8, outputs).astype(np.float32) / 16)
        return m.node("Conv", x, weight, bias, strides=[stride] * 2, pads=[kernel // 2] * 4)

    def act(y: str) -> str:
        return m.quant(m.node("Relu", y) if relu else y, 0.5, 4, signed=not relu)

    x = m.quant(m.input([1, 20, 4, 4]), 0.25, 3)
    y = act(conv(x, 64, 20, 3, 1))
    z = act(conv(y, 64, 64, 3, 2))
    if residual:
        z = act(m.node("Add", m.quant(conv(y, 64, 64, 1, 2), 0.5, 4), m.quant(conv(z, 64, 64, 3, 1), 0.5, 4)))
    m.output(m.node("Gemm", m.node("Flatten", z), m.weight(r.integers(-1, 2, (10, 256)) * 0.25, 0.25, 3), transB=1))
    return lower(import_bytes(m.build(), folder))


def exchanged(graph: Graph, architecture: Architecture) -> set[str]:
    groups = KeepActivations().run(select(graph), Context(architecture)).groups
    return {g.result for g in groups if isinstance(g.head, LinearHead) and g.head.stationary}


def assert_exact(graph: Graph, architecture: Architecture, folder: Path) -> int | None:
    emission = emit(graph, architecture, folder)
    inputs = random_codes(graph, 1)
    found, expected = simulate(graph, emission, folder, inputs), run_codes(graph, inputs)
    assert all(np.array_equal(found[o.name], expected[o.value.name]) for o in graph.outputs)
    return emission.cycles


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Layers are exchanged wherever that can be done."""
    monkeypatch.setattr(few_pixels, "_saved_cycles", lambda *_: 1 << 40)
    monkeypatch.setattr(few_pixels, "_transposition_cycles", lambda *_: 0)


@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize("array_size", [5, 8])
def test_exchanged_layers_are_exact_and_faster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, array_size: int, residual: bool, relu: bool
) -> None:
    graph = small_images(tmp_path, residual=residual, relu=relu)
    board = replace(BOARD, array_size=array_size)
    assert len(exchanged(graph, board)) >= 2
    faster = assert_exact(graph, board, tmp_path)
    monkeypatch.setattr(few_pixels, "_saved_cycles", lambda *_: 0)
    assert not exchanged(graph, board)
    plain = assert_exact(graph, board, tmp_path)
    assert faster is not None
    assert plain is not None
    assert faster < plain


def points(folder: Path, channels: tuple[int, ...], size: int) -> Graph:
    """A chain of convolutions of one tap on size x size pixels."""
    r = np.random.default_rng(4)
    m = ModelBuilder()
    y = m.quant(m.input([1, channels[0], size, size]), 0.25, 3)
    for inputs, outputs in pairwise(channels):
        weight = m.weight(r.integers(-1, 2, (outputs, inputs, 1, 1)) * 0.25, 0.25, 3)
        y = m.quant(m.node("Relu", m.node("Conv", y, weight)), 0.5, 4, signed=0)
    m.output(y)
    return lower(import_bytes(m.build(), folder))


def test_layers_that_would_take_longer_exchanged_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Few of their weights' tiles, many outputs: more vectors move, and each has its own step."""
    graph = points(tmp_path, (20, 128, 20, 128), 2)
    board = replace(BOARD, array_size=8)
    chosen = emit(graph, board, tmp_path).cycles
    monkeypatch.setattr(few_pixels, "_saved_cycles", lambda *_: 0)
    plain = emit(graph, board, tmp_path).cycles
    assert chosen is not None
    assert plain is not None
    assert chosen <= plain


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("depth", [60, 200])
def test_as_many_passes_are_counted_as_are_emitted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, depth: int) -> None:
    """Pixels on their way under taps take from the sums what they leave in as many passes."""
    board, graph = replace(BOARD, array_size=8, accumulator_depth=depth), small_images(tmp_path)
    layers = [(g.head, -(-g.layout.pixels // 8)) for g in select(graph).groups]
    counted = [few_pixels._passes(h.terms[0], slots, board) for h, slots in layers if isinstance(h, LinearHead)]
    emitted = []
    emit_one = StationaryLayer.emit

    def noted(layer: StationaryLayer, *args: Any) -> None:
        emitted.append(layer)
        emit_one(layer, *args)

    monkeypatch.setattr(StationaryLayer, "emit", noted)
    emit(graph, board, tmp_path)
    assert len(emitted) == sum(counted)


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("fields", [{"accumulator_depth": 60}, {"local_depth": 420}, {"stride0_depth": 1}])
def test_in_several_passes_and_with_room_for_few_taps_at_once(tmp_path: Path, fields: dict[str, int]) -> None:
    graph = small_images(tmp_path)
    board = replace(BOARD, **fields)
    assert exchanged(graph, board)
    assert_exact(graph, board, tmp_path)


@pytest.mark.usefixtures("always")
def test_an_offset_that_the_bias_has_no_room_for_leaves_the_layer_as_it_is(tmp_path: Path) -> None:
    """After the shift, each channel would take its own word: exchanged, it has no lane for that."""
    r = np.random.default_rng(0)
    m = ModelBuilder()
    weight = np.stack([r.multinomial(14, [0.2] * 5) * r.choice([-1, 1], 5) for _ in range(6)])
    bias = m.constant((r.integers(-30, 31, 6) + 0.3) / 16)
    y = m.node("Conv", m.quant(m.input([1, 5, 2, 2]), 0.25, 3), m.weight(weight[:, :, None, None] / 4, 0.25, 6), bias)
    m.output(m.quant(y, 0.5, 6, rounding="FLOOR"))
    graph = lower(import_bytes(m, tmp_path))
    narrow = replace(BOARD, array_size=4, data_type=DataType.FP8BP4)
    assert exchanged(graph, narrow)
    assert_exact(graph, narrow, tmp_path)


def test_without_room_for_transposed_tensors_the_layers_stay(tmp_path: Path) -> None:
    graph = small_images(tmp_path)
    board = replace(BOARD, local_depth=180)
    assert not exchanged(graph, board)
    assert_exact(graph, board, tmp_path)


@pytest.mark.usefixtures("always")
@settings(deadline=None, max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10_000), size=st.integers(2, 16), local=st.integers(300, 2000), deep=st.integers(40, 500))
def test_any_network_is_exact_with_all_its_layers_exchanged(
    tmp_path_factory: pytest.TempPathFactory, seed: int, size: int, local: int, deep: int
) -> None:
    """Or refused memory for that, and lowered as usual."""
    folder = tmp_path_factory.mktemp("network")
    feature = Feature(batch_norm=False, leaky=False, most_bits=3, most_channels=12, most_pixels=6)
    graph = lower(import_bytes(random_network(seed, feature), folder))
    board = replace(BOARD, array_size=size, local_depth=local, accumulator_depth=deep)
    assert_exact(graph, board, folder)
