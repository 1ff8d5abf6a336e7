"""Every operator on a small hand-made model: its shape, and its values against exact rationals or NumPy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from builders import QONNX, ModelBuilder, import_bytes, lower, normal
from oracle import evaluate_model
from oracle_functions import FUNCTIONS
from pefslc.frontend import import_model
from pefslc.ir.integer import Lookup
from pefslc.ir.interpret import run
from pefslc.passes import quantizer_codes

SHAPE = (1, 4, 6, 5)
PART = (1, 3, 6, 5)
Build = Callable[[ModelBuilder, str], str]


def weight(*shape: int) -> NDArray[np.float64]:
    return normal(shape, 0.7)


def conv(**attributes: object) -> Build:
    groups = int(attributes.get("group", 1))  # type: ignore[call-overload]
    return lambda m, x: m.node("Conv", x, m.weight(weight(4, 4 // groups, 3, 3)), **attributes)


def batch_norm(m: ModelBuilder, x: str) -> str:
    return m.quant(normalized(m, x), 0.25, 6)


def flat(m: ModelBuilder, x: str) -> str:
    return m.node("Flatten", x)


def normalized(m: ModelBuilder, x: str) -> str:
    parts = ([0.5, -1, 0, 2], [0.25, 0, 1, -1], [0.5, 0, 0.1, 0.3], [1, 0.3, 2, 4])
    return m.node("BatchNormalization", x, *map(m.constant, parts), epsilon=1e-5)


def trunc(m: ModelBuilder, x: str, *parameters: float, rounding: str = "floor", signed: int | None = None) -> str:
    attributes = {} if signed is None else {"signed": signed}
    return m.node("Trunc", x, *map(m.constant, parameters), domain=QONNX, rounding_mode=rounding, **attributes)


def silu(m: ModelBuilder, x: str) -> str:
    return m.quant(m.node("Mul", x, m.node("Sigmoid", x)), 2**-5, 8)


def gelu_in_pieces(m: ModelBuilder, x: str) -> str:
    """As torch exports nn.GELU() before opset 20."""
    erf = m.node("Erf", m.node("Div", x, m.constant(1.4142135)))
    return m.node("Mul", m.node("Mul", x, m.node("Add", erf, m.constant(1.0))), m.constant(0.5))


def tanh_gelu_in_pieces(m: ModelBuilder, x: str, cube: Callable[[str], str] | None = None) -> str:
    """As torch exports nn.GELU("tanh") before opset 20."""
    cubed = m.node("Mul", x, m.node("Mul", x, x)) if cube is None else cube(x)
    inner = m.node("Add", x, m.node("Mul", m.constant(0.044715), cubed))
    tanh = m.node("Tanh", m.node("Mul", m.constant(0.7978845608), inner))
    return m.node("Mul", m.constant(0.5), m.node("Mul", x, m.node("Add", m.constant(1.0), tanh)))


def gate(m: ModelBuilder, x: str) -> str:
    return m.quant(m.node("Sigmoid", m.node("GlobalAveragePool", x)), 2**-7, 7, signed=0)


def pad(m: ModelBuilder, x: str, pads: list[int]) -> str:
    return m.node("Pad", x, m.constant(pads, dtype=np.int64))


def reshape(m: ModelBuilder, x: str, shape: Sequence[int]) -> str:
    return m.node("Reshape", x, m.constant(shape, dtype=np.int64))


MODELS: dict[str, tuple[Build, tuple[int, ...]]] = {
    "conv": (conv(), (1, 4, 4, 3)),
    "conv with pads": (conv(pads=[1, 0, 2, 1], kernel_shape=[3, 3]), (1, 4, 7, 4)),
    "conv with strides": (conv(strides=[2, 3], pads=[1] * 4), (1, 4, 3, 2)),
    "conv with dilations": (conv(dilations=[2, 2], pads=[2] * 4), (1, 4, 6, 5)),
    "conv in groups": (conv(group=2), (1, 4, 4, 3)),
    "depthwise conv": (conv(group=4, pads=[1] * 4), (1, 4, 6, 5)),
    "conv with a float bias": (
        lambda m, x: m.node("Conv", x, m.weight(weight(2, 4, 1, 1)), m.constant([0.3, -1])),
        (1, 2, 6, 5),
    ),
    "conv with a quantized bias": (
        lambda m, x: m.node("Conv", x, m.weight(weight(2, 4, 1, 1)), m.weight([0.3, -1], 2**-6, 12)),
        (1, 2, 6, 5),
    ),
    "conv with a scale per channel": (
        lambda m, x: m.node("Conv", x, m.weight(weight(3, 4, 1, 1), np.float32([0.1, 0.2, 0.3]).reshape(3, 1, 1, 1))),
        (1, 3, 6, 5),
    ),
    "gemm": (
        lambda m, x: m.node("Gemm", flat(m, x), m.weight(weight(3, 120)), m.constant([1, 2, 3]), transB=1),
        (1, 3),
    ),
    "gemm with alpha and beta": (
        lambda m, x: m.node(
            "Gemm", flat(m, x), m.weight(weight(3, 120)), m.constant([1, 2, 3]), transB=1, alpha=0.1, beta=-2.5
        ),
        (1, 3),
    ),
    "gemm with a quantized bias times beta": (
        lambda m, x: m.node(
            "Gemm", flat(m, x), m.weight(weight(3, 120)), m.weight([1, -2, 3], 2**-6, 12), transB=1, beta=0.3
        ),
        (1, 3),
    ),
    "gemm with a bias that beta takes off": (
        lambda m, x: m.node("Gemm", flat(m, x), m.weight(weight(3, 120)), m.constant([1, 2, 3]), transB=1, beta=0.0),
        (1, 3),
    ),
    "gemm with alpha": (
        lambda m, x: m.node("Gemm", flat(m, x), m.weight(weight(3, 120)), m.constant([1, 2, 3]), transB=1, alpha=0.3),
        (1, 3),
    ),
    "gemm with a falling alpha and beta, before a quantizer": (
        lambda m, x: m.quant(
            m.node("Gemm", flat(m, x), m.weight(weight(3, 120)), m.weight([[1, 2, 3]]), transB=1, alpha=-0.1, beta=1.7),
            0.0371,
            7,
        ),
        (1, 3),
    ),
    "gemm with beta and one bias": (
        lambda m, x: m.node("Gemm", flat(m, x), m.weight(weight(3, 120)), m.constant([0.7]), transB=1, beta=0.5),
        (1, 3),
    ),
    "gemm without transB": (
        lambda m, x: m.node("Gemm", flat(m, x), m.node("Transpose", m.weight(weight(3, 120)), perm=[1, 0]), transB=0),
        (1, 3),
    ),
    "matmul": (
        lambda m, x: m.node("MatMul", flat(m, x), m.node("Transpose", m.weight(weight(3, 120)), perm=[1, 0])),
        (1, 3),
    ),
    "batch normalization": (batch_norm, SHAPE),
    "relu": (lambda m, x: m.quant(m.node("Relu", x), 0.25, 3, signed=0), SHAPE),
    "leaky relu": (lambda m, x: m.quant(m.node("LeakyRelu", x, alpha=0.1), 0.025, 7), SHAPE),
    "leaky relu, steeper below 0": (lambda m, x: m.quant(m.node("LeakyRelu", x, alpha=1.5), 0.0625, 7), SHAPE),
    "leaky relu that falls": (lambda m, x: m.quant(m.node("LeakyRelu", normalized(m, x), alpha=-0.25), 0.1, 7), SHAPE),
    "prelu": (lambda m, x: m.quant(m.node("PRelu", x, m.constant([0.3])), 0.025, 7), SHAPE),
    "prelu per channel": (
        lambda m, x: m.quant(m.node("PRelu", x, m.constant(np.reshape([0.3, 0, 1.7, 1], (4, 1, 1)))), 0.025, 7),
        SHAPE,
    ),
    "prelu after batch normalization, falling in one channel": (
        lambda m, x: m.quant(
            m.node("PRelu", normalized(m, x), m.constant(np.reshape([0.3, -0.4, 1.7, 1], (1, 4, 1, 1)))), 0.025, 9
        ),
        SHAPE,
    ),
    "prelu of features": (
        lambda m, x: m.quant(
            m.node("PRelu", flat(m, m.node("GlobalAveragePool", x)), m.constant([0.1, 0.2, 0.3, -1])), 0.01, 9
        ),
        (1, 4),
    ),
    "clip": (lambda m, x: m.quant(m.node("Clip", x, m.constant(0.0), m.constant(1.3)), 0.25, 4), SHAPE),
    "max pool": (
        lambda m, x: m.node("MaxPool", x, kernel_shape=[3, 2], strides=[2, 1], pads=[1, 0, 1, 1]),
        (1, 4, 3, 5),
    ),
    "average pool": (
        lambda m, x: m.node("AveragePool", x, kernel_shape=[3, 3], strides=[1, 1], pads=[1] * 4, count_include_pad=1),
        SHAPE,
    ),
    "global average pool": (lambda m, x: m.node("GlobalAveragePool", x), (1, 4, 1, 1)),
    "add": (lambda m, x: m.node("Add", x, m.quant(x, 0.5, 3)), SHAPE),
    "sub": (lambda m, x: m.node("Sub", x, m.quant(x, 0.5, 3)), SHAPE),
    "sub from what is positive": (lambda m, x: m.node("Sub", m.quant(m.node("Relu", x), 0.25, 3, signed=0), x), SHAPE),
    "sub of other scales": (
        lambda m, x: m.quant(m.node("Sub", m.quant(x, 0.375, 5), m.quant(m.node("Relu", x), 0.3125, 5)), 0.1, 6),
        SHAPE,
    ),
    "sub of multiples": (
        lambda m, x: m.node(
            "Sub", m.node("Mul", x, m.constant(0.75)), m.node("Div", m.quant(x, 0.5, 3), m.constant(-4.0))
        ),
        SHAPE,
    ),
    "add of a multiple that changes no code": (
        lambda m, x: m.node("Add", m.node("Mul", x, m.constant(0.5)), m.quant(x, 0.0625, 3)),
        SHAPE,
    ),
    "concat with its negative": (
        lambda m, x: m.quant(m.node("Relu", m.node("Concat", x, m.node("Neg", x), axis=1)), 0.25, 4),
        (1, 8, 6, 5),
    ),
    "concat with its negative, multiplied": (
        lambda m, x: m.quant(m.node("Relu", m.node("Concat", x, m.node("Mul", x, m.constant(-1.0)), axis=1)), 0.25, 4),
        (1, 8, 6, 5),
    ),
    "concat": (lambda m, x: m.node("Concat", x, m.quant(x, 0.5, 3), axis=1), (1, 8, 6, 5)),
    "bipolar weights and activations": (
        lambda m, x: m.node(
            "BipolarQuant",
            m.node("Conv", x, m.node("BipolarQuant", m.constant(weight(3, 4, 3, 3)), m.constant([0.5]), domain=QONNX)),
            m.constant([0.25]),
            domain=QONNX,
        ),
        (1, 3, 4, 3),
    ),
    "trunc": (lambda m, x: trunc(m, x, 0.125, 0, 5, 0.5, 3), SHAPE),
    "trunc up": (lambda m, x: trunc(m, x, 0.125, 0, 5, 0.5, 3, rounding="ceil"), SHAPE),
    "trunc of what lies on no grid": (lambda m, x: trunc(m, x, 0.2, 0, 5, 0.8, 3), SHAPE),
    "trunc with a zero point": (lambda m, x: trunc(m, x, 0.125, 4, 5, 0.5, 5, signed=0), SHAPE),
    "trunc to a scale that is no power of two": (lambda m, x: trunc(m, x, 0.125, 0, 5, 0.6, 3), SHAPE),
    "trunc of version 1": (lambda m, x: trunc(m, x, 0.125, 0, 5, 3), SHAPE),
    "trunc of version 1 with a zero point": (lambda m, x: trunc(m, x, 0.125, 2, 5, 3, rounding="ROUND"), SHAPE),
    "trunc after batch normalization": (
        lambda m, x: trunc(m, normalized(m, x), 0.25, 0, 9, 1, 6, rounding="round"),
        SHAPE,
    ),
    "pad before a conv": (
        lambda m, x: m.node("Conv", pad(m, x, [0, 0, 1, 2, 0, 0, 0, 1]), m.weight(weight(2, 4, 3, 3)), pads=[1] * 4),
        (1, 2, 7, 8),
    ),
    "pad before an average": (
        lambda m, x: m.node("AveragePool", pad(m, x, [0, 0, 1, 1, 0, 0, 1, 1]), kernel_shape=[3, 3]),
        SHAPE,
    ),
    "pad before a maximum": (
        lambda m, x: m.node("MaxPool", pad(m, x, [0, 0, 1, 2, 0, 0, 0, 1]), kernel_shape=[2, 2]),
        (1, 4, 6, 7),
    ),
    "pad of the channels": (lambda m, x: m.node("Relu", pad(m, x, [0, 1, 0, 0, 0, 2, 0, 0])), (1, 7, 6, 5)),
    "shuffle": (
        lambda m, x: reshape(m, m.node("Transpose", reshape(m, x, [1, 2, 2, 6, 5]), perm=[0, 2, 1, 3, 4]), SHAPE),
        SHAPE,
    ),
    "split": (lambda m, x: m.node("Add", *m.split(x, [2, 2], 2)), (1, 2, 6, 5)),
    "split after batch normalization": (
        lambda m, x: m.node(
            "Concat", *(m.quant(y, 0.25, 6) for y in reversed(m.split(normalized(m, x), [1, 3], 2))), axis=1
        ),
        SHAPE,
    ),
    "a part after batch normalization, as an output": (lambda m, x: m.split(normalized(m, x), [1, 3], 2)[1], PART),
    "a part of a tensor with a scale per channel": (
        lambda m, x: m.quant(
            m.split(m.quant(x, np.reshape(np.float32([0.1, 0.2, 0.3, 0.7]), (1, 4, 1, 1))), [2, 2], 2)[1], 0.05, 6
        ),
        (1, 2, 6, 5),
    ),
    "transpose": (lambda m, x: m.node("Transpose", x, perm=[0, 3, 1, 2]), (1, 5, 4, 6)),
    **{
        name: (lambda m, x, name=name: m.quant(m.node(name, x), 0.0625, 8), SHAPE)
        for name in FUNCTIONS
        if name not in ("Log", "QuickGelu", "Reciprocal", "Sqrt")
    },
    "swish with alpha": (lambda m, x: m.quant(m.node("Swish", x, alpha=1.5), 0.0625, 8), SHAPE),
    **{
        f"ONNX Runtime's {name}": (
            lambda m, x, name=name: m.quant(m.node(name, x, domain="com.microsoft"), 0.0625, 8),
            SHAPE,
        )
        for name in ("Gelu", "QuickGelu")
    },
    "elu with alpha": (lambda m, x: m.quant(m.node("Elu", x, alpha=0.3), 0.0625, 8), SHAPE),
    "functions of what is positive": (
        lambda m, x: m.quant(
            m.node("Log", m.node("Reciprocal", m.node("Sqrt", m.node("Add", x, m.constant(4.0))))), 0.05, 8
        ),
        SHAPE,
    ),
    "a square": (lambda m, x: m.quant(m.node("Pow", x, m.constant(2.0)), 0.05, 8), SHAPE),
    "sigmoid after batch normalization": (
        lambda m, x: m.quant(m.node("Sigmoid", normalized(m, x)), 2**-7, 8, signed=0),
        SHAPE,
    ),
    "silu after batch normalization": (lambda m, x: silu(m, normalized(m, x)), SHAPE),
    "hard swish in pieces": (
        lambda m, x: m.quant(
            m.node(
                "Div",
                m.node(
                    "Mul",
                    x,
                    m.node("Clip", m.node("Add", x, m.constant(3.0)), m.constant(0.0), m.constant(6.0)),
                ),
                m.constant(6.0),
            ),
            0.03,
            8,
        ),
        SHAPE,
    ),
    "gelu by tanh": (lambda m, x: m.quant(m.node("Gelu", normalized(m, x), approximate="tanh"), 0.03, 8), SHAPE),
    "gelu in pieces": (lambda m, x: m.quant(gelu_in_pieces(m, x), 0.03, 8), SHAPE),
    "gelu in pieces after batch normalization": (
        lambda m, x: m.quant(gelu_in_pieces(m, normalized(m, x)), 0.03, 8),
        SHAPE,
    ),
    "gelu by tanh in pieces": (lambda m, x: m.quant(tanh_gelu_in_pieces(m, normalized(m, x)), 0.03, 8), SHAPE),
    "gelu by tanh in pieces, with a power": (
        lambda m, x: m.quant(tanh_gelu_in_pieces(m, x, lambda y: m.node("Pow", y, m.constant(3.0))), 0.03, 8),
        SHAPE,
    ),
    "gelu by a sigmoid": (
        lambda m, x: m.quant(m.node("Mul", x, m.node("Sigmoid", m.node("Mul", x, m.constant(1.702)))), 0.03, 8),
        SHAPE,
    ),
    "a function to a zero point": (
        lambda m, x: m.node("Relu", m.quant(m.node("Mul", x, m.node("Sigmoid", x)), 0.05, 8, zero_point=3)),
        SHAPE,
    ),
    "scaled and shifted per channel": (
        lambda m, x: m.quant(
            m.node("Sub", m.node("Mul", x, m.constant(np.reshape([1, -2, 0.3, 0], (4, 1, 1)))), m.constant(0.4)),
            0.05,
            8,
        ),
        SHAPE,
    ),
    "subtracted from a constant": (lambda m, x: m.quant(m.node("Sub", m.constant(0.7), x), 0.05, 8), SHAPE),
    "product": (lambda m, x: m.node("Mul", x, m.quant(m.node("Relu", x), 0.25, 6, zero_point=2)), SHAPE),
    "square as a product": (lambda m, x: m.quant(m.node("Mul", x, x), 0.3, 8), SHAPE),
    "gate": (lambda m, x: m.node("Mul", x, gate(m, x)), SHAPE),
    "gate on the left": (lambda m, x: m.quant(m.node("Mul", gate(m, x), x), 0.05, 8), SHAPE),
    "matrix with a scale per output": (
        lambda m, x: m.node("MatMul", flat(m, x), m.weight(weight(120, 3), [0.1, 0.25, 0.3])),
        (1, 3),
    ),
    "matrix with a scale per output in a row": (
        lambda m, x: m.node("Gemm", flat(m, x), m.weight(weight(120, 3), [[0.1, 0.25, 0.3]]), m.constant([1.0, 2, 3])),
        (1, 3),
    ),
    "reshape": (lambda m, x: m.node("Reshape", x, m.constant([1, -1], dtype=np.int64)), (1, 120)),
}


# Outputs that no float64 is: means over numbers that are no powers of two, and a root.
NO_FLOAT64 = {
    "average pool", "global average pool", "pad before an average", "a part after batch normalization, as an output",
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_operator(name: str, tmp_path: Path) -> None:
    build, shape = MODELS[name]
    m = ModelBuilder()
    x = m.quant(m.input(SHAPE), 0.125, 5)
    m.output(build(m, x))
    model = m.build()
    quantized = import_bytes(model, tmp_path)
    assert quantized.outputs[0].value.type.shape == shape
    graph = lower(quantized)
    data = normal(SHAPE).astype(np.float32)
    expected = evaluate_model(model, data)
    for level in (quantized, graph):
        (got,) = run(level, data).values()
        assert got.shape == shape
        if name in NO_FLOAT64:
            np.testing.assert_allclose(got, expected.astype(float), rtol=1e-14, atol=1e-14)
        else:
            np.testing.assert_array_equal(got, expected.astype(float))


TURNING = [
    "Gelu", "ONNX Runtime's QuickGelu", "Swish", "swish with alpha", "HardSwish", "Mish", "Abs", "Sigmoid",
    "leaky relu that falls", "gelu by tanh in pieces", "gelu in pieces",
    "prelu after batch normalization, falling in one channel", "silu after batch normalization",
    "a function to a zero point", "hard swish in pieces", "square as a product",
]  # fmt: skip


@pytest.mark.parametrize("name", TURNING)
def test_functions_of_too_many_codes_for_a_table_are_sums_of_two_staircases(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantizer_codes, "_LARGEST_TABLE", 8)
    m = ModelBuilder()
    m.output(MODELS[name][0](m, m.quant(m.input(SHAPE), 0.125, 5)))
    graph = lower(import_bytes(m, tmp_path))
    assert not list(graph.of_type(Lookup))
    data = normal(SHAPE).astype(np.float32)
    (got,) = run(graph, data).values()
    np.testing.assert_array_equal(got, evaluate_model(m.build(), data).astype(float))


def test_origins_name_the_node_and_the_tensor(models: Path) -> None:
    graph = import_model(models / "cnn_q2_3.onnx")
    assert graph.name == "cnn_q2_3"
    assert str(graph.ops[0].result.origin).startswith("/inp/act_quant/export_handler/Quant (Quant), tensor '/inp/")
