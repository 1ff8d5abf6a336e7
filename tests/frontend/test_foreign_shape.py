"""Shapes of what is not supported, from ONNX's inference: where it is asked, and where it would end the process."""

from __future__ import annotations

import onnx_graphsurgeon as gs
import pytest

from pefslc.frontend.foreign_shape import foreign_shape


def shape_of(op: str, shape: tuple[int, ...], **attrs: object) -> tuple[int, ...] | None:
    node = gs.Node(op, attrs=attrs, inputs=[gs.Variable("x")], outputs=[gs.Variable("y")])
    return foreign_shape(node, {"x": shape}, 13)


def test_the_shape_is_that_of_onnx() -> None:
    assert shape_of("DepthToSpace", (1, 8, 3, 3), blocksize=2) == (1, 2, 6, 6)
    assert shape_of("LpPool", (1, 2, 7, 7), kernel_shape=[3, 3], strides=[2, 2]) == (1, 2, 3, 3)


@pytest.mark.parametrize("blocksize", [1 << 62, 1 << 32, 0, -1])
def test_what_onnx_would_divide_by_zero_is_not_inferred(blocksize: int) -> None:
    assert shape_of("DepthToSpace", (1, 8, 3, 3), blocksize=blocksize) is None


def test_strides_of_zero_are_not_inferred() -> None:
    assert shape_of("LpPool", (1, 2, 7, 7), kernel_shape=[3, 3], strides=[0, 2]) is None
