"""Slice, Split and Gather take the parts that ONNX's own reference implementation takes."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from builders import ModelBuilder, import_bytes, lower, refusal_of
from pefslc.diagnostics.errors import CompileError
from pefslc.ir.interpret import run
from pefslc.ir.structural import Slice

INT64 = {"dtype": np.int64}
ENDS = (0, 1, 2, 3, 4, -1, -2, -3, -5, 2**63 - 1, -(2**63), 2**31 - 1)


def by_the_reference(m: ModelBuilder, x: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """What ONNX says about the nodes behind the input's Quant, whose grid `x` lies on."""
    nodes = m.nodes[1:]
    taken = [helper.make_tensor_value_info(m.nodes[0].output[0], TensorProto.FLOAT, x.shape)]
    outputs = [helper.make_tensor_value_info(o.name, TensorProto.FLOAT, None) for o in m.outputs]
    graph = helper.make_graph(nodes, "parts", taken, outputs, m.initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", m.opset)], ir_version=8)
    return list(ReferenceEvaluator(model).run(None, {m.nodes[0].output[0]: x}))


def check(m: ModelBuilder, shape: tuple[int, ...], folder: Path) -> None:
    """Both levels compute what the reference does, on two images, each element another number."""
    count = int(np.prod(shape[1:]))
    x = (np.arange(2 * count) % 251 - 125).reshape(2, *shape[1:]).astype(np.float32)
    expected = by_the_reference(m, x)
    quantized = import_bytes(m, folder)
    for level in (quantized, lower(quantized)):
        for found, wanted in zip(run(level, x).values(), expected, strict=True):
            np.testing.assert_array_equal(found, wanted)


def quantized_input(opset: int, shape: tuple[int, ...]) -> tuple[ModelBuilder, str]:
    m = ModelBuilder(opset=opset)
    return m, m.quant(m.input(shape), 1.0, 8)


@st.composite
def slices(draw: st.DrawFn) -> tuple[int, tuple[int, ...], list[tuple[int, int, int, int]]]:
    """Opset, shape, and (start, end, axis, step) along some of the axes."""
    opset = draw(st.sampled_from((9, 10, 13, 18)))
    shape = (2, *draw(st.lists(st.integers(1, 5), min_size=1, max_size=3)))
    axes = draw(st.lists(st.integers(1, len(shape) - 1), unique=True, min_size=1, max_size=len(shape) - 1))
    steps = st.just(1) if opset < 10 else st.sampled_from((1, 2, 3, -1, -2, -3))
    ends = st.sampled_from(ENDS)
    negative = st.sampled_from((0, len(shape))) if opset > 9 else st.just(0)
    return opset, shape, [(draw(ends), draw(ends), axis - draw(negative), draw(steps)) for axis in axes]


@settings(max_examples=150, deadline=None)
@given(slices())
def test_slice(case: tuple[int, tuple[int, ...], list[tuple[int, int, int, int]]]) -> None:
    opset, shape, parts = case
    m, x = quantized_input(opset, shape)
    starts, ends, axes, steps = ([part[i] for part in parts] for i in range(4))
    if opset < 10:
        m.output(m.node("Slice", x, starts=starts, ends=ends, axes=axes))
    else:
        m.output(m.node("Slice", x, *(m.constant(v, **INT64) for v in (starts, ends, axes, steps))))
    empty = any(not len(range(shape[a])[s:e:step]) for s, e, a, step in parts)
    with TemporaryDirectory() as folder:
        if empty:
            with pytest.raises(CompileError, match="empty axis"):
                import_bytes(m, Path(folder))
        else:
            check(m, shape, Path(folder))


def test_slice_without_axes_and_steps(tmp_path: Path) -> None:
    """From the first axis on: the batch is there, and whole."""
    m, x = quantized_input(13, (2, 5, 4))
    m.output(m.node("Slice", x, m.constant([0, 1], **INT64), m.constant([9, -1], **INT64)))
    check(m, (2, 5, 4), tmp_path)
    m, x = quantized_input(9, (2, 5, 4))
    m.output(m.node("Slice", x, starts=[0, 1], ends=[9, -1]))
    check(m, (2, 5, 4), tmp_path)


@pytest.mark.parametrize("opset", [9, 11, 13, 18])
@pytest.mark.parametrize(("sizes", "count", "axis"), [([1, 4, 1], 3, 1), (None, 3, 1), (None, 2, -1), ([4], 1, 3)])
def test_split(opset: int, sizes: list[int] | None, count: int, axis: int, tmp_path: Path) -> None:
    shape = (1, 6, 3, 4)
    m, x = quantized_input(opset, shape)
    for name in m.split(x, sizes, count, axis):
        m.output(name)
    check(m, shape, tmp_path)


@pytest.mark.parametrize(("channels", "count"), [(7, 3), (5, 2), (6, 3)])
def test_an_uneven_split_has_a_smaller_last_part(channels: int, count: int, tmp_path: Path) -> None:
    m, x = quantized_input(18, (1, channels, 2))
    for name in m.split(x, None, count):
        m.output(name)
    assert [o.value.type.shape[1] for o in import_bytes(m, tmp_path).outputs][-1] <= -(-channels // count)
    check(m, (1, channels, 2), tmp_path)


@pytest.mark.parametrize("indices", [2, -1, [0, 1], [1, 3, 5], [-1, -2, -3], [4]])
@pytest.mark.parametrize("axis", [1, -3, 2])
def test_gather(indices: int | list[int], axis: int, tmp_path: Path) -> None:
    shape = (1, 6, 6, 4)
    m, x = quantized_input(13, shape)
    m.output(m.node("Gather", x, m.constant(indices, **INT64), axis=axis))
    check(m, shape, tmp_path)


@pytest.mark.parametrize("indices", [[0, 2, 1], [3, 4, 5, 0, 1, 2], [5, 5, 0], [0, 1, 4, 3, 2, 2]])
def test_channels_in_any_order_are_gathered(indices: list[int], tmp_path: Path) -> None:
    """ONNX Runtime makes SpaceToDepth and such a Gather of YOLOv5's Focus."""
    shape = (1, 6, 3, 4)
    m, x = quantized_input(13, shape)
    m.output(m.node("Gather", x, m.constant(indices, **INT64), axis=1))
    check(m, shape, tmp_path)


def test_rows_in_any_order_are_refused(tmp_path: Path) -> None:
    m, x = quantized_input(13, (1, 6, 3, 4))
    m.output(m.node("Gather", x, m.constant([0, 2, 1], **INT64), axis=2))
    assert "indices [0, 2, 1] is not supported" in refusal_of(m, tmp_path)


def test_channels_in_too_many_pieces_are_refused(tmp_path: Path) -> None:
    m, x = quantized_input(13, (1, 6, 3, 4))
    m.output(m.node("Gather", x, m.constant([0, 2, 1] * 70, **INT64), axis=1))
    assert "64 such runs" in refusal_of(m, tmp_path)


def test_parts_that_nobody_reads_are_not_computed(tmp_path: Path) -> None:
    m, x = quantized_input(13, (1, 6, 3, 4))
    m.output(m.split(x, [2, 4], 2)[1])
    assert len(list(lower(import_bytes(m, tmp_path)).of_type(Slice))) == 1


def test_a_part_that_is_everything_is_no_operation(tmp_path: Path) -> None:
    m, x = quantized_input(13, (1, 6, 3, 4))
    m.output(m.node("Slice", x, *(m.constant([v], **INT64) for v in (-6, 2**63 - 1, 1))))
    assert not lower(import_bytes(m, tmp_path)).ops


def test_each_part_is_named_after_its_tensor(tmp_path: Path) -> None:
    m, x = quantized_input(13, (1, 6, 3, 4))
    names = m.split(x, [2, 4], 2)
    for name in names:
        m.output(name)
    assert [op.result.origin.tensor for op in import_bytes(m, tmp_path).of_type(Slice)] == names
