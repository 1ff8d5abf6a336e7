"""Operators on integers, as the operators on values that define them: ONNX Runtime's QOperator format, ConvInteger.

    codes ---QLinearConv---> codes    ==>    codes -DequantizeLinear-> Conv -QuantizeLinear-> codes
    codes ---ConvInteger---> sums     ==>    codes -DequantizeLinear-> Conv -Div by the scale-> sums

Only what is whole is rewritten. What is left keeps its operator, for which the importer says the fault.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass, field, replace
from typing import Literal, NoReturn

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError
from pefslc.frontend.builder import Builder
from pefslc.frontend.constants import fold_constant_node
from pefslc.frontend.node import Node, constant_array
from pefslc.frontend.quantizers import positive_steps

__all__ = ["INTEGER_OPERATORS", "check_integer_operator", "import_integer_operator", "spell_integer_operators"]


@dataclass(frozen=True, slots=True)
class _Operand:
    """The indices of an operand's inputs: integers, their scale (None: they are their own values), their zero point."""

    codes: int
    scale: int | None
    zero_point: int


@dataclass(frozen=True, slots=True)
class _Form:
    """How an operator on integers is written.

    op        what it computes with the values
    operands  of a product, the second is the weight
    scale, zero_point  the indices of the result's; None where the result is the sums themselves
    bias      the index of its int32 codes, whose scale is the product of those of the operands
    """

    op: str
    operands: tuple[_Operand, ...]
    scale: int | None
    zero_point: int | None
    bias: int | None = None


_ONE = (_Operand(0, 1, 2),)
_TWO = (_Operand(0, 1, 2), _Operand(3, 4, 5))
_PRODUCT_OF_INTEGERS = (_Operand(0, None, 2), _Operand(1, None, 3))
_CONCAT = "QLinearConcat"  # of any number of operands, behind the result's scale and zero point

# ONNX's own: QLinearConv-10, QLinearMatMul-10, ConvInteger-10, MatMulInteger-10. Else ONNX Runtime's ContribOperators.md.
_FORMS = {
    ("", "QLinearConv"): _Form("Conv", _TWO, 6, 7, bias=8),
    ("com.microsoft", "QLinearConv"): _Form("Conv", _TWO, 6, 7, bias=8),
    ("", "QLinearMatMul"): _Form("MatMul", _TWO, 6, 7),
    ("com.microsoft", "QGemm"): _Form("Gemm", _TWO, 7, 8, bias=6),
    ("com.microsoft", "QLinearAdd"): _Form("Add", _TWO, 6, 7),
    ("com.microsoft", "QLinearMul"): _Form("Mul", _TWO, 6, 7),
    ("com.microsoft", "QLinearAveragePool"): _Form("AveragePool", _ONE, 3, 4),
    ("com.microsoft", "QLinearGlobalAveragePool"): _Form("GlobalAveragePool", _ONE, 3, 4),
    ("com.microsoft", "QLinearReduceMean"): _Form("ReduceMean", _ONE, 3, 4),
    ("com.microsoft", "QLinearLeakyRelu"): _Form("LeakyRelu", _ONE, 3, 4),
    ("com.microsoft", "QLinearSigmoid"): _Form("Sigmoid", _ONE, 3, 4),
    ("com.microsoft", _CONCAT): _Form("Concat", (), 0, 1),
    ("", "ConvInteger"): _Form("Conv", _PRODUCT_OF_INTEGERS, None, None),
    ("", "MatMulInteger"): _Form("MatMul", _PRODUCT_OF_INTEGERS, None, None),
}
INTEGER_OPERATORS = tuple(_FORMS)

_MOVEMENT = ("Flatten", "Gather", "Identity", "MaxPool", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze")
_SAME_ON_SUMS = frozenset((*_MOVEMENT, "Add", "Mul", "Neg", "Relu", "Sub"))  # integers stay integers; Div would round
_FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE)
_WIDE_INTEGERS = (onnx.TensorProto.INT32, onnx.TensorProto.INT64)


def check_integer_operator(node: Node) -> None:
    """Raise what keeps the operator from being read, for the user."""
    form = _form_of(node)
    for operand in form.operands:
        _check_operand(node, operand)
    if form.bias is not None and node.has_input(form.bias) and positive_steps(node, 1).size > 1:
        raise node.fault(Code.SCALE_PER_CHANNEL, "several scales of the input are not supported")
    if form.scale is None:
        _check_sums(node)
    elif form.op != "Gemm" or node.has_input(form.scale):
        _check_result(node, form, form.scale)


def import_integer_operator(builder: Builder, node: Node) -> NoReturn:
    """What is whole never gets here: it is other operators by now."""
    check_integer_operator(node)
    raise node.fault(
        Code.COMPUTED_OPERAND,
        f"the parameters of {node.op_type} are computed from shapes",
        hint="only constants are supported here: freeze the model before exporting it",
    )


def _check_operand(node: Node, operand: _Operand) -> None:
    if not node.has_input(operand.codes):
        raise node.fault(Code.MISSING_OPERAND, f"{node.op_type} has no input {operand.codes}")
    if operand.scale is not None:
        positive_steps(node, operand.scale)
    if node.has_input(operand.zero_point):
        node.constant(operand.zero_point, "zero point")


def _check_result(node: Node, form: _Form, scale: int) -> None:
    positive_steps(node, scale)
    assert form.zero_point is not None
    if node.has_input(form.zero_point):
        node.constant(form.zero_point, "zero point")
    elif not form.operands or _integer_type(node.inputs[form.operands[0].codes]) is None:
        raise node.fault(
            Code.MISSING_OPERAND,
            f"{node.op_type} has no zero point of its result (input {form.zero_point}), which says the integers' type",
            hint="write the zero point into the model, a 0 of that type",
        )


def _check_sums(node: Node) -> None:
    if _scale_behind(node.inputs[0]) is None:
        raise node.fault(
            Code.COMPUTED_OPERAND,
            f"the integers that {node.op_type} reads come from no QuantizeLinear with one constant scale",
            hint="quantize the float model with onnxruntime's quantize_static and QuantFormat.QDQ",
        )
    waiting = list(node.raw.outputs)
    while waiting:
        for reader in waiting.pop().outputs:
            becomes = _become(reader)
            if becomes is None:
                raise node.fault(
                    Code.UNSUPPORTED_OPERATOR,
                    f"{reader.op} of the integers that {node.op_type} makes is not supported",
                    hint="Cast them to float first",
                )
            if becomes == "sums":
                waiting += reader.outputs


def _become(reader: gs.Node) -> Literal["sums", "values"] | None:
    """What the node makes of int32 sums when those are values: again such sums, or floats. None: nothing that is read."""
    if reader.op == "Cast":
        to = _element_code(reader.attrs.get("to"))
        return "values" if to in _FLOATS else "sums" if to in _WIDE_INTEGERS else None
    if reader.op == "DequantizeLinear":
        return "values" if _factor_of_sums(reader) is not None else None
    return "sums" if reader.op in _SAME_ON_SUMS and not reader.domain else None


def spell_integer_operators(graph: gs.Graph, opset: int) -> None:
    """Rewrite the operators on integers that are whole; the nodes stay in execution order."""
    if not any(_name_of(node) in _FORMS for node in graph.nodes):
        return
    graph.nodes = _without_constant_nodes(graph, opset)
    rewriter = _Rewriter(graph, opset)
    graph.nodes = [made for node in list(graph.nodes) for made in rewriter.rewritten(node)]


def _without_constant_nodes(graph: gs.Graph, opset: int) -> list[gs.Node]:
    """The other nodes: exporters write scales as Identity of each other, or as products."""
    kept = []
    for raw in graph.nodes:
        try:
            array = fold_constant_node(Node(raw, opset), {})
        except CompileError:  # the importer says it
            array = None
        if array is None or any(tensor is raw.outputs[0] for tensor in graph.outputs):
            kept.append(raw)
        else:
            raw.outputs[0].to_constant(array)
    return kept


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
        self.names = set(self.graph.tensors())

    def rewritten(self, raw: gs.Node) -> Iterator[gs.Node]:
        """What stands in the place of the node."""
        node = Node(raw, self.opset)
        if any(tensor.name in self.sums for tensor in raw.inputs):
            self._follow_sums(raw)
            yield raw
        elif raw.op == "DequantizeLinear":
            yield from self._known_or_kept(raw)
        elif _name_of(raw) not in _FORMS:
            yield raw
        else:
            try:
                check_integer_operator(node)
            except CompileError:
                yield raw
                return
            form = _form_of(node)
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

    def _of_codes(self, node: Node, form: _Form) -> Iterator[gs.Node]:
        """DequantizeLinear, the operator, QuantizeLinear. QGemm without a scale of its result is not quantized."""
        raw, inputs, (result, *_) = node.raw, node.inputs, node.raw.outputs
        values = []
        for index, operand in enumerate(form.operands):
            assert operand.scale is not None
            scale = inputs[operand.scale]
            zero_point = inputs[operand.zero_point] if node.has_input(operand.zero_point) else None
            axis = _channel_axis(raw, form, index)
            values.append((yield from self._dequantized(raw, inputs[operand.codes], scale, zero_point, axis)))
        if form.bias is not None and node.has_input(form.bias):
            scale = gs.Constant(self._fresh(f"{inputs[form.bias].name}/scale"), _bias_scale(inputs[1], inputs[4]))
            values.append((yield from self._dequantized(raw, inputs[form.bias], scale, None, 0)))
        attributes = dict(raw.attrs)
        if not attributes.get("channels_last", 0):
            attributes.pop("channels_last", None)
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
                dtype = _integer_type(inputs[form.operands[0].codes])
                zero_point = gs.Constant(self._fresh(f"{result.name}/zero_point"), np.zeros((), dtype))
            yield gs.Node("QuantizeLinear", raw.name, {}, [real, inputs[form.scale], zero_point], [result])

    def _of_integers(self, node: Node, form: _Form) -> Iterator[gs.Node]:
        """The sums of (codes - zero point) * (weight - zero point): those of the values, divided by the codes' scale."""
        raw, (result, *_) = node.raw, node.raw.outputs
        scale = _scale_behind(node.inputs[0])
        assert scale is not None
        step = gs.Constant(self._fresh(f"{result.name}/scale"), scale)
        one = gs.Constant(self._fresh(f"{result.name}/one"), np.ones((), np.float32))
        values = []
        for index, operand in enumerate(form.operands):
            zero_point = node.inputs[operand.zero_point] if node.has_input(operand.zero_point) else None
            axis = _channel_axis(raw, form, index)
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
        if _become(raw) == "sums":
            self.sums.update(tensor.name for tensor in raw.outputs)
        if raw.op == "Cast":
            raw.op = "Identity"
            raw.attrs.clear()
        elif raw.op == "DequantizeLinear":
            factor = gs.Constant(self._fresh(f"{raw.outputs[0].name}/factor"), _factor_of_sums(raw))
            raw.op, raw.inputs = "Mul", [raw.inputs[0], factor]
            raw.attrs.clear()
        for tensor in raw.outputs:
            tensor.dtype = np.dtype(np.float32)

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


def _name_of(raw: gs.Node) -> tuple[str, str]:
    return (raw.domain or "").removeprefix("ai.onnx"), raw.op


def _form_of(node: Node) -> _Form:
    form = _FORMS[_name_of(node.raw)]
    if node.op_type != _CONCAT:
        return form
    return replace(form, operands=tuple(_Operand(i, i + 1, i + 2) for i in range(2, len(node.inputs), 3)))


def _channel_axis(raw: gs.Node, form: _Form, index: int) -> int:
    """Where the channels of an operand are, along which it may have several scales: a weight's output channels."""
    if form.op == "MatMul" or (form.op == "Gemm" and not raw.attrs.get("transB", 0)):
        return index
    return 1 - index


def _identity_of(dequantize: gs.Node) -> tuple[object, ...]:
    """Equal for two DequantizeLinear that make the same."""
    codes, scale, *rest = dequantize.inputs
    scales = constant_array(scale)
    zero_points = [constant_array(tensor) for tensor in rest if not tensor.is_empty()]
    offsets = [None if array is None else array.reshape(-1).tolist() for array in zero_points]
    if scales is None or any(offset is None for offset in offsets):
        return (id(dequantize),)
    offset = next((tuple(values) for values in offsets if any(values)), ())
    several = scales.size > 1 or len(offset) > 1
    return codes.name, scales.tobytes(), scales.dtype, offset, several and dequantize.attrs.get("axis", 1)


def _bias_scale(x_scale: gs.Tensor, weight_scale: gs.Tensor) -> NDArray[np.float64]:
    """The product of two float32 is exact in float64."""
    x_steps, steps = constant_array(x_scale), constant_array(weight_scale)
    assert x_steps is not None
    assert steps is not None
    return np.asarray(x_steps.astype(np.float64).reshape(()) * steps.astype(np.float64))


def _integer_type(codes: gs.Tensor) -> np.dtype[np.generic] | None:
    """The type of the integers, where the file says it."""
    array = constant_array(codes)
    if array is not None:
        return array.dtype
    if isinstance(codes.dtype, type | np.dtype):
        return np.dtype(codes.dtype)
    maker = codes.inputs[0] if codes.inputs else None
    if maker is None or not maker.inputs:
        return None
    if maker.op in _MOVEMENT:
        return _integer_type(maker.inputs[0])
    return _integer_type(maker.inputs[2]) if maker.op == "QuantizeLinear" and len(maker.inputs) > 2 else None


def _scale_behind(codes: gs.Tensor) -> NDArray[np.generic] | None:
    """The scale of the quantizer that made the integers; 1 for those that the user hands over. None: of no quantizer."""
    if isinstance(codes, gs.Constant):
        return None
    if not codes.inputs:
        return np.ones((), np.float32)
    maker = codes.inputs[0]
    if maker.op in _MOVEMENT and not maker.domain:
        return _scale_behind(maker.inputs[0])
    scale = constant_array(maker.inputs[1]) if maker.op == "QuantizeLinear" else None
    return scale.reshape(()) if scale is not None and scale.size == 1 else None


def _factor_of_sums(dequantize: gs.Node) -> NDArray[np.generic] | None:
    """What a DequantizeLinear multiplies int32 sums by, in their shape; None where it does something else."""
    sums, scale, *rest = dequantize.inputs
    scales = constant_array(scale)
    offsets = [constant_array(tensor) for tensor in rest if not tensor.is_empty()]
    if scales is None or any(offset is None or offset.any() for offset in offsets):
        return None
    if scales.size == 1:
        return scales.reshape(())
    axis = dequantize.attrs.get("axis", 1)
    if axis != 1 or sums.shape is None or dequantize.attrs.get("block_size", 0):
        return None
    return scales.reshape([-1 if i == axis else 1 for i in range(len(sums.shape))])


def _element_code(to: object) -> int:
    """ONNX's number of an element type, as which graphsurgeon may hold a NumPy type."""
    return to if isinstance(to, int) else int(onnx.helper.np_dtype_to_tensor_dtype(np.dtype(to)))  # type: ignore[call-overload]
