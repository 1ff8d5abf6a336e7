"""Operators that compute element by element: activations, functions, BatchNormalization, sums, products."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

import numpy as np

from pefslc.diagnostics.error_codes import Code
from pefslc.frontend.broadcasting import broadcast_shape, expanded
from pefslc.frontend.builder import Builder, IntegerTensor
from pefslc.frontend.constant_operands import constant_operand, is_constant, is_quantized_constant, per_channel
from pefslc.frontend.linear_quantizers import clip_integers
from pefslc.frontend.node import Node
from pefslc.frontend.weights import moved
from pefslc.geometry.shapes import gate_shape
from pefslc.ir.quantized import Add, Apply, BatchNorm, BiasAdd, Clip, Conv, LeakyRelu, Linear, Multiply, Relu, Scaling
from pefslc.ir.value import Value
from pefslc.numeric.expression import Call, Expression, Function, X, number
from pefslc.numeric.stages import Affine, LeakyReluStage

__all__ = [
    "FOREIGN_FUNCTIONS",
    "FUNCTIONS",
    "import_add",
    "import_batch_norm",
    "import_clip",
    "import_div",
    "import_function",
    "import_leaky_relu",
    "import_mul",
    "import_neg",
    "import_prelu",
    "import_relu",
    "import_sub",
]


def _plain(function: Function) -> Callable[[Node], Expression]:
    return lambda _: Call(function, (X,))


def _attribute(node: Node, name: str, default: float) -> Expression:
    return number(node.take_fraction(name, default))


def _gelu(node: Node) -> Expression:
    """ONNX Gelu-20: x / 2 * (1 + erf(x / sqrt(2))), or with tanh(sqrt(2 / pi) * (x + 0.044715 * x^3)) for the erf."""
    match node.take_string("approximate", "none"):
        case "none":
            inner = Call(Function.ERF, (Call(Function.DIV, (X, Call(Function.SQRT, (number(2),)))),))
            return _product(number(Fraction(1, 2)), X, Call(Function.ADD, (number(1), inner)))
        case "tanh":
            cubic = Call(Function.ADD, (X, _product(number(Fraction("0.044715")), X, X, X)))
            root = Call(Function.SQRT, (Call(Function.DIV, (number(2), Call(Function.PI, ()))),))
            # (1 + tanh(u)) / 2 = sigmoid(2 u), which stays exact far below 0
            return _product(X, Call(Function.SIGMOID, (_product(number(2), root, cubic),)))
        case mode:
            raise node.fault(
                Code.UNSUPPORTED_ATTRIBUTE, f"Gelu with approximate={mode!r} is not supported", hint="'none' or 'tanh'"
            )


def _product(*factors: Expression) -> Expression:
    result = factors[0]
    for factor in factors[1:]:
        result = Call(Function.MUL, (result, factor))
    return result


def _pow(node: Node) -> Expression:
    exponent = node.scalar(1, "exponent")
    if exponent == 0.5:
        return Call(Function.SQRT, (X,))
    if exponent not in (1, 2, 3, 4):
        raise node.fault(Code.PARAMETER_VALUE, f"Pow with exponent {exponent:g} is not supported", hint="0.5, 1 to 4")
    return _product(*[X] * int(exponent))


# HardSwish's alpha is 1/6 itself, not its float32 (ONNX HardSwish-14).
_HARD_SWISH = _product(X, Call(Function.HARD_SIGMOID, (X, number(Fraction(1, 6)), number(Fraction(1, 2)))))

FUNCTIONS: dict[str, Callable[[Node], Expression]] = {
    "Abs": _plain(Function.ABS),
    "Celu": lambda n: Call(Function.CELU, (X, _attribute(n, "alpha", 1.0))),
    "Elu": lambda n: Call(Function.ELU, (X, _attribute(n, "alpha", 1.0))),
    "Erf": _plain(Function.ERF),
    "Exp": _plain(Function.EXP),
    "Gelu": _gelu,
    "HardSigmoid": lambda n: Call(Function.HARD_SIGMOID, (X, _attribute(n, "alpha", 0.2), _attribute(n, "beta", 0.5))),
    "HardSwish": lambda _: _HARD_SWISH,
    "Log": _plain(Function.LOG),
    "Mish": lambda _: _product(X, Call(Function.TANH, (Call(Function.SOFTPLUS, (X,)),))),
    "Pow": _pow,
    "Reciprocal": lambda _: Call(Function.DIV, (number(1), X)),
    "Selu": lambda n: Call(
        Function.SELU,
        (X, _attribute(n, "alpha", 1.67326319217681884765625), _attribute(n, "gamma", 1.05070102214813232421875)),
    ),
    "Sigmoid": _plain(Function.SIGMOID),
    "Softplus": _plain(Function.SOFTPLUS),
    "Softsign": _plain(Function.SOFTSIGN),
    "Sqrt": _plain(Function.SQRT),
    "Swish": lambda n: _product(X, Call(Function.SIGMOID, (_product(_attribute(n, "alpha", 1.0), X),))),
    "Tanh": _plain(Function.TANH),
}
# ONNX Runtime's own names of them: QuickGelu is x * sigmoid(1.702 * x) of an alpha that the file has.
FOREIGN_FUNCTIONS: dict[str, Callable[[Node], Expression]] = {
    "Gelu": _gelu,
    "QuickGelu": lambda n: _product(X, Call(Function.SIGMOID, (_product(_attribute(n, "alpha", 1.702), X),))),
}


def import_function(builder: Builder, node: Node) -> Value:
    """A function of one tensor: one of FUNCTIONS, or of FOREIGN_FUNCTIONS."""
    x = builder.operand(node, 0)
    function = (FOREIGN_FUNCTIONS if node.domain == "com.microsoft" else FUNCTIONS)[node.op_type](node)
    return builder.append(Apply(result=builder.real(x.type.shape, node), input=x, function=function))


def import_relu(builder: Builder, node: Node) -> Value | IntegerTensor:
    """Relu(x) = max(x, 0), of values or of integers."""
    integers = clip_integers(builder, node)
    if integers is not None:
        return integers
    x = builder.operand(node, 0)
    return builder.append(Relu(result=builder.real(x.type.shape, node), input=x))


def import_leaky_relu(builder: Builder, node: Node) -> Value:
    """LeakyRelu(x) = x where x >= 0, else alpha * x."""
    x = builder.operand(node, 0)
    alpha = node.take_fraction("alpha", 0.01)
    return builder.append(LeakyRelu(result=builder.real(x.type.shape, node), input=x, stage=LeakyReluStage((alpha,))))


def import_prelu(builder: Builder, node: Node) -> Value:
    """PRelu(x, slope) = x where x >= 0, else slope * x: one slope, or one per channel."""
    stage = LeakyReluStage(per_channel(builder, node, 1))
    x = builder.operand(node, 0)
    return builder.append(LeakyRelu(result=builder.real(x.type.shape, node), input=x, stage=stage))


def import_clip(builder: Builder, node: Node) -> Value | IntegerTensor:
    """Clip(x, min, max) of values, or of integers (see linear_quantizers); attributes before opset 11."""
    integers = clip_integers(builder, node)
    if integers is not None:
        return integers
    x = builder.operand(node, 0)
    if node.opset < 11:
        limits = [node.take_float("min", -np.inf), node.take_float("max", np.inf)]
    else:
        limits = [
            node.scalar(i, what) if node.has_input(i) else d for i, what, d in ((1, "min", -np.inf), (2, "max", np.inf))
        ]
    if limits[0] > limits[1] or any(v != v for v in limits):
        raise node.fault(Code.PARAMETER_VALUE, f"Clip to [{limits[0]}, {limits[1]}] is empty")
    low, high = (None if np.isinf(v) else Fraction(v) for v in limits)
    return builder.append(Clip(result=builder.real(x.type.shape, node), input=x, low=low, high=high))


def import_batch_norm(builder: Builder, node: Node) -> Value:
    """BatchNormalization(x, scale, bias, mean, variance), its parameters taken as exact, raw or quantized."""
    x = builder.operand(node, 0)
    names = ("scale", "bias", "mean", "variance")
    gamma, beta, mean, variance = (_parameter(builder, node, i, name) for i, name in enumerate(names, 1))
    if {len(gamma), len(beta), len(mean), len(variance)} != {x.type.channels}:
        raise node.fault(
            Code.SHAPE_MISMATCH, f"BatchNormalization of {len(gamma)} channels on a tensor of {x.type.channels}"
        )
    epsilon = Fraction(node.take_float("epsilon", 1e-5))
    if node.take_int("training_mode", 0):
        raise node.fault(
            Code.UNSUPPORTED_ATTRIBUTE, "BatchNormalization in training mode", hint="call model.eval() before exporting"
        )
    node.ignore("momentum", "spatial")
    radicand = [v + epsilon for v in variance]
    if min(radicand) <= 0:
        raise node.fault(Code.PARAMETER_VALUE, "variance + epsilon is not positive")
    addend = tuple(-g * m for g, m in zip(gamma, mean, strict=True))
    stage = Affine(tuple(gamma), addend, tuple(radicand), tuple(beta))
    return builder.append(BatchNorm(result=builder.real(x.type.shape, node), input=x, stage=stage))


def _parameter(builder: Builder, node: Node, index: int, what: str) -> list[Fraction]:
    if node.has_input(index) and is_quantized_constant(builder, node.inputs[index]):
        return list(constant_operand(builder, node, index).reshape(-1))
    array = node.constant(index, what)
    if array.dtype.kind != "f" or not np.isfinite(array).all():
        raise node.fault(Code.PARAMETER_VALUE, f"the {what} holds NaN, infinity, or no floats")
    return [Fraction(float(v)) for v in array.reshape(-1)]  # every float of a file is exact in float64


def import_add(builder: Builder, node: Node) -> Value:
    """Add(x, y), broadcast, or Add(x, constant): one number, or one per channel."""
    constants = [is_constant(builder, t) for t in node.inputs]
    if any(constants):
        return _add_constant(builder, node, constants.index(True))
    return _sum(builder, node, builder.operand(node, 0), builder.operand(node, 1))


def _sum(builder: Builder, node: Node, lhs: Value, rhs: Value) -> Value:
    lhs, rhs = _of_one_shape(builder, node, lhs, rhs)
    return builder.append(Add(result=builder.real(lhs.type.shape, node), lhs=lhs, rhs=rhs))


def _of_one_shape(builder: Builder, node: Node, lhs: Value, rhs: Value) -> tuple[Value, Value]:
    """Both, with what the other has more of repeated."""
    shape = broadcast_shape(lhs.type.shape, rhs.type.shape)
    if shape is None or len(lhs.type.shape) != len(rhs.type.shape):
        raise node.fault(
            Code.UNSUPPORTED_SHAPE,
            f"{node.op_type} of {list(lhs.type.shape)} and {list(rhs.type.shape)} is not supported",
            hint="equal shapes, but for axes of size 1",
        )
    return expanded(builder, node, lhs, shape), expanded(builder, node, rhs, shape)


def _add_constant(builder: Builder, node: Node, index: int) -> Value:
    offsets = per_channel(builder, node, index)
    x = builder.operand(node, 1 - index)
    if is_quantized_constant(builder, node.inputs[index]) and len(node.inputs[1 - index].outputs) == 1:
        product = builder.producer(x)
        if isinstance(product, Conv | Linear) and product.bias is None and len(offsets) == x.type.channels:
            return _with_bias(builder, node, product, builder.operand(node, index))
    return builder.append(BiasAdd(result=builder.real(x.type.shape, node), input=x, stage=Affine.bias(offsets)))


def _with_bias(builder: Builder, node: Node, product: Conv | Linear, bias: Value) -> Value:
    """The product, which nothing else reads, with a quantized bias that the file adds in a node of its own."""
    builder.superseded.add(product.result.name)
    vector = moved(builder, node, bias, lambda array: array.reshape(-1))
    return builder.append(replace(product, result=builder.real(product.result.type.shape, node), bias=vector))


def import_mul(builder: Builder, node: Node) -> Value:
    """Mul(x, y), broadcast, or by a gate [N, C, 1, 1], or by a constant as in Add."""
    constants = [is_constant(builder, t) for t in node.inputs]
    if any(constants):
        return _scaled(builder, node, 1 - constants.index(True), per_channel(builder, node, constants.index(True)))
    lhs, rhs = builder.operand(node, 0), builder.operand(node, 1)
    if lhs.type.shape == gate_shape(rhs.type.shape):
        lhs, rhs = rhs, lhs
    if rhs.type.shape != gate_shape(lhs.type.shape):
        lhs, rhs = _of_one_shape(builder, node, lhs, rhs)
    return builder.append(Multiply(result=builder.real(lhs.type.shape, node), lhs=lhs, rhs=rhs))


def import_div(builder: Builder, node: Node) -> Value:
    """Div(x, constant): one number, or one per channel."""
    if len(node.inputs) == 2 and not is_constant(builder, node.inputs[1]):
        raise node.fault(
            Code.COMPUTED_OPERAND, "Div by a tensor is not supported", hint="divide by a constant, or multiply"
        )
    divisors = per_channel(builder, node, 1)
    if 0 in divisors:
        raise node.fault(Code.PARAMETER_VALUE, "Div by 0")
    return _scaled(builder, node, 0, tuple(1 / d for d in divisors))


def import_neg(builder: Builder, node: Node) -> Value:
    """Neg(x) = -1 * x."""
    return _scaled(builder, node, 0, (Fraction(-1),))


def import_sub(builder: Builder, node: Node) -> Value:
    """Sub(x, y), broadcast, as x + -1 * y; or Sub(x, constant) or Sub(constant, x), as in Add."""
    constants = [is_constant(builder, t) for t in node.inputs]
    if not any(constants):
        return _sum(builder, node, builder.operand(node, 0), _scaled(builder, node, 1, (Fraction(-1),)))
    index = constants.index(True)
    sign = 1 if index == 0 else -1  # c - x or x - c
    offsets = tuple(sign * v for v in per_channel(builder, node, index))
    x = builder.operand(node, 1 - index)
    if index == 0:
        x = _scaled(builder, node, 1, (Fraction(-1),))
    return builder.append(BiasAdd(result=builder.real(x.type.shape, node), input=x, stage=Affine.bias(offsets)))


def _scaled(builder: Builder, node: Node, index: int, factors: tuple[Fraction, ...]) -> Value:
    x = builder.operand(node, index)
    zeros, ones = (Fraction(0),) * len(factors), (Fraction(1),) * len(factors)
    stage = Affine(factors, zeros, ones, zeros)
    return builder.append(Scaling(result=builder.real(x.type.shape, node), input=x, stage=stage))
