"""The places of a graph that have a format, and the names that an ONNX file has for each."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum

from pefslc.diagnostics.errors import Origin
from pefslc.ir.graph import Graph
from pefslc.ir.quantized import Conv, Elementwise, Linear, Quantize
from pefslc.ir.structural import Reshape, Transpose
from pefslc.ir.value import Op, Value
from pefslc.numeric.format import Quantization
from pefslc.passes.check_format import is_float, quantizer_roles
from pefslc.passes.fold_batch_norm import FoldBatchNorm
from pefslc.passes.quantization_sites import quantization_sites
from pefslc.reports.layer_report import layer_name

__all__ = ["Role", "Slot", "format_slots", "node_names"]


class Role(Enum):
    """What has the format. The value is the key of it in a file of formats."""

    WEIGHTS = "weights"
    ACTIVATIONS = "activations"


@dataclass(frozen=True, slots=True)
class Slot:
    """The weights of a layer, or a tensor that is stored: an input, or the end of a unit of layers.

    key      its name in the graph: of the tensor, of the layer's result, or of the result of the quantizer there is
    tensors  its ONNX tensors, the one that says most first
    origins  the ONNX nodes that it belongs to, the one that makes it first, the one that begins its unit last
    has      its format in a quantized model; None in a float model, and of an input that is left open
    input    the name of the input that it is, else ""
    """

    key: str
    role: Role
    tensors: tuple[str, ...]
    origins: tuple[Origin, ...]
    has: Quantization | None = None
    input: str = ""


def format_slots(graph: Graph) -> tuple[Slot, ...]:
    """The slots of a graph as imported, in its order: inputs, then layer by layer."""
    return tuple(_of_float(graph) if is_float(graph) else _of_quantized(graph))


def node_names(origin: Origin) -> tuple[str, ...]:
    """What a node is called: its ONNX name, and the shorter one of reports."""
    return tuple(dict.fromkeys((origin.node, layer_name(origin)))) if origin.node else ()


def _of_float(graph: Graph) -> Iterator[Slot]:
    folded = FoldBatchNorm().run(graph)
    producers, inputs = graph.producers(), {i.value.name: i.name for i in graph.inputs}
    sites = {value.name: value for value in quantization_sites(folded)}
    stored = {
        value.name: Slot(
            value.name,
            Role.ACTIVATIONS,
            _named(inputs.get(value.name, ""), value.origin.tensor),
            tuple(_unit(value, producers, sites)),
            input=inputs.get(value.name, ""),
        )
        for value in sites.values()
    }
    yield from (slot for name, slot in stored.items() if name in inputs)
    for op in folded.ops:
        name = op.result.name
        if isinstance(op, Conv | Linear):
            *norms, layer = _unit(producers[name].result, producers, ())
            weight = next(o for o in _back(producers[name], producers) if isinstance(o, Conv | Linear)).weight
            tensors = [v.origin.tensor for v in _weight_values(weight, producers)]
            yield Slot(name, Role.WEIGHTS, _named(*reversed(tensors)), (layer, *norms))
        if name in stored:
            yield stored[name]


def _of_quantized(graph: Graph) -> Iterator[Slot]:
    producers, inputs = graph.producers(), {i.value.name: i.name for i in graph.inputs}
    readers = graph.consumers()
    roles = {op.result.name: role for op, role in quantizer_roles(graph)}
    layers: dict[str, list[Origin]] = {}
    values: dict[str, list[str]] = {}
    for op in graph.ops:
        if isinstance(op, Conv | Linear):
            chain = list(_weight_values(op.weight, producers))
            for value in chain:
                layers.setdefault(value.name, []).append(op.result.origin)
                values.setdefault(value.name, [v.origin.tensor for v in reversed(chain)])
    for i in graph.inputs:
        if any(not isinstance(op, Quantize) for op in readers.get(i.value.name, ())):
            yield Slot(i.value.name, Role.ACTIVATIONS, (i.name,), (), input=i.name)
    for op in graph.ops:
        name, element = op.result.name, op.result.type.element
        role = roles.get(name)
        if role is None or not isinstance(element, Quantization):
            continue
        if role == "weight":
            origins = (*layers[name], op.result.origin)
            yield Slot(name, Role.WEIGHTS, _named(*values[name], op.result.origin.tensor), origins, element)
        elif isinstance(op, Quantize):
            source = inputs.get(op.input.name, "")
            tensors = _named(op.result.origin.tensor, source or op.input.origin.tensor)
            unit = _unit(op.input, producers, ())
            yield Slot(name, Role.ACTIVATIONS, tensors, (op.result.origin, *unit), element, source)


def _named(*tensors: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(t for t in tensors if t))


def _unit(value: Value, producers: Mapping[str, Op], stored: Container[str]) -> Iterator[Origin]:
    """The nodes of the unit that ends with `value`, backwards to the one that begins it."""
    if value.name in producers:
        for op in _back(producers[value.name], producers, stored):
            yield op.result.origin


def _back(op: Op, producers: Mapping[str, Op], stored: Container[str] = ()) -> Iterator[Op]:
    """`op`, and what is before it as long as it computes element by element, to the first that does not."""
    while not isinstance(op, Quantize):
        yield op
        if not isinstance(op, Elementwise | Reshape) or op.input.name in stored or op.input.name not in producers:
            return
        op = producers[op.input.name]


def _weight_values(weight: Value, producers: Mapping[str, Op]) -> Iterator[Value]:
    """Weights, and what they are made of, through quantizers and rearrangements."""
    yield weight
    op = producers.get(weight.name)
    if isinstance(op, Quantize | Transpose | Reshape):
        yield from _weight_values(op.input, producers)
