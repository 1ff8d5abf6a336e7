"""Networks whose branches and channels have scales of their own: the compiled C against exact rationals."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import pefslc
from builders import ModelBuilder
from oracle import evaluate_model

Build = Callable[[ModelBuilder, str, np.random.Generator], str]

CHANNELS = 4


def scale_of(rng: np.random.Generator, shape: tuple[int, ...] = ()) -> NDArray[np.float32]:
    """Float32 scales over several binades."""
    return np.float32(np.exp2(rng.uniform(-7, -2, shape)))


def conv(
    m: ModelBuilder,
    x: str,
    rng: np.random.Generator,
    *,
    kernel: int = 3,
    groups: int = 1,
    bias: bool = True,
    per_channel: bool = True,
    inputs: int = CHANNELS,
    pad: int | None = None,
) -> str:
    outputs = CHANNELS
    scale = scale_of(rng, (outputs, 1, 1, 1) if per_channel else ())
    codes = rng.integers(-128, 128, (outputs, inputs // groups, kernel, kernel))
    weight = m.weight(codes * scale, scale, 8)
    biases = [m.constant(rng.normal(0, 2, outputs))] if bias else []
    pads = [kernel // 2 if pad is None else pad] * 4
    return m.node("Conv", x, weight, *biases, group=groups, kernel_shape=[kernel] * 2, pads=pads)


def quant(m: ModelBuilder, x: str, rng: np.random.Generator, **kwargs: int) -> str:
    return m.quant(x, scale_of(rng) * 8, 8, signed=kwargs.get("signed", int(rng.integers(0, 2))))


def norm(m: ModelBuilder, x: str, rng: np.random.Generator, *, rising: bool = False, channels: int = CHANNELS) -> str:
    gamma = rng.normal(0, 1, channels)
    parts = (abs(gamma) + 0.1 if rising else gamma, rng.normal(0, 1, channels), rng.normal(0, 1, channels))
    return m.node(
        "BatchNormalization", x, *(m.constant(p) for p in (*parts, rng.uniform(0.5, 2, channels))), epsilon=1e-5
    )


def pool(m: ModelBuilder, x: str) -> str:
    return m.node("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])


def residual(m: ModelBuilder, x: str, rng: np.random.Generator) -> str:
    return quant(m, m.node("Add", quant(m, conv(m, x, rng), rng), x), rng)


def chain_of_additions(m: ModelBuilder, x: str, rng: np.random.Generator) -> str:
    y = m.node("Add", quant(m, conv(m, x, rng), rng), x)
    y = m.node("Add", quant(m, conv(m, x, rng, kernel=1), rng), y)
    return quant(m, m.node("Relu", y), rng, signed=0)


def residual_blocks(m: ModelBuilder, x: str, rng: np.random.Generator) -> str:
    for _ in range(3):
        y = quant(m, m.node("Relu", conv(m, x, rng, per_channel=False)), rng, signed=0)
        x = quant(m, m.node("Relu", m.node("Add", quant(m, conv(m, y, rng), rng), x)), rng, signed=0)
    return x


def unquantized_branch(m: ModelBuilder, x: str, rng: np.random.Generator) -> str:
    """The shortcut alone has a quantizer: TensorRT's recipe, with weights of a short scale."""
    codes = rng.integers(-128, 128, (CHANNELS, CHANNELS, 3, 3))
    weight = m.weight(codes * 2.0**-9, 2.0**-9, 8)
    y = m.node("Conv", x, weight, m.constant(rng.normal(0, 2, CHANNELS)), kernel_shape=[3, 3], pads=[1] * 4)
    return quant(m, m.node("Relu", m.node("Add", y, quant(m, x, rng, signed=1))), rng)


def unquantized_branch_of_scales_per_channel(m: ModelBuilder, x: str, rng: np.random.Generator) -> str:
    """The same with a short scale for each output channel, and a factor of either sign behind the convolution."""
    codes = rng.integers(-128, 128, (CHANNELS, CHANNELS, 3, 3))
    scale = np.float32(2.0 ** rng.integers(-12, -6, (CHANNELS, 1, 1, 1)))
    y = m.node("Conv", x, m.weight(codes * scale, scale, 8), kernel_shape=[3, 3], pads=[1] * 4)
    y = m.node("Mul", y, m.constant([[[[1]], [[-1]], [[0.5]], [[-2]]]]))
    return quant(m, m.node("Relu", m.node("Add", y, quant(m, x, rng, signed=1))), rng)


def unquantized_branch_of_float_scales(m: ModelBuilder, x: str, rng: np.random.Generator) -> str:
    """The same with a float scale for each channel, a bias and a factor of either sign: 72 bits on one grid."""
    y = m.node("Mul", conv(m, x, rng), m.constant([[[[1]], [[-1]], [[0.3]], [[-2]]]]))
    return quant(m, m.node("Relu", m.node("Add", y, m.quant(x, 0.0371, 8, zero_point=2))), rng, signed=0)


def unquantized_branch_with_norm(m: ModelBuilder, x: str, rng: np.random.Generator) -> str:
    """A BatchNorm that is kept, gamma of either sign: the recipe of TensorRT as it is exported from training."""
    y = norm(m, conv(m, x, rng), rng)
    y = quant(m, m.node("Relu", m.node("Add", quant(m, x, rng, signed=1), y)), rng, signed=0)
    z = norm(m, conv(m, y, rng, per_channel=False, bias=False), rng)
    z = m.node("Clip", m.node("Add", z, quant(m, y, rng)), m.constant(-200.0), m.constant(900.0))
    return m.quant(z, 7.3, 8)


def unquantized_branch_read_twice(m: ModelBuilder, x: str, rng: np.random.Generator) -> str:
    """By two quantizers, one of them behind an activation, and no bias."""
    y = m.node("Add", quant(m, x, rng), conv(m, x, rng, bias=False, per_channel=False))
    first, second = quant(m, m.node("LeakyRelu", y, alpha=0.125), rng, signed=1), quant(m, y, rng, signed=1)
    return quant(m, m.node("Add", first, second), rng, signed=1)


def sum_of_scales_per_channel(m: ModelBuilder, x: str, rng: np.random.Generator) -> str:
    return quant(m, m.node("Add", scales_per_channel(m, x, rng), scales_per_channel(m, x, rng)), rng, signed=0)


def sum_of_one_scale_and_several(m: ModelBuilder, x: str, rng: np.random.Generator) -> str:
    y = m.node("Sub", quant(m, conv(m, x, rng), rng), scales_per_channel(m, x, rng))
    return quant(m, m.node("Relu", m.node("Add", y, x)), rng, signed=0)


def concat(m: ModelBuilder, x: str, rng: np.random.Generator) -> str:
    return m.node("Concat", quant(m, conv(m, x, rng), rng), x, quant(m, conv(m, x, rng, kernel=1), rng), axis=1)


def concat_then_quantizer(m: ModelBuilder, x: str, rng: np.random.Generator) -> str:
    return quant(m, concat(m, x, rng), rng, signed=1)


def concat_then_convolution(m: ModelBuilder, x: str, rng: np.random.Generator) -> str:
    return quant(m, conv(m, concat(m, x, rng), rng, inputs=3 * CHANNELS), rng, signed=1)


def concat_of_sums(m: ModelBuilder, x: str, rng: np.random.Generator) -> str:
    """One quantizer for branches that have a bias or a BatchNorm each."""
    y = m.node("Concat", conv(m, x, rng), x, norm(m, conv(m, x, rng, bias=False), rng), axis=1)
    return quant(m, m.node("Relu", y), rng, signed=0)


def scales_per_channel(m: ModelBuilder, x: str, rng: np.random.Generator) -> str:
    y = m.node("Relu", conv(m, x, rng))
    return m.quant(y, scale_of(rng, (1, CHANNELS, 1, 1)) * 8, 8, signed=0)


def depthwise(m: ModelBuilder, x: str, rng: np.random.Generator) -> str:
    y = conv(m, scales_per_channel(m, x, rng), rng, groups=CHANNELS)
    return quant(m, m.node("Relu", y), rng, signed=0)


def grouped(m: ModelBuilder, x: str, rng: np.random.Generator) -> str:
    return quant(m, conv(m, scales_per_channel(m, x, rng), rng, groups=2), rng)


def pointwise(m: ModelBuilder, x: str, rng: np.random.Generator) -> str:
    return quant(m, conv(m, scales_per_channel(m, x, rng), rng, kernel=1), rng)


def dense_after_flatten(m: ModelBuilder, x: str, rng: np.random.Generator) -> str:
    y = m.node("Flatten", pool(m, scales_per_channel(m, x, rng)))
    return m.quant(m.node("Gemm", y, m.weight(rng.normal(0, 1, (9, CHANNELS * 4)), 0.01, 8), transB=1), 1.7, 8)


def factor_before_convolution(m: ModelBuilder, x: str, rng: np.random.Generator) -> str:
    return quant(m, conv(m, m.node("Mul", x, m.constant(-1 / 3)), rng), rng)


def picture_in_minus_one_to_one(m: ModelBuilder, x: str, rng: np.random.Generator) -> str:
    y = m.node("Sub", m.node("Mul", x, m.constant(2 / 255)), m.constant(1.0))
    return quant(m, conv(m, y, rng, pad=0), rng)


def offset_of_whole_codes_before_padding(m: ModelBuilder, x: str, rng: np.random.Generator) -> str:
    y = m.node("Add", m.node("Mul", m.quant(x, 0.25, 8), m.constant(0.5)), m.constant(0.375))
    return quant(m, conv(m, y, rng), rng)


def offsets_per_channel(m: ModelBuilder, x: str, rng: np.random.Generator) -> str:
    y = m.node("Sub", x, m.constant(rng.normal(0, 1, (1, CHANNELS, 1, 1))))
    y = m.node("Mul", y, m.constant(rng.uniform(0.2, 2, (1, CHANNELS, 1, 1))))
    return quant(m, conv(m, y, rng, pad=0), rng)


def pool_before_activation(m: ModelBuilder, x: str, rng: np.random.Generator) -> str:
    return quant(m, m.node("Relu", pool(m, conv(m, x, rng))), rng, signed=0)


def pool_after_activation(m: ModelBuilder, x: str, rng: np.random.Generator) -> str:
    return quant(m, pool(m, m.node("Relu", norm(m, conv(m, x, rng, bias=False), rng))), rng, signed=0)


def pool_between_bias_and_norm(m: ModelBuilder, x: str, rng: np.random.Generator) -> str:
    """Where gamma is negative, the largest sum becomes the smallest value."""
    return quant(m, m.node("Relu", norm(m, pool(m, conv(m, x, rng)), rng)), rng, signed=0)


def pool_between_two_norms(m: ModelBuilder, x: str, rng: np.random.Generator) -> str:
    """A scale per channel in front, of either sign, and another behind."""
    y = m.node("Mul", conv(m, x, rng), m.constant(rng.normal(0, 1, (1, CHANNELS, 1, 1))))
    return quant(m, norm(m, pool(m, y), rng), rng, signed=1)


def relu_of_two_scales(m: ModelBuilder, x: str, rng: np.random.Generator) -> str:
    return quant(m, conv(m, m.node("Relu", concat(m, x, rng)), rng, inputs=3 * CHANNELS, kernel=1), rng)


def movement_before_quantizer(m: ModelBuilder, x: str, rng: np.random.Generator) -> str:
    y = m.node("LeakyRelu", conv(m, x, rng), alpha=0.125)
    y = m.node("Transpose", y, perm=[0, 1, 3, 2])
    starts, ends, axes = (m.constant(v, dtype=np.int64) for v in ([1, 0], [4, 3], [2, 3]))
    return quant(m, m.node("Slice", y, starts, ends, axes), rng)


NETWORKS: list[Build] = [
    residual, chain_of_additions, residual_blocks, unquantized_branch, unquantized_branch_of_scales_per_channel,
    unquantized_branch_of_float_scales, unquantized_branch_with_norm, unquantized_branch_read_twice,
    sum_of_scales_per_channel, sum_of_one_scale_and_several, concat_then_quantizer, concat_then_convolution,
    concat_of_sums, depthwise, grouped, pointwise, dense_after_flatten, factor_before_convolution,
    picture_in_minus_one_to_one, offset_of_whole_codes_before_padding, offsets_per_channel, pool_before_activation,
    pool_after_activation, pool_between_bias_and_norm, pool_between_two_norms, relu_of_two_scales,
    movement_before_quantizer,
]  # fmt: skip


@pytest.mark.parametrize("build", NETWORKS, ids=[b.__name__ for b in NETWORKS])
def test_c_computes_what_the_file_means(build: Build, tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    m = ModelBuilder()
    x = m.quant(m.input([1, CHANNELS, 4, 4], "x"), scale_of(rng), 8, zero_point=3)
    m.output(build(m, x, rng))
    program = pefslc.compile(m.save(tmp_path), target="c")
    inputs = rng.normal(0, 4, (2, CHANNELS, 4, 4)).astype(np.float32)
    (found,) = program.run(inputs).values()
    expected = np.concatenate([evaluate_model(m.build(), inputs[i : i + 1]) for i in range(len(inputs))])
    assert np.array_equal(found, expected.astype(np.float64))
    assert len(np.unique(found)) > 3, "not saturated"
    assert program.verify({"x": inputs}).equal
