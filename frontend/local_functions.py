"""Functions that a model brings along: onnxscript and torch 2.1 to 2.5 with dynamo write each module as one.

Their calls are replaced by what they stand for, before anything else is read. ONNX's own inliner does it. It trusts its
input: what would hang or crash it is refused first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from graphlib import CycleError, TopologicalSorter

import onnx
from onnx.inliner import inline_local_functions

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, Origin, quote

__all__ = ["inlined"]

_MOST_BYTES = 1 << 26  # that calls add to the model: a function's constants are written for each of its calls
_MOST_LEVELS = 200  # of calls in functions that are called
_Name = tuple[str, str, str]  # domain, name, overload
_Functions = dict[_Name, onnx.FunctionProto]


def inlined(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model without functions of its own; `model` itself where it has none. Raises CompileError."""
    if not model.functions:
        return model
    functions = {(f.domain, f.name, f.overload): f for f in model.functions}
    if not any(_calls(model.graph.node, functions)):
        without = onnx.ModelProto()
        without.CopyFrom(model)
        del without.functions[:]
        return without
    for body in (model.graph.node, *(f.node for f in model.functions)):
        _check_calls(body, functions)
    _check_size(model, functions)
    try:
        result = inline_local_functions(model)
    except Exception as e:  # it names no exceptions of its own
        raise _fault(model.functions[0], f"cannot be written out: {quote(str(e))[1:-1]}") from None
    if result.functions:
        raise _fault(result.functions[0], "asks for another opset than the model")
    return result


def _fault(function: onnx.FunctionProto, what: str) -> CompileError:
    return CompileError(
        Code.MODEL_FUNCTION,
        f"model-local function {quote(function.name)} {what}",
        hint="export the model again, for one opset and without functions",
    )


def _calls(nodes: Iterable[onnx.NodeProto], functions: _Functions) -> Iterator[tuple[onnx.NodeProto, _Name]]:
    """The nodes that are calls, those in subgraphs, too."""
    for node in nodes:
        name = (node.domain, node.op_type, node.overload)
        if name in functions:
            yield node, name
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                yield from _calls(graph.node, functions)


def _check_calls(nodes: Iterable[onnx.NodeProto], functions: _Functions) -> None:
    """A call gives no more than the function takes, and takes no more than that gives."""
    for node, name in _calls(nodes, functions):
        function = functions[name]
        if len(node.input) > len(function.input) or len(node.output) > len(function.output):
            raise CompileError(
                Code.MODEL_FUNCTION,
                f"model-local function {quote(function.name)} has {len(function.input)} inputs and "
                f"{len(function.output)} outputs, its call {len(node.input)} and {len(node.output)}",
                at=Origin(node.name, node.op_type, node.output[0] if node.output else ""),
                hint="export the model again",
            )


def _check_size(model: onnx.ModelProto, functions: _Functions) -> None:
    """What calls make the model larger by, in bytes; each function is looked at once."""
    called = {name: [callee for _, callee in _calls(f.node, functions)] for name, f in functions.items()}
    try:
        order = list(TopologicalSorter(called).static_order())  # the called ones first
    except CycleError as e:
        raise _fault(functions[e.args[1][0]], "calls itself") from None
    bytes_of: dict[_Name, int] = {}
    levels: dict[_Name, int] = {}
    for name in order:
        own = sum(node.ByteSize() for node in functions[name].node)
        bytes_of[name] = own + sum(bytes_of[callee] for callee in called[name])
        levels[name] = 1 + max((levels[callee] for callee in called[name]), default=0)
        if levels[name] > _MOST_LEVELS:
            raise _fault(functions[name], f"calls functions that call functions, more than {_MOST_LEVELS} deep")
    added = sum(bytes_of[name] for _, name in _calls(model.graph.node, functions))
    if added > _MOST_BYTES:
        raise _fault(model.functions[0], f"and others take {added:,} bytes written out; at most {_MOST_BYTES:,}")
