"""A quantized constant that stands in a sum or product of its own: a bias, or a factor, exactly."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from builders import ModelBuilder, import_bytes, lower, normal
from pefslc.ir.interpret import run
from pefslc.ir.quantized import BiasAdd, Conv, Linear

BIAS = np.array([0.34765, 1.1, -0.66, 0.2047])
Layer = Callable[[ModelBuilder, str], str]


def rounded(array: np.ndarray, step: float, bits: int) -> np.ndarray:
    return np.clip(np.round(array / step), -(2 ** (bits - 1)), 2 ** (bits - 1) - 1) * step


WEIGHT = normal((4, 3), 0.5)
DATA = rounded(normal((2, 3), 2), 0.125, 6)
IMAGE = rounded(normal((1, 3, 5, 5), 2), 0.125, 6)


def by_qonnx(m: ModelBuilder, bias: np.ndarray) -> str:
    return m.weight(bias, 2**-4, 8)


def by_dequantize_linear(m: ModelBuilder, bias: np.ndarray) -> str:
    codes = np.round(bias / 2**-4).astype(np.int32)
    m.initializers.append(helper.make_tensor("codes", TensorProto.INT32, codes.shape, codes.reshape(-1).tolist()))
    return m.node("DequantizeLinear", "codes", m.constant(2**-4))


def results(m: ModelBuilder, folder: Path, data: np.ndarray) -> list[np.ndarray]:
    quantized = import_bytes(m, folder)
    return [next(iter(run(graph, data).values())) for graph in (quantized, lower(quantized))]


@pytest.mark.parametrize("bias_of", [by_qonnx, by_dequantize_linear])
@pytest.mark.parametrize("layer", ["MatMul", "Gemm", "Conv"])
@pytest.mark.parametrize("shape", [(4,), (1, 4), (4, 1, 1), (1, 4, 1, 1)])
@pytest.mark.parametrize("first", [False, True])
def test_a_quantized_bias_behind_a_layer_is_the_layers_bias(
    bias_of: Callable[[ModelBuilder, np.ndarray], str], layer: str, shape: tuple[int, ...], first: bool, tmp_path: Path
) -> None:
    if (layer == "Conv") != (shape[-1] == 1):
        return  # along the other axis: no bias
    m = ModelBuilder()
    x = m.quant(m.input(IMAGE.shape if layer == "Conv" else DATA.shape), 0.125, 6)
    weight = WEIGHT.reshape(4, 3, 1, 1) if layer == "Conv" else WEIGHT.T
    sums = m.node(layer, x, m.weight(weight))
    bias = bias_of(m, BIAS.reshape(shape))
    m.output(m.quant(m.node("Add", *((bias, sums) if first else (sums, bias))), 0.25, 8))
    products = [op for op in import_bytes(m, tmp_path).ops if isinstance(op, Conv | Linear)]
    assert [op.bias is not None for op in products] == [True]
    exact = np.einsum("mk,nk...->nm...", rounded(WEIGHT, 0.125, 5), IMAGE if layer == "Conv" else DATA)
    bias_values = rounded(BIAS, 2**-4, 8).reshape((1, 4) + (1,) * (exact.ndim - 2))
    for got in results(m, tmp_path, IMAGE if layer == "Conv" else DATA):
        np.testing.assert_array_equal(got, rounded(exact + bias_values, 0.25, 8))


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul"])
def test_a_quantized_constant_behind_anything_else_is_what_it_says(op: str, tmp_path: Path) -> None:
    """Behind an activation, where it can be no layer's bias; its scale is 0.3, which float64 does not have."""
    m = ModelBuilder()
    step = float(np.float32(0.3))
    constant = m.weight(BIAS[:3].reshape(3, 1, 1), step, 5)
    x = m.quant(m.input(IMAGE.shape), 0.125, 6)
    m.output(m.quant(m.node(op, m.node("Relu", x), constant), 0.25, 8))
    values = rounded(BIAS[:3], step, 5).reshape(3, 1, 1)
    numpy = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply}[op]
    for got in results(m, tmp_path, IMAGE):
        np.testing.assert_array_equal(got, rounded(numpy(np.maximum(IMAGE, 0), values), 0.25, 8))


def test_a_layer_that_is_read_twice_keeps_its_sums(tmp_path: Path) -> None:
    m = ModelBuilder()
    x = m.quant(m.input(DATA.shape), 0.125, 6)
    sums = m.node("MatMul", x, m.weight(WEIGHT.T))
    m.output(m.quant(sums, 0.25, 8))
    m.output(m.quant(m.node("Add", sums, by_qonnx(m, BIAS)), 0.25, 8))
    graph = import_bytes(m, tmp_path)
    assert [op.mnemonic for op in graph.ops if isinstance(op, BiasAdd | Linear)] == ["linear", "bias_add"]
    exact = DATA @ rounded(WEIGHT, 0.125, 5).T
    expected = rounded(exact, 0.25, 8), rounded(exact + rounded(BIAS, 2**-4, 8), 0.25, 8)
    for got, value in zip(run(lower(graph), DATA).values(), expected, strict=True):
        np.testing.assert_array_equal(got, value)


def test_a_bias_behind_a_bias_is_added_to_it(tmp_path: Path) -> None:
    m = ModelBuilder()
    x = m.quant(m.input(DATA.shape), 0.125, 6)
    sums = m.node("Gemm", x, m.weight(WEIGHT), by_qonnx(m, BIAS), transB=1)
    m.output(m.quant(m.node("Add", sums, m.weight(BIAS[::-1].reshape(1, 4), 2**-4, 8)), 0.25, 8))
    bias = rounded(BIAS, 2**-4, 8)
    for got in results(m, tmp_path, DATA):
        exact = DATA @ rounded(WEIGHT, 0.125, 5).T + bias + bias[::-1]
        np.testing.assert_array_equal(got, rounded(exact, 0.25, 8))
