"""The quantized level: what the file says, in real-valued tensors and quantizers."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

from pefslc.geometry.shapes import Window
from pefslc.ir.structural import Structural
from pefslc.ir.value import IntArray, Op, RealArray, Value
from pefslc.numeric.expression import Expression
from pefslc.numeric.format import Quantization
from pefslc.numeric.quantizer import Quantizer
from pefslc.numeric.rounding import RoundingMode
from pefslc.numeric.stages import Affine, ClipStage, FunctionStage, LeakyReluStage, Stage

__all__ = [
    "Add",
    "Apply",
    "AveragePool",
    "BatchNorm",
    "BiasAdd",
    "Clip",
    "Constant",
    "Conv",
    "Elementwise",
    "LeakyRelu",
    "Linear",
    "Multiply",
    "Quantize",
    "QuantizedConstant",
    "QuantizedOp",
    "Relu",
    "Scaling",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Constant(Op):
    """An unquantized initializer."""

    mnemonic: ClassVar[str] = "constant"
    data: RealArray


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizedConstant(Op):
    """A constant after its quantizer: `codes`, whose values follow from the result's Quantization."""

    mnemonic: ClassVar[str] = "quantized_constant"
    codes: IntArray

    @property
    def quantization(self) -> Quantization:
        """What the codes mean."""
        return self.result.type.quantization


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantize(Op):
    """quantizer(stages(input)): clip(round(y / scale + zero_point)), the result's element being the Quantization.

    `stages` is empty as imported; passes move BatchNorm, biases and activations in. `channel_axis` is where a
    per-channel scale or stage varies: 1 for activations, 0 for weights and biases.
    """

    mnemonic: ClassVar[str] = "quantize"
    input: Value
    stages: tuple[Stage, ...] = ()
    rounding: RoundingMode = RoundingMode.HALF_EVEN
    adds_zero_point_last: bool = False
    channel_axis: int = 1

    @property
    def quantization(self) -> Quantization:
        """What the result's codes mean."""
        return self.result.type.quantization

    @property
    def quantizer(self) -> Quantizer:
        """What makes codes of the values behind the stages."""
        return Quantizer(self.quantization, self.rounding, self.adds_zero_point_last)


@dataclass(frozen=True, slots=True, kw_only=True)
class Conv(Op):
    """2-D convolution.

    input   [N, C_in, H, W]
    weight  [C_out, C_in/groups, KH, KW], a constant
    bias    [C_out], a constant, or None
    result  [N, C_out, H', W']                         Source: ONNX Conv-11
    """

    mnemonic: ClassVar[str] = "conv"
    input: Value
    weight: Value
    bias: Value | None
    window: Window
    groups: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Linear(Op):
    """input @ weight.T + bias (ONNX Gemm with transB = 1; MatMul by a constant).

    input   [N, K]
    weight  [M, K], a constant
    bias    [M], a constant, or None
    """

    mnemonic: ClassVar[str] = "linear"
    input: Value
    weight: Value
    bias: Value | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AveragePool(Op):
    """Sum over each window, padding being zeros, divided by the number of its taps.

    counts  [H', W'], or None: what is divided by instead, where not all of the padding counts (ONNX AveragePool-19)
    """

    mnemonic: ClassVar[str] = "average_pool"
    input: Value
    window: Window
    counts: IntArray | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Add(Op):
    """Sum of two tensors of one shape."""

    mnemonic: ClassVar[str] = "add"
    lhs: Value
    rhs: Value


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchNorm(Op):
    """Inference-time BatchNormalization over axis 1, its parameters exactly the file's; see `numeric.stages.Affine`."""

    mnemonic: ClassVar[str] = "batch_norm"
    input: Value
    stage: Affine


@dataclass(frozen=True, slots=True, kw_only=True)
class BiasAdd(Op):
    """A constant added per channel (axis 1): a bias that lies on no grid of its accumulator."""

    mnemonic: ClassVar[str] = "bias_add"
    input: Value
    stage: Affine


@dataclass(frozen=True, slots=True, kw_only=True)
class Relu(Op):
    """max(x, 0)."""

    mnemonic: ClassVar[str] = "relu"
    input: Value

    @property
    def stage(self) -> LeakyReluStage:
        return LeakyReluStage()


@dataclass(frozen=True, slots=True, kw_only=True)
class LeakyRelu(Op):
    """x for x >= 0, else alpha * x: LeakyRelu, and PRelu with a slope per channel (axis 1).

    A LeakyRelu's alpha is the number whose float32 the file holds (docs/exactness.md), a PRelu's is its float32.
    """

    mnemonic: ClassVar[str] = "leaky_relu"
    input: Value
    stage: LeakyReluStage


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip(Op):
    """min(max(x, low), high); None is no limit."""

    mnemonic: ClassVar[str] = "clip"
    input: Value
    low: Fraction | None
    high: Fraction | None

    @property
    def stage(self) -> ClipStage:
        return ClipStage(self.low, self.high)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaling(Op):
    """A constant multiplied per channel (axis 1)."""

    mnemonic: ClassVar[str] = "scaling"
    input: Value
    stage: Affine


@dataclass(frozen=True, slots=True, kw_only=True)
class Apply(Op):
    """function(x), element by element: Sigmoid, SiLU and whatever else is no piecewise linear function."""

    mnemonic: ClassVar[str] = "apply"
    input: Value
    function: Expression

    @property
    def stage(self) -> FunctionStage:
        return FunctionStage(self.function)


@dataclass(frozen=True, slots=True, kw_only=True)
class Multiply(Op):
    """Product of two tensors; `rhs` has the shape of `lhs`, or [N, C, 1, 1] where that is [N, C, H, W].

    The second is the gate of squeeze-and-excitation.
    """

    mnemonic: ClassVar[str] = "multiply"
    lhs: Value
    rhs: Value


Elementwise = BatchNorm | BiasAdd | Scaling | Relu | LeakyRelu | Clip | Apply

QuantizedOp = (
    Constant | QuantizedConstant | Quantize | Conv | Linear | AveragePool | Add | Multiply
    | BatchNorm | BiasAdd | Scaling | Relu | LeakyRelu | Clip | Apply | Structural
)  # fmt: skip
