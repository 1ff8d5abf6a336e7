"""Sequences [N, C, L] on the TCU: images of one row, from the input to the output; from the emitted files, exact."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tensil_support import emit, random_codes, simulate

from builders import ModelBuilder, import_bytes, lower, normal
from pefslc.ir.interpret import run_codes
from pefslc.targets.tensil.machine.architecture import load_architecture


def conv(m: ModelBuilder, x: str, outputs: int, inputs: int, taps: int = 3, **attrs: object) -> str:
    weight = m.weight(normal((outputs, inputs, taps), 0.4), 0.25, 4)
    return m.quant(m.node("Relu", m.node("Conv", x, weight, **attrs)), 0.5, 4, signed=0)


def shuffled(m: ModelBuilder, x: str) -> str:
    split, whole = (m.constant(shape, dtype=np.int64) for shape in ([1, 4, 2, 12], [1, 8, 12]))
    return m.node("Reshape", m.node("Transpose", m.node("Reshape", x, split), perm=[0, 2, 1, 3]), whole)


NETWORKS: dict[str, Callable[[ModelBuilder, str], str]] = {
    "convolution": lambda m, x: conv(m, x, 5, 8, 4, pads=[2, 1], strides=[2]),
    "depthwise, dilated": lambda m, x: conv(m, x, 8, 1, group=8, dilations=[2]),
    "maximum": lambda m, x: m.node("MaxPool", x, kernel_shape=[3], pads=[1, 1], strides=[2]),
    "mean": lambda m, x: m.node("AveragePool", x, kernel_shape=[4], strides=[4]),
    "addition": lambda m, x: m.quant(m.node("Add", x, conv(m, x, 8, 8, pads=[1, 1])), 0.5, 4),
    "concatenation": lambda m, x: m.quant(m.node("Concat", x, conv(m, x, 3, 8, pads=[1, 1]), axis=1), 0.5, 4),
    "shuffled channels": lambda m, x: conv(m, shuffled(m, x), 4, 4, group=2),
    "some channels": lambda m, x: conv(m, m.split(x, [5, 3], 2)[1], 4, 3),
    "dense layer": lambda m, x: m.node("Gemm", m.node("Flatten", x), m.weight(normal((96, 3), 0.2), 0.25, 3)),
    "dense layer, channels last": lambda m, x: m.node(
        "Gemm",
        m.node("Flatten", m.node("Transpose", x, perm=[0, 2, 1])),
        m.weight(normal((96, 3), 0.2), 0.25, 3),
    ),
    "shuffled output": shuffled,
}


@pytest.mark.parametrize("arch", ["pynqz1", "zcu104"])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_sequence_is_an_image_of_one_row(name: str, arch: str, tmp_path: Path) -> None:
    m = ModelBuilder()
    x = conv(m, m.quant(m.input([1, 3, 12]), 0.25, 4), 8, 3, pads=[1, 1])
    m.output(NETWORKS[name](m, x), None)
    graph = lower(import_bytes(m, tmp_path))
    emission = emit(graph, load_architecture(arch), tmp_path)
    inputs = random_codes(graph, 5, batch=3)
    found, expected = simulate(graph, emission, tmp_path, inputs), run_codes(graph, inputs)
    (output,) = graph.outputs
    assert np.array_equal(found[output.name], expected[output.value.name])
    assert len(np.unique(found[output.name])) > 3
