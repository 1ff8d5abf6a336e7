"""A checked view of one ONNX node: its attributes with their defaults, its constants, its faults."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, Origin, quote

__all__ = ["Node"]


# What a Constant holds, by the name of its attribute; of `value` in any type (ONNX Constant-12).
_CONSTANT_ATTRIBUTES = {
    "value": None, "value_float": np.float32, "value_floats": np.float32, "value_int": np.int64, "value_ints": np.int64,
}  # fmt: skip


class Node:
    """Attributes are *taken*; `finish` refuses what nobody took, so that no attribute is ignored."""

    def __init__(self, node: gs.Node, opset: int) -> None:
        self.raw = node
        self.op_type: str = node.op
        self.domain: str = node.domain or ""
        self.opset = opset
        self.inputs: list[gs.Tensor] = list(node.inputs)
        self.origin = Origin(node.name, node.op, node.outputs[0].name if node.outputs else "")
        self._attributes = dict(node.attrs)

    def fault(self, code: Code, message: str, hint: str | None = None) -> CompileError:
        """The error at this node, to be raised."""
        return CompileError(code, message, at=self.origin, hint=hint)

    def finish(self) -> None:
        """Raise if an attribute was left unread."""
        if self._attributes:
            names = ", ".join(f"{n}={v!r}" for n, v in sorted(self._attributes.items()))
            raise self.fault(Code.UNSUPPORTED_ATTRIBUTE, f"{self.op_type} with {names} is not supported")

    def ignore(self, *names: str) -> None:
        """Drop attributes that mean nothing at inference."""
        for name in names:
            self._attributes.pop(name, None)

    def take_int(self, name: str, default: int) -> int:
        value = self._attributes.pop(name, default)
        if not isinstance(value, int):
            raise self.fault(Code.ATTRIBUTE_TYPE, f"attribute {name} is not an integer")
        return value

    def take_float(self, name: str, default: float) -> float:
        """An attribute that is a number; infinite only where the default is."""
        value = self._attributes.pop(name, default)
        if not isinstance(value, (int, float)):
            raise self.fault(Code.ATTRIBUTE_TYPE, f"attribute {name} is not a number")
        if not math.isfinite(value) and (math.isfinite(default) or math.isnan(value)):
            raise self.fault(Code.PARAMETER_VALUE, f"attribute {name} is {value}, not a finite number")
        return float(value)

    def take_fraction(self, name: str, default: float) -> Fraction:
        """A float32 attribute as the number that was written: 1/10, 1/6, not the float32 next to it.

        The fraction with the smallest denominator, up to 1000, whose float32 it is; else the shortest decimal.
        """
        value = np.float32(self.take_float(name, default))
        for denominator in range(1, 1001):
            written = Fraction(round(float(value) * denominator), denominator)
            if np.float32(float(written)) == value:
                return written
        return Fraction(str(value))

    def take_string(self, name: str, default: str) -> str:
        value = self._attributes.pop(name, default)
        if isinstance(value, bytes):
            value = value.decode(errors="replace")
        if not isinstance(value, str):
            raise self.fault(Code.ATTRIBUTE_TYPE, f"attribute {name} is not a text")
        return value

    def take_ints(self, name: str, default: Sequence[int] | None) -> tuple[int, ...] | None:
        value = self._attributes.pop(name, default)
        if value is None:
            return None
        if not isinstance(value, (list, tuple)) or not all(isinstance(v, int) for v in value):
            raise self.fault(Code.ATTRIBUTE_TYPE, f"attribute {name} is not a list of integers")
        return tuple(value)

    def take_floats(self, name: str, default: Sequence[float] | None) -> tuple[float, ...] | None:
        """An attribute that is a list of finite numbers."""
        value = self._attributes.pop(name, default)
        if value is None:
            return None
        if not isinstance(value, (list, tuple)) or not all(
            isinstance(v, (int, float)) and math.isfinite(v) for v in value
        ):
            raise self.fault(Code.ATTRIBUTE_TYPE, f"attribute {name} is not a list of finite numbers")
        return tuple(float(v) for v in value)

    def take_axes(self) -> tuple[int, ...] | None:
        """The axes of ReduceMean, Squeeze, Unsqueeze: an attribute before opset 13 (ReduceMean: 18), input 1 since."""
        axes = self.take_ints("axes", None)
        return self.integers(1, "axes") if self.has_input(1) else axes

    def give_ints(self, name: str, values: Sequence[int]) -> None:
        """Set an attribute for who takes it next."""
        self._attributes[name] = list(values)

    def has_input(self, index: int) -> bool:
        """Whether the optional input is there."""
        return index < len(self.inputs) and not self.inputs[index].is_empty()

    def constant(self, index: int, what: str) -> NDArray[np.generic]:
        """The array of a constant input. Raises when the input is missing or computed."""
        if not self.has_input(index):
            raise self.fault(Code.MISSING_OPERAND, f"{self.op_type} has no {what} (input {index})")
        array = constant_array(self.inputs[index])
        if array is None:
            raise self.fault(
                Code.COMPUTED_OPERAND,
                f"the {what} is computed at run time (tensor {quote(self.inputs[index].name)})",
                hint="only constants are supported here: freeze the model before exporting it",
            )
        return array

    def integers(self, index: int, what: str) -> tuple[int, ...]:
        """The elements of a constant input that ONNX wants as int64. A mutilated file may hold anything."""
        array = self.constant(index, what)
        if array.dtype.kind not in "iu":
            raise self.fault(
                Code.SHAPE_MISMATCH, f"{self.op_type}: the {what} must be int64, not {array.dtype}",
                hint="export the model again",
            )  # fmt: skip
        return tuple(int(i) for i in array.reshape(-1))

    def scalar(self, index: int, what: str) -> float:
        """The only element of a constant input."""
        array = self.constant(index, what)
        if array.size != 1 or array.dtype.kind not in "fiu":
            raise self.fault(Code.SHAPE_MISMATCH, f"the {what} has shape {list(array.shape)}, not one number")
        return float(array.reshape(-1)[0])


def constant_array(tensor: gs.Tensor) -> NDArray[np.generic] | None:
    """The array of an initializer or a Constant node's output; None for anything computed."""
    if isinstance(tensor, gs.Constant):
        return np.asarray(tensor.values)
    producer = tensor.inputs[0] if tensor.inputs else None
    if producer is None or producer.op != "Constant" or producer.domain:
        return None
    for name, dtype in _CONSTANT_ATTRIBUTES.items():
        if name in producer.attrs:
            value = producer.attrs[name]
            try:
                return np.asarray(value.values if isinstance(value, gs.Constant) else value, dtype)
            except (OverflowError, TypeError, ValueError):
                return None  # a damaged file: an attribute of another type than its name says
    return None
