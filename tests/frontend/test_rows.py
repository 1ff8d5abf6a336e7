"""Dense layers over the last axis of sequences and of images with channels last, against NumPy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from builders import ModelBuilder, import_bytes, lower, normal, refusal_of
from pefslc.ir.interpret import run
from pefslc.ir.structural import Transpose

STEP = 0.125


def rounded(array: np.ndarray, step: float = STEP, bits: int = 8, *, signed: bool = True) -> np.ndarray:
    low = -(2 ** (bits - 1)) if signed else 0
    return np.clip(np.round(array / step), low, low + 2**bits - 1) * step


def relu(array: np.ndarray) -> np.ndarray:
    return np.maximum(array, 0)


FIRST, SECOND = rounded(normal((8, 6), 0.5), bits=5), rounded(normal((6, 8), 0.4), bits=5)
BIAS = normal((6,), 0.5).astype(np.float32).astype(float)
FACTOR = rounded(normal((6,), 1), 0.25, 6)


def dense(m: ModelBuilder, x: str) -> str:
    return m.quant(m.node("MatMul", x, m.weight(FIRST)), STEP, 8)


def with_bias(m: ModelBuilder, x: str) -> str:
    sums = m.node("Add", m.node("MatMul", x, m.weight(FIRST)), m.constant(BIAS))
    return m.quant(m.node("Relu", sums), STEP, 8, signed=0)


def with_quantized_bias(m: ModelBuilder, x: str) -> str:
    sums = m.node("Add", m.weight(BIAS, 2**-6, 10), m.node("MatMul", x, m.weight(FIRST)))
    return m.quant(m.node("Clip", sums, m.constant(-1.0), m.constant(1.0)), STEP, 8)


def with_factor(m: ModelBuilder, x: str) -> str:
    sums = m.node("Mul", m.node("MatMul", x, m.weight(FIRST)), m.constant(FACTOR.reshape(1, 6)))
    return m.quant(sums, STEP, 8)


def by_pairs(m: ModelBuilder, x: str) -> str:
    """The quantizer as QuantizeLinear, Clip and DequantizeLinear."""
    scale, zero = m.constant(STEP), m.constant(0, dtype=np.int8)
    codes = m.node("QuantizeLinear", m.node("Relu", m.node("MatMul", x, m.weight(FIRST))), scale, zero)
    limits = m.constant(0, dtype=np.int8), m.constant(100, dtype=np.int8)
    return m.node("DequantizeLinear", m.node("Clip", codes, *limits), scale, zero)


def mixer(m: ModelBuilder, x: str) -> str:
    """Two layers, and a residual addition around both."""
    inner = m.quant(m.node("MatMul", with_bias(m, x), m.weight(SECOND)), STEP, 8)
    return m.quant(m.node("Add", inner, x), STEP, 8)


def mixed(x: np.ndarray) -> np.ndarray:
    inner = rounded(relu(x @ FIRST + BIAS), signed=False)
    return rounded(rounded(inner @ SECOND) + x)


def scale_per_output(m: ModelBuilder, x: str) -> str:
    scales = np.float32([0.125, 0.25, 0.5, 0.125, 0.0625, 1])
    return m.quant(m.node("MatMul", x, m.weight(FIRST, scales.reshape(1, 6), 8)), STEP, 8)


def rounded_by_output(x: np.ndarray) -> np.ndarray:
    scales = np.array([0.125, 0.25, 0.5, 0.125, 0.0625, 1])
    return rounded(x @ rounded(FIRST, scales, 8))


NETWORKS: dict[str, tuple[Callable[[ModelBuilder, str], str], Callable[[np.ndarray], np.ndarray]]] = {
    "dense": (dense, lambda x: rounded(x @ FIRST)),
    "bias and relu": (with_bias, lambda x: rounded(relu(x @ FIRST + BIAS), signed=False)),
    "quantized bias and clip": (
        with_quantized_bias,
        lambda x: rounded(np.clip(x @ FIRST + rounded(BIAS, 2**-6, 10), -1, 1)),
    ),
    "a factor for each output": (with_factor, lambda x: rounded(x @ FIRST * FACTOR)),
    "QuantizeLinear": (by_pairs, lambda x: np.clip(rounded(relu(x @ FIRST)), 0, 100 * STEP)),
    "a residual block": (mixer, mixed),
    "a scale for each output": (scale_per_output, rounded_by_output),
}


@pytest.mark.parametrize("shape", [(1, 5, 8), (2, 1, 8), (1, 8, 8), (1, 2, 3, 8), (1, 6, 6, 8)])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_dense_layer_over_the_last_axis(name: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    """Also where rows, columns and channels are as many: nothing may be told by its size."""
    build, expected = NETWORKS[name]
    m = ModelBuilder()
    m.output(build(m, m.quant(m.input(shape), STEP, 6)))
    data = rounded(normal(shape, 2), bits=6)
    quantized = import_bytes(m, tmp_path)
    for graph in (quantized, lower(quantized)):
        (got,) = run(graph, data).values()
        np.testing.assert_array_equal(got, expected(data))


def test_no_transposition_stands_between_two_layers(tmp_path: Path) -> None:
    m = ModelBuilder()
    m.output(mixer(m, m.quant(m.input((1, 5, 8)), STEP, 6)))
    activations = [op for op in lower(import_bytes(m, tmp_path)).of_type(Transpose) if len(op.result.type.shape) == 3]
    assert len(activations) == 2  # into the first layer, and back for the sum


def test_a_transposition_of_the_file_undoes_ours(tmp_path: Path) -> None:
    """Linear, transpose, Conv1d, as in networks that mix both."""
    kernel = rounded(normal((2, 6, 3), 0.4), bits=5)

    def network(m: ModelBuilder, x: str) -> str:
        turned = m.node("Transpose", with_bias(m, x), perm=[0, 2, 1])
        return m.quant(m.node("Conv", turned, m.weight(kernel)), STEP, 8)

    m = ModelBuilder()
    m.output(network(m, m.quant(m.input((1, 5, 8)), STEP, 6)))
    graph = lower(import_bytes(m, tmp_path))
    assert len(list(graph.of_type(Transpose))) == 1
    data = rounded(normal((1, 5, 8), 2), bits=6)
    inner = rounded(relu(data @ FIRST + BIAS), signed=False).transpose(0, 2, 1)
    windows = np.lib.stride_tricks.sliding_window_view(inner, 3, axis=2)
    (got,) = run(graph, data).values()
    np.testing.assert_array_equal(got, rounded(np.einsum("ncwk,mck->nmw", windows, kernel)))


def test_a_constant_of_the_last_axis_without_a_layer(tmp_path: Path) -> None:
    m = ModelBuilder()
    x = m.quant(m.input((1, 5, 6)), STEP, 6)
    m.output(m.quant(m.node("Relu", m.node("Sub", x, m.constant(BIAS))), STEP, 8))
    data = rounded(normal((1, 5, 6), 2), bits=6)
    (got,) = run(lower(import_bytes(m, tmp_path)), data).values()
    np.testing.assert_array_equal(got, rounded(relu(data - BIAS)))


def test_features_that_do_not_fit_are_refused_once(tmp_path: Path) -> None:
    m = ModelBuilder()
    sums = m.node("MatMul", m.quant(m.input((1, 5, 7))), m.weight(FIRST), name="n", output="y")
    m.output(m.quant(m.node("Add", sums, m.constant(BIAS))))
    assert refusal_of(m, tmp_path) == (
        "error[PEF0408]: the weight wants 8 features, the input has 7\n  at:   n (MatMul), tensor 'y'"
    )


def merged(m: ModelBuilder, x: str, shape: tuple[int, ...], *, transposes: bool, quantizes: bool, bias: bool) -> str:
    """As ONNX Runtime fuses MatMul and Add: Reshape, Gemm, ReLU, Reshape, with quantizers between them or not."""
    rows = int(np.prod(shape[:-1]))
    x = m.node("Reshape", x, m.constant([rows, shape[-1]], dtype=np.int64))
    x = m.quant(x, STEP, 6) if quantizes else x
    kernel = m.weight(FIRST.T if transposes else FIRST)
    y = m.node("Gemm", x, kernel, *([m.constant(BIAS)] if bias else []), transB=int(transposes))
    y = m.node("Relu", y)
    y = m.quant(y, STEP, 8, signed=0) if quantizes else y
    y = m.node("Reshape", y, m.constant([*shape[:-1], 6], dtype=np.int64))
    return m.quant(y, STEP, 8, signed=0)


@pytest.mark.parametrize("shape", [(1, 5, 8), (2, 3, 8), (1, 8, 8), (1, 2, 3, 8)])
@pytest.mark.parametrize("transposes", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("quantizes", [False, True])
def test_rows_that_a_reshape_merges_with_the_batch_stay_rows(
    shape: tuple[int, ...], transposes: bool, bias: bool, quantizes: bool, tmp_path: Path
) -> None:
    m = ModelBuilder()
    x = m.quant(m.input(shape), STEP, 6)
    m.output(merged(m, x, shape, transposes=transposes, quantizes=quantizes, bias=bias))
    data = rounded(normal(shape, 2), bits=6)
    expected = rounded(relu(data @ FIRST + (BIAS if bias else 0)), signed=False)
    quantized = import_bytes(m, tmp_path)
    for graph in (quantized, lower(quantized)):
        (got,) = run(graph, data).values()
        np.testing.assert_array_equal(got, expected)


def test_rows_that_something_else_reads_are_refused_as_before(tmp_path: Path) -> None:
    m = ModelBuilder()
    x = m.quant(m.input((1, 5, 8)), STEP, 6)
    rows = m.node("Reshape", x, m.constant([5, 8], dtype=np.int64))
    m.output(m.node("MatMul", rows, m.weight(FIRST)))
    m.output(m.node("Relu", rows))
    assert "Reshape of [1, 5, 8] to [5, 8] is not supported" in refusal_of(m, tmp_path)


def test_rows_that_become_other_rows_are_refused_as_before(tmp_path: Path) -> None:
    m = ModelBuilder()
    x = m.quant(m.input((1, 6, 8)), STEP, 6)
    y = m.node("MatMul", m.node("Reshape", x, m.constant([6, 8], dtype=np.int64)), m.weight(FIRST))
    m.output(m.node("Reshape", y, m.constant([1, 4, 9], dtype=np.int64)))
    assert "Reshape of [1, 6, 8] to [6, 8] is not supported" in refusal_of(m, tmp_path)
