"""What stands between QuantizeLinear and DequantizeLinear: the same as behind both; and casts that change nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto

from builders import ModelBuilder, import_bytes, lower, normal, refusal_of
from pefslc.ir.interpret import run

SHAPE = (1, 4, 6, 6)
ZERO_POINT = 3
Move = Callable[[ModelBuilder, str], str]


def ints(m: ModelBuilder, *values: int) -> str:
    return m.constant(list(values), dtype=np.int64)


def parameters(m: ModelBuilder, zero_point: int = ZERO_POINT) -> tuple[str, str]:
    return m.constant(0.125), m.constant(zero_point, dtype=np.int8)


def codes_of(m: ModelBuilder, x: str) -> str:
    return m.node("QuantizeLinear", x, *parameters(m))


MOVES: dict[str, Move] = {
    "Identity": lambda m, x: m.node("Identity", x),
    "Cast to a wider type": lambda m, x: m.node("Cast", x, to=TensorProto.INT32),
    "Reshape": lambda m, x: m.node("Reshape", x, ints(m, 1, -1)),
    "Flatten": lambda m, x: m.node("Flatten", x),
    "a flattening by the shape": lambda m, x: m.node(
        "Reshape", x, m.node("Concat", m.node("Slice", m.node("Shape", x), ints(m, 0), ints(m, 1)), ints(m, -1), axis=0)
    ),
    "Squeeze": lambda m, x: m.node("Squeeze", m.node("Unsqueeze", x, ints(m, 2)), ints(m, 2)),
    "Transpose": lambda m, x: m.node("Transpose", x, perm=[0, 2, 3, 1]),
    "MaxPool": lambda m, x: m.node("MaxPool", x, kernel_shape=[3, 3], pads=[1] * 4, strides=[2, 2]),
    "GlobalMaxPool": lambda m, x: m.node("GlobalMaxPool", x),
    "Slice": lambda m, x: m.node("Slice", x, ints(m, 1), ints(m, 3), ints(m, 1)),
    "Split": lambda m, x: m.node("Concat", *reversed(m.split(x, [1, 3], 2)), axis=1),
    "Gather": lambda m, x: m.node("Gather", x, ints(m, 0, 2), axis=1),
    "Concat": lambda m, x: m.node("Concat", x, m.node("Identity", x), axis=1),
    "DepthToSpace": lambda m, x: m.node("DepthToSpace", x, blocksize=2),
    "a chain": lambda m, x: m.node(
        "Reshape", m.node("Transpose", m.node("MaxPool", x, kernel_shape=[2, 2]), perm=[0, 1, 3, 2]), ints(m, 1, -1)
    ),
}  # fmt: skip


def outputs(folder: Path, build: Callable[[ModelBuilder, str], str]) -> list[np.ndarray]:
    """Of the quantized and of the integer level."""
    m = ModelBuilder()
    m.output(build(m, m.input(SHAPE)))
    quantized = import_bytes(m, folder)
    return [next(iter(run(graph, normal(SHAPE, 4)).values())) for graph in (quantized, lower(quantized))]


@pytest.mark.parametrize("name", MOVES)
def test_movement_between_the_two_is_movement_behind_both(name: str, tmp_path: Path) -> None:
    move = MOVES[name]
    between = outputs(tmp_path, lambda m, x: m.node("DequantizeLinear", move(m, codes_of(m, x)), *parameters(m)))
    behind = outputs(
        tmp_path,
        # A Cast of values is to floats: it is left out.
        lambda m, x: (move if "Cast" not in name else MOVES["Identity"])(
            m, m.node("DequantizeLinear", codes_of(m, x), *parameters(m))
        ),
    )
    for got, expected in zip(between, behind, strict=True):
        np.testing.assert_array_equal(got, expected)
        assert len(np.unique(got)) > 3


STEPS = (0.125, 0.5, 0.25, 1.0)  # of the four channels
PER_CHANNEL: dict[str, tuple[int, tuple[float, ...]]] = {  # where the DequantizeLinear finds them
    "Identity": (1, STEPS),
    "Cast to a wider type": (1, STEPS),
    "Reshape": (1, tuple(np.repeat(STEPS, 36))),
    "Flatten": (1, tuple(np.repeat(STEPS, 36))),
    "Squeeze": (1, STEPS),
    "Transpose": (3, STEPS),
    "MaxPool": (1, STEPS),
    "GlobalMaxPool": (1, STEPS),
    "Slice": (1, STEPS[1:3]),
    "Split": (1, (*STEPS[1:], STEPS[0])),
    "Gather": (1, STEPS[::2]),
    "Concat": (1, STEPS * 2),
}


def of_channels(m: ModelBuilder, steps: Sequence[float]) -> tuple[str, str]:
    return m.constant(steps), m.constant([0] * len(steps), dtype=np.int8)


@pytest.mark.parametrize("name", PER_CHANNEL)
def test_scales_of_channels_move_with_them(name: str, tmp_path: Path) -> None:
    axis, steps = PER_CHANNEL[name]

    def network(m: ModelBuilder, x: str) -> str:
        codes = MOVES[name](m, m.node("QuantizeLinear", x, *of_channels(m, STEPS), axis=1))
        return m.node("DequantizeLinear", codes, *of_channels(m, steps), axis=axis)

    def plain(m: ModelBuilder, x: str) -> str:
        values = m.node("QuantizeLinear", x, *of_channels(m, STEPS), axis=1)
        values = m.node("DequantizeLinear", values, *of_channels(m, STEPS), axis=1)
        return (MOVES["Identity"] if "Cast" in name else MOVES[name])(m, values)

    m = ModelBuilder()
    m.output(network(m, m.input(SHAPE)))
    found = next(iter(run(import_bytes(m, tmp_path), normal(SHAPE, 4)).values()))
    m = ModelBuilder()
    m.output(plain(m, m.input(SHAPE)))
    np.testing.assert_array_equal(found, next(iter(run(import_bytes(m, tmp_path), normal(SHAPE, 4)).values())))


@pytest.mark.parametrize("op", ["nothing", "Transpose", "Pad"])
def test_scales_along_another_axis_are_another_meaning(op: str, tmp_path: Path) -> None:
    """The image has as many rows as channels: the shapes alone do not tell."""
    m = ModelBuilder()
    codes = m.node("QuantizeLinear", m.input((1, 4, 4, 4)), *of_channels(m, STEPS), axis=1)
    if op == "Transpose":
        codes = m.node("Transpose", codes, perm=[0, 2, 1, 3])
    elif op == "Pad":
        codes = m.node("Pad", codes, ints(m, 0, 0, 0, 0, 0, 0, 0, 1), m.constant(0, dtype=np.int8))
    m.output(m.node("DequantizeLinear", codes, *of_channels(m, STEPS), axis=1 if op == "Transpose" else 2))
    assert "DequantizeLinear has another scale or zero point" in refusal_of(m, tmp_path)


def test_zeros_around_channels_of_several_scales(tmp_path: Path) -> None:
    m = ModelBuilder()
    codes = m.node("QuantizeLinear", m.input(SHAPE), *of_channels(m, STEPS), axis=1)
    codes = m.node("Pad", codes, ints(m, 0, 0, 1, 0, 0, 0, 0, 2), m.constant(0, dtype=np.int8))
    m.output(m.node("DequantizeLinear", m.node("Transpose", codes, perm=[0, 2, 3, 1]), *of_channels(m, STEPS), axis=3))
    x, steps = normal(SHAPE, 4), np.reshape(STEPS, (4, 1, 1))
    values = np.clip(np.round(x / steps), -128, 127) * steps
    expected = np.pad(values, ((0, 0), (0, 0), (1, 0), (0, 2))).transpose(0, 2, 3, 1)
    np.testing.assert_array_equal(next(iter(run(import_bytes(m, tmp_path), x).values())), expected)


@pytest.mark.parametrize("zero_point", [-5, 0, 3])
@pytest.mark.parametrize("moved_first", [False, True])
def test_a_relu_of_integers_is_one_of_codes(moved_first: bool, zero_point: int, tmp_path: Path) -> None:
    """Of integers, not of the values that they stand for: with a zero point, the two differ."""

    def network(m: ModelBuilder, x: str) -> str:
        codes = m.node("QuantizeLinear", x, *parameters(m, zero_point))
        codes = m.node("Transpose", codes, perm=[0, 3, 1, 2]) if moved_first else codes
        return m.node("DequantizeLinear", m.node("Relu", codes), *parameters(m, zero_point))

    x = normal(SHAPE, 4)
    expected = (np.maximum(np.clip(np.round(x / 0.125) + zero_point, -128, 127), 0) - zero_point) * 0.125
    for got in outputs(tmp_path, network):
        np.testing.assert_array_equal(got, expected.transpose(0, 3, 1, 2) if moved_first else expected)


def test_padding_by_the_zero_point_is_padding_by_0(tmp_path: Path) -> None:
    def padded(m: ModelBuilder, x: str, value: str) -> str:
        return m.node("Pad", x, ints(m, 0, 0, 1, 1, 0, 0, 1, 1), value)

    between = outputs(
        tmp_path,
        lambda m, x: m.node(
            "DequantizeLinear", padded(m, codes_of(m, x), m.constant(ZERO_POINT, dtype=np.int8)), *parameters(m)
        ),
    )
    behind = outputs(
        tmp_path, lambda m, x: padded(m, m.node("DequantizeLinear", codes_of(m, x), *parameters(m)), m.constant(0.0))
    )
    np.testing.assert_array_equal(between, behind)


@pytest.mark.parametrize("clip_first", [False, True])
def test_a_clip_before_and_behind_the_movement(clip_first: bool, tmp_path: Path) -> None:
    def network(m: ModelBuilder, x: str) -> str:
        limits = m.constant(-5, dtype=np.int8), m.constant(11, dtype=np.int8)
        codes = codes_of(m, x)
        for op in ("Clip", "Transpose") if clip_first else ("Transpose", "Clip"):
            codes = m.node(op, codes, *limits) if op == "Clip" else m.node(op, codes, perm=[0, 3, 1, 2])
        return m.node("DequantizeLinear", codes, *parameters(m))

    x = normal(SHAPE, 4)
    codes = np.clip(np.round(x / 0.125) + ZERO_POINT, -5, 11)
    expected = ((codes - ZERO_POINT) * 0.125).transpose(0, 3, 1, 2)
    for got in outputs(tmp_path, network):
        np.testing.assert_array_equal(got, expected)


def test_integers_of_one_quantizer_may_be_read_moved_and_unmoved(tmp_path: Path) -> None:
    def network(m: ModelBuilder, x: str) -> str:
        codes = codes_of(m, x)
        moved = m.node("Transpose", codes, perm=[0, 1, 3, 2])
        values = [m.node("DequantizeLinear", c, *parameters(m)) for c in (codes, moved)]
        return m.node("Concat", *values, axis=1)

    codes = np.clip(np.round(normal(SHAPE, 4) / 0.125) + ZERO_POINT, -128, 127)
    values = (codes - ZERO_POINT) * 0.125
    for got in outputs(tmp_path, network):
        np.testing.assert_array_equal(got, np.concatenate([values, values.swapaxes(2, 3)], axis=1))


REFUSED: dict[str, tuple[Move, str]] = {
    "another scale behind it": (
        lambda m, x: m.node("DequantizeLinear", MOVES["Transpose"](m, codes_of(m, x)), m.constant(0.5)),
        "DequantizeLinear has another scale or zero point than its QuantizeLinear",
    ),
    "another padding": (
        lambda m, x: m.node("Pad", codes_of(m, x), ints(m, 0, 0, 1, 1, 0, 0, 1, 1), m.constant(0, dtype=np.int8)),
        "Pad of integers with another value than the zero point",
    ),
    "no padding value": (
        lambda m, x: m.node("Pad", codes_of(m, x), ints(m, 0, 0, 1, 1, 0, 0, 1, 1)),
        "Pad of integers with another value than the zero point",
    ),
    "two scales side by side": (
        lambda m, x: m.node("Concat", codes_of(m, x), m.node("QuantizeLinear", x, m.constant(0.5)), axis=1),
        "Concat of integers is not supported unless all have one scale and zero point",
    ),
    "a constant side by side": (
        lambda m, x: m.node("Concat", codes_of(m, x), m.constant(np.ones(SHAPE), dtype=np.int8), axis=1),
        "Concat of integers is not supported unless all have one scale and zero point",
    ),
    "a sum": (lambda m, x: m.node("Add", codes_of(m, x), codes_of(m, x)), "Add of integers is not supported"),
    "a maximum of several scales": (
        lambda m, x: m.node(
            "MaxPool",
            m.node("Transpose", m.node("QuantizeLinear", x, *of_channels(m, STEPS), axis=1), perm=[0, 2, 3, 1]),
            kernel_shape=[2, 2],
        ),
        "MaxPool of integers of different scales is not supported",
    ),
    "a clip of moved integers of several scales": (
        lambda m, x: m.node("Relu", m.node("Flatten", m.node("QuantizeLinear", x, *of_channels(m, STEPS), axis=1))),
        "Relu of moved integers with one scale per channel is not supported",
    ),
    "a cast that wraps": (
        lambda m, x: m.node("Cast", codes_of(m, x), to=TensorProto.UINT8),
        "Cast of integers in [-128, 127] to UINT8 is not supported",
    ),
    "a cast of integers to floats": (
        lambda m, x: m.node("Cast", codes_of(m, x), to=TensorProto.FLOAT),
        "Cast of integers in [-128, 127] to FLOAT is not supported",
    ),
    "a cast that rounds": (lambda m, x: m.node("Cast", x, to=TensorProto.FLOAT16), "Cast to FLOAT16 is not supported"),
    "a cast to no type": (lambda m, x: m.node("Cast", x, to=77), "Cast to type 77 is not supported"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_commute_is_refused(name: str, tmp_path: Path) -> None:
    build, message = REFUSED[name]
    m = ModelBuilder()
    m.output(m.node("Relu", build(m, m.input(SHAPE))))
    assert message in refusal_of(m, tmp_path)


@pytest.mark.parametrize("to", [TensorProto.FLOAT, TensorProto.DOUBLE])
def test_a_cast_of_values_to_wide_floats_is_an_identity(to: int, tmp_path: Path) -> None:
    graphs = []
    for cast in (False, True):
        m = ModelBuilder()
        x = m.quant(m.input(SHAPE))
        m.output(m.quant(m.node("Relu", m.node("Cast", x, to=to) if cast else x)))
        graphs.append(import_bytes(m, tmp_path))
    assert [op.mnemonic for op in graphs[0].ops] == [op.mnemonic for op in graphs[1].ops]


TYPES: Sequence[tuple[int, int, int]] = [
    (TensorProto.INT8, -128, 127), (TensorProto.UINT8, 0, 255), (TensorProto.INT16, -(2**15), 2**15 - 1),
    (TensorProto.UINT16, 0, 2**16 - 1), (TensorProto.INT32, -(2**31), 2**31 - 1), (TensorProto.INT64, -(2**63), 2**63),
]  # fmt: skip


@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int16, np.uint16])
@pytest.mark.parametrize(("to", "low", "high"), TYPES)
def test_a_cast_of_integers_is_an_identity_where_the_type_holds_them(
    kind: type, to: int, low: int, high: int, tmp_path: Path
) -> None:
    m = ModelBuilder(opset=21)
    scale, zero = m.constant(0.125), m.constant(0, dtype=kind)
    codes = m.node("Cast", m.node("QuantizeLinear", m.input(SHAPE), scale, zero), to=to)
    m.output(m.node("DequantizeLinear", codes, scale))
    if low <= np.iinfo(kind).min and np.iinfo(kind).max <= high:
        assert [op.mnemonic for op in import_bytes(m, tmp_path).ops] == ["quantize"]
    else:
        assert "Cast of integers in" in refusal_of(m, tmp_path)


@pytest.mark.parametrize("to", [TensorProto.INT16, TensorProto.UINT8, TensorProto.INT64])
def test_an_input_of_integers_may_get_a_type_that_holds_them(to: int, tmp_path: Path) -> None:
    m = ModelBuilder()
    codes = m.node("Dropout", m.node("Cast", m.input(SHAPE, dtype=TensorProto.UINT8), to=to))
    m.output(m.node("DequantizeLinear", codes, m.constant(0.125)))
    graph = lower(import_bytes(m, tmp_path))
    data = np.arange(np.prod(SHAPE)).reshape(SHAPE) % 256
    np.testing.assert_array_equal(next(iter(run(graph, data).values())), data * 0.125)


def test_an_input_of_integers_may_not_wrap_around(tmp_path: Path) -> None:
    m = ModelBuilder()
    codes = m.node("Cast", m.input(SHAPE, dtype=TensorProto.UINT8), to=TensorProto.INT8)
    m.output(m.node("DequantizeLinear", codes, m.constant(0.125)))
    assert "Cast of integers in [0, 255] to INT8 is not supported" in refusal_of(m, tmp_path)
