"""Transposed convolutions on the TCU: every code the interpreter's, and no MatMul spent on zeros between pixels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tensil_support import emit, random_codes, simulate

import pefslc
from builders import ModelBuilder, import_bytes, lower
from pefslc.ir.interpret import run_codes
from pefslc.targets.tensil.machine.architecture import load_architecture

BOARD = load_architecture("pynqz1")


def decoder(seed: int) -> ModelBuilder:
    """One or two transposed convolutions of one input, with biases or without, requantized, maybe added."""
    rng, m = np.random.default_rng(seed), ModelBuilder()
    inputs, outputs, size = int(rng.integers(1, 20)), int(rng.integers(1, 18)), int(rng.integers(1, 7))
    kernel, stride = int(rng.integers(1, 5)), int(rng.integers(1, 4))
    x = m.quant(m.input((1, inputs, size, size)), 0.125, 3)

    def up() -> str:
        parameters = [m.weight(rng.normal(0, 0.3, (inputs, outputs, kernel, kernel)), 0.25, 3)]
        if rng.random() < 0.7:
            parameters.append(m.weight(rng.normal(0, 1, outputs), 0.125 * 0.25, 8))
        return m.node("ConvTranspose", x, *parameters, strides=[stride] * 2)

    y = m.quant(m.node("Relu", up()), 0.125 * 2 ** int(rng.integers(0, 3)), 3, signed=0)
    if rng.random() < 0.7:
        z = m.quant(up(), 0.125 * 2 ** int(rng.integers(0, 3)), 3)
        y = m.quant(m.node("Relu", m.node("Add", z, y)), 0.5, 3, signed=0)
    m.output(y)
    return m


@pytest.mark.parametrize("seed", range(30))
def test_every_code_is_the_interpreters(seed: int, tmp_path: Path) -> None:
    graph = lower(import_bytes(decoder(seed), tmp_path))
    # In small memories passes are small, tensors spill, and inputs stream.
    board = replace(BOARD, local_depth=400, accumulator_depth=160) if seed % 2 else BOARD
    emission = emit(graph, board, tmp_path)
    inputs = random_codes(graph, seed)
    expected, found = run_codes(graph, inputs), simulate(graph, emission, tmp_path, inputs)
    for output in graph.outputs:
        assert np.array_equal(found[output.name], expected[output.value.name])


def matmul_vectors(m: ModelBuilder, folder: Path) -> int:
    costs = pefslc.compile(m.save(folder), target="tensil").costs
    return max(layer.cycles.get("MatMul", 0) for layer in costs.layers)


def test_every_result_of_an_upsampling_is_one_vector(tmp_path: Path) -> None:
    m = ModelBuilder()
    x = m.quant(m.input((1, 16, 12, 12)), 0.25, 4)
    way = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    m.output(m.node("Resize", x, "", m.constant([1, 1, 2, 2]), mode="nearest", **way))
    assert matmul_vectors(m, tmp_path) == 24 * 24 * 2


def test_a_transposed_convolution_takes_no_more_than_a_convolution_of_as_many_products(tmp_path: Path) -> None:
    """4 x 4 taps, of which 2 x 2 see pixels: as 2 x 2 taps over an image of the result's size."""
    rng, vectors = np.random.default_rng(1), []
    for op, size, shape, attributes in (
        ("ConvTranspose", 12, (16, 8, 4, 4), {"strides": [2, 2], "pads": [1] * 4}),
        ("Conv", 24, (8, 16, 2, 2), {"pads": [1, 1, 0, 0]}),
    ):
        m = ModelBuilder()
        x = m.quant(m.input((1, 16, size, size)), 0.25, 3)
        weight = m.weight(rng.normal(0, 0.5, shape), 0.25, 3)
        m.output(m.node(op, x, weight, **attributes))
        vectors.append(matmul_vectors(m, tmp_path))
    assert vectors[0] <= vectors[1]
