"""Shuffled channels, transposed images before a dense layer, padding on its own: from the emitted files, exact."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tensil_support import emit, random_codes, simulate

from builders import ModelBuilder, import_bytes, lower
from pefslc.ir.interpret import run_codes
from pefslc.targets.tensil.groups.arrangement import Arrangement
from pefslc.targets.tensil.groups.layout import Layout
from pefslc.targets.tensil.groups.selection import select
from pefslc.targets.tensil.machine.architecture import load_architecture


def shuffled(m: ModelBuilder, x: str, channels: int, groups: int) -> str:
    """Reshape, Transpose, Reshape of a 6 x 5 image."""
    split = m.constant([1, groups, channels // groups, 6, 5], dtype=np.int64)
    whole = m.constant([1, channels, 6, 5], dtype=np.int64)
    return m.node("Reshape", m.node("Transpose", m.node("Reshape", x, split), perm=[0, 2, 1, 3, 4]), whole)


def conv(m: ModelBuilder, x: str, outputs: int, inputs: int, seed: int = 0, **attrs: object) -> str:
    weight = np.random.default_rng(seed).normal(0, 0.4, (outputs, inputs, 3, 3))
    return m.quant(m.node("Conv", x, m.weight(weight, 0.25, 4), **attrs), 0.5, 4)


def dense(m: ModelBuilder, y: str) -> str:
    weight = np.random.default_rng(3).normal(0, 0.4, (3, 12 * 30))
    return m.node("Gemm", m.node("Flatten", y), m.weight(weight, 0.25, 3), transB=1)


READERS: dict[str, Callable[[ModelBuilder, str], str]] = {
    "grouped convolution": lambda m, y: conv(m, y, 8, 3, group=4, pads=[1, 1, 1, 1]),
    "maximum": lambda m, y: m.node("MaxPool", y, kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2]),
    "mean": lambda m, y: m.node("GlobalAveragePool", y),
    "addition to itself, shuffled again": lambda m, y: m.quant(m.node("Add", y, shuffled(m, y, 12, 3)), 0.5, 4),
    "quantizer": lambda m, y: m.quant(y, 1.0, 3),
    "concatenation": lambda m, y: m.node("Concat", y, y, axis=1),
    "dense layer": dense,
    "dense layer, channels last": lambda m, y: dense(m, m.node("Transpose", y, perm=[0, 2, 3, 1])),
    "padding": lambda m, y: m.node("Pad", y, m.constant([0, 0, 1, 0, 0, 0, 2, 3], dtype=np.int64)),
    "nothing: an output": lambda _, y: y,
}


@pytest.mark.parametrize("arch", ["pynqz1", "zcu104"])
@pytest.mark.parametrize("reader", READERS)
def test_who_reads_shuffled_channels_reads_the_right_ones(reader: str, arch: str, tmp_path: Path) -> None:
    m = ModelBuilder()
    y = conv(m, m.quant(m.input([1, 3, 6, 5], "input"), 0.25, 4), 12, 3, pads=[1, 1, 1, 1])
    m.output(READERS[reader](m, shuffled(m, y, 12, 4)), None)
    graph = lower(import_bytes(m, tmp_path))
    emission = emit(graph, load_architecture(arch), tmp_path)
    inputs = random_codes(graph, 5, batch=3)
    found, expected = simulate(graph, emission, tmp_path, inputs), run_codes(graph, inputs)
    assert all(np.array_equal(found[o.name], expected[o.value.name]) for o in graph.outputs)
    assert emission.computed is None


def slice_of(m: ModelBuilder, x: str, axis: int, start: int, end: int, step: int = 1) -> str:
    return m.node("Slice", x, *(m.constant([v], dtype=np.int64) for v in (start, end, axis, step)))


def halves(m: ModelBuilder, x: str) -> list[str]:
    return m.split(x, [6, 6], 2)


def unit_of_shufflenet_v2(m: ModelBuilder, y: str) -> str:
    left, right = halves(m, y)
    return shuffled(m, m.node("Concat", left, conv(m, right, 6, 6, pads=[1] * 4), axis=1), 12, 2)


def focus(m: ModelBuilder, y: str) -> str:
    """Every second pixel, four ways, as YOLOv5 begins."""
    parts = [slice_of(m, slice_of(m, y, 2, i, 6, 2), 3, j, 4, 2) for i in (0, 1) for j in (0, 1)]
    return conv(m, m.node("Concat", *parts, axis=1), 4, 48, pads=[1] * 4)


def classified(m: ModelBuilder, features: str, count: int) -> str:
    weight = np.random.default_rng(3).normal(0, 0.4, (3, count))
    return m.node("Gemm", features, m.weight(weight, 0.25, 3), transB=1)


def crop_for_two(m: ModelBuilder, y: str) -> list[str]:
    crop = slice_of(m, y, 2, 1, 5)
    return [m.quant(crop, 1.0, 3), m.node("GlobalAveragePool", crop)]


def part_of_features(m: ModelBuilder, y: str) -> str:
    features = m.quant(m.node("Flatten", m.node("MaxPool", y, kernel_shape=[6, 5])), 0.5, 4)
    return m.quant(slice_of(m, features, 1, 3, 9), 1.0, 3)


PARTS: dict[str, Callable[[ModelBuilder, str], list[str]]] = {
    "a unit of ShuffleNetV2": lambda m, y: [unit_of_shufflenet_v2(m, y)],
    "every third channel, and a pool": lambda m, y: [m.node("GlobalAveragePool", slice_of(m, y, 1, 1, 12, 3))],
    "channels backwards": lambda m, y: [conv(m, slice_of(m, y, 1, 8, 2, -1), 3, 6)],
    "a part of a part, quantized and read again": lambda m, y: [
        m.quant(slice_of(m, halves(m, y)[1], 1, 1, 4), 1.0, 3),
        m.node("MaxPool", slice_of(m, y, 1, 9, 99), kernel_shape=[2, 2]),
    ],
    "two halves, added": lambda m, y: [m.quant(m.node("Add", *halves(m, y)), 0.5, 4)],
    "parts as outputs": lambda m, y: halves(m, y),
    "rows and columns": lambda m, y: [conv(m, slice_of(m, slice_of(m, y, 2, 1, 6), 3, 1, 4), 2, 12)],
    "every second pixel, four ways": lambda m, y: [focus(m, y)],
    "a crop that two read": crop_for_two,
    "some pixels of some channels": lambda m, y: [m.node("Relu", slice_of(m, slice_of(m, y, 3, 2, 4), 1, 0, 5))],
    "rows backwards, flattened": lambda m, y: [
        classified(m, m.node("Flatten", slice_of(m, y, 2, -1, -9, -2)), 180),
    ],
    "a part of the features": lambda m, y: [classified(m, slice_of(m, m.node("Flatten", y), 1, 7, 300, 5), 59)],
    "features of one pixel": lambda m, y: [part_of_features(m, y)],
}


@pytest.mark.parametrize("arch", ["pynqz1", "zcu104"])
@pytest.mark.parametrize("parts", PARTS)
def test_parts_of_a_tensor(parts: str, arch: str, tmp_path: Path) -> None:
    m = ModelBuilder()
    y = conv(m, m.quant(m.input([1, 3, 6, 5], "input"), 0.25, 4), 12, 3, pads=[1, 1, 1, 1])
    for name in PARTS[parts](m, y):
        m.output(name)
    graph = lower(import_bytes(m, tmp_path))
    emission = emit(graph, load_architecture(arch), tmp_path)
    inputs = random_codes(graph, 5, batch=3)
    found, expected = simulate(graph, emission, tmp_path, inputs), run_codes(graph, inputs)
    assert all(np.array_equal(found[o.name], expected[o.value.name]) for o in graph.outputs)


def test_a_part_of_the_input(tmp_path: Path) -> None:
    """The host may pack an input's pixels into lanes: not one that somebody crops."""
    m = ModelBuilder()
    x = m.quant(m.input([1, 3, 8, 8], "input"), 0.25, 4)
    first, rest = m.split(x, [1, 2], 2)
    m.output(conv(m, first, 4, 1, pads=[1] * 4))
    m.output(conv(m, slice_of(m, rest, 2, 2, 7), 4, 2))
    graph = lower(import_bytes(m, tmp_path))
    emission = emit(graph, load_architecture("pynqz1"), tmp_path)
    inputs = random_codes(graph, 5, batch=3)
    found, expected = simulate(graph, emission, tmp_path, inputs), run_codes(graph, inputs)
    assert all(np.array_equal(found[o.name], expected[o.value.name]) for o in graph.outputs)


def test_a_choice_of_channels_costs_no_group(tmp_path: Path) -> None:
    m = ModelBuilder()
    y = conv(m, m.quant(m.input([1, 3, 6, 5], "input"), 0.25, 4), 12, 3, pads=[1, 1, 1, 1])
    m.output(conv(m, halves(m, y)[1], 6, 6))
    assert len(select(lower(import_bytes(m, tmp_path))).groups) == 2  # the two convolutions


def test_a_shuffle_before_a_convolution_costs_nothing(tmp_path: Path) -> None:
    m = ModelBuilder()
    y = conv(m, m.quant(m.input([1, 3, 6, 5], "input"), 0.25, 4), 12, 3, pads=[1, 1, 1, 1])
    m.output(READERS["grouped convolution"](m, shuffled(m, y, 12, 4)))
    assert len(select(lower(import_bytes(m, tmp_path))).groups) == 2  # the two convolutions


def test_an_arrangement_knows_channels_from_pixels() -> None:
    natural = Arrangement.of(Layout(4, 2, 3), (1, 4, 2, 3))
    assert natural.is_natural
    assert natural.reshaped((1, 24)).is_natural
    assert not natural.reshaped((1, 2, 2, 2, 3)).is_natural
    swapped = natural.reshaped((1, 2, 2, 2, 3)).transposed((0, 2, 1, 3, 4)).reshaped((1, 4, 2, 3))
    assert swapped.channels is not None
    assert swapped.channels.tolist() == [0, 2, 1, 3]
    assert natural.transposed((0, 1, 3, 2)).channels is None
    part = natural.sliced((slice(None), slice(3, 0, -2)))
    assert not part.is_natural
    assert part.channels is not None
    assert part.channels.tolist() == [3, 1]
    assert natural.sliced((slice(None), slice(None), slice(1))).channels is None
    flat = natural.reshaped((1, 24)).sliced((slice(None), slice(12)))
    assert not flat.is_natural
    assert flat.channels is None
    assert natural.transposed((0, 2, 3, 1)).channels is None
