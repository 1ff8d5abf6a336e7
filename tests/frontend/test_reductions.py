"""Means, sums, maxima and minima over every set of axes but the batch's, against NumPy on values that floats hold."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from builders import ModelBuilder, import_bytes, lower, normal, refusal_of
from pefslc.ir.interpret import run

REDUCED = {"ReduceMean": np.mean, "ReduceSum": np.sum, "ReduceMax": np.max, "ReduceMin": np.min}
SHAPES = {3: (1, 4, 8), 4: (1, 2, 4, 8), 5: (1, 2, 4, 1, 2)}
AXES = [(rank, axes) for rank in (3, 4) for n in (1, 2, 3) for axes in combinations(range(1, rank), n)] + [(5, (1, 4))]


def check(op: str, shape: tuple[int, ...], axes: tuple[int, ...], keepdims: int, folder: Path, opset: int) -> None:
    m = ModelBuilder(opset=opset)
    x = m.quant(m.input(shape), 0.25, 8)
    if opset >= 18 or (op == "ReduceSum" and opset >= 13):
        y = m.node(op, x, m.constant(axes, dtype=np.int64), keepdims=keepdims)
    else:
        y = m.node(op, x, axes=list(axes), keepdims=keepdims)
    m.output(m.quant(y, 2**-8, 20))
    quantized = import_bytes(m, folder)
    data = np.round(normal(shape, 4) * 4) / 4
    want = REDUCED[op](data, axis=axes, keepdims=bool(keepdims))
    for graph in (quantized, lower(quantized)):
        np.testing.assert_array_equal(next(iter(run(graph, data).values())), want)


@pytest.mark.parametrize(("rank", "axes"), AXES)
@pytest.mark.parametrize("op", ["ReduceMean", "ReduceSum", "ReduceMax"])
def test_reductions_over_every_set_of_axes(op: str, rank: int, axes: tuple[int, ...], tmp_path: Path) -> None:
    """Sizes are powers of two, so that the means are floats."""
    for keepdims in (0, 1):
        check(op, SHAPES[rank], axes, keepdims, tmp_path, 18)


@pytest.mark.parametrize(("rank", "axes"), [(rank, axes) for rank, axes in AXES if 1 not in axes])
def test_minima(rank: int, axes: tuple[int, ...], tmp_path: Path) -> None:
    for keepdims in (0, 1):
        check("ReduceMin", SHAPES[rank], axes, keepdims, tmp_path, 18)


@pytest.mark.parametrize(
    ("op", "axes", "message", "hint"),
    [
        (
            "ReduceMin",
            [1],
            "ReduceMin over the channels is not supported",
            "over rows and columns, or the length of a sequence",
        ),
        ("ReduceSum", [0, 1], "ReduceSum over axes [0, 1] of 4 is not supported", "over any axes but the batch's"),
        ("ReduceMax", [4], "ReduceMax over axes [4] of 4 is not supported", "over any axes but the batch's"),
        ("ReduceMean", None, "ReduceMean over axes [] of 4 is not supported", "over any axes but the batch's"),
    ],
)
def test_axes_that_are_refused(op: str, axes: list[int] | None, message: str, hint: str, tmp_path: Path) -> None:
    m = ModelBuilder(opset=11)
    attributes = {} if axes is None else {"axes": axes}
    m.output(m.quant(m.node(op, m.quant(m.input((1, 4, 2, 3))), name="n", **attributes)))
    assert refusal_of(m, tmp_path) == f"error[PEF0402]: {message}\n  at:   n ({op}), tensor 't1'\n  help: {hint}"


@pytest.mark.parametrize("op", list(REDUCED))
def test_negative_axes_and_axes_as_an_attribute(op: str, tmp_path: Path) -> None:
    for opset in (11, 13):
        check(op, SHAPES[4], (-1, 2), 1, tmp_path, opset)


def test_the_mean_over_the_rows_of_a_sequence_behind_a_dense_layer(tmp_path: Path) -> None:
    """What a transformer's or a keyword spotter's pooling is: [N, T, C] to [N, C]."""
    m = ModelBuilder()
    weight = np.float32([[1, 0, -1], [0, 1, 1]])
    rows = m.quant(m.node("MatMul", m.quant(m.input((1, 4, 2)), 0.25, 8), m.weight(weight, 1.0, 2)), 0.25, 9)
    m.output(m.quant(m.node("ReduceMean", rows, axes=[1], keepdims=0), 2**-4, 12))
    data = np.round(normal((1, 4, 2), 2) * 4) / 4
    got = next(iter(run(lower(import_bytes(m, tmp_path)), data).values()))
    np.testing.assert_array_equal(got, (data @ weight).mean(axis=1))


@pytest.mark.parametrize("shape", [(), (3,)])
def test_a_tensor_without_axes_behind_its_batch_is_refused(shape: tuple[int, ...], tmp_path: Path) -> None:
    m = ModelBuilder(opset=11)
    m.input((1, 2))
    m.output(m.node("ReduceMean", m.quant(m.constant(np.ones(shape))), name="n"))
    assert f"ReduceMean of a tensor of shape {list(shape)} is not supported" in refusal_of(m, tmp_path)
