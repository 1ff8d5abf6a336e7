"""Operators that are another one's spelling, against NumPy: shuffles, maxima, flattenings, the bias of Gemm."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from builders import ModelBuilder, import_bytes, lower, normal, refusal_of
from pefslc.ir.interpret import run

Build = Callable[[ModelBuilder, str], str]


def computed(folder: Path, shape: tuple[int, ...], build: Build, opset: int = 13) -> tuple[np.ndarray, np.ndarray]:
    """The quantized input's values, and what the integer level makes of them."""
    m = ModelBuilder(opset=opset)
    x = m.quant(m.input(shape), 0.125, 8)
    m.output(build(m, x))
    data = np.round(normal(shape, 3) * 8) / 8
    quantized = import_bytes(m, folder)
    results = [next(iter(run(graph, data).values())) for graph in (quantized, lower(quantized))]
    np.testing.assert_array_equal(*results)
    return data, results[0]


@pytest.mark.parametrize("mode", ["CRD", "DCR", None])
@pytest.mark.parametrize(("block", "shape"), [(1, (1, 3, 2, 2)), (2, (1, 8, 3, 2)), (3, (1, 9, 2, 3))])
def test_depth_to_space_element_by_element(
    mode: str | None, block: int, shape: tuple[int, ...], tmp_path: Path
) -> None:
    attributes = {} if mode is None else {"mode": mode}
    data, got = computed(tmp_path, shape, lambda m, x: m.node("DepthToSpace", x, blocksize=block, **attributes))
    channels = shape[1] // block**2
    assert got.shape == (1, channels, shape[2] * block, shape[3] * block)
    for (n, c, row, column), value in np.ndenumerate(got):
        inside = row % block * block + column % block
        source = c * block**2 + inside if mode == "CRD" else inside * channels + c
        assert value == data[n, source, row // block, column // block]


@pytest.mark.parametrize("block", [1, 2, 3])
def test_space_to_depth_undoes_depth_to_space(block: int, tmp_path: Path) -> None:
    shape = (1, 2 * block**2, 2, 3)
    data, got = computed(
        tmp_path,
        shape,
        lambda m, x: m.node("SpaceToDepth", m.node("DepthToSpace", x, blocksize=block), blocksize=block),
    )
    np.testing.assert_array_equal(got, data)


@pytest.mark.parametrize(
    ("build", "opset", "keeps"),
    [
        (lambda m, x: m.node("GlobalMaxPool", x), 13, True),
        (lambda m, x: m.node("ReduceMax", x, axes=[2, 3]), 13, True),
        (lambda m, x: m.node("ReduceMax", x, axes=[-1, -2], keepdims=0), 13, False),
        (lambda m, x: m.node("ReduceMax", x, m.constant([2, 3], dtype=np.int64), keepdims=0), 18, False),
    ],
)
def test_the_maximum_of_an_image_in_every_spelling(build: Build, opset: int, keeps: bool, tmp_path: Path) -> None:
    data, got = computed(tmp_path, (1, 3, 4, 5), build, opset)
    np.testing.assert_array_equal(got, data.max(axis=(2, 3), keepdims=keeps))


@pytest.mark.parametrize(
    "build", [lambda m, x: m.node("GlobalMaxPool", x), lambda m, x: m.node("ReduceMax", x, axes=[2])]
)
def test_the_maximum_of_a_sequence(build: Build, tmp_path: Path) -> None:
    data, got = computed(tmp_path, (1, 3, 7), build)
    np.testing.assert_array_equal(got, data.max(axis=2, keepdims=True))


@pytest.mark.parametrize(("axis", "shape"), [(0, (1, 2, 3, 4)), (1, (1, 2, 3, 4)), (-3, (2, 2, 3, 4)), (2, (2, 1, 6))])
def test_flatten_of_any_axis_that_keeps_the_batch(axis: int, shape: tuple[int, ...], tmp_path: Path) -> None:
    data, got = computed(tmp_path, shape, lambda m, x: m.node("Flatten", x, axis=axis))
    np.testing.assert_array_equal(got, data.reshape(shape[0], -1))


@pytest.mark.parametrize("axis", [0, 2, 5, -5])
def test_flatten_of_another_axis_is_refused(axis: int, tmp_path: Path) -> None:
    m = ModelBuilder()
    m.output(m.node("Flatten", m.quant(m.input((2, 2, 3, 4))), axis=axis))
    assert "Flatten of [2, 2, 3, 4]" in refusal_of(m, tmp_path)


BIAS = np.float32([0.5, -1.25, 3, 0.125])


@pytest.mark.parametrize("quantized", [False, True])
@pytest.mark.parametrize("shape", [(4,), (1, 4), (1,), (1, 1), ()])
def test_the_bias_of_gemm_in_every_shape_that_is_broadcast(
    shape: tuple[int, ...], quantized: bool, tmp_path: Path
) -> None:
    weight = np.round(normal((4, 3)) * 8) / 8
    bias = BIAS[: max(shape, default=1)].reshape(shape)

    def gemm(m: ModelBuilder, x: str) -> str:
        c = m.weight(bias, 0.125, 8) if quantized else m.constant(bias)
        return m.node("Gemm", x, m.weight(weight, 0.125, 8), c, transB=1)

    data, got = computed(tmp_path, (2, 3), gemm)
    np.testing.assert_array_equal(got, data @ weight.T + bias)


@pytest.mark.parametrize("shape", [(3,), (2, 4), (4, 1), (1, 1, 4)])
def test_a_bias_of_gemm_that_is_not_one_for_each_output_is_refused(shape: tuple[int, ...], tmp_path: Path) -> None:
    m = ModelBuilder()
    m.output(m.node("Gemm", m.quant(m.input((2, 3))), m.weight(np.ones((4, 3))), m.constant(np.ones(shape)), transB=1))
    assert f"the bias has shape {list(shape)}, the layer 4 outputs" in refusal_of(m, tmp_path)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda m, x: m.node("DepthToSpace", x, blocksize=2), "2 x 2 does not divide 6 channels"),
        (lambda m, x: m.node("DepthToSpace", x, blocksize=0), "blocksize is 0"),
        (lambda m, x: m.node("DepthToSpace", x, blocksize=1, mode="RCD"), "DepthToSpace with mode='RCD'"),
        (lambda m, x: m.node("SpaceToDepth", x, blocksize=2), "2 does not divide 3 rows and 4 columns"),
    ],
)
def test_what_does_not_fit_is_refused(build: Build, message: str, tmp_path: Path) -> None:
    m = ModelBuilder()
    m.output(build(m, m.quant(m.input((1, 6, 3, 4)))))
    assert message in refusal_of(m, tmp_path)


def test_a_bias_of_gemm_that_is_refused_itself_is_told_alone(tmp_path: Path) -> None:
    """A scalar whose quantizer is refused has no value, but its shape is known."""
    m = ModelBuilder()
    bias = m.quant(m.constant(0.5), 0.125, 99)
    m.output(m.node("Gemm", m.quant(m.input((1, 3))), m.weight(np.ones((3, 5))), bias))
    assert refusal_of(m, tmp_path).count("error[") == 1
