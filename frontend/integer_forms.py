"""How operators on integers are written: which inputs are integers, scales, zero points; what they compute.

Sources: ONNX's own, QLinearConv-10, QLinearMatMul-10, ConvInteger-10, MatMulInteger-10; the others are ONNX Runtime's
(ContribOperators.md).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import onnx_graphsurgeon as gs

__all__ = [
    "FORMS",
    "MOVEMENT",
    "Form",
    "Operand",
    "attributes_on_values",
    "before_movement",
    "channel_axis",
    "form_of",
    "name_of",
]


@dataclass(frozen=True, slots=True)
class Operand:
    """The indices of an operand's inputs: integers, their scale (None: they are their own values), their zero point."""

    codes: int
    scale: int | None
    zero_point: int


@dataclass(frozen=True, slots=True)
class Form:
    """How an operator on integers is written.

    op        what it computes with the values
    operands  of a product, the second is the weight
    scale, zero_point  the indices of the result's; None where the result is the sums themselves
    bias      the index of its int32 codes, whose scale is the product of those of the operands
    """

    op: str
    operands: tuple[Operand, ...]
    scale: int | None
    zero_point: int | None
    bias: int | None = None


_ONE = (Operand(0, 1, 2),)
_TWO = (Operand(0, 1, 2), Operand(3, 4, 5))
_PRODUCT_OF_INTEGERS = (Operand(0, None, 2), Operand(1, None, 3))
_SOFTMAX = "QLinearSoftmax"
_CONCAT = "QLinearConcat"  # of any number of operands, behind the result's scale and zero point

FORMS = {
    ("", "QLinearConv"): Form("Conv", _TWO, 6, 7, bias=8),
    ("com.microsoft", "QLinearConv"): Form("Conv", _TWO, 6, 7, bias=8),
    ("", "QLinearMatMul"): Form("MatMul", _TWO, 6, 7),
    ("com.microsoft", "QGemm"): Form("Gemm", _TWO, 7, 8, bias=6),
    ("com.microsoft", "QLinearAdd"): Form("Add", _TWO, 6, 7),
    ("com.microsoft", "QLinearMul"): Form("Mul", _TWO, 6, 7),
    ("com.microsoft", "QLinearAveragePool"): Form("AveragePool", _ONE, 3, 4),
    ("com.microsoft", "QLinearGlobalAveragePool"): Form("GlobalAveragePool", _ONE, 3, 4),
    ("com.microsoft", "QLinearReduceMean"): Form("ReduceMean", _ONE, 3, 4),
    ("com.microsoft", "QLinearLeakyRelu"): Form("LeakyRelu", _ONE, 3, 4),
    ("com.microsoft", "QLinearSigmoid"): Form("Sigmoid", _ONE, 3, 4),
    ("com.microsoft", _SOFTMAX): Form("Softmax", _ONE, 3, 4),
    ("com.microsoft", _CONCAT): Form("Concat", (), 0, 1),
    ("", "ConvInteger"): Form("Conv", _PRODUCT_OF_INTEGERS, None, None),
    ("", "MatMulInteger"): Form("MatMul", _PRODUCT_OF_INTEGERS, None, None),
}
# What moves elements, or chooses among them: of integers and of the values that they stand for alike.
MOVEMENT = ("Flatten", "Gather", "Identity", "MaxPool", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze")


def name_of(raw: gs.Node) -> tuple[str, str]:
    """The operator as `FORMS` names it."""
    return (raw.domain or "").removeprefix("ai.onnx"), raw.op


def form_of(raw: gs.Node) -> Form:
    """How the node is written, which is one of `FORMS`."""
    form = FORMS[name_of(raw)]
    if raw.op != _CONCAT:
        return form
    return replace(form, operands=tuple(Operand(i, i + 1, i + 2) for i in range(2, len(raw.inputs), 3)))


def channel_axis(raw: gs.Node, form: Form, index: int) -> int:
    """Where the channels of an operand are, along which it may have several scales: a weight's output channels."""
    if form.op == "MatMul" or (form.op == "Gemm" and not raw.attrs.get("transB", 0)):
        return index
    return 1 - index


def attributes_on_values(raw: gs.Node) -> dict[str, object]:
    """The attributes of the operator on values, without those of the one on integers that say nothing new."""
    attributes = dict(raw.attrs)
    if not attributes.get("channels_last", 0):
        attributes.pop("channels_last", None)
    if raw.op == _SOFTMAX:
        attributes.pop("opset", None)  # checked
        attributes.setdefault("axis", -1)
    return attributes


def before_movement(codes: gs.Tensor) -> gs.Tensor:
    """The integers that were moved to become `codes`."""
    while codes.inputs and codes.inputs[0].op in MOVEMENT and not codes.inputs[0].domain and codes.inputs[0].inputs:
        codes = codes.inputs[0].inputs[0]
    return codes
