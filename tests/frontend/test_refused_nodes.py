"""Nodes that are refused, and the exact words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from builders import ModelBuilder, refusal_of

SHAPE = (1, 2, 4, 4)
ONES = np.ones((2, 2, 1, 1))
Build = Callable[[ModelBuilder, str], str]


def quant_with(index: int, array: object, dtype: type = np.float32) -> Build:
    """A Quant whose constant number `index` (1 scale, 2 zero point, 3 bit width) is `array`."""

    def build(m: ModelBuilder, x: str) -> str:
        parameters = [m.constant(v) for v in (0.125, 0, 5)]
        parameters[index - 1] = m.constant(array, dtype=dtype)
        return m.node("Quant", x, *parameters, domain=m.quant_domain, name="q", output="y")

    return build


def node(op: str, *constants: object, domain: str = "", **attributes: object) -> Build:
    """One node on the input, with constants."""
    return lambda m, x: m.node(
        op, x, *(m.constant(c) for c in constants), domain=domain, name="n", output="y", **attributes
    )


CALIBRATED = "\n  help: the quantizer was not calibrated?"
QUANT = "\n  at:   q (Quant), tensor 'y'"
CASES: dict[str, tuple[Build, str]] = {
    "concat of nothing": (
        lambda m, x: m.node("Concat", axis=1, name="n", output="y"),  # noqa: ARG005
        "error[PEF0404]: Concat has no input 0\n  at:   n (Concat), tensor 'y'",
    ),
    "zero scale": (quant_with(1, 0.0), f"error[PEF0304]: the scale is not a positive finite number{QUANT}{CALIBRATED}"),
    "negative scale": (
        quant_with(1, -1.0),
        f"error[PEF0304]: the scale is not a positive finite number{QUANT}{CALIBRATED}",
    ),
    "NaN scale": (
        quant_with(1, np.nan),
        f"error[PEF0304]: the scale is not a positive finite number{QUANT}{CALIBRATED}",
    ),
    "infinite scale": (
        quant_with(1, np.inf),
        f"error[PEF0304]: the scale is not a positive finite number{QUANT}{CALIBRATED}",
    ),
    "subnormal scale": (quant_with(1, 1e-40), f"error[PEF0304]: the scale is subnormal{QUANT}{CALIBRATED}"),
    "integer scale": (
        quant_with(1, 1, np.int64),
        f"error[PEF0304]: the scale holds int64, not floats{QUANT}\n  help: make it float32; where qonnx' "
        "converter of Keras wrote it for binary(): BipolarQuant of x and that scale",
    ),
    "scale per column": (
        quant_with(1, np.ones((1, 1, 1, 4)) * [1, 2, 3, 4]),
        f"error[PEF0305]: a scale of shape [1, 1, 1, 4] on a tensor [1, 2, 4, 4] is not supported{QUANT}\n"
        "  help: per tensor, or per output channel of a weight",
    ),
    "weight with a scale per input": (
        lambda m, x: m.node(
            "Gemm",
            m.node("Flatten", m.quant(x)),
            m.weight(np.ones((32, 3)), np.arange(1, 33).reshape(32, 1)),
            name="n",
            output="y",
        ),
        "error[PEF0305]: the weight has one scale per input\n  at:   n (Gemm), tensor 'y'\n"
        "  help: use one scale per tensor, or one per output: scaling_per_output_channel",
    ),
    "turned weight with a scale per input": (
        lambda m, x: m.node(
            "Gemm",
            m.node("Flatten", m.quant(x)),
            m.weight(np.ones((3, 32)), np.arange(1, 33)),
            transB=1,
            name="n",
            output="y",
        ),
        "error[PEF0305]: the weight has one scale per input\n  at:   n (Gemm), tensor 'y'\n"
        "  help: use one scale per tensor, or one per output: scaling_per_output_channel",
    ),
    "zero point beyond all codes": (
        quant_with(2, 1e12),
        f"error[PEF0303]: a zero point of 999999995904 is not supported{QUANT}{CALIBRATED}",
    ),
    "fractional zero point": (quant_with(2, 0.5), f"error[PEF0303]: the zero point is 0.5, not an integer{QUANT}"),
    "several zero points": (
        quant_with(2, [0, 0]),
        f"error[PEF0408]: the zero point has shape [2], not one number{QUANT}",
    ),
    "bit width 0": (
        quant_with(3, 0),
        f"error[PEF0302]: a bit width of 0 is not supported{QUANT}\n  help: 1 to 32 bits",
    ),
    "bit width 33": (
        quant_with(3, 33),
        f"error[PEF0302]: a bit width of 33 is not supported{QUANT}\n  help: 1 to 32 bits",
    ),
    "bit width NaN": (quant_with(3, np.nan), f"error[PEF0302]: the bit width is nan, not an integer{QUANT}"),
    "bit width infinity": (quant_with(3, np.inf), f"error[PEF0302]: the bit width is inf, not an integer{QUANT}"),
    "unknown operator": (
        node("Hardmax"),
        "error[PEF0401]: operator Hardmax is not supported\n  at:   n (Hardmax), tensor 'y'\n"
        "  help: `pefslc explain operators` lists what is; replace it in the model",
    ),
    "operation on integers": (
        lambda m, x: m.node("Neg", m.node("QuantizeLinear", x, m.constant(0.1)), name="n", output="y"),
        "error[PEF0401]: Neg of integers is not supported\n  at:   n (Neg), tensor 'y'\n"
        "  help: put a DequantizeLinear right behind the quantizer",
    ),
    "integers with another meaning": (
        lambda m, x: m.node(
            "DequantizeLinear", m.node("QuantizeLinear", x, m.constant(0.1)), m.constant(0.2), name="n", output="y"
        ),
        "error[PEF0301]: DequantizeLinear has another scale or zero point than its QuantizeLinear\n"
        "  at:   n (DequantizeLinear), tensor 'y'\n"
        "  help: integers that are read with another meaning are not supported",
    ),
    "blocks": (
        node("QuantizeLinear", 0.1, block_size=2),
        "error[PEF0402]: block-wise quantization is not supported\n  at:   n (QuantizeLinear), tensor 'y'\n"
        "  help: one scale per tensor or per channel",
    ),
    "padding with ones": (
        lambda m, x: m.node(
            "Pad", x, m.constant([0, 0, 1, 1, 0, 0, 1, 1], dtype=np.int64), m.constant(1.0), name="n", output="y"
        ),
        "error[PEF0402]: Pad with value 1 is not supported\n  at:   n (Pad), tensor 'y'\n  help: only zero padding",
    ),
    "padding of an unknown mode": (
        lambda m, x: m.node(
            "Pad", x, m.constant([0, 0, 1, 1, 0, 0, 1, 1], dtype=np.int64), mode="mirror", name="n", output="y"
        ),
        "error[PEF0402]: Pad with mode='mirror' is not supported\n  at:   n (Pad), tensor 'y'\n"
        "  help: 'constant' with zeros, 'edge', 'reflect', 'wrap'",
    ),
    "cropping of everything": (
        lambda m, x: m.node("Pad", x, m.constant([0, 0, -2, 0, 0, 0, -2, 0], dtype=np.int64), name="n", output="y"),
        "error[PEF0208]: Pad of [1, 2, 4, 4] leaves nothing of axis 2\n  at:   n (Pad), tensor 'y'",
    ),
    "division in less than float32": (
        lambda m, x: m.node(
            "QuantizeLinear", x, m.constant(0.5), m.constant(0, dtype=np.int8), precision=16, name="n", output="y"
        ),
        "error[PEF0402]: QuantizeLinear with precision=16 is not supported\n  at:   n (QuantizeLinear), tensor 'y'\n"
        "  help: leave it out, or take float32",
    ),
    "product of other shapes": (
        lambda m, x: m.node("Mul", x, m.node("MaxPool", x, kernel_shape=[3, 1]), name="n", output="y"),
        "error[PEF0407]: Mul of [1, 2, 4, 4] and [1, 2, 2, 4] is not supported\n  at:   n (Mul), tensor 'y'\n"
        "  help: equal shapes, but for axes of size 1",
    ),
    "division by a tensor": (
        lambda m, x: m.node("Div", x, x, name="n", output="y"),
        "error[PEF0405]: Div by a tensor is not supported\n  at:   n (Div), tensor 'y'\n"
        "  help: divide by a constant, or multiply",
    ),
    "division by 0": (node("Div", 0.0), "error[PEF0410]: Div by 0\n  at:   n (Div), tensor 'y'"),
    "difference of other ranks": (
        lambda m, x: m.node("Sub", x, m.node("Flatten", x), name="n", output="y"),
        "error[PEF0407]: Sub of [1, 2, 4, 4] and [1, 32] is not supported\n  at:   n (Sub), tensor 'y'\n"
        "  help: equal shapes, but for axes of size 1",
    ),
    "approximate gelu": (
        node("Gelu", approximate="fast"),
        "error[PEF0402]: Gelu with approximate='fast' is not supported\n  at:   n (Gelu), tensor 'y'\n"
        "  help: 'none' or 'tanh'",
    ),
    "odd power": (
        node("Pow", 2.5),
        "error[PEF0410]: Pow with exponent 2.5 is not supported\n  at:   n (Pow), tensor 'y'\n  help: 0.5, 1 to 4",
    ),
    "unknown attribute": (
        node("Relu", surprise=3),
        "error[PEF0402]: Relu with surprise=3 is not supported\n  at:   n (Relu), tensor 'y'",
    ),
    "slopes that are computed": (
        lambda m, x: m.node("PRelu", x, m.node("Relu", x), name="n", output="y"),
        "error[PEF0405]: the constant operand is computed at run time (tensor 't0')\n  at:   n (PRelu), tensor 'y'\n"
        "  help: only constants are supported here: freeze the model before exporting it",
    ),
    "slopes per pixel": (
        lambda m, x: m.node("PRelu", x, m.constant(np.ones((4, 4))), name="n", output="y"),
        "error[PEF0407]: PRelu of a constant of shape [4, 4] is not supported\n  at:   n (PRelu), tensor 'y'\n"
        "  help: one number per channel",
    ),
    "empty clip": (node("Clip", 2.0, 1.0), "error[PEF0410]: Clip to [2.0, 1.0] is empty\n  at:   n (Clip), tensor 'y'"),
    "window that does not fit": (
        node("MaxPool", kernel_shape=[9, 9]),
        "error[PEF0409]: the window does not fit: the result would be [1, 2, -4, -4]\n  at:   n (MaxPool), tensor 'y'\n"
        "  help: check kernel and pads",
    ),
    "window of too many taps": (
        node("AveragePool", kernel_shape=[2**20, 2**20], strides=[2**20] * 2, pads=[2**20 - 1] * 4),
        "error[PEF0409]: a window of 1048576 x 1048576 taps is too large\n  at:   n (AveragePool), tensor 'y'",
    ),
    "padding of a whole window": (
        node("MaxPool", kernel_shape=[2, 2], pads=[2, 0, 0, 0]),
        "error[PEF0409]: the padding is as large as the window: some windows would see no input\n"
        "  at:   n (MaxPool), tensor 'y'",
    ),
    "dilated window that steps over the input": (
        lambda m, x: m.node(
            "MaxPool",
            m.node("GlobalAveragePool", x),
            kernel_shape=[2, 2],
            dilations=[3, 3],
            pads=[3] * 4,
            name="n",
            output="y",
        ),
        "error[PEF0409]: some windows see no input: kernel [2, 2] with dilations [3, 3] and pads [3, 3, 3, 3] on "
        "[1, 2, 1, 1]\n  at:   n (MaxPool), tensor 'y'\n  help: reduce the padding or the dilation",
    ),
    "mean over the batch": (
        node("ReduceMean", axes=[0, 2, 3]),
        "error[PEF0402]: ReduceMean over axes [0, 2, 3] of 4 is not supported\n  at:   n (ReduceMean), tensor 'y'\n"
        "  help: over any axes but the batch's",
    ),
    "shape of floats": (
        lambda m, x: m.node("Reshape", x, m.constant([np.inf, 1]), name="n", output="y"),
        "error[PEF0408]: Reshape: the shape must be int64, not float32\n  at:   n (Reshape), tensor 'y'\n"
        "  help: export the model again",
    ),
    "axes of floats": (
        lambda m, x: m.node("Squeeze", x, m.constant([np.nan]), name="n", output="y"),
        "error[PEF0408]: Squeeze: the axes must be int64, not float32\n  at:   n (Squeeze), tensor 'y'\n"
        "  help: export the model again",
    ),
    "reshape that does not fit": (
        lambda m, x: m.node("Reshape", x, m.constant([1, 5], dtype=np.int64), name="n", output="y"),
        "error[PEF0408]: Reshape of [1, 2, 4, 4] to [1, 5] does not fit\n  at:   n (Reshape), tensor 'y'",
    ),
    "reshape of the batch": (
        lambda m, x: m.node("Reshape", x, m.constant([2, 16], dtype=np.int64), name="n", output="y"),
        "error[PEF0407]: Reshape of [1, 2, 4, 4] to [2, 16] is not supported\n  at:   n (Reshape), tensor 'y'\n"
        "  help: keep the batch axis",
    ),
    "slice of the batch": (
        lambda m, x: m.node("Slice", x, *(m.constant([v], dtype=np.int64) for v in (1, 9, 0)), name="n", output="y"),
        "error[PEF0407]: Slice along the batch axis of [1, 2, 4, 4] is not supported\n  at:   n (Slice), tensor 'y'\n"
        "  help: keep the batch axis",
    ),
    "slice by 0": (
        lambda m, x: m.node("Slice", x, *(m.constant([v], dtype=np.int64) for v in (0, 9, 1, 0)), name="n", output="y"),
        "error[PEF0410]: Slice with a step of 0\n  at:   n (Slice), tensor 'y'\n  help: export the model again",
    ),
    "slice of no axis": (
        lambda m, x: m.node("Slice", x, *(m.constant([v], dtype=np.int64) for v in (0, 9, 4)), name="n", output="y"),
        "error[PEF0408]: Slice along axis 4 of [1, 2, 4, 4]\n  at:   n (Slice), tensor 'y'\n"
        "  help: export the model again",
    ),
    "slice of ends that are computed": (
        lambda m, x: m.node("Slice", x, m.constant([0], dtype=np.int64), m.node("Relu", x), name="n", output="y"),
        "error[PEF0405]: the list of ends is computed at run time (tensor 't0')\n  at:   n (Slice), tensor 'y'\n"
        "  help: only constants are supported here: freeze the model before exporting it",
    ),
    "slice of other lengths": (
        lambda m, x: m.node(
            "Slice", x, *(m.constant(v, dtype=np.int64) for v in ([0, 0], [1], [2])), name="n", output="y"
        ),
        "error[PEF0408]: Slice has 2 starts, 1 ends, 1 axes and 2 steps\n  at:   n (Slice), tensor 'y'\n"
        "  help: export the model again",
    ),
    "split that does not fit": (
        lambda m, x: m.split(x, [1, 2], 2)[0],
        "error[PEF0408]: Split of 2 into 2 parts of sizes [1, 2]\n  at:   split0 (Split), tensor 't0.0'\n"
        "  help: export the model again",
    ),
    "split into unequal parts": (
        lambda m, x: m.split(x, None, 3)[0],
        "error[PEF0408]: Split of 2 into 3 parts of one size\n  at:   split0 (Split), tensor 't0.0'\n"
        "  help: export the model again",
    ),
    "gather of irregular indices": (
        lambda m, x: m.node("Gather", x, m.constant([0, 1, 3], dtype=np.int64), axis=2, name="n", output="y"),
        "error[PEF0402]: Gather of indices [0, 1, 3] is not supported\n  at:   n (Gather), tensor 'y'\n"
        "  help: one index, or indices in equal steps: x[:, 3], x[:, 0::2]; of channels (axis 1), 64 such runs",
    ),
    "gather from outside": (
        lambda m, x: m.node("Gather", x, m.constant(4, dtype=np.int64), axis=2, name="n", output="y"),
        "error[PEF0408]: Gather of indices [4] from 4\n  at:   n (Gather), tensor 'y'\n  help: export the model again",
    ),
    "weight of other channels": (
        lambda m, x: m.node("Conv", x, m.weight(np.ones((2, 3, 1, 1))), name="n", output="y"),
        "error[PEF0408]: the weight [2, 3, 1, 1] wants 3 input channels, the input has 2\n  at:   n (Conv), tensor 'y'",
    ),
    "kernel_shape of other size": (
        lambda m, x: m.node("Conv", x, m.weight(ONES), name="n", output="y", kernel_shape=[3, 3]),
        "error[PEF0408]: kernel_shape is [3, 3] but the weight is [2, 2, 1, 1]\n  at:   n (Conv), tensor 'y'",
    ),
    "bias of other length": (
        lambda m, x: m.node("Conv", x, m.weight(ONES), m.constant([1, 2, 3]), name="n", output="y"),
        "error[PEF0408]: the bias has shape [3], the convolution 2 output channels\n  at:   n (Conv), tensor 'y'",
    ),
    "negative pads": (
        lambda m, x: m.node("Conv", x, m.weight(ONES), name="n", output="y", pads=[-1, 0, 0, 0]),
        "error[PEF0402]: pads=[-1, 0, 0, 0] is not supported\n"
        "  at:   n (Conv), tensor 'y'\n  help: four numbers, none negative",
    ),
    "infinite weight": (
        lambda m, x: m.node("Conv", x, m.quant(m.constant(ONES * np.inf, "w"), output="wq"), name="n", output="y"),
        "error[PEF0211]: the constant holds NaN or infinity\n  at:   quant0 (Quant), tensor 'w'\n"
        "  help: training diverged? check the checkpoint",
    ),
    "batch norm of other channels": (
        lambda m, x: m.node("BatchNormalization", x, *(m.constant([1.0]) for _ in range(4)), name="n", output="y"),
        "error[PEF0408]: BatchNormalization of 1 channels on a tensor of 2\n  at:   n (BatchNormalization), tensor 'y'",
    ),
    "negative variance": (
        lambda m, x: m.node(
            "BatchNormalization", x, *(m.constant([v, v]) for v in (1, 0, 0, -1)), name="n", output="y"
        ),
        "error[PEF0410]: variance + epsilon is not positive\n  at:   n (BatchNormalization), tensor 'y'",
    ),
    "sum of other sizes": (
        lambda m, x: m.node("Add", x, m.node("MaxPool", x, kernel_shape=[2, 2]), name="n", output="y"),
        "error[PEF0407]: Add of [1, 2, 4, 4] and [1, 2, 3, 3] is not supported\n  at:   n (Add), tensor 'y'\n"
        "  help: equal shapes, but for axes of size 1",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_refused(name: str, tmp_path: Path) -> None:
    build, message = CASES[name]
    m = ModelBuilder()
    m.output(build(m, m.input(SHAPE)))
    assert refusal_of(m, tmp_path) == message


def test_all_faults_are_reported_and_none_that_follows_from_another(tmp_path: Path) -> None:
    m = ModelBuilder()
    x = m.input(SHAPE)
    bad = m.node("Hardmax", x, name="s")
    m.output(m.node("Einsum", bad, name="t"))
    m.output(m.quant(x, 0.0))
    text = refusal_of(m, tmp_path)
    assert text.count("error[") == 3
    assert "operator Hardmax" in text
    assert "operator Einsum" in text  # in the way whatever it reads
    assert "the scale is not a positive finite number" in text
