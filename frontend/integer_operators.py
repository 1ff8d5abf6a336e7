"""Operators on integers, as the operators on values that define them: ONNX Runtime's QOperator format, ConvInteger.

    codes ---QLinearConv---> codes    ==>    codes -DequantizeLinear-> Conv -QuantizeLinear-> codes
    codes ---ConvInteger---> sums     ==>    codes -DequantizeLinear-> Conv -Div by the scale-> sums

Only what is whole is rewritten. What is left keeps its operator, for which the importer says the fault.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass, field

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from pefslc.diagnostics.errors import CompileError
from pefslc.frontend.constants import fold_constants
from pefslc.frontend.integer_checks import check_integer_operator, integer_type
from pefslc.frontend.integer_forms import FORMS, Form, attributes_on_values, channel_axis, form_of, name_of
from pefslc.frontend.integer_sums import ARITHMETIC, becomes, factor_of_sums, scale_behind
from pefslc.frontend.node import Node, constant_array

__all__ = ["spell_integer_operators"]


def spell_integer_operators(graph: gs.Graph, opset: int) -> None:
    """Rewrite the operators on integers that are whole; the nodes stay in execution order."""
    if not any(name_of(node) in FORMS for node in graph.nodes):
        return
    fold_constants(graph, opset)
    rewriter = _Rewriter(graph, opset)
    graph.nodes = [made for node in list(graph.nodes) for made in rewriter.rewritten(node)]


@dataclass
class _Rewriter:
    """One walk over a graph in execution order.

    dequantized  the values of integers that were asked for, by the integers' name, their scale, zero point, and axis
    sums         names of the tensors whose int32 of the file are values now
    """

    graph: gs.Graph
    opset: int
    dequantized: dict[tuple[object, ...], gs.Tensor] = field(default_factory=dict)
    sums: set[str] = field(default_factory=set)
    names: set[str] = field(init=False)

    def __post_init__(self) -> None:
        self.names = {*self.graph.tensors(), *(t.name for t in (*self.graph.inputs, *self.graph.outputs))}

    def rewritten(self, raw: gs.Node) -> Iterator[gs.Node]:
        """What stands in the place of the node."""
        node = Node(raw, self.opset)
        if any(tensor.name in self.sums for tensor in raw.inputs):
            self._follow_sums(raw)
            yield raw
        elif raw.op == "DequantizeLinear":
            yield from self._known_or_kept(raw)
        elif name_of(raw) not in FORMS:
            yield raw
        else:
            try:
                check_integer_operator(node)
            except CompileError:
                yield raw
                return
            form = form_of(raw)
            yield from self._of_codes(node, form) if form.scale is not None else self._of_integers(node, form)

    def _known_or_kept(self, raw: gs.Node) -> Iterator[gs.Node]:
        """A DequantizeLinear of the file: gone where its result is there already."""
        result = raw.outputs[0]
        key = _identity_of(raw)
        known = self.dequantized.setdefault(key, result)
        if known is result or any(tensor is result for tensor in self.graph.outputs):
            yield raw
            return
        for reader in list(result.outputs):
            reader.inputs = [known if tensor is result else tensor for tensor in reader.inputs]
        raw.inputs.clear()

    def _of_codes(self, node: Node, form: Form) -> Iterator[gs.Node]:
        """DequantizeLinear, the operator, QuantizeLinear. QGemm without a scale of its result is not quantized."""
        raw, inputs, (result, *_) = node.raw, node.inputs, node.raw.outputs
        values = []
        for index, operand in enumerate(form.operands):
            assert operand.scale is not None
            scale = inputs[operand.scale]
            zero_point = inputs[operand.zero_point] if node.has_input(operand.zero_point) else None
            axis = channel_axis(raw, form, index)
            values.append((yield from self._dequantized(raw, inputs[operand.codes], scale, zero_point, axis)))
        if form.bias is not None and node.has_input(form.bias):
            scale = gs.Constant(self._fresh(f"{inputs[form.bias].name}/scale"), _bias_scale(inputs[1], inputs[4]))
            values.append((yield from self._dequantized(raw, inputs[form.bias], scale, None, 0)))
        attributes = attributes_on_values(raw)
        if form.op == "Gemm":
            attributes["beta"] = attributes.get("alpha", 1.0)  # its bias is part of the sums that alpha scales
        assert form.scale is not None
        assert form.zero_point is not None
        is_quantized = node.has_input(form.scale)
        real = self._real(result) if is_quantized else result
        raw.inputs.clear()
        raw.outputs.clear()
        yield gs.Node(form.op, raw.name, attributes, values, [real])
        if is_quantized:
            zero_point = inputs[form.zero_point] if node.has_input(form.zero_point) else None
            if zero_point is None:
                dtype = integer_type(inputs[form.operands[0].codes])
                zero_point = gs.Constant(self._fresh(f"{result.name}/zero_point"), np.zeros((), dtype))
            yield gs.Node("QuantizeLinear", raw.name, {}, [real, inputs[form.scale], zero_point], [result])

    def _of_integers(self, node: Node, form: Form) -> Iterator[gs.Node]:
        """The sums of (codes - zero point) * (weight - zero point), from the values: divided by the codes' scale."""
        raw, (result, *_) = node.raw, node.raw.outputs
        scale = scale_behind(node.inputs[0])
        assert scale is not None
        step = gs.Constant(self._fresh(f"{result.name}/scale"), scale)
        one = gs.Constant(self._fresh(f"{result.name}/one"), np.ones((), np.float32))
        values = []
        for index, operand in enumerate(form.operands):
            zero_point = node.inputs[operand.zero_point] if node.has_input(operand.zero_point) else None
            axis = channel_axis(raw, form, index)
            codes = node.inputs[operand.codes]
            values.append((yield from self._dequantized(raw, codes, one if index else step, zero_point, axis)))
        attributes = dict(raw.attrs)
        raw.inputs.clear()
        raw.outputs.clear()
        result.dtype = np.dtype(np.float32)
        self.sums.add(result.name)
        if (scale == 1).all():
            yield gs.Node(form.op, raw.name, attributes, values, [result])
            return
        real = self._real(result)
        yield gs.Node(form.op, raw.name, attributes, values, [real])
        yield gs.Node("Div", raw.name, {}, [real, step], [result])

    def _follow_sums(self, raw: gs.Node) -> None:
        """The node reads sums that are values now."""
        if becomes(raw) == "sums":
            self.sums.update(tensor.name for tensor in raw.outputs)
        if raw.op == "Cast":
            raw.op = "Identity"
            raw.attrs.clear()
        elif raw.op == "DequantizeLinear":
            factor = gs.Constant(self._fresh(f"{raw.outputs[0].name}/factor"), factor_of_sums(raw))
            raw.op, raw.inputs = "Mul", [raw.inputs[0], factor]
            raw.attrs.clear()
        elif raw.op in ARITHMETIC:
            raw.inputs = [self._as_float(tensor) for tensor in raw.inputs]
        for tensor in raw.outputs:
            tensor.dtype = np.dtype(np.float32)

    def _as_float(self, tensor: gs.Tensor) -> gs.Tensor:
        """A constant of int32 as the same numbers in float64."""
        array = constant_array(tensor)
        if array is None or array.dtype.kind not in "iu" or array.dtype.itemsize > 4:
            return tensor
        return gs.Constant(self._fresh(f"{tensor.name}/float"), array.astype(np.float64))

    def _dequantized(
        self, raw: gs.Node, codes: gs.Tensor, scale: gs.Tensor, zero_point: gs.Tensor | None, axis: int
    ) -> Generator[gs.Node, None, gs.Tensor]:
        """The value of the codes, and the node that makes it where none did. Its name is that of the codes' maker."""
        scales = constant_array(scale)
        assert scales is not None
        if scales.size > 1 and scales.ndim > 1:  # a row of scales, as QLinearMatMul may have
            scale = gs.Constant(self._fresh(f"{scale.name}/flat"), scales.reshape(-1))
        inputs = [codes, scale] if zero_point is None else [codes, scale, zero_point]
        name = codes.inputs[0].name if codes.inputs else raw.name
        result = gs.Variable(self._fresh(f"{codes.name}/value"), np.dtype(np.float32), codes.shape)
        made = gs.Node("DequantizeLinear", name, {"axis": axis}, inputs, [result])
        known = self.dequantized.setdefault(_identity_of(made), result)
        if known is result:
            yield made
        else:
            made.inputs.clear()
        return known

    def _real(self, result: gs.Tensor) -> gs.Variable:
        return gs.Variable(self._fresh(f"{result.name}/value"), np.dtype(np.float32), result.shape)

    def _fresh(self, name: str) -> str:
        """`name`, or one like it that no tensor has."""
        while name in self.names:
            name += "'"
        self.names.add(name)
        return name


def _identity_of(dequantize: gs.Node) -> tuple[object, ...]:
    """Equal for two DequantizeLinear that make the same."""
    if not dequantize.inputs:
        return (id(dequantize),)
    codes, *parameters = dequantize.inputs
    arrays = [constant_array(tensor) for tensor in parameters if not tensor.is_empty()]
    known = [array for array in arrays if array is not None]
    if not known or len(known) != len(arrays):
        return (id(dequantize),)
    if len(known) == 2 and not known[1].any():
        known.pop()  # a zero point of 0 may be left out
    attributes = sorted(map(repr, dequantize.attrs.items())) if any(array.size > 1 for array in known) else []
    return codes.name, *((array.tobytes(), array.dtype.str) for array in known), *attributes


def _bias_scale(x_scale: gs.Tensor, weight_scale: gs.Tensor) -> NDArray[np.float64]:
    """The product of two float32 is exact in float64."""
    x_steps, steps = constant_array(x_scale), constant_array(weight_scale)
    assert x_steps is not None
    assert steps is not None
    return np.asarray(x_steps.astype(np.float64).reshape(()) * steps.astype(np.float64))
