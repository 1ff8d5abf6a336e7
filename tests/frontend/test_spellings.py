"""One meaning in several spellings: what exporters write differently imports to the same operations."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from onnx import helper, numpy_helper

from builders import QONNX, ModelBuilder, import_bytes, lower, normal
from pefslc.ir.interpret import run
from pefslc.ir.quantized import Quantize as QuantizeOp
from pefslc.numeric.rounding import RoundingMode

SHAPE = (1, 4, 6, 5)
Build = Callable[[ModelBuilder, str], str]


def alike(tmp_path: Path, opset: int, left: Build, right: Build) -> None:
    """Both spellings import to the same operations, but for the names of their origins."""
    shapes = []
    data = normal(SHAPE).astype(np.float32)
    for build, version in ((left, opset), (right, 13)):
        m = ModelBuilder(opset=version)
        m.output(build(m, m.quant(m.input(SHAPE))))
        graph = lower(import_bytes(m, tmp_path))
        shapes.append([(op.mnemonic, op.result.type) for op in graph.ops] + list(run(graph, data).values()))
    for a, b in zip(*shapes, strict=True):
        np.testing.assert_array_equal(a, b) if isinstance(a, np.ndarray) else None
        assert isinstance(a, np.ndarray) or a == b


def test_the_mean_over_rows_and_columns_in_both_spellings(tmp_path: Path) -> None:
    mean = lambda m, x: m.node("GlobalAveragePool", x)  # noqa: E731
    axes = lambda m, x: m.node("ReduceMean", x, m.constant([-1, 2], dtype=np.int64))  # noqa: E731
    alike(tmp_path, 18, axes, mean)
    alike(tmp_path, 13, lambda m, x: m.node("ReduceMean", x, axes=[2, 3]), mean)
    flat_mean = lambda m, x: m.node("Flatten", m.node("GlobalAveragePool", x))  # noqa: E731
    alike(tmp_path, 13, lambda m, x: m.node("ReduceMean", x, axes=[2, 3], keepdims=0), flat_mean)


SAME_AS_CONV_WITH_PADS: dict[str, tuple[dict[str, object], dict[str, object]]] = {
    "SAME_UPPER": ({"auto_pad": "SAME_UPPER", "strides": [2, 2]}, {"pads": [0, 1, 1, 1], "strides": [2, 2]}),
    "SAME_LOWER": ({"auto_pad": "SAME_LOWER", "strides": [2, 2]}, {"pads": [1, 1, 0, 1], "strides": [2, 2]}),
    "VALID": ({"auto_pad": "VALID"}, {}),
    "NOTSET": ({"auto_pad": "NOTSET", "pads": [1] * 4}, {"pads": [1] * 4}),
}


@pytest.mark.parametrize("name", SAME_AS_CONV_WITH_PADS)
def test_auto_pad_is_the_padding_that_onnx_defines(name: str, tmp_path: Path) -> None:
    """6 x 5 inputs, 3 x 3 kernel, stride 2: one row of padding in total, two columns."""
    automatic, explicit = SAME_AS_CONV_WITH_PADS[name]
    graphs = []
    for attributes in (automatic, explicit):
        m = ModelBuilder()
        x = m.quant(m.input(SHAPE))
        m.output(m.node("Conv", x, m.weight(normal((4, 4, 3, 3))), **attributes))
        graphs.append(import_bytes(m, tmp_path))
    assert graphs[0].ops == graphs[1].ops


def test_other_spellings(tmp_path: Path) -> None:
    alike(
        tmp_path,
        9,
        lambda m, x: m.node("Clip", x, min=0.0, max=1.5),
        lambda m, x: m.node("Clip", x, m.constant(0.0), m.constant(1.5)),
    )
    alike(tmp_path, 13, lambda m, x: m.node("Clip", x, m.constant(0.0), ""), lambda m, x: m.node("Relu", x))
    alike(
        tmp_path,
        13,
        lambda m, x: m.node("Identity", m.node("Dropout", m.node("Relu", x))),
        lambda m, x: m.node("Relu", x),
    )
    alike(
        tmp_path,
        14,
        lambda m, x: m.node("Reshape", x, m.constant([0, -1], dtype=np.int64)),
        lambda m, x: m.node("Flatten", x),
    )


def test_squeeze_and_unsqueeze_are_reshapes(tmp_path: Path) -> None:
    flat = lambda m, x: m.node("Flatten", m.node("GlobalAveragePool", x))  # noqa: E731

    def axes(*given: list[int]) -> Build:
        def build(m: ModelBuilder, x: str) -> str:
            pooled = m.node("GlobalAveragePool", x)
            return m.node("Squeeze", pooled, *(m.constant(v, dtype=np.int64) for v in given))

        return build

    alike(tmp_path, 13, axes([2, 3]), flat)
    alike(tmp_path, 13, axes([-1, -2]), flat)
    alike(tmp_path, 11, lambda m, x: m.node("Squeeze", m.node("GlobalAveragePool", x), axes=[2, 3]), flat)
    alike(tmp_path, 13, axes(), flat)
    alike(
        tmp_path,
        13,
        lambda m, x: m.node("Unsqueeze", flat(m, x), m.constant([2, -1], dtype=np.int64)),
        lambda m, x: m.node("Reshape", flat(m, x), m.constant([1, 4, 1, 1], dtype=np.int64)),
    )


def test_a_constant_node_is_an_initializer(tmp_path: Path) -> None:
    m = ModelBuilder()
    x = m.quant(m.input(SHAPE))
    tensor = numpy_helper.from_array(normal((2, 4, 1, 1), 0.7).astype(np.float32))
    w = m.quant(m.node("Constant", value=tensor))
    m.output(m.node("Conv", x, w))
    lower(import_bytes(m, tmp_path))


@pytest.mark.parametrize(
    ("domain", "version"), [("qonnx.custom_op.general", 1), ("onnx.brevitas", 1), ("finn.custom_op.general", 1)]
)
@pytest.mark.parametrize("op", ["Quant", "IntQuant"])
def test_quant_in_all_its_domains(domain: str, version: int, op: str, tmp_path: Path) -> None:
    m = ModelBuilder(quant_domain=domain, quant_version=version)
    m.output(m.quant(m.input(SHAPE), op=op))
    assert len(lower(import_bytes(m, tmp_path)).inputs) == 1


@pytest.mark.parametrize(
    "name", ["ROUND", "round", "floor", "CEIL", "half_up", "HALF_DOWN", "UP", "DOWN", "ROUND_TO_ZERO", None]
)
def test_the_rounding_mode_in_any_case_and_absent(name: str | None, tmp_path: Path) -> None:
    m = ModelBuilder()
    m.output(m.quant(m.input(SHAPE), rounding=name))
    (op,) = import_bytes(m, tmp_path).ops
    assert isinstance(op, QuantizeOp)
    assert op.rounding is (RoundingMode.HALF_EVEN if name is None else RoundingMode.from_qonnx(name))


@pytest.mark.parametrize("parameter", ["weight", "bias", "norm", "scale"])
def test_an_identity_of_a_constant_is_that_constant(parameter: str, tmp_path: Path) -> None:
    """What exporters write where several parameters have the same values."""
    graphs = []
    for spelled in ("", parameter):
        m = ModelBuilder()

        def constant(name: str, array: np.ndarray, spelled: str = spelled, m: ModelBuilder = m) -> str:
            made = m.constant(array)
            return m.node("Identity", made) if name == spelled else made

        x = m.quant(m.input((1, 2, 4, 4)))
        weight = m.quant(constant("weight", np.ones((2, 2, 1, 1))))
        y = m.node("Conv", x, weight, constant("bias", np.array([0.5, 1.0])))
        y = m.node("BatchNormalization", y, *[constant("norm", np.ones(2)) for _ in range(4)], epsilon=1e-5)
        parameters = [constant("scale", np.array(v)) for v in (0.125, 0, 5)]
        m.output(m.node("Quant", y, *parameters, domain=QONNX, signed=1, narrow=0, rounding_mode="ROUND"))
        graphs.append(import_bytes(m, tmp_path))
    values = np.random.default_rng(0).uniform(-2, 2, (1, 2, 4, 4))
    np.testing.assert_array_equal(*(next(iter(graph.run(values).values())) for graph in graphs))


def test_initializers_that_are_also_inputs_are_no_inputs(tmp_path: Path) -> None:
    """Brevitas' default export lists every weight among the inputs."""
    m = ModelBuilder()
    x = m.quant(m.input(SHAPE))
    m.output(m.node("Conv", x, m.weight(normal((2, 4, 1, 1), 0.3))))
    model = m.build()
    for tensor in model.graph.initializer:
        model.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    assert [i.name for i in import_bytes(model, tmp_path).inputs] == ["x"]


def test_the_order_of_nodes_in_the_file_does_not_matter(tmp_path: Path) -> None:
    m = ModelBuilder()
    m.output(m.quant(m.node("Relu", m.quant(m.input(SHAPE)))))
    model = m.build()
    data = normal(SHAPE).astype(np.float32)
    expected = run(lower(import_bytes(model, tmp_path)), data)
    nodes = list(reversed(model.graph.node))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    got = run(lower(import_bytes(model, tmp_path)), data)
    np.testing.assert_array_equal(got["t2"], expected["t2"])


@pytest.mark.parametrize("many", [False, True])
def test_constants_in_each_form_that_onnx_has(many: bool, tmp_path: Path) -> None:
    """onnxscript writes value_float and value_ints, not a tensor."""

    def quantized(m: ModelBuilder, x: str) -> str:
        forms = [{"value_floats": [value]} if many else {"value_float": value} for value in (0.25, 0.0, 6.0)]
        parameters = [m.node("Constant", **form) for form in forms]
        return m.node("Quant", x, *parameters, domain=QONNX, signed=1, narrow=0, rounding_mode="ROUND")

    alike(tmp_path, 13, quantized, lambda m, x: m.quant(x, 0.25, 6))


def test_a_shape_as_a_constant_of_integers(tmp_path: Path) -> None:
    flat = lambda m, x: m.node("Reshape", x, m.node("Constant", value_ints=[1, -1]))  # noqa: E731
    alike(tmp_path, 13, flat, lambda m, x: m.node("Flatten", x))

    def first(m: ModelBuilder, x: str) -> str:
        return m.node("Gather", x, m.node("Constant", value_int=2), axis=1)

    alike(tmp_path, 13, first, lambda m, x: m.node("Gather", x, m.constant(2, dtype=np.int64), axis=1))


def test_nodes_that_no_output_needs_are_left_out(tmp_path: Path) -> None:
    """A cut through a model leaves branches behind, of operators that nothing reads."""

    def with_a_dead_branch(m: ModelBuilder, x: str) -> str:
        y = m.node("Relu", x)
        m.node("Softplus", m.node("Sin", m.node("Conv", y, "x")))
        return y

    alike(tmp_path, 13, with_a_dead_branch, lambda m, x: m.node("Relu", x))
