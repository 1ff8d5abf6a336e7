"""Reading a model file safely: one clear error for whatever is wrong with the file itself."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import onnx
import onnx_graphsurgeon as gs
from google.protobuf.message import DecodeError

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, Origin, Problem, quote
from pefslc.files.reading import unreadable
from pefslc.frontend.branches import names_read
from pefslc.frontend.external_data import MOST_DATA_BYTES, ExternalData
from pefslc.frontend.local_functions import inlined
from pefslc.frontend.needed import nodes_that_outputs_need
from pefslc.frontend.opsets import opset_notes, opset_of, opset_problems
from pefslc.geometry.shapes import element_count

__all__ = ["Loaded", "load_onnx"]

_REFUSED_ATTRIBUTES = {
    onnx.AttributeProto.TENSORS: "tensors",
    onnx.AttributeProto.SPARSE_TENSOR: "a sparse tensor",
    onnx.AttributeProto.SPARSE_TENSORS: "sparse tensors",
    onnx.AttributeProto.TYPE_PROTO: "a type",
    onnx.AttributeProto.TYPE_PROTOS: "types",
}
_WIDTH_BYTES: dict[int, int] = {onnx.TensorProto.FLOAT: 4, onnx.TensorProto.DOUBLE: 8, onnx.TensorProto.INT64: 8}


@dataclass(frozen=True, slots=True)
class Loaded:
    """What is in a file.

    graph       in execution order
    opset       of ONNX, by which the operators are read
    unreadable  names of the constants that the file does not hold; nothing in `graph` refers to their data
    problems    faults that leave a graph to look at
    notes       what the file leaves unsaid and how it is taken
    data_sha256  of what was read from files beside it; "" for nothing
    """

    graph: gs.Graph
    opset: int
    unreadable: frozenset[str]
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]
    data_sha256: str = ""


def load_onnx(path: Path, most_data_bytes: int = MOST_DATA_BYTES) -> Loaded:
    """The file at `path`. Raises CompileError, with every fault, where its graph cannot be followed.

    most_data_bytes  that are read from files beside it
    """
    try:
        if path.is_dir():
            raise CompileError(
                Code.UNREADABLE_FILE, f"{quote(str(path))} is a folder, not a model", hint="give the .onnx file"
            )
        model = onnx.load(str(path), load_external_data=False)
    except OSError as e:
        raise unreadable(path, e) from None
    except DecodeError:
        if path.suffix == ".ir":
            raise CompileError(
                Code.NOT_ONNX,
                f"{quote(str(path))} is the text of a graph by its name, not an ONNX file",
                hint="`pefslc opt` runs passes on it, `pefslc view` shows it; only the .onnx file is compiled",
            ) from None
        if path.suffix in (".npz", ".npy"):
            raise CompileError(
                Code.NOT_ONNX,
                f"{quote(str(path))} holds arrays by its name, not an ONNX file",
                hint="give the .onnx file here, and arrays to --verify, --calibrate or `pefslc run --inputs`",
            ) from None
        raise CompileError(
            Code.NOT_ONNX,
            f"{quote(str(path))} is not an ONNX file",
            hint="it may be cut short: export or copy it again",
        ) from None
    # Names first: every other check prints or compares them.
    problems = list(_text_problems(model))
    if not problems:
        model = inlined(model)
        problems = list(_graph_problems(model))
    if problems:
        raise CompileError.of(problems)
    problems = list(opset_problems(model))
    external = ExternalData(path, most_data_bytes)
    missing = _take_out_unreadable(model.graph, external, problems)
    problems = list(external.told_once(problems))
    gs.logger.G_LOGGER.severity = gs.logger.G_LOGGER.CRITICAL + 1  # what it raises is said by us, once
    logging.getLogger("onnx").setLevel(logging.CRITICAL)
    try:
        graph = gs.import_onnx(model)
    except Exception as e:  # it names no exceptions of its own for what it stumbles over in a damaged file
        raise CompileError(
            Code.DAMAGED_MODEL,
            f"the graph cannot be read ({type(e).__name__}: {quote(str(e))[1:-1]})",
            hint="export the model again",
        ) from None
    graph.nodes = nodes_that_outputs_need(graph, _in_execution_order(graph.nodes))
    notes = (*opset_notes(model), *_batch_notes(model.graph))
    return Loaded(graph, opset_of(model), missing, tuple(problems), notes, external.sha256)


def _batch_notes(graph: onnx.GraphProto) -> Iterator[str]:
    """Inputs that were exported with several rows: every run takes so many, where people expect one."""
    weights = {initializer.name for initializer in graph.initializer}
    for graph_input in graph.input:
        dims = graph_input.type.tensor_type.shape.dim
        if graph_input.name not in weights and len(dims) > 1 and dims[0].dim_value > 1:
            yield (
                f"input {quote(graph_input.name)} was exported with a batch of {dims[0].dim_value}, and each run takes "
                "so many: --batch 1 makes a program that takes one at a time"
            )


def _in_execution_order(nodes: Sequence[gs.Node]) -> list[gs.Node]:
    """Each node behind those whose results it reads; else by its distance from the inputs, then as in the file."""
    producers = {tensor.name: i for i, node in enumerate(nodes) for tensor in node.outputs if tensor.name}
    sorter: TopologicalSorter[int] = TopologicalSorter()
    for i, node in enumerate(nodes):
        sorter.add(i, *(producers[name] for name in names_read(node) if name in producers))
    try:
        sorter.prepare()
    except CycleError:
        raise CompileError(
            Code.CYCLE, "the graph has a cycle", hint="an ONNX graph must be acyclic: export the model again"
        ) from None
    ordered: list[gs.Node] = []
    while sorter.is_active():
        generation = sorted(sorter.get_ready())
        ordered += [nodes[i] for i in generation]
        sorter.done(*generation)
    return ordered


def _text_problems(model: onnx.ModelProto) -> Iterator[Problem]:
    """Texts that are not UTF-8; protobuf hands those out as bytes."""
    graph = model.graph
    texts: list[object] = [o.domain for o in model.opset_import]
    texts += [named.name for group in (graph.input, graph.output, graph.initializer) for named in group]
    for node in (*_every_node(graph.node), *(n for f in model.functions for n in _every_node(f.node))):
        texts += [node.name, node.op_type, node.domain, *node.input, *node.output, *(a.name for a in node.attribute)]
    for function in model.functions:
        texts += [function.name, function.domain, *function.input, *function.output, *function.attribute]
    for text in texts:
        if not isinstance(text, str):
            yield Problem(
                Code.DAMAGED_MODEL,
                f"the name {text!r} is not UTF-8",
                hint="the file is damaged: export or copy it again",
            )
            return


def _every_node(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """The nodes, and those of their subgraphs."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                yield from _every_node(graph.node)


def _graph_problems(model: onnx.ModelProto) -> Iterator[Problem]:
    """Faults that leave no graph to look at."""
    graph = model.graph
    if not model.ir_version and not graph.node:
        yield Problem(Code.NOT_ONNX, "the file holds no model", hint="it is empty or not ONNX: export the model again")
        return
    if not graph.node:
        yield Problem(Code.EMPTY_GRAPH, "the graph has no nodes", hint="export the model again")
    if not graph.output:
        yield Problem(Code.EMPTY_GRAPH, "the graph has no outputs", hint="export the model again, with output_names")
    yield from _name_problems(graph)


def _take_out_unreadable(graph: onnx.GraphProto, external: ExternalData, problems: list[Problem]) -> frozenset[str]:
    """Take in what lies beside the file; remove from `graph` the constants whose data is not to be had.

    Adds to `problems`. Returns the names of the tensors that lost their value.
    """
    lost: list[str] = []
    kept_tensors = []
    for tensor in graph.initializer:
        found = list(_tensor_problems(tensor, external))
        problems += found
        if found:
            lost.append(tensor.name)
        else:
            kept_tensors.append(tensor)
    kept_nodes = []
    for node in graph.node:
        found = [problem for attribute in node.attribute for problem in _attribute_problems(node, attribute, external)]
        problems += found
        if found:
            lost += node.output
        else:
            kept_nodes.append(node)
    if lost:
        del graph.initializer[:], graph.node[:]
        graph.initializer.extend(kept_tensors)
        graph.node.extend(kept_nodes)
    return frozenset(lost)


def _attribute_problems(
    node: onnx.NodeProto, attribute: onnx.AttributeProto, external: ExternalData
) -> Iterator[Problem]:
    if attribute.type == onnx.AttributeProto.GRAPH and node.op_type == "If" and not node.domain:
        for tensor in attribute.g.initializer:  # which branch is taken, the importer finds out
            yield from _tensor_problems(tensor, external)
        for inner in attribute.g.node:
            for each in inner.attribute:
                yield from _attribute_problems(inner, each, external)
    elif attribute.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS):
        yield Problem(
            Code.CONTROL_FLOW,
            f"control flow ({node.op_type} with a subgraph)",
            at=Origin(node.name, node.op_type, node.output[0] if node.output else ""),
            hint="export without data-dependent branches",
        )
    elif attribute.type == onnx.AttributeProto.TENSOR:
        yield from _tensor_problems(attribute.t, external)
    elif attribute.type in _REFUSED_ATTRIBUTES:
        yield Problem(
            Code.ATTRIBUTE_TYPE,
            f"attribute {quote(attribute.name)} of {quote(node.op_type)} holds {_REFUSED_ATTRIBUTES[attribute.type]}",
            at=Origin(node.name, node.op_type, node.output[0] if node.output else ""),
            hint="export the model again",
        )


def _name_problems(graph: onnx.GraphProto) -> Iterator[Problem]:
    for name, count in Counter(t.name for t in graph.initializer).items():
        if count > 1:
            yield Problem(
                Code.DUPLICATE_NAME, f"{count} initializers are named {quote(name)}", hint="tensor names must be unique"
            )
    for name, count in Counter(o for n in graph.node for o in n.output if o).items():
        if count > 1:
            yield Problem(
                Code.DUPLICATE_NAME, f"{count} nodes write tensor {quote(name)}", hint="tensor names must be unique"
            )
    for name, count in Counter(i.name for i in graph.input).items():
        if count > 1:
            yield Problem(Code.DUPLICATE_NAME, f"{count} inputs are named {quote(name)}", hint="export the model again")
    for name, count in Counter(o.name for o in graph.output).items():
        if count > 1:
            yield Problem(
                Code.DUPLICATE_NAME,
                f"{count} outputs are named {quote(name)}",
                hint="give each output a name of its own",
            )
    given = {t.name for t in graph.initializer} | {i.name for i in graph.input}
    for node in graph.node:
        if not any(node.output):
            yield Problem(
                Code.DAMAGED_MODEL,
                "the node writes no tensor",
                at=Origin(node.name, node.op_type),
                hint="export the model again",
            )
        for name in node.output:
            if name in given:
                yield Problem(
                    Code.DUPLICATE_NAME,
                    f"tensor {quote(name)} is an input or a constant, and a node writes it",
                    at=Origin(node.name, node.op_type),
                    hint="tensor names must be unique",
                )
    known = (
        {o for n in graph.node for o in n.output} | {t.name for t in graph.initializer} | {i.name for i in graph.input}
    )
    for output in graph.output:
        if output.name not in known:
            yield Problem(
                Code.UNDEFINED_TENSOR,
                f"output {quote(output.name)} is produced by no node",
                hint="export the model again",
            )
    for node in graph.node:
        for name in node.input:
            if name and name not in known:
                yield Problem(
                    Code.UNDEFINED_TENSOR,
                    f"input {quote(name)} is produced by no node",
                    at=Origin(node.name, node.op_type),
                    hint="export the model again",
                )
        yield from _branch_problems(node, known)


def _branch_problems(node: onnx.NodeProto, known: set[str]) -> Iterator[Problem]:
    """Names of an If's branches that the graph around has, or that nothing makes."""
    for attribute in node.attribute if node.op_type == "If" and not node.domain else ():
        graph = attribute.g
        own = [t.name for t in graph.initializer] + [o for n in graph.node for o in n.output if o]
        at = Origin(node.name, node.op_type, node.output[0] if node.output else "")
        for name, count in Counter(own).items():
            if count > 1 or name in known:
                yield Problem(
                    Code.DUPLICATE_NAME, f"a branch writes tensor {quote(name)}, which is there already", at=at,
                    hint="tensor names must be unique",
                )  # fmt: skip
        inside = known | set(own)
        for name in [*(o.name for o in graph.output), *(i for n in graph.node for i in n.input)]:
            if name and name not in inside:
                yield Problem(
                    Code.UNDEFINED_TENSOR,
                    f"input {quote(name)} of a branch is produced by no node",
                    at=at,
                    hint="export the model again",
                )
        for inner in graph.node:
            yield from _branch_problems(inner, inside)


def _tensor_problems(tensor: onnx.TensorProto, external: ExternalData) -> Iterator[Problem]:
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        found = external.take_in(tensor)
        if found is not None:
            yield found
            return
    count = element_count(tuple(tensor.dims))
    declared = f"tensor {quote(tensor.name)} declares shape {list(tensor.dims)[:8]}"
    if min(tensor.dims, default=0) < 0:
        yield Problem(Code.LYING_TENSOR, f"{declared}, with a negative size", hint="export the model again")
        return
    if tensor.raw_data:
        width = _WIDTH_BYTES.get(tensor.data_type)
        if width is not None and count * width != len(tensor.raw_data):
            yield Problem(
                Code.LYING_TENSOR,
                f"{declared} but holds {len(tensor.raw_data)} bytes",
                hint="export the model again",
            )
            return
    elif tensor.data_type == onnx.TensorProto.FLOAT and count != len(tensor.float_data):
        yield Problem(
            Code.LYING_TENSOR,
            f"{declared} but holds {len(tensor.float_data)} numbers",
            hint="export the model again",
        )
        return
    try:
        onnx.numpy_helper.to_array(tensor)
    except Exception as e:  # each element type fails in its own way
        yield Problem(
            Code.DAMAGED_MODEL, f"tensor {quote(tensor.name)} cannot be read: {e}", hint="export the model again"
        )
