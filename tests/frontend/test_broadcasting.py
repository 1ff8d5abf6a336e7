"""Sums and products of shapes that differ, Expand, Concat along any axis, Pad by the edges: against NumPy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from builders import ModelBuilder, import_bytes, lower, normal, refusal_of
from pefslc.ir.interpret import run

SHAPE = (2, 3, 4, 5)
Build = Callable[[ModelBuilder, str], str]


def check(
    folder: Path,
    build: Callable[[ModelBuilder, list[str]], str],
    want: Callable[..., np.ndarray],
    *shapes: tuple[int, ...],
    opset: int = 13,
) -> None:
    """Of quantized inputs of these shapes, with scales of their own; a fine quantizer leaves the result as it is."""
    m = ModelBuilder(opset=opset)
    scales = [2.0**-i for i in range(1, len(shapes) + 1)]
    inputs = [m.quant(m.input(s, f"x{i}"), scale, 5) for i, (s, scale) in enumerate(zip(shapes, scales, strict=True))]
    m.output(m.quant(build(m, inputs), 2**-6, 16))
    values = [
        np.clip(np.round(normal(s, 3, seed=1) / scale), -16, 15) * scale
        for s, scale in zip(shapes, scales, strict=True)
    ]
    quantized = import_bytes(m, folder)
    feeds = {f"x{i}": value for i, value in enumerate(values)}
    for graph in (quantized, lower(quantized)):
        np.testing.assert_array_equal(next(iter(run(graph, feeds).values())), want(*values))


PAIRS = [
    (SHAPE, (2, 3, 1, 1)), (SHAPE, (2, 1, 4, 5)), (SHAPE, (2, 1, 1, 1)), (SHAPE, (2, 3, 4, 1)),
    ((2, 3, 4, 1), (2, 3, 1, 5)), ((2, 1, 4, 5), (2, 3, 1, 1)), ((2, 3), (2, 1)), ((2, 3, 4), (2, 3, 1)),
    ((2, 1, 4), (2, 3, 4)),
]  # fmt: skip


@pytest.mark.parametrize(("left", "right"), PAIRS)
@pytest.mark.parametrize("op", ["Add", "Sub", "Mul"])
def test_operands_are_broadcast(op: str, left: tuple[int, ...], right: tuple[int, ...], tmp_path: Path) -> None:
    function = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply}[op]
    for shapes in ((left, right), (right, left)):
        check(tmp_path, lambda m, inputs: m.node(op, *inputs), function, *shapes)


@pytest.mark.parametrize(
    ("shape", "wanted"),
    [((2, 3, 1, 1), [2, 3, 4, 5]), ((2, 3, 1, 1), [1, 1, 4, 1]), ((2, 1, 4, 1), [2, 3, 4, 5]), ((2, 3, 4), [1])],
)
def test_expand(shape: tuple[int, ...], wanted: list[int], tmp_path: Path) -> None:
    def build(m: ModelBuilder, inputs: list[str]) -> str:
        return m.node("Expand", inputs[0], m.constant(wanted, dtype=np.int64))

    check(tmp_path, build, lambda x: np.broadcast_to(x, np.broadcast_shapes(shape, wanted)), shape)


def test_the_gate_of_an_attention_over_pixels(tmp_path: Path) -> None:
    """Mean and maximum over the channels, a convolution, a product: CBAM, but for the Sigmoid."""
    kernel = np.float32([[[[1]], [[-1]]]])

    def build(m: ModelBuilder, inputs: list[str]) -> str:
        (x,) = inputs
        both = m.node("Concat", m.node("ReduceMean", x, axes=[1]), m.node("ReduceMax", x, axes=[1]), axis=1)
        return m.node("Mul", x, m.quant(m.node("Conv", m.quant(both, 0.125, 8), m.weight(kernel, 1, 2)), 0.125, 8))

    check(tmp_path, build, lambda x: x * (x.mean(1, keepdims=True) - x.max(1, keepdims=True)), (2, 4, 3, 2))


@pytest.mark.parametrize("axis", [1, 2, 3, -1])
def test_concat_along_any_axis_but_the_batchs(axis: int, tmp_path: Path) -> None:
    shapes = [tuple(size + i * (a == axis % 4) for a, size in enumerate(SHAPE)) for i in range(3)]
    check(tmp_path, lambda m, inputs: m.node("Concat", *inputs, axis=axis), lambda *x: np.concatenate(x, axis), *shapes)


def test_the_heads_of_a_detector_side_by_side(tmp_path: Path) -> None:
    """[1, 5, boxes] of two resolutions, as YOLO's heads end."""

    def build(m: ModelBuilder, inputs: list[str]) -> str:
        flat = [m.node("Reshape", x, m.constant([1, 5, -1], dtype=np.int64)) for x in inputs]
        return m.node("Concat", *flat, axis=2)

    def want(*x: np.ndarray) -> np.ndarray:
        return np.concatenate([part.reshape(1, 5, -1) for part in x], 2)

    check(tmp_path, build, want, (1, 5, 4, 4), (1, 5, 2, 2))


@pytest.mark.parametrize("mode", ["edge", "reflect", "wrap"])
@pytest.mark.parametrize("pads", [(1, 1, 1, 1), (3, 0, 0, 2), (0, 2, 3, 4), (0, 0, 0, 0)])
def test_padding_by_what_lies_at_the_edges(mode: str, pads: tuple[int, int, int, int], tmp_path: Path) -> None:
    top, left, bottom, right = pads

    def build(m: ModelBuilder, inputs: list[str]) -> str:
        return m.node("Pad", inputs[0], m.constant([0, 0, top, left, 0, 0, bottom, right], dtype=np.int64), mode=mode)

    widths = ((0, 0), (0, 0), (top, bottom), (left, right))
    check(tmp_path, build, lambda x: np.pad(x, widths, mode=mode), SHAPE, opset=19)


@pytest.mark.parametrize("mode", ["constant", "edge"])
def test_negative_pads_crop(mode: str, tmp_path: Path) -> None:
    """What is cropped is gone before the other side is padded."""

    def build(m: ModelBuilder, inputs: list[str]) -> str:
        return m.node("Pad", inputs[0], m.constant([0, 0, -1, 2, 0, 0, -1, -2], dtype=np.int64), mode=mode)

    widths = ((0, 0), (0, 0), (0, 0), (2, 0))
    check(tmp_path, build, lambda x: np.pad(x[:, :, 1:-1, :-2], widths, mode=mode), SHAPE)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda m, x: m.node("Add", x, m.node("Flatten", x)), "Add of [1, 2, 3, 3] and [1, 18] is not supported"),
        (lambda m, x: m.node("Expand", x, m.constant([4, 1, 1, 1], dtype=np.int64)), "the batch stays"),
        (lambda m, x: m.node("Expand", x, m.constant([1, 5, 3, 3], dtype=np.int64)), "Expand of [1, 2, 3, 3] to"),
        (lambda m, x: m.node("Expand", x, m.constant([1, 1, 1, 2, 3, 3], dtype=np.int64)), "of as many as the tensor"),
        (lambda m, x: m.node("Expand", x, m.constant([1, -2, 3, 3], dtype=np.int64)), "axes of size 1"),
        (lambda m, x: m.node("Concat", x, x, axis=0), "along any axis but the batch's"),
    ],
)
def test_what_is_refused(build: Build, message: str, tmp_path: Path) -> None:
    m = ModelBuilder()
    m.output(build(m, m.quant(m.input((1, 2, 3, 3)))))
    assert message in refusal_of(m, tmp_path)
