"""Operators that compute element by element: functions of one tensor, products, constants added and multiplied."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import numpy as np

from pefslc.codes import Code
from pefslc.frontend.importer import Builder
from pefslc.frontend.node import Node, constant_array
from pefslc.ir.quantized import Apply, BiasAdd, Multiply, Scaling
from pefslc.ir.value import Value
from pefslc.numeric.expression import Call, Expression, Function, X, number
from pefslc.numeric.stages import Affine
from pefslc.shapes import gate_shape

__all__ = ["FUNCTIONS", "constant_per_channel", "import_div", "import_function", "import_mul", "import_sub"]


def _plain(function: Function) -> Callable[[Node], Expression]:
    return lambda _: Call(function, (X,))


def _attribute(node: Node, name: str, default: float) -> Expression:
    """A float32 attribute, exactly; ONNX's defaults are float32 too."""
    return number(Fraction(float(np.float32(node.take_float(name, default)))))


def _gelu(node: Node) -> Expression:
    mode = node.take_string("approximate", "none")
    if mode == "none":
        inner = Call(Function.ERF, (Call(Function.DIV, (X, Call(Function.SQRT, (number(2),)))),))
        return _product(number(Fraction(1, 2)), X, Call(Function.ADD, (number(1), inner)))
    raise node.fault(Code.UNSUPPORTED_ATTRIBUTE, f"Gelu with approximate={mode!r} is not supported", hint="use 'none'")


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
    "Neg": lambda _: Call(Function.SUB, (number(0), X)),
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
    "Tanh": _plain(Function.TANH),
}


def import_function(builder: Builder, node: Node) -> Value:
    x = builder.operand(node, 0)
    function = FUNCTIONS[node.op_type](node)
    return builder.append(Apply(result=builder.real(x.type.shape, node), input=x, function=function))


def import_mul(builder: Builder, node: Node) -> Value:
    constants = [constant_array(t) is not None for t in node.inputs]
    if any(constants):
        return _scaled(
            builder, node, 1 - constants.index(True), constant_per_channel(builder, node, constants.index(True))
        )
    lhs, rhs = builder.operand(node, 0), builder.operand(node, 1)
    if lhs.type.shape == gate_shape(rhs.type.shape):
        lhs, rhs = rhs, lhs
    if rhs.type.shape not in (lhs.type.shape, gate_shape(lhs.type.shape)):
        raise node.fault(
            Code.SHAPE_MISMATCH,
            f"Mul of {list(lhs.type.shape)} and {list(rhs.type.shape)} is not supported",
            hint="equal shapes, or one number for each channel: [N, C, 1, 1]",
        )
    return builder.append(Multiply(result=builder.real(lhs.type.shape, node), lhs=lhs, rhs=rhs))


def import_div(builder: Builder, node: Node) -> Value:
    if len(node.inputs) == 2 and constant_array(node.inputs[1]) is None:
        raise node.fault(
            Code.COMPUTED_OPERAND, "Div by a tensor is not supported", hint="divide by a constant, or multiply"
        )
    divisors = constant_per_channel(builder, node, 1)
    if 0 in divisors:
        raise node.fault(Code.PARAMETER_VALUE, "Div by 0")
    return _scaled(builder, node, 0, tuple(1 / d for d in divisors))


def import_sub(builder: Builder, node: Node) -> Value:
    constants = [constant_array(t) is not None for t in node.inputs]
    if not any(constants):
        raise node.fault(
            Code.COMPUTED_OPERAND, "Sub of two tensors is not supported", hint="Add with negated weights instead"
        )
    index = constants.index(True)
    sign = 1 if index == 0 else -1  # c - x or x - c
    offsets = tuple(sign * v for v in constant_per_channel(builder, node, index))
    x = builder.operand(node, 1 - index)
    if index == 0:
        x = _scaled(builder, node, 1, (Fraction(-1),))
    return builder.append(BiasAdd(result=builder.real(x.type.shape, node), input=x, stage=Affine.bias(offsets)))


def constant_per_channel(builder: Builder, node: Node, index: int) -> tuple[Fraction, ...]:
    """The constant operand `index`, exactly: one number, or one for each channel (axis 1) of the other operand."""
    x = builder.operand(node, 1 - index)
    array = node.constant(index, "constant operand")
    if array.dtype.kind != "f" or not np.isfinite(array).all():
        raise node.fault(Code.CONSTANT_VALUE, "the constant operand holds NaN, infinity, or no floats")
    rank = len(x.type.shape)
    aligned = array.reshape((1,) * (rank - array.ndim) + array.shape) if array.ndim <= rank else array
    if aligned.size not in (1, x.type.channels) or (aligned.size > 1 and aligned.shape[1:2] != (x.type.channels,)):
        raise node.fault(
            Code.UNSUPPORTED_SHAPE,
            f"{node.op_type} of a constant of shape {list(array.shape)} is not supported",
            hint="one number per channel",
        )
    return tuple(Fraction(float(v)) for v in aligned.reshape(-1))


def _scaled(builder: Builder, node: Node, index: int, factors: tuple[Fraction, ...]) -> Value:
    x = builder.operand(node, index)
    zeros, ones = (Fraction(0),) * len(factors), (Fraction(1),) * len(factors)
    stage = Affine(factors, zeros, ones, zeros)
    return builder.append(Scaling(result=builder.real(x.type.shape, node), input=x, stage=stage))
