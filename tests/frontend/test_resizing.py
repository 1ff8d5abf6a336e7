"""Resize and Upsample: against ONNX's formulas, pixel by pixel; anything else is refused."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import product
from math import floor
from pathlib import Path

import numpy as np
import pytest

import pefslc
from builders import ModelBuilder, import_bytes, lower, refusal_of
from oracle import evaluate_model
from pefslc.ir.interpret import run
from pefslc.ir.structural import Upsample

TORCH = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}


def resized(
    shape: Sequence[int],
    scales: Sequence[float] = (),
    sizes: Sequence[int] = (),
    *,
    opset: int = 13,
    zero_point: int = 0,
    **attributes: object,
) -> ModelBuilder:
    m = ModelBuilder(opset=opset)
    x = m.quant(m.input(shape), 0.125, 4, signed=int(not zero_point), zero_point=zero_point)
    parameters = [m.constant(np.array(scales, dtype=np.float32))]
    if opset >= 11:
        parameters.insert(0, m.constant(np.array([], dtype=np.float32)))
    if sizes:
        parameters.append(m.constant(sizes, dtype=np.int64))
    m.output(m.node("Resize", x, *parameters, **({"mode": "nearest"} | attributes)))
    return m


def upsampled(**attributes: object) -> ModelBuilder:
    m = ModelBuilder(opset=9)
    x = m.quant(m.input((1, 2, 3, 2)), 0.125, 4)
    parameters = [] if attributes else [m.constant([1, 1, 3, 2])]
    m.output(m.node("Upsample", x, *parameters, mode="nearest", **attributes))
    return m


MODELS = {
    "as torch exports it": resized((2, 3, 3, 4), (1, 1, 2, 2), **TORCH),
    "with ONNX's defaults": resized((1, 3, 3, 4), (1, 1, 2, 3)),
    "opset 10": resized((1, 3, 3, 4), (1, 1, 4, 1), opset=10),
    "sizes": resized((1, 3, 3, 4), (), (1, 3, 6, 12), **TORCH),
    "a sequence": resized((1, 3, 5), (1, 1, 4), **TORCH),
    "a zero point": resized((1, 3, 3, 3), (1, 1, 2, 2), zero_point=5, **TORCH),
    "a single pixel": resized((1, 3, 1, 1), (1, 1, 3, 2), coordinate_transformation_mode="align_corners"),
    "no change": resized((1, 3, 2, 2), (1, 1, 1, 1)),
    "Upsample": upsampled(),
}


@pytest.mark.parametrize("name", MODELS)
def test_values_are_those_of_the_definition(name: str, tmp_path: Path) -> None:
    m = MODELS[name]
    graph = import_bytes(m, tmp_path)
    assert len(list(graph.of_type(Upsample))) == (name != "no change")
    x = np.random.default_rng(3).normal(0, 1, graph.inputs[0].value.type.shape)
    model = m.build()
    expected = evaluate_model(model, x).astype(float)
    for found in (run(graph, x), run(lower(graph), x)):
        (values,) = found.values()
        np.testing.assert_array_equal(values, expected)


WAYS = (
    "asymmetric", "half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "tf_half_pixel_for_nn", "align_corners",
)  # fmt: skip
MODES = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")


@pytest.mark.parametrize(("way", "mode"), list(product(WAYS, MODES)))
def test_every_way_to_round_is_exact_or_refused(way: str, mode: str, tmp_path: Path) -> None:
    x = np.arange(8.0).reshape(1, 1, 2, 4) / 8
    for rows, columns in product((1, 2, 3, 4), repeat=2):
        m = resized((1, 1, 2, 4), (1, 1, rows, columns), coordinate_transformation_mode=way, nearest_mode=mode)
        expected = evaluate_model(m.build(), x).astype(float)
        (values,) = run(lower(import_bytes(m, tmp_path)), x).values()
        np.testing.assert_array_equal(values, expected)


@pytest.mark.parametrize(("way", "mode"), list(product(WAYS, MODES)))
def test_images_of_any_other_size(way: str, mode: str, tmp_path: Path) -> None:
    x = np.arange(24.0).reshape(1, 1, 6, 4) % 16 / 8 - 1
    for rows, columns in ((3, 2), (4, 7), (5, 1), (9, 6), (1, 4)):
        m = resized((1, 1, 6, 4), (), (1, 1, rows, columns), coordinate_transformation_mode=way, nearest_mode=mode)
        expected = evaluate_model(m.build(), x).astype(float)
        (values,) = run(lower(import_bytes(m, tmp_path)), x).values()
        np.testing.assert_array_equal(values, expected)


def test_scales_of_which_rounding_in_float32_takes_another_pixel_are_refused_and_sizes_help(tmp_path: Path) -> None:
    """2 / 0.33333334 is 5.9999998, but 6 in float32, as ONNX Runtime has it."""
    refused = resized((1, 1, 1, 9), (1, 1, 1, 1 / 3), **TORCH)
    assert refusal_of(refused, tmp_path) == (
        "error[PEF0410]: Resize by 0.3333333432674408: which pixel is the nearest depends on rounding in float32\n"
        "  at:   resize1 (Resize), tensor 't1'\n"
        "  help: export with the sizes of the result, not with scales: nn.Upsample(size=...)"
    )
    x = np.arange(9.0).reshape(1, 1, 1, 9) / 8
    graph = lower(import_bytes(resized((1, 1, 1, 9), (), (1, 1, 1, 3), **TORCH), tmp_path))
    (values,) = run(graph, x).values()
    np.testing.assert_array_equal(values, np.clip(x[..., ::3], -1, 0.875))


def linear(x: np.ndarray, axis: int, factor: int, way: str) -> np.ndarray:
    """Each pixel between its two neighbours, in exact rationals: ONNX Resize-19 along one axis."""
    size = x.shape[axis]
    pixels = []
    for i in range(size * factor):
        at = Fraction(i, factor) if way == "asymmetric" else (i + Fraction(1, 2)) / factor - Fraction(1, 2)
        low = floor(at)
        left, right = (x.take(min(max(j, 0), size - 1), axis) for j in (low, low + 1))
        pixels.append(left * (1 - (at - low)) + right * (at - low))
    return np.stack(pixels, axis)


@pytest.mark.parametrize("way", ["half_pixel", "pytorch_half_pixel", "asymmetric"])
@pytest.mark.parametrize("factors", [(2, 2), (3, 1), (1, 4), (5, 2), (4, 3)])
@pytest.mark.parametrize("shape", [(1, 3, 3, 4), (2, 2, 1, 3), (1, 1, 2, 1)])
def test_linear_neighbours_are_exact(
    shape: tuple[int, ...], factors: tuple[int, int], way: str, tmp_path: Path
) -> None:
    m = ModelBuilder()
    x = m.quant(m.input(shape), 0.125, 6)
    y = m.node("Resize", x, "", m.constant([1, 1, *factors]), mode="linear", coordinate_transformation_mode=way)
    m.output(m.quant(y, 2**-5, 10))
    data = np.round(np.random.default_rng(7).normal(0, 1, shape) * 8) / 8
    exact_values = np.vectorize(Fraction, "O")(data)
    for axis, factor in enumerate(factors, 2):
        exact_values = linear(exact_values, axis, factor, way)
    want = np.vectorize(lambda v: round(v * 32), "O")(exact_values) / 32
    quantized = import_bytes(m, tmp_path)
    for graph in (quantized, lower(quantized)):
        np.testing.assert_array_equal(next(iter(run(graph, data).values())), want)


REFUSALS = {
    "cubic": (resized((1, 2, 2, 2), (1, 1, 2, 2), mode="cubic"), "Resize with mode='cubic' is not supported"),
    "linear by a half": (
        resized((1, 2, 2, 2), (1, 1, 1.5, 2), mode="linear"),
        "Resize of [1, 2, 2, 2] to [1, 2, 3, 4] with mode='linear' and coordinate_transformation_mode='half_pixel' is",
    ),
    "linear with aligned corners": (
        resized((1, 2, 2, 2), (1, 1, 2, 2), mode="linear", coordinate_transformation_mode="align_corners"),
        "enlarge by whole factors, with align_corners=False and without antialias; or use mode 'nearest'",
    ),
    "linear of a sequence": (
        resized((1, 2, 4), (1, 1, 2), mode="linear"),
        "Resize of [1, 2, 4] to [1, 2, 8] with mode",
    ),
    "nothing": (resized((1, 2, 2, 2), (1, 1, 0.25, 1)), "by [1.0, 1.0, 0.25, 1.0] is not supported"),
    "too long": (resized((1, 1, 2, 2), (1, 1, 1, 2**14)), "an axis may have 16,384 pixels"),
    "too many parts": (
        resized((1, 1, 1, 4096), (), (1, 1, 1, 6000), **TORCH),
        "Resize of [1, 1, 1, 4096] takes 1905 parts along axis 3",
    ),
    "channels": (resized((1, 2, 2, 2), (1, 2, 1, 1)), "by [1.0, 2.0, 1.0, 1.0] is not supported"),
    "too few": (resized((1, 2, 2, 2), (2, 2)), "by [2.0, 2.0] is not supported"),
    "not a number": (resized((1, 2, 2, 2), (1, 1, np.nan, 2)), "by [] is not supported"),
    "too large": (resized((1, 2, 2, 2), (1, 1, 2**20, 2**20)), "too large"),
    "an unknown way": (
        resized((1, 2, 2, 2), (1, 1, 2, 2), coordinate_transformation_mode="tf_crop_and_resize"),
        "coordinate_transformation_mode='tf_crop_and_resize'",
    ),
    "attribute": (upsampled(scales=[1.0, 1.0, 2.0, float("inf")]), "attribute scales is not a list of finite numbers"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_what_is_refused(name: str, tmp_path: Path) -> None:
    model, message = REFUSALS[name]
    assert message in refusal_of(model, tmp_path)


def test_axes_since_opset_18(tmp_path: Path) -> None:
    m = ModelBuilder(opset=18)
    x = m.quant(m.input((1, 2, 3, 3)), 0.125, 4)
    m.output(m.node("Resize", x, "", m.constant([3.0, 2.0]), axes=[3, 2], mode="nearest", **TORCH))
    image = np.random.default_rng(3).normal(0, 1, (1, 2, 3, 3))
    (values,) = run(lower(import_bytes(m, tmp_path)), image).values()
    quantized = np.clip(np.rint(image * 8), -8, 7) / 8
    np.testing.assert_array_equal(values, quantized.repeat(2, axis=2).repeat(3, axis=3))


def upsampling_network(shape: tuple[int, ...], *factors: int) -> ModelBuilder:
    """A convolution, its result larger, another: as decoders that avoid the checkerboard of transposed convolutions."""
    m, rng, kernel = ModelBuilder(), np.random.default_rng(1), [3] * (len(shape) - 2)
    x = m.quant(m.input(shape), 0.25, 3)
    y = m.quant(
        m.node("Relu", m.node("Conv", x, m.weight(rng.normal(0, 0.5, (5, shape[1], *kernel)), 0.25, 3))), 0.5, 3
    )
    empty = m.constant(np.array([], dtype=np.float32))
    y = m.node("Resize", y, empty, m.constant([1, 1, *factors]), mode="nearest", **TORCH)
    m.output(m.quant(m.node("Conv", y, m.weight(rng.normal(0, 0.5, (3, 5, *kernel)), 0.25, 3)), 0.5, 4))
    return m


@pytest.mark.parametrize("target", ["c", "tensil"])
@pytest.mark.parametrize(("shape", "factors"), [((1, 4, 5, 6), (2, 2)), ((1, 4, 5, 6), (3, 1)), ((1, 3, 9), (4,))])
def test_both_targets(target: str, shape: tuple[int, ...], factors: tuple[int, ...], tmp_path: Path) -> None:
    m = upsampling_network(shape, *factors)
    program = pefslc.compile(m.save(tmp_path), target=target)
    x = np.random.default_rng(5).normal(0, 1, (3, *shape[1:]))
    assert program.verify(x).equal
    (values,) = program.run(x).values()
    expected = [evaluate_model(m.build(), row[None])[0].astype(float) for row in x]
    np.testing.assert_array_equal(values, np.array(expected))


@pytest.mark.parametrize("op", ["Resize", "Upsample"])
def test_integers_between_linear_neighbours_are_refused(op: str, tmp_path: Path) -> None:
    """QOperator files have it: the result is an integer again, and ONNX does not say how it is rounded."""
    m = ModelBuilder(opset=13 if op == "Resize" else 9)
    parameters = m.constant(0.125), m.constant(3, dtype=np.uint8)
    codes = m.node("QuantizeLinear", m.input([1, 2, 3, 3]), *parameters)
    scales = m.constant([1, 1, 2, 2])
    codes = m.node(op, codes, *([""] if op == "Resize" else []), scales, mode="linear")
    m.output(m.node("DequantizeLinear", codes, *parameters))
    text = refusal_of(m, tmp_path)
    assert f"{op} of integers between linear neighbours is not supported: it would round" in text
    assert "QuantFormat.QDQ" in text
