"""Where a float network gets quantizers: each tensor that is stored between two units."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from enum import Enum

from pefslc.ir.graph import Graph
from pefslc.ir.quantized import (
    Add,
    AveragePool,
    BatchNorm,
    BiasAdd,
    Clip,
    Constant,
    Conv,
    LeakyRelu,
    Linear,
    QuantizedConstant,
    Relu,
    Scaling,
)
from pefslc.ir.structural import Concat, MaxPool, Pad, Reshape, Slice, Structural, Transpose, Upsample
from pefslc.ir.value import Op, Value
from pefslc.numeric.scale import power_of_two_exponent

__all__ = ["quantization_sites", "stored_sources"]


class _State(Enum):
    """What a tensor of the quantized network holds."""

    CODES = "codes"  # what a quantizer made
    SUM = "sum"  # an accumulator: products, additions, sums of a pool
    OPEN = "open"  # an accumulator after functions that only a quantizer can absorb


def quantization_sites(graph: Graph) -> tuple[Value, ...]:
    """The real tensors of a float graph that become codes, in the order in which they are computed.

    They end the units conv [+ batch_norm] [+ add] [+ activation]: a tensor is quantized where a product, a pool or
    something that only moves codes reads it, and where several readers share it. An accumulator that is an output of
    the graph stays one: its values are the most exact that there are.
    """
    search = _Search(graph)
    for op in graph.ops:
        if not isinstance(op, Constant | QuantizedConstant):
            search.visit(op)
    for output in graph.outputs:
        if search.states.get(output.value.name) is _State.OPEN:  # a constant has no state
            search.demand(output.value)
    order = {v.name: i for i, v in enumerate([*(i.value for i in graph.inputs), *(op.result for op in graph.ops)])}
    return tuple(sorted(search.sites.values(), key=lambda value: order[value.name]))


def stored_sources(value: Value, sites: Container[str], producers: Mapping[str, Op]) -> Iterator[str]:
    """The sites whose codes `value` holds: itself, or those that it rearranges or joins."""
    if value.name in sites:
        yield value.name
    elif isinstance(op := producers.get(value.name), Structural):
        for operand in op.operands:
            yield from stored_sources(operand, sites, producers)


class _Search:
    def __init__(self, graph: Graph) -> None:
        self.producers = graph.producers()
        self.readers = graph.reader_counts()
        self.sites: dict[str, Value] = {i.value.name: i.value for i in graph.inputs}
        self.states = dict.fromkeys(self.sites, _State.CODES)

    def visit(self, op: Op) -> None:
        match op:
            case Conv() | Linear() | AveragePool():
                self.demand(op.input)
                state = _State.SUM
            case Add():
                for value in (op.lhs, op.rhs):
                    if self.states.get(value.name) is _State.OPEN and not self.is_multiple(value):
                        self.demand(value)
                state = _State.SUM
            case BatchNorm() | BiasAdd() | Relu() | LeakyRelu() | Clip():
                state = _State.OPEN
            case Reshape():
                state = self.states.get(op.input.name, _State.OPEN)
            case MaxPool() | Pad() | Concat() | Transpose() | Slice() | Upsample():
                for value in op.operands:
                    self.demand(value)
                state = _State.CODES
            case _:  # whatever else there is computes on codes, and its result needs a quantizer
                for value in op.operands:
                    self.demand(value)
                state = _State.OPEN
        self.states[op.result.name] = state
        if self.readers[op.result.name] > 1:
            self.demand(op.result)

    def is_multiple(self, value: Value) -> bool:
        """Whether `value` is 2^e or -2^e times codes or an accumulator: a sum takes that in."""
        producer = self.producers[value.name]
        if not isinstance(producer, Scaling) or self.states.get(producer.input.name) is _State.OPEN:
            return False
        multiple = producer.stage.multiple
        return multiple is not None and power_of_two_exponent(abs(multiple)) is not None

    def demand(self, value: Value) -> None:
        """`value` must be codes: it, or what it rearranges, becomes a site."""
        if self.states.get(value.name, _State.CODES) is _State.CODES:  # a constant has no state
            return
        self.states[value.name] = _State.CODES
        producer = self.producers[value.name]
        if isinstance(producer, Reshape):
            self.demand(producer.input)
        else:
            self.sites[value.name] = value
