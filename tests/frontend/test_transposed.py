"""ConvTranspose against its definition: each pixel scattered, times the kernel, in exact rationals."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from builders import ModelBuilder, import_bytes, lower, refusal_of
from oracle import evaluate_model
from pefslc.ir.interpret import run
from pefslc.ir.quantized import Conv, Quantize
from pefslc.numeric.format import Quantization


@dataclass(frozen=True)
class Case:
    """The attributes of a ConvTranspose [N, groups * per_group, ...size] -> [N, groups * outputs, ...]."""

    size: tuple[int, ...]
    kernel: tuple[int, ...]
    attributes: dict[str, object]
    groups: int
    per_group: int
    outputs: int
    scale_axis: int | None
    bias: bool
    seed: int

    def model(self) -> ModelBuilder:
        rng = np.random.default_rng(self.seed)
        m = ModelBuilder()
        x = m.quant(m.input((2, self.groups * self.per_group, *self.size)), 0.125, 4)
        shape = self.groups * self.per_group, self.outputs, *self.kernel
        scale: object = 0.25
        if self.scale_axis is not None:
            along = [shape[a] if a == self.scale_axis else 1 for a in range(len(shape))]
            scale = rng.uniform(0.05, 0.4, along).astype(np.float32)
        parameters = [m.weight(rng.normal(0, 0.8, shape), scale, 4)]
        if self.bias:
            parameters.append(m.constant(rng.normal(0, 1, self.groups * self.outputs)))
        m.output(m.node("ConvTranspose", x, *parameters, group=self.groups, **self.attributes))
        return m


@st.composite
def cases(draw: st.DrawFn) -> Case:
    rank = draw(st.integers(1, 2))

    def several(low: int, high: int, count: int = rank) -> list[int]:
        return draw(st.lists(st.integers(low, high), min_size=count, max_size=count))

    size, kernel, strides, dilations = several(1, 3), several(1, 4), several(1, 3), several(1, 3)
    attributes: dict[str, object] = {"strides": strides, "dilations": dilations}
    if draw(st.booleans()):
        attributes["kernel_shape"] = kernel
    if draw(st.booleans()):
        attributes["output_padding"] = several(0, 2)
    match draw(st.sampled_from(["pads", "nothing", "output_shape", "VALID", "SAME_UPPER", "SAME_LOWER", "both"])):
        case "pads":
            attributes["pads"] = several(0, 3, 2 * rank)
        case "output_shape":
            attributes["output_shape"] = several(1, 9)
        case "both":
            attributes["output_shape"], attributes["auto_pad"] = several(1, 9), "SAME_UPPER"
        case "nothing":
            pass
        case auto_pad:
            attributes["auto_pad"] = auto_pad
    groups, per_group = draw(st.integers(1, 3)), draw(st.integers(1, 2))
    outputs = draw(st.integers(1, 3))
    axes = [None, 1] + ([0] if per_group == 1 else [])
    return Case(
        tuple(size), tuple(kernel), attributes, groups, per_group, outputs,
        draw(st.sampled_from(axes)), draw(st.booleans()), draw(st.integers(0, 2**32)),
    )  # fmt: skip


@given(cases())
@settings(deadline=None, max_examples=120)
def test_every_code_is_that_of_the_definition(case: Case) -> None:
    x = np.random.default_rng(case.seed).normal(0, 1, (2, case.groups * case.per_group, *case.size))
    model = case.model().build()
    expected = evaluate_model(model, x)
    assume(min(expected.shape) > 0)  # what is cropped to nothing is refused
    if str(case.attributes.get("auto_pad", "")).startswith("SAME") and "output_shape" not in case.attributes:
        wanted = np.multiply(case.size, case.attributes["strides"])
        extent = np.multiply(np.subtract(case.kernel, 1), case.attributes["dilations"]) + 1
        whole = wanted - case.attributes["strides"] + extent + case.attributes.get("output_padding", 0)
        assume((whole >= wanted).all())
    with TemporaryDirectory() as folder:
        graph = import_bytes(model, Path(folder))
        integer = lower(graph)
    (values,) = run(integer, x).values()
    assert values.shape == expected.shape
    np.testing.assert_array_equal(values, expected.astype(float))
    (reference,) = run(graph, x).values()
    np.testing.assert_array_equal(reference, expected.astype(float))


def transposed(
    weight_shape: tuple[int, ...] = (4, 3, 4, 4), scale: object = 0.25, **attributes: object
) -> ModelBuilder:
    m = ModelBuilder()
    x = m.quant(m.input((1, 4, 5, 5)), 0.125, 4)
    weight = m.weight(np.random.default_rng(1).normal(0, 0.8, weight_shape), scale, 4)
    m.output(m.node("ConvTranspose", x, weight, name="up", **attributes))
    return m


def test_the_graph_holds_one_convolution_and_its_weights_once(tmp_path: Path) -> None:
    scale = np.array([0.1, 0.2, 0.4], dtype=np.float32).reshape(1, 3, 1, 1)
    graph = import_bytes(transposed(scale=scale, strides=[2, 2], pads=[1] * 4), tmp_path)
    (conv,) = graph.of_type(Conv)
    assert conv.result.type.shape == (1, 3, 10, 10)
    assert (conv.window.input_dilations, conv.window.strides, conv.window.pads) == ((2, 2), (1, 1), (2, 2, 2, 2))
    weights = [op for op in graph.of_type(Quantize) if op.channel_axis == 0]
    assert [op.result for op in weights] == [conv.weight]
    element = weights[0].result.type.element
    assert weights[0].result.type.shape == (3, 4, 4, 4)
    assert isinstance(element, Quantization)
    assert [float(np.float32(step)) for step in element.scale.steps] == scale.reshape(-1).tolist()


def test_accumulators_are_bounded_by_the_taps_that_meet(tmp_path: Path) -> None:
    """4 x 4 taps, 2 apart: 4 of 16 see pixels at once. Codes in -8..7, weights in -8..7, 4 channels."""
    m = ModelBuilder()
    x = m.quant(m.input((1, 4, 5, 5)), 0.125, 4)
    weight = m.weight(np.full((4, 1, 4, 4), 0.25), 0.25, 4)  # codes 1
    m.output(m.node("ConvTranspose", x, weight, strides=[2, 2]))
    codes = lower(import_bytes(m, tmp_path)).outputs[0].value.type.codes
    assert (codes.low, codes.high) == (-8 * 4 * 4, 7 * 4 * 4)


def test_integer_weights_with_scales_along_axis_1(tmp_path: Path) -> None:
    """What Brevitas' QCDQ export makes: int8 and DequantizeLinear with axis 1."""
    rng = np.random.default_rng(3)
    m = ModelBuilder()
    x = m.quant(m.input((1, 4, 3, 3)), 0.125, 4)
    codes = m.constant(rng.integers(-7, 8, (4, 3, 2, 2)), dtype=np.int8)
    scale, zero = m.constant([0.1, 0.2, 0.3]), m.constant([0, 0, 0], dtype=np.int8)
    m.output(m.node("ConvTranspose", x, m.node("DequantizeLinear", codes, scale, zero, axis=1), strides=[2, 2]))
    image = rng.normal(0, 1, (1, 4, 3, 3))
    expected = evaluate_model(m.build(), image).astype(float)
    (values,) = run(lower(import_bytes(m, tmp_path)), image).values()
    np.testing.assert_array_equal(values, expected)


def test_float_weights_quantized_along_axis_1(tmp_path: Path) -> None:
    m = ModelBuilder()
    x = m.quant(m.input((1, 2, 3, 3)), 0.125, 4)
    weight = m.constant(np.random.default_rng(3).normal(0, 0.3, (2, 2, 2, 2)))
    scale, zero = m.constant([0.125, 0.25]), m.constant([0, 0], dtype=np.int8)
    codes = m.node("QuantizeLinear", weight, scale, zero, axis=1)
    m.output(m.node("ConvTranspose", x, m.node("DequantizeLinear", codes, scale, zero, axis=1), strides=[2, 1]))
    image = np.random.default_rng(4).normal(0, 1, (1, 2, 3, 3))
    expected = evaluate_model(m.build(), image).astype(float)
    (values,) = run(lower(import_bytes(m, tmp_path)), image).values()
    np.testing.assert_array_equal(values, expected)


def test_a_matrix_with_a_scale_per_column(tmp_path: Path) -> None:
    """MatMul has its outputs on axis 1, as ConvTranspose has."""
    m = ModelBuilder()
    x = m.quant(m.input((1, 3)), 0.125, 4)
    scale = np.array([[0.1, 0.2]], dtype=np.float32)
    m.output(m.node("MatMul", x, m.weight(np.random.default_rng(2).normal(0, 0.5, (3, 2)), scale, 4)))
    row = np.array([[0.5, -0.25, 0.375]])
    (values,) = run(lower(import_bytes(m, tmp_path)), row).values()
    np.testing.assert_array_equal(values, evaluate_model(m.build(), row).astype(float))


def test_padding_before_zeros_stand_between_pixels(tmp_path: Path) -> None:
    m = ModelBuilder()
    x = m.quant(m.input((1, 2, 3, 2)), 0.125, 4)
    padded = m.node("Pad", x, m.constant([0, 0, 1, 0, 0, 0, 2, 1], dtype=np.int64))
    weight = m.weight(np.random.default_rng(3).normal(0, 0.8, (2, 2, 3, 3)), 0.25, 4)
    m.output(m.node("ConvTranspose", padded, weight, strides=[3, 2], pads=[1, 2, 0, 1]))
    image = np.random.default_rng(4).normal(0, 1, (1, 2, 3, 2))
    (values,) = run(lower(import_bytes(m, tmp_path)), image).values()
    np.testing.assert_array_equal(values, evaluate_model(m.build(), image).astype(float))


REFUSALS = {
    "scales within an output channel": (
        transposed(scale=np.full((4, 1, 1, 1), 0.25, dtype=np.float32) * [[[[1]]], [[[2]]], [[[1]]], [[[1]]]]),
        "error[PEF0305]: the weights [4, 3, 4, 4] have several scales for one output channel",
    ),
    "groups": (transposed(group=3), "error[PEF0408]: group=3 does not divide 4 input channels"),
    "input channels": (
        transposed((5, 3, 2, 2)),
        "error[PEF0408]: the weight [5, 3, 2, 2] wants 5 input channels, the input has 4",
    ),
    "output_padding": (transposed(output_padding=[1, -1]), "output_padding=[1, -1] is not supported"),
    "output_shape": (transposed(output_shape=[1, 3, 20, 20]), "output_shape=[1, 3, 20, 20] is not supported"),
    "pads": (transposed(pads=[1, 0, -1, 0]), "pads=[1, 0, -1, 0] is not supported"),
    "auto_pad": (transposed(auto_pad="SAME"), "auto_pad='SAME' is unknown"),
    "SAME with a small kernel": (
        transposed((4, 3, 1, 1), auto_pad="SAME_UPPER", strides=[2, 2]),
        "auto_pad='SAME_UPPER' with strides [2, 2] larger than the kernel is not supported",
    ),
    "cropped to nothing": (transposed(pads=[4] * 4), "the window does not fit: the result would be [1, 3, 0, 0]"),
    "too many phases": (transposed(strides=[65, 64]), "strides=[65, 64] is not supported"),
    "large between its pixels": (transposed(dilations=[2**22, 1], pads=[3 * 2**22, 0, 0, 0]), "too large"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_what_is_refused(name: str, tmp_path: Path) -> None:
    model, message = REFUSALS[name]
    text = refusal_of(model, tmp_path)
    assert message in text
    assert "(ConvTranspose)" in text


@pytest.mark.parametrize("name", ["output_shape", "output_padding", "strides", "pads"])
def test_a_sequence_has_no_rows(name: str, tmp_path: Path) -> None:
    """Numbers for rows, too, once made an image of several rows out of a sequence."""
    m = ModelBuilder()
    x = m.quant(m.input((1, 2, 5)), 0.125, 4)
    weight = m.weight(np.ones((2, 2, 3)), 0.25, 4)
    values = [1, 1, 1, 1] if name == "pads" else [3, 3]
    m.output(m.node("ConvTranspose", x, weight, **{name: values}))
    assert f"{name}={values} is not supported" in refusal_of(m, tmp_path)


def test_computed_weights_are_refused(tmp_path: Path) -> None:
    m = ModelBuilder()
    x = m.quant(m.input((1, 4, 5, 5)), 0.125, 4)
    m.output(m.node("ConvTranspose", x, x))
    m.inputs.clear()
    m.input((4, 4, 5, 5))
    assert "the weights of ConvTranspose are computed at run time" in refusal_of(m, tmp_path)


def test_the_oracle_agrees_with_a_sum_written_out() -> None:
    """One row, kernel (1, 2, 4), stride 2: 3 and 5 give 3, 6, 12 + 5, 10, 20."""
    m = ModelBuilder()
    m.output(m.node("ConvTranspose", m.input((1, 1, 2)), m.constant([[[1.0, 2, 4]]]), strides=[2]))
    values = evaluate_model(m.build(), np.array([[[3.0, 5]]]))
    assert values.tolist() == [[[Fraction(v) for v in (3, 6, 17, 10, 20)]]]
