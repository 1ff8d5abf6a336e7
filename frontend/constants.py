"""Constants that the file computes from constants, as exporters leave them: evaluated, never lowered.

Arithmetic on shapes: a flattening with the batch's size becomes Shape, Gather, Concat before its Reshape. Arithmetic on
parameters: a norm's root, a scale that is a quotient, a bit width that is the ceiling of a logarithm, a weight in
another order. Each node is evaluated by ONNX's reference implementation in the types of the file: a float32 result is
rounded to float32, as the exporter's own runtime does, node by node. What depends on chance is never evaluated, and
quantizers are not: a quantized weight stays one.

IEEE 754 fixes the result of +, -, *, / and of the square root, but not of a logarithm or of the order of a sum: NumPy's
depend on the processor. Those are computed in float64 and then rounded to the type of the file.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError
from pefslc.frontend.node import Node, constant_array
from pefslc.frontend.sizes import LARGEST_TENSOR
from pefslc.geometry.shapes import Shape, element_count

__all__ = ["fold_constant_node", "fold_constants"]

Array = NDArray[np.generic]

# The size of the result is that of its operands, broadcast.
_ELEMENTWISE = {
    "Abs", "Add", "And", "Cast", "Ceil", "Clip", "Div", "Equal", "Erf", "Exp", "Floor", "Greater", "GreaterOrEqual",
    "HardSigmoid", "Less", "LessOrEqual", "Log", "Max", "Min", "Mod", "Mul", "Neg", "Not", "Or", "Pow", "Reciprocal",
    "Relu", "Round", "Sigmoid", "Sign", "Softplus", "Sqrt", "Sub", "Tanh", "Where", "Xor",
}  # fmt: skip
# The result has no more elements than the operands together.
_NOT_LARGER = {
    "Concat", "Flatten", "ReduceL1", "ReduceL2", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum",
    "ReduceSumSquare", "Reshape", "Size", "Slice", "Squeeze", "Transpose", "Unsqueeze",
}  # fmt: skip
# The last operand is the shape of the result, or what that is broadcast with.
_OF_A_SHAPE = {"ConstantOfShape", "Expand"}
_IN_FLOAT64 = {
    "Erf", "Exp", "Log", "Pow", "ReduceL1", "ReduceL2", "ReduceMean", "ReduceSum", "ReduceSumSquare", "Sigmoid",
    "Softplus", "Tanh",
}  # fmt: skip
_MOST_MADE = 1 << 18  # elements of a result that is larger than its operands: shapes and parameters are smaller


def fold_constant_node(node: Node, shape_of: Callable[[str], Shape | None]) -> Array | None:
    """The constant that `node` computes; None where it computes none (Identity: from anything, of any type).

    shape_of  the shape of a tensor that no constant holds, by its name, so that Shape of it is a constant
    """
    if node.domain.removeprefix("ai.onnx") or len(node.raw.outputs) != 1:
        return None
    computed = shape_of(node.inputs[0].name) if node.op_type in ("Shape", "Size") and node.inputs else None
    if computed is not None:
        return _shape(node, computed) if node.op_type == "Shape" else np.array(element_count(computed))
    arrays = [constant_array(t) for t in node.inputs if not t.is_empty()]
    if node.op_type == "Identity" and len(arrays) == 1:
        return arrays[0]  # of any type: exporters write it where several parameters have the same values
    if node.op_type == "Cast" and arrays and arrays[0] is not None and arrays[0].dtype.name == "bfloat16":
        arrays = [arrays[0].astype(np.float32)]  # which holds each of them
    known = [a for a in arrays if a is not None and a.dtype.kind in "iubf"]
    if not arrays or len(known) != len(arrays) or not _is_small(node, known):
        return None
    if node.op_type == "Clip" and known[0].dtype.kind in "iu":
        return None  # between quantizer and dequantizer: it says how wide the integers are
    return _evaluated(node, known)


def fold_constants(graph: gs.Graph, opset: int, but: tuple[str, ...] = ()) -> None:
    """Evaluate what is computed from constants alone before anything is imported, but the operators `but`.

    Exporters write scales as Identity of each other, or as products.
    """
    kept = []
    for raw in graph.nodes:
        try:
            array = None if raw.op in but else fold_constant_node(Node(raw, opset), lambda _: None)
        except CompileError:  # the importer says it
            array = None
        if array is None or any(tensor is raw.outputs[0] for tensor in graph.outputs):
            kept.append(raw)
        else:
            raw.outputs[0].to_constant(array)
    graph.nodes = kept


def _is_small(node: Node, arrays: Sequence[Array]) -> bool:
    """Whether the node is one of those that are evaluated, and its result not too large for it."""
    sizes = [a.size for a in arrays]
    if node.op_type in _NOT_LARGER:
        return sum(sizes) <= LARGEST_TENSOR
    if node.op_type in _ELEMENTWISE:
        made = _broadcast_count([a.shape for a in arrays])
    elif node.op_type == "Gather":
        made = math.prod(sizes)
    elif node.op_type == "Range":
        made = _range_count(arrays)
    elif node.op_type in _OF_A_SHAPE and arrays[-1].dtype.kind in "iu":
        made = abs(element_count(tuple(int(v) for v in arrays[-1].reshape(-1)))) * math.prod(sizes[:-1])
    else:
        return False
    return made <= (LARGEST_TENSOR if made <= max(sizes) else _MOST_MADE)


def _broadcast_count(shapes: Sequence[Shape]) -> int:
    """The number of elements of arrays broadcast together; of shapes that contradict each other, of none."""
    try:
        return element_count(np.broadcast_shapes(*shapes))
    except ValueError:
        return 0  # ONNX's own message follows


def _range_count(arrays: Sequence[Array]) -> int:
    """How many numbers Range(start, limit, step) makes; more than are ever made where it has none or no end."""
    if len(arrays) != 3 or any(a.size != 1 for a in arrays):
        return _MOST_MADE + 1
    start, limit, step = (float(a.reshape(-1)[0]) for a in arrays)
    count = (limit - start) / step if step else math.inf
    return max(math.ceil(count), 0) if math.isfinite(count) else _MOST_MADE + 1


def _shape(node: Node, shape: Sequence[int]) -> Array:
    start, end = node.take_int("start", 0), node.take_int("end", len(shape))
    node.finish()
    return np.array(shape[start:end], dtype=np.int64)


def _evaluated(node: Node, arrays: Sequence[Array]) -> Array:
    """What the node makes of `arrays`, in their type."""
    kind = arrays[0].dtype
    if node.op_type not in _IN_FLOAT64 or kind.kind != "f" or kind == np.float64:
        return _evaluate(node, arrays)
    wide = [a.astype(np.float64) if a.dtype.kind == "f" else a for a in arrays]
    with np.errstate(all="ignore"):
        return _evaluate(node, wide).astype(kind)


def _evaluate(node: Node, arrays: Sequence[Array]) -> Array:
    """By ONNX's own reference implementation, on this node alone."""
    from onnx.reference import ReferenceEvaluator  # heavy, and rarely needed

    given = iter(arrays)
    inputs = [t if t.is_empty() else gs.Constant(f"input{i}", next(given)) for i, t in enumerate(node.inputs)]
    alone = gs.Node(node.op_type, attrs=dict(node.raw.attrs), inputs=inputs, outputs=[gs.Variable("result")])
    try:
        model = gs.export_onnx(gs.Graph([alone], outputs=alone.outputs, opset=node.opset), do_type_check=False)
        with np.errstate(all="ignore"):  # what is no number is refused where it is used
            (result,) = ReferenceEvaluator(model).run(None, {})
    except Exception as e:  # each operator fails in its own way on inputs that contradict each other
        raise node.fault(
            Code.SHAPE_MISMATCH, f"{node.op_type} of constants cannot be evaluated: {e}", hint="export the model again"
        ) from None
    return np.asarray(result)
