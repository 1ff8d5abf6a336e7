"""What is left of a quantized graph without the tensors that a fault makes unknown.

A check goes on with that part, so that one run tells every problem of a model and none that only follows from another.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from pefslc.ir.flow import needed_for
from pefslc.ir.graph import Graph, GraphInput, GraphOutput
from pefslc.ir.quantized import Constant, Elementwise, Multiply, Quantize, QuantizedConstant
from pefslc.ir.structural import Reshape, Slice, Transpose, Upsample
from pefslc.ir.value import Op, Real, Value

__all__ = ["sound_part"]

# Behind these, an output would need a quantizer that the part may have lost: it ends before them.
_UNFINISHED = Elementwise | Multiply


def sound_part(graph: Graph, unknown: Collection[str]) -> Graph | None:
    """`graph` without the values named in `unknown` and all that depends on them, up to the next quantizers.

    A quantizer of an unknown tensor is a new beginning, whatever it reads: its result keeps its format, and its input
    becomes an input of the part. What the part computes for operations left out becomes its outputs. None where
    nothing is left to lower.
    """
    lost = set(unknown)
    inputs = [i for i in graph.inputs if i.value.name not in lost]
    ops: list[Op] = []
    frontier: list[Value] = []
    constants: set[str] = set()
    for op in graph.ops:
        if isinstance(op, Constant | QuantizedConstant) or all(v.name in constants for v in op.operands):
            constants.add(op.result.name)
        if op.result.name not in lost and not any(v.name in lost for v in op.operands):
            ops.append(op)
        elif op.result.name not in lost and isinstance(op, Quantize) and op.input.name not in constants:
            value = replace(op.input, name=f"{op.result.name}.unknown", type=replace(op.input.type, element=Real()))
            inputs.append(GraphInput(value.name, value))
            ops.append(replace(op, input=value, stages=()))
        else:
            lost.add(op.result.name)
            frontier += [v for v in op.operands if v.name not in lost]
    return _finished(graph, inputs, ops, frontier, constants)


def _finished(
    graph: Graph, inputs: list[GraphInput], ops: list[Op], frontier: list[Value], constants: set[str]
) -> Graph | None:
    producers = {op.result.name: op for op in ops}
    known = {*producers, *(i.value.name for i in inputs)}
    outputs = [o for o in graph.outputs if o.value.name in known]
    read = {v.name for op in ops for v in op.operands} | {o.value.name for o in outputs}
    ends = [*frontier, *(op.result for op in ops if isinstance(op, Quantize) and op.result.name not in read)]
    for end in ends:
        while isinstance(op := producers.get(end.name), _UNFINISHED | Reshape | Slice | Transpose | Upsample):
            end = op.operands[0]  # walks up from each end
        if end.name in producers and end.name not in constants and all(o.value.name != end.name for o in outputs):
            outputs.append(GraphOutput(f"{end.name}.end", end))
    needed = needed_for(replace(graph, inputs=tuple(inputs), ops=tuple(ops)), (o.value.name for o in outputs))
    ops = [op for op in ops if op.result.name in needed]
    if all(isinstance(op, Constant | QuantizedConstant | Quantize) for op in ops):
        return None  # quantizers that nothing reads
    return replace(
        graph, inputs=tuple(i for i in inputs if i.value.name in needed), ops=tuple(ops), outputs=tuple(outputs)
    )
