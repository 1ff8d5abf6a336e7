"""The formats that the compiler gave to a float network, by the names of the network's own modules.

program = pefslc.compile(net, target="c", fmt="auto:4", example=x, calibrate=x.numpy())
quantized = with_quantizers(net, formats_of(net, program.lowered.reference))

The quantized network computes what the program does, but for the rounding of single weights, and can be trained.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from torch import nn

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, Origin, Problem, quote
from pefslc.ir.graph import Graph
from pefslc.ir.quantized import Constant, Conv, Linear, Quantize
from pefslc.ir.value import TensorType, Value
from pefslc.numeric.format import FixedPoint, Quantization
from pefslc.train.quantizers import fixed_point

__all__ = ["TensorFormats", "formats_of", "module_of", "uniform_formats"]

_PARTS = ("weights", "biases", "results")
_NEVER_NEGATIVE = (nn.ReLU, nn.ReLU6)
_LAYERS = (nn.Conv1d, nn.Conv2d, nn.Linear)
_MOST_BIAS_BITS = 24  # what float32 holds
_HINT = "formats_of takes the network that was compiled, and program.lowered.reference of a float network"


@dataclass(frozen=True, slots=True)
class TensorFormats:
    """The format of each tensor of a network that is stored.

    input    of the network's input
    weights  module -> format of its weights
    biases   module -> format of its bias, for those that have one: the grid of the accumulator
    results  module -> format of what it hands on: activations mostly; a layer whose sum is stored without one
    """

    input: FixedPoint
    weights: Mapping[str, FixedPoint] = field(default_factory=dict)
    biases: Mapping[str, FixedPoint] = field(default_factory=dict)
    results: Mapping[str, FixedPoint] = field(default_factory=dict)

    @property
    def bits(self) -> int:
        """The most that the input, a weight or a result has."""
        return max(f.bits for f in (self.input, *self.weights.values(), *self.results.values()))

    def to_json(self) -> dict[str, str | dict[str, str]]:
        """Formats by their names: {"input": "Q2.2", "weights": {"conv": "Q-2.6"}, "results": {"relu": "UQ1.3"}...}."""
        parts = {name: {module: str(f) for module, f in getattr(self, name).items()} for name in _PARTS}
        return {"input": str(self.input), **parts}

    @classmethod
    def from_json(cls, content: Mapping[str, object]) -> TensorFormats:
        """What `to_json` made. Raises CompileError."""
        try:
            parts = {}
            for name in _PARTS:
                part = content[name]
                if not isinstance(part, Mapping):
                    raise ValueError(f"{name} is no mapping")
                parts[name] = {str(module): FixedPoint.parse(str(f)) for module, f in part.items()}
            return cls(FixedPoint.parse(str(content["input"])), **parts)
        except (KeyError, ValueError, TypeError) as e:
            raise CompileError(
                Code.TENSOR_FORMATS, f"the formats of tensors cannot be read: {e}", hint="write them with to_json()"
            ) from None


def formats_of(network: nn.Module, quantized: Graph) -> TensorFormats:
    """The formats that `--fmt` gave to `network`.

    quantized   what became of it: `program.lowered.reference`

    Raises CompileError for a graph of another network, for scales that are no powers of two, and for a sum that is
    stored and that no module hands on: its quantizer would have no place.
    """
    search = _Search(network, quantized)
    for op in quantized.ops:
        if isinstance(op, Conv | Linear):
            search.layer(op)
        elif isinstance(op, Quantize) and op.channel_axis == 1:
            search.stored(op)
    return search.result()


def uniform_formats(network: nn.Module, fmt: str | FixedPoint) -> TensorFormats:
    """Qm.n for the input and all weights, and for what activations hand on; UQm.n, the same bits, after a ReLU.

    These are the formats of `fixed_point`. Raises CompileError for what is not a signed format of 2 to 24 bits.
    """
    q = fixed_point(fmt)
    unsigned = FixedPoint(q.format.integer_bits, q.format.fraction_bits, signed=False)
    modules = dict(network.named_modules())
    layers = {name: m for name, m in modules.items() if isinstance(m, _LAYERS)}
    return TensorFormats(
        q.format,
        dict.fromkeys(layers, q.format),
        {name: q.bias_format for name, m in layers.items() if m.bias is not None},
        {
            name: unsigned if isinstance(m, _NEVER_NEGATIVE) else q.format
            for name, m in modules.items()
            if isinstance(m, (*_NEVER_NEGATIVE, nn.LeakyReLU, nn.Hardtanh))
        },
    )


class _Search:
    def __init__(self, network: nn.Module, graph: Graph) -> None:
        self.modules = {name: m for name, m in network.named_modules() if name}
        self.inputs = {i.value.name for i in graph.inputs}
        self.graph = graph
        self.constants = {op.result.name: op for op in graph.of_type(Constant)}
        self.input: set[FixedPoint] = set()
        self.weights: dict[str, FixedPoint] = {}
        self.biases: dict[str, FixedPoint] = {}
        self.results: dict[str, FixedPoint] = {}
        self.problems: list[Problem] = []

    def layer(self, op: Conv | Linear) -> None:
        name = self.place(self.weights, op.weight, op.result.origin, _format(op.weight.type), _LAYERS)
        if op.bias is not None and name is not None:
            values = self.constants[op.bias.name].data.data
            largest = float(np.abs(values).max(initial=0.0))
            fmt = _bias_format(self.weights[name], _format(op.input.type), largest)
            known = self.biases.setdefault(name, fmt or self.weights[name])
            if fmt is None or known.fraction_bits != fmt.fraction_bits:
                self.problems.append(_unplaced(op.bias, op.result.origin, fmt))

    def stored(self, op: Quantize) -> None:
        fmt = _format(op.result.type)
        if op.input.name in self.inputs:
            self.input.update(() if fmt is None else (fmt,))
        else:
            self.place(self.results, op.result, op.input.origin, fmt, (nn.Module,))

    def place(
        self,
        where: dict[str, FixedPoint],
        value: Value,
        origin: Origin | None,
        fmt: FixedPoint | None,
        kinds: tuple[type, ...],
    ) -> str | None:
        """Note the format under the name of the module that made the value, and return the name."""
        name = module_of(origin, self.modules, kinds)
        if fmt is None or name is None or where.setdefault(name, fmt) != fmt:
            self.problems.append(_unplaced(value, origin, fmt))
            return None
        return name

    def result(self) -> TensorFormats:
        if self.problems:
            raise CompileError.of(self.problems)
        if len(self.input) != 1:
            raise CompileError(
                Code.TENSOR_FORMATS, "the graph has no single format of its input", at=self.graph.name, hint=_HINT
            )
        return TensorFormats(next(iter(self.input)), self.weights, self.biases, self.results)


def _bias_format(weight: FixedPoint, input: FixedPoint | None, largest: float) -> FixedPoint | None:
    """The grid of the accumulator, with the integer bits of a product, or room for twice the largest bias.

    Where that takes more bits than float32 holds, the grid is coarser.
    """
    if input is None:
        return None
    needed = math.frexp(largest)[1] + 2  # one for the sign, one to double
    integer_bits = max(weight.integer_bits + input.integer_bits, needed)
    fraction_bits = min(weight.fraction_bits + input.fraction_bits, _MOST_BIAS_BITS - integer_bits)
    return FixedPoint(integer_bits, fraction_bits)


def _format(tensor: TensorType) -> FixedPoint | None:
    return tensor.element.fixed_point if isinstance(tensor.element, Quantization) else None


def _unplaced(value: Value, origin: Origin | None, fmt: FixedPoint | None) -> Problem:
    what = f"the format {fmt} of {quote(value.name)}" if fmt is not None else f"{quote(value.name)}, which has no Qm.n,"
    return Problem(Code.TENSOR_FORMATS, f"{what} belongs to no module of the network", at=origin, hint=_HINT)


def module_of(origin: Origin | None, modules: Mapping[str, nn.Module], kinds: tuple[type, ...]) -> str | None:
    """The module without children that made a node of the exported file."""
    if origin is None:
        return None
    for name in _paths([part for part in origin.node.split("/")[:-1] if part]):
        module: nn.Module = modules.get(name)
        if isinstance(module, kinds) and not list(nn.Module.children(module)):
            return name
    return None


def _paths(scopes: list[str]) -> Iterator[str]:
    """What the scopes of a node can mean: torch writes `/blocks/blocks.0/conv` for the module `blocks.0.conv`.

    A scope that begins with the one before it and a point is an element of it, unless a child has that very name.
    """
    if not scopes:
        return
    *before, last = scopes
    if not before:
        yield last
        return
    if last.startswith(f"{before[-1]}."):
        yield from (path + last.removeprefix(before[-1]) for path in _paths(before))
    yield from (f"{path}.{last}" for path in _paths(before))
