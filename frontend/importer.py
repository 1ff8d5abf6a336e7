"""From an ONNX graph to our quantized level: every node goes to its operator in `operators.OPERATORS`.

All faults are collected. A node that fails leaves its output unknown: where its shape is known a stand-in takes its
place, so that the nodes behind are checked, too; else the output is poisoned: nodes that read it are only looked up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx_graphsurgeon as gs

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, Problem, quote
from pefslc.frontend.branches import hand_out, taken_branch
from pefslc.frontend.builder import Builder, HostTail, IntegerTensor
from pefslc.frontend.constants import fold_constant_node
from pefslc.frontend.external_data import MOST_DATA_BYTES
from pefslc.frontend.foreign_operators import hint_for
from pefslc.frontend.given_shapes import NOTHING_GIVEN, GivenShapes
from pefslc.frontend.integer_inputs import check_reads_integers
from pefslc.frontend.integer_operators import spell_integer_operators
from pefslc.frontend.linear_quantizers import integer_output
from pefslc.frontend.load import load_onnx
from pefslc.frontend.node import Node
from pefslc.frontend.operators import OPERATORS
from pefslc.frontend.opsets import QONNX_DOMAINS
from pefslc.frontend.rounding_chains import spell_rounding_chains
from pefslc.frontend.row_reshapes import keep_rows
from pefslc.frontend.tails import check_ends, integer_tail, passed_on, quantized, with_functions
from pefslc.frontend.variadic import spell_variadic_operators
from pefslc.ir.graph import Graph, Level

__all__ = ["Imported", "import_model", "survey_model"]


# They take the integers of a dynamic quantizer back to values: what is told of it is told of them.
_OF_DYNAMIC = ("Cast", "ConvInteger", "MatMulInteger", "MatMulIntegerToFloat")


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of a file: its graph, and what is wrong with it.

    graph     whole where there are no problems; else with the values `unknown` in it that nothing computes
    problems  every fault of the import
    notes     what the file leaves unsaid and how it is taken: for the user
    data_sha256  of what was read from files beside it; "" for nothing
    """

    graph: Graph
    unknown: frozenset[str]
    problems: tuple[Problem, ...]
    notes: tuple[str, ...] = ()
    data_sha256: str = ""


def import_model(path: Path, given: GivenShapes = NOTHING_GIVEN, most_data_bytes: int = MOST_DATA_BYTES) -> Graph:
    """The quantized-level graph of the ONNX file at `path`. Raises one CompileError that holds every fault."""
    imported = survey_model(path, given, most_data_bytes)
    if imported.problems:
        raise CompileError.of(imported.problems)
    return imported.graph


def survey_model(path: Path, given: GivenShapes = NOTHING_GIVEN, most_data_bytes: int = MOST_DATA_BYTES) -> Imported:
    """The graph of the ONNX file at `path` as far as it can be imported. Raises CompileError where nothing can.

    given            what the user says about the shapes of inputs
    most_data_bytes  that are read from files beside it
    """
    loaded = load_onnx(path, most_data_bytes)
    spell_variadic_operators(loaded.graph, loaded.opset)
    spell_rounding_chains(loaded.graph, loaded.opset)
    spell_integer_operators(loaded.graph, loaded.opset)
    builder = Builder(given, set(loaded.unreadable), list(loaded.problems))
    builder.problems += given.problems([t.name for t in loaded.graph.inputs])
    inputs = [builder.add_input(tensor) for tensor in loaded.graph.inputs]
    _import_nodes(builder, loaded.graph, loaded.graph.outputs, loaded.opset)
    for tensor in loaded.graph.outputs:
        if tensor.name in builder.integers and tensor.name not in builder.values:
            _integer_output(builder, tensor, loaded.opset)
    outputs = with_functions(builder.outputs(loaded.graph), builder.ops)
    check_ends(builder)
    builder.drop_superseded(outputs)
    shapes = builder.shapes()
    imported = Graph(_graph_name(path), Level.QUANTIZED, tuple(i for i in inputs if i), tuple(builder.ops), outputs)
    return Imported(
        imported if builder.problems or builder.unknown else given.resized(imported),
        frozenset(builder.unknown),
        tuple(problem.with_shape(shapes) for problem in builder.problems),
        loaded.notes,
        loaded.data_sha256,
    )


def _import_nodes(builder: Builder, graph: gs.Graph, outputs: Sequence[gs.Tensor], opset: int) -> None:
    """Import the nodes of a graph one by one, and note what is wrong with each.

    outputs  of the whole model, and of the branches around these nodes
    """
    for raw in graph.nodes:
        if raw.op == "Reshape" and raw.inputs:
            keep_rows(graph, raw, builder.shape_of(raw.inputs[0].name))
        node = Node(raw, opset)
        if node.op_type == "Constant" and not node.domain:
            continue  # read where it is used
        try:
            if node.op_type == "If" and not node.domain:
                branch = taken_branch(node)
                _import_nodes(builder, branch, [*outputs, *branch.outputs], opset)
                hand_out(builder, node, branch)
            else:
                _import_node(builder, node, outputs)
        except CompileError as e:
            builder.problems.extend(e.problems)
            builder.stand_in(node)


def _integer_output(builder: Builder, tensor: gs.Tensor, opset: int) -> None:
    """An output of a quantizer's codes becomes a value; a constant stays what it is."""
    try:
        node, integers = Node(tensor.inputs[0], opset), builder.integers[tensor.name]
        if (tail := integer_tail(builder, node, integers)) is not None:
            builder.tails[tensor.name] = tail
            return
        value = integer_output(builder, node, integers)
    except CompileError as e:
        builder.problems.extend(e.problems)
        builder.poisoned.add(tensor.name)
    else:
        if value is not None:
            builder.define(tensor, value)


def _import_node(builder: Builder, node: Node, outputs: Sequence[gs.Tensor]) -> None:
    """Fold the node, or hand it to its operator. Raises CompileError."""
    array = fold_constant_node(node, builder.shape_of)
    if array is not None:
        node.raw.outputs[0].to_constant(array)
        return
    if (tail := passed_on(builder, node)) is not None:
        builder.tails[node.raw.outputs[0].name] = tail
        return
    domain = "qonnx" if node.domain in QONNX_DOMAINS else node.domain
    operator = OPERATORS.get((domain.removeprefix("ai.onnx"), node.op_type))
    if operator is None:
        if node.op_type.startswith("DynamicQuantize"):
            builder.dynamic.update(t.name for t in node.raw.outputs)
        elif any(t.name in builder.dynamic for t in node.inputs) and node.op_type in _OF_DYNAMIC:
            builder.dynamic.update(t.name for t in node.raw.outputs)
            builder.stand_in(node)
            return
        raise _unsupported(node)
    if any(t.name in builder.poisoned for t in node.inputs):
        if domain == "qonnx":
            _check_parameters(builder, node)
        builder.stand_in(node)
        return
    check_reads_integers(builder, node)
    result = operator(builder, node)
    node.finish()
    results = result if isinstance(result, tuple) else (result,)
    for tensor, made in zip(node.raw.outputs, results, strict=False):
        if isinstance(made, HostTail):
            builder.tails[tensor.name] = made
        elif isinstance(made, IntegerTensor):
            builder.integers[tensor.name] = made
        elif (tail := quantized(builder, node, made)) is not None:
            builder.tails[tensor.name] = tail
        else:
            builder.define(tensor, made)
    for extra in node.raw.outputs[len(results) :]:
        if extra.outputs or extra in outputs:
            raise node.fault(Code.EXTRA_OUTPUT, f"the second output of {node.op_type} is not supported")


def _graph_name(path: Path) -> str:
    return path.stem or "model"


def _unsupported(node: Node) -> CompileError:
    domain = f" of domain {quote(node.domain)}" if node.domain else ""
    hint = hint_for(node.domain, node.op_type)
    if not domain and ("qonnx", node.op_type) in OPERATORS:
        domain = " of ONNX's own domain"
        hint = (
            f"{node.op_type} is QONNX's: the file lacks its domain; give these nodes domain='qonnx.custom_op.general' "
            "with the onnx package, and save the file"
        )
    elif node.op_type.startswith("DynamicQuantize"):
        return node.fault(
            Code.UNSUPPORTED_OPERATOR,
            f"dynamic quantization ({node.op_type}{domain}) has no fixed formats: its scales depend on the data",
            hint="use quantize_static with QuantFormat.QDQ; or give the float model, and let pefslc choose formats: "
            "--fmt auto:8 --calibrate data.npz",
        )
    return node.fault(Code.UNSUPPORTED_OPERATOR, f"operator {node.op_type}{domain} is not supported", hint=hint)


def _check_parameters(builder: Builder, node: Node) -> None:
    """A quantizer whose scale comes out of a node is dynamic quantization, whatever is wrong with that node."""
    for tensor in node.inputs[1:]:
        if tensor.name in builder.poisoned and tensor.inputs and tensor.inputs[0].op != "Constant":
            raise node.fault(
                Code.COMPUTED_OPERAND,
                f"a parameter of the quantizer is computed at run time (tensor {quote(tensor.name)})",
                hint="use a quantizer with a constant or learned scale: dynamic quantization is not supported",
            )
