"""What keeps an operator on integers from being read, for the user."""

from __future__ import annotations

from typing import NoReturn

import numpy as np
import onnx_graphsurgeon as gs

from pefslc.diagnostics.error_codes import Code
from pefslc.frontend.builder import Builder
from pefslc.frontend.integer_forms import FORMS, Form, Operand, before_movement, form_of
from pefslc.frontend.integer_sums import check_sums
from pefslc.frontend.node import Node, constant_array
from pefslc.frontend.quantizers import positive_steps

__all__ = ["INTEGER_OPERATORS", "check_integer_operator", "import_integer_operator", "integer_type"]

INTEGER_OPERATORS = tuple(FORMS)
_SOFTMAX_CHANGED = 13  # the opset since which it goes along one axis only


def check_integer_operator(node: Node) -> None:
    """Raise what keeps the operator from being read, for the user."""
    form = form_of(node.raw)
    if not form.operands:
        raise node.fault(Code.MISSING_OPERAND, f"{node.op_type} has no operands", hint="export the model again")
    for operand in form.operands:
        _check_operand(node, operand)
    if form.bias is not None and node.has_input(form.bias) and positive_steps(node, 1).size > 1:
        raise node.fault(Code.SCALE_PER_CHANNEL, "several scales of the input are not supported")
    if (node.opset < _SOFTMAX_CHANGED) != (node.raw.attrs.get("opset", node.opset) < _SOFTMAX_CHANGED):
        raise node.fault(
            Code.UNSUPPORTED_ATTRIBUTE,
            f"{node.op_type} of opset {node.raw.attrs['opset']} in a model of opset {node.opset} is not supported",
            hint="export the model again with opset 13 or newer",
        )
    if form.scale is None:
        check_sums(node)
    elif form.op != "Gemm" or node.has_input(form.scale):
        _check_result(node, form, form.scale)


def import_integer_operator(_: Builder, node: Node) -> NoReturn:
    """Raise why the node was left: what is whole never gets here, it is other operators by now."""
    check_integer_operator(node)
    raise node.fault(
        Code.COMPUTED_OPERAND,
        f"the parameters of {node.op_type} are computed from shapes",
        hint="only constants are supported here: freeze the model before exporting it",
    )


def _check_operand(node: Node, operand: Operand) -> None:
    if not node.has_input(operand.codes):
        raise node.fault(Code.MISSING_OPERAND, f"{node.op_type} has no input {operand.codes}")
    if operand.scale is not None:
        positive_steps(node, operand.scale)
    if node.has_input(operand.zero_point):
        node.constant(operand.zero_point, "zero point")


def _check_result(node: Node, form: Form, scale: int) -> None:
    positive_steps(node, scale)
    assert form.zero_point is not None
    if node.has_input(form.zero_point):
        node.constant(form.zero_point, "zero point")
    elif integer_type(node.inputs[form.operands[0].codes]) is None:
        raise node.fault(
            Code.MISSING_OPERAND,
            f"{node.op_type} has no zero point of its result (input {form.zero_point}), which says the integers' type",
            hint="write the zero point into the model, a 0 of that type",
        )


def integer_type(codes: gs.Tensor) -> np.dtype[np.generic] | None:
    """The type of the integers, where the file says it."""
    codes = before_movement(codes)
    maker = codes.inputs[0] if codes.inputs else None
    if maker is not None and maker.op == "QuantizeLinear" and len(maker.inputs) > 2:
        codes = maker.inputs[2]  # the zero point
    array = constant_array(codes)
    if array is not None:
        return array.dtype
    return np.dtype(codes.dtype) if isinstance(codes.dtype, type | np.dtype) else None
