"""Parameters that the file computes from constants: the same graph as with the numbers themselves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from builders import QONNX, ModelBuilder, import_bytes, normal, refusal_of
from pefslc.frontend import constants
from pefslc.ir.graph import Graph
from pefslc.ir.quantized import Quantize
from pefslc.ir.text import print_graph

SHAPE = (1, 4, 6, 5)
Build = Callable[[ModelBuilder], str]


def quantized_by(folder: Path, scale: Build, bits: Build) -> Graph:
    m = ModelBuilder()
    parameters = scale(m), m.constant(0.0), bits(m)
    attributes = {"signed": 1, "narrow": 0, "rounding_mode": "ROUND"}
    m.output(m.node("Quant", m.input(SHAPE), *parameters, domain=QONNX, **attributes))
    return import_bytes(m, folder)


def bfloat16(m: ModelBuilder, value: float) -> str:
    m.initializers.append(helper.make_tensor("narrow", TensorProto.BFLOAT16, [], [value]))
    return "narrow"


COMPUTED: dict[str, tuple[Build, float]] = {
    "a quotient": (lambda m: m.node("Div", m.constant(0.75), m.constant(3.0)), 0.25),
    "a root": (lambda m: m.node("Sqrt", m.constant(0.0625)), 0.25),
    "a power": (lambda m: m.node("Pow", m.constant(0.0625), m.constant(0.5)), 0.25),
    "a power of an integer exponent": (
        lambda m: m.node("Pow", m.constant(2.0), m.constant(-2, dtype=np.int64)),
        0.25,
    ),
    "a maximum": (lambda m: m.node("ReduceMax", m.constant([0.25, 0.125]), keepdims=0), 0.25),
    "a mean": (lambda m: m.node("ReduceMean", m.constant([0.375, 0.125]), keepdims=0), 0.25),
    "a lower limit": (lambda m: m.node("Clip", m.constant(1e-9), m.constant(0.25)), 0.25),
    "a cast": (lambda m: m.node("Cast", m.constant(0.25, dtype=np.float64), to=1), 0.25),
    "a cast from bfloat16": (lambda m: m.node("Cast", bfloat16(m, 0.25), to=1), 0.25),
    "a choice": (
        lambda m: m.node(
            "Where", m.node("Greater", m.constant(1.0), m.constant(0.0)), m.constant(0.25), m.constant(7.0)
        ),
        0.25,
    ),
    "a chain": (
        lambda m: m.node("Exp", m.node("Neg", m.node("Log", m.node("Abs", m.constant(-4.0))))),
        0.25,
    ),
    "a float32 quotient": (
        lambda m: m.node("Div", m.constant(1.0), m.constant(3.0)),
        float(np.float32(11184811 / 2**25)),  # the float32 next to 1/3
    ),
}


@pytest.mark.parametrize("name", COMPUTED)
def test_a_scale_that_is_computed_is_the_number_in_the_files_own_type(name: str, tmp_path: Path) -> None:
    build, value = COMPUTED[name]
    bits: Build = lambda m: m.constant(5)  # noqa: E731
    (op,) = quantized_by(tmp_path, build, bits).ops
    (written,) = quantized_by(tmp_path, lambda m: m.constant(value), bits).ops
    assert isinstance(op, Quantize)
    assert op.result.type == written.result.type


@pytest.mark.parametrize("levels", [3, 4, 5, 8, 9, 16, 17, 255, 256, 257])
def test_a_bit_width_that_is_the_ceiling_of_a_logarithm(levels: int, tmp_path: Path) -> None:
    """Brevitas' TruncAvgPool2d: Ceil(Log(n) / Log(2)). A logarithm off by one place would be one bit more."""

    def bits(m: ModelBuilder) -> str:
        quotient = m.node("Div", m.node("Log", m.constant(levels)), m.node("Log", m.constant(2.0)))
        return m.node("Ceil", quotient)

    (op,) = quantized_by(tmp_path, lambda m: m.constant(0.25), bits).ops
    assert isinstance(op, Quantize)
    assert op.result.type.quantization.bits == (levels - 1).bit_length()


def test_a_norm_with_a_root_of_constants(tmp_path: Path) -> None:
    """The last layer of Brevitas' binary networks: (y - mean) / (var + eps)^0.5."""

    def network(deviation: Build) -> Graph:
        m = ModelBuilder()
        centred = m.node("Sub", m.quant(m.input((1, 5))), m.constant(0.5))
        m.output(m.node("Div", centred, deviation(m), output="y"))
        return import_bytes(m, tmp_path)

    def root(m: ModelBuilder) -> str:
        return m.node("Pow", m.node("Add", m.constant(2.0), m.constant(0.25)), m.constant(0.5), name="root")

    values = normal((3, 5))
    np.testing.assert_array_equal(network(root).run(values)["y"], network(lambda m: m.constant(1.5)).run(values)["y"])


@pytest.mark.parametrize("op", ["Reshape", "Transpose", "Mul", "Concat"])
def test_a_weight_that_is_made_of_constants_is_still_quantized_once(op: str, tmp_path: Path) -> None:
    data = normal((2, 4, 5), 0.5).astype(np.float32)
    spellings: dict[str, tuple[Build, np.ndarray]] = {
        "Reshape": (lambda m: m.node("Reshape", m.constant(data), m.constant([8, 5], dtype=np.int64)), data),
        "Transpose": (
            lambda m: m.node("Transpose", m.constant(data.reshape(8, 5).T.copy()), perm=[1, 0]),
            data,
        ),
        "Mul": (lambda m: m.node("Mul", m.constant(data.reshape(8, 5)), m.constant(0.5)), data * np.float32(0.5)),
        "Concat": (lambda m: m.node("Concat", m.constant(data[0]), m.constant(data[1]), axis=0), data),
    }
    build, written = spellings[op]
    graphs = []
    for weight in (build, lambda m: m.constant(written.reshape(8, 5))):
        m = ModelBuilder()
        x = m.quant(m.input((1, 8)))
        m.output(m.node("MatMul", x, m.quant(weight(m)), output="y"))
        graphs.append(import_bytes(m, tmp_path))
    assert [op.mnemonic for op in graphs[0].ops] == [op.mnemonic for op in graphs[1].ops]
    np.testing.assert_array_equal(*(graph.run(normal((3, 8)))["y"] for graph in graphs))


def test_a_quantizer_of_a_constant_is_not_evaluated(tmp_path: Path) -> None:
    m = ModelBuilder()
    w = m.constant(np.ones((4, 4, 1, 1)))
    m.output(m.node("Conv", m.quant(m.input(SHAPE)), m.quant(m.node("Mul", w, m.constant(0.5)))))
    text = print_graph(import_bytes(m, tmp_path))
    assert text.count("= quantize ") == 2


@pytest.mark.parametrize(
    "build",
    [
        lambda m: m.node("Expand", m.constant(0.25), m.constant([1 << 20, 1 << 20], dtype=np.int64)),
        lambda m: m.node("ConstantOfShape", m.constant([1 << 40], dtype=np.int64)),
        lambda m: m.node("Range", *(m.constant(v) for v in (0.0, 1e30, 1e-30))),
        lambda m: m.node("Add", m.constant(np.ones((1, 5000))), m.constant(np.ones((5000, 1)))),
        lambda m: m.node("RandomNormal", shape=[1]),
        lambda m: m.node("RandomNormalLike", m.constant(1.0)),
    ],
)
def test_what_is_huge_or_random_is_not_evaluated(build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def evaluated(*_: object) -> None:
        raise AssertionError("evaluated")

    monkeypatch.setattr(constants, "_evaluate", evaluated)
    m = ModelBuilder()
    scale = build(m)
    m.output(m.node("Quant", m.input(SHAPE), scale, m.constant(0.0), m.constant(5), domain=QONNX))
    assert "error[PEF0" in refusal_of(m, tmp_path)


def test_constants_that_have_no_value_are_refused_where_they_are_used(tmp_path: Path) -> None:
    m = ModelBuilder()
    scale = m.node("Log", m.constant(-1.0))
    m.output(m.node("Quant", m.input(SHAPE), scale, m.constant(0.0), m.constant(5), domain=QONNX))
    assert "the scale is not a positive finite number" in refusal_of(m, tmp_path)
