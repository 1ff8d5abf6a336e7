"""Running a graph on arrays: integers on the integer level, float64 on the quantized level.

The integer interpreter is the meaning. The float64 evaluation of the quantized level is an *oracle*: exact while every
value is a dyadic rational below 2^53 steps, else correct to float64 rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import ceil
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, quote
from pefslc.files.arrays import as_array
from pefslc.ir.interface import GraphInput, GraphOutput, Level, OutputMap
from pefslc.ir.reference import evaluate_quantized
from pefslc.ir.row_batches import batches_of
from pefslc.ir.semantics import evaluate
from pefslc.numeric.stage_values import quantize_behind

if TYPE_CHECKING:
    from pefslc.ir.graph import Graph, IntegerGraph

__all__ = ["apply_output_map", "as_batches", "map_codes", "quantize_input", "run", "run_codes"]

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]


def run(
    graph: Graph,
    inputs: Mapping[str, NDArray[np.generic]] | NDArray[np.generic],
    done: Callable[[], None] | None = None,
) -> dict[str, Floats]:
    """Output name -> float64 values.

    inputs  input name -> array in the ONNX shape, or (one input) the array itself; with any number of rows
    done    called after each operation
    """
    arrays, _ = as_batches(graph, inputs)
    if graph.level is Level.QUANTIZED:
        found = evaluate_quantized(graph, arrays, done)
        return {o.name: found[o.name] if o.function is None else o.function(found[o.name]) for o in graph.outputs}
    codes = {i.name: quantize_input(i, arrays[i.name]) for i in graph.inputs}
    values = run_codes(graph, codes, done)
    return {o.name: apply_output_map(o, values[o.value.name]) for o in graph.outputs}


def run_codes(graph: Graph, inputs: Mapping[str, Codes], done: Callable[[], None] | None = None) -> dict[str, Codes]:
    """Every tensor of an integer graph, by value name. `inputs` are codes by input name; `done` as for `run`."""
    assert graph.level is Level.INTEGER
    integer = cast("IntegerGraph", graph)
    values = {i.value.name: inputs[i.name] for i in graph.inputs}
    for op in integer.ops:
        values[op.result.name] = evaluate(op, [values[v.name] for v in op.operands])
        if done is not None:
            done()
    return values


def as_batches(
    graph: Graph, inputs: Mapping[str, NDArray[np.generic]] | NDArray[np.generic]
) -> tuple[dict[str, Floats], int]:
    """The inputs by name as float64, checked against the graph, and the number of batches, of which the last may lack
    rows.
    """
    if not isinstance(inputs, Mapping):
        if len(graph.inputs) != 1:
            raise CompileError(Code.INPUT_ARRAY, f"the model has {len(graph.inputs)} inputs: give arrays by name")
        inputs = {graph.inputs[0].name: inputs}
    elif len(graph.inputs) == 1 and "x" in inputs and graph.inputs[0].name not in inputs:
        inputs = {graph.inputs[0].name: inputs["x"]}
    arrays: dict[str, Floats] = {}
    for graph_input in graph.inputs:
        name, shape = graph_input.name, graph_input.value.type.shape
        if name not in inputs:
            raise CompileError(
                Code.INPUT_ARRAY,
                f"no array for input {quote(name)}",
                hint=f"arrays given: {', '.join(map(quote, inputs)) or 'none'}"
                + ("; or name it 'x'" if len(graph.inputs) == 1 and inputs else ""),
            )
        array = as_array(inputs[name], f"input {quote(name)}")
        if array.dtype.kind not in "fiu":
            raise CompileError(
                Code.INPUT_ARRAY,
                f"input {quote(name)} holds {array.dtype}, not numbers",
                hint="an array of floats or integers",
            )
        if not _suits(array.shape, shape):
            raise CompileError(
                Code.INPUT_ARRAY,
                f"input {quote(name)} has shape {list(array.shape)}, the model wants {list(shape)}",
                hint=_shape_hint(array.shape, shape),
            )
        if not array.size:
            raise CompileError(
                Code.INPUT_ARRAY,
                f"input {quote(name)} is empty: shape {list(array.shape)}",
                hint="give at least one row",
            )
        if not (finite := np.isfinite(array)).all():
            raise CompileError(
                Code.INPUT_ARRAY,
                f"input {quote(name)} holds NaN or infinity",
                hint=f"the first at {np.argwhere(~finite)[0].tolist()}: no code stands for it; look at how the array "
                "was made, or leave such rows out",
            )
        if graph_input.integers:
            _require_integers(name, array, graph_input.integers)
        arrays[name] = array.astype(np.float64)
    batches = {batches_of(len(arrays[i.name]), i.value.type.shape[0]) for i in graph.inputs}
    if len(batches) != 1:
        raise CompileError(Code.INPUT_ARRAY, "the inputs have different batch sizes")
    return arrays, ceil(batches.pop())


def _require_integers(name: str, array: NDArray[np.generic], kind: str) -> None:
    """Raise CompileError for numbers that an input of that type does not hold: they would be rounded in silence."""
    numbers, limits = array.astype(np.float64), np.iinfo(kind)
    wrong = numbers[(numbers != np.rint(numbers)) | (numbers < limits.min) | (numbers > limits.max)]
    if wrong.size:
        raise CompileError(
            Code.INPUT_ARRAY,
            f"input {quote(name)} is {kind} in the model, and the array holds {wrong[0]:g}",
            hint=f"give integers from {limits.min} to {limits.max}: the model itself scales them",
        )


def _suits(shape: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    """Whether it is the wanted shape, with any number of rows."""
    return len(shape) == len(wanted) and shape[1:] == wanted[1:]


def _shape_hint(shape: tuple[int, ...], wanted: tuple[int, ...]) -> str:
    """What to do with an array whose shape does not suit the wanted one."""
    if len(shape) > 2 and _suits((shape[0], shape[-1], *shape[1:-1]), wanted):
        return f"its channels come last: give numpy.moveaxis(x, {len(shape) - 1}, 1)"
    if _suits((1, *shape), wanted):
        return "the batch is missing: give x[None]"
    return "channels before rows and columns; the first axis may have any size"


def quantize_input(graph_input: GraphInput, x: Floats) -> Codes:
    """The codes of an input: what the model does up to its input's quantizer, as the host applies it."""
    assert graph_input.quantizer is not None
    return quantize_behind(graph_input.stages, graph_input.quantizer, x, graph_input.channel_axis)


def apply_output_map(output: GraphOutput, codes: Codes) -> Floats:
    """What the host makes of output codes: values, and of them what the model ends with.

    The map is evaluated once, in float64, from its exact rationals.
    """
    assert output.map is not None
    if output.function is None:
        return map_codes(output.map, codes)
    exact = output.function.of_codes(codes, output.map.scale, output.map.offset)
    return output.function(map_codes(output.map, codes)) if exact is None else exact


def map_codes(output_map: OutputMap, codes: Codes) -> Floats:
    """scale * code + offset. Exact where codes and map are dyadic within 53 bits."""
    scale = np.array([float(s) for s in output_map.scale])
    offset = np.array([float(o) for o in output_map.offset])
    if codes.ndim > 1:
        shape = (1, -1) + (1,) * (codes.ndim - 2)
        scale, offset = scale.reshape(shape), offset.reshape(shape)
    values: Floats = codes.astype(np.float64) * scale + offset
    return values
