"""The layer report: what became of each layer - formats, accumulator bits needed and there, exactness, cost.

One row per operation that computes. What follows it element by element (Requantize, Round, Clamp) belongs to its row;
what only moves data has a row where the target counts cycles for it, everything else where it is not certified.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace

from pefslc.analysis.limits import TargetLimits
from pefslc.artifacts.costs import CostReport, Costs, LayerCost, macs, useful_macs
from pefslc.artifacts.sidecar import JsonObject
from pefslc.diagnostics.errors import Origin, quote
from pefslc.ir.graph import Graph
from pefslc.ir.integer import Clamp, Conv2d, Dense, Lookup, Product, Requantize, Rescale, Round, Sum, SumPool
from pefslc.ir.structural import Concat, MaxPool, Pad, Reshape, Slice, Transpose, Upsample
from pefslc.ir.value import Op, Value
from pefslc.numeric.accumulate import bits_for_range
from pefslc.numeric.deviation import Deviations
from pefslc.numeric.format import FixedPoint, Quantization
from pefslc.numeric.scale import power_of_two_exponent
from pefslc.passes.check_accumulators import accumulator_bits
from pefslc.targets.protocol import OpReport

__all__ = [
    "LayerRow",
    "certified",
    "cost_report",
    "exact_to",
    "format_texts",
    "layer_name",
    "layer_operations",
    "layer_rows",
    "short_format",
    "verdict",
]

_STARTS = Conv2d | Dense | Sum | SumPool | MaxPool | Requantize | Round | Clamp | Lookup | Product
_MOVES = Reshape | Transpose | Pad | Slice | Upsample | Concat


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerRow:
    """One layer.

    accumulator_bits  two's complement width that every partial sum needs; None where nothing is summed
    available_bits    the target's; None without a target, and where it made the sum of several words
    exact             every operation of the row was certified
    deviations        of those that were not, where it is known exactly: the accumulator codes that differ
    cycles            modelled by the target, None where it models none
    """

    layer: str
    op: str
    shape: tuple[int, ...]
    input: str
    weight: str
    output: str
    accumulator_bits: int | None
    available_bits: int | None
    exact: bool
    macs: int
    cycles: int | None
    implementation: str
    deviations: tuple[Deviations, ...] = ()

    @property
    def may_overflow(self) -> bool:
        return (
            self.accumulator_bits is not None
            and self.available_bits is not None
            and self.accumulator_bits > self.available_bits
        )

    def to_json(self) -> JsonObject:
        content = {f.name: getattr(self, f.name) for f in fields(self)}
        content["shape"] = list(self.shape)
        del content["deviations"]
        if self.deviations:
            content["deviations"] = [_deviations_json(d) for d in self.deviations]
        return content


def _deviations_json(deviations: Deviations) -> JsonObject:
    """Every range that differs, by channel: "40 (+1), 97..98 (-1)"."""
    channels = {str(c): ", ".join(map(str, found)) for c, found in deviations.by_channel.items()}
    counts = {"differing": deviations.differing, "codes": deviations.codes, "largest": deviations.largest}
    searched = {} if deviations.searched is None else {"searched": list(deviations.searched)}
    return {**counts, **searched, "channels": channels}


def certified(op: Op, reports: Mapping[str, OpReport]) -> bool:
    """Whether the target says that an operation is exact. Of what only moves data it need not speak."""
    report = reports.get(op.result.name)
    return isinstance(op, _MOVES) if report is None else report.exact


@dataclass(slots=True)
class _Group:
    """The operations of one row: the first computes, the others follow it element by element."""

    ops: list[Op] = field(default_factory=list)


def layer_rows(
    integer: Graph, quantized: Graph, limits: TargetLimits | None, reports: Mapping[str, OpReport] | None
) -> tuple[LayerRow, ...]:
    """The rows of an integer graph, in order.

    quantized  the graph that it was lowered from: it names the formats
    reports    what the target said about each operation, by its result's name; None before a target lowered it
    """
    formats = _formats(integer, quantized)
    weights = {op.result.name: formats.get(op.operands[1].name) for op in quantized.ops if len(op.operands) > 1}
    rows = []
    for ops in layer_operations(integer, reports):
        first, last = ops[0], ops[-1]
        found = [] if reports is None else [reports[o.result.name] for o in ops if o.result.name in reports]
        cycles = [r.cycles for r in found if r.cycles is not None]
        rows.append(
            LayerRow(
                layer=layer_name(first.result.origin),
                op=type(first).__name__,
                shape=last.result.type.shape,
                input=_format(first.operands[0], formats),
                weight=_weight_format(first, weights),
                output=_format(last.result, formats),
                accumulator_bits=_needed_bits(ops),
                available_bits=None if limits is None or any(r.is_split for r in found) else limits.accumulator_bits,
                exact=reports is None or all(certified(op, reports) for op in ops),
                macs=macs(first),
                cycles=sum(cycles) if cycles else None,
                deviations=tuple(r.deviations for r in found if r.deviations is not None),
                implementation=", ".join(dict.fromkeys(r.implementation for r in found if r.implementation)),
            )
        )
    return tuple(rows)


def layer_operations(integer: Graph, reports: Mapping[str, OpReport] | None) -> tuple[tuple[Op, ...], ...]:
    """The operations of each row of `layer_rows`, in its order: the first computes, the others follow it."""
    return tuple(tuple(group.ops) for group in _groups(integer, reports))


def format_texts(integer: Graph, quantized: Graph) -> dict[str, str]:
    """Value name -> the format of each input and result of an integer graph, as the rows name it."""
    formats = _formats(integer, quantized)
    values = [*(i.value for i in integer.inputs), *(op.result for op in integer.ops)]
    return {value.name: _format(value, formats) for value in values}


def exact_to(quantized_to: str, changing_passes: Sequence[str] = ()) -> str:
    """What "exact" means of a program's layers: the file, or the format by which --fmt made another model of it.

    changing_passes  that made yet another model, and say so: layers are held to that one
    """
    return "the changed model" if changing_passes else quantized_to or "the file"


def verdict(
    rows: Sequence[LayerRow], changing_passes: Sequence[str], quantized_to: str = "", promised: Sequence[str] = ()
) -> str:
    """What a compile proved: "every layer computes exactly what the file says", or what is bounded.

    quantized_to  by which --fmt made another model of the file's: exact is what that model says, not what the file does
    promised      passes of the user's whose word for being exact is all that there is
    """
    bounded = sum(not row.exact for row in rows)
    exactly = f"exactly what {exact_to(quantized_to, changing_passes)} says"
    text = f"every layer computes {exactly}"
    if bounded:
        text = f"{bounded} of {len(rows)} layers bounded, the others compute {exactly}"
    if bounded and bounded == len(rows):
        text = "every layer bounded"
    if promised:
        they = "pass {} keeps its" if len(promised) == 1 else "passes {} keep their"
        text += f", if {they.format(_quoted(promised))} promise (--check-passes compares)"
    if not changing_passes:
        return text
    names = _quoted(changing_passes)
    which = f"pass {names} is" if len(changing_passes) == 1 else f"passes {names} are"
    who = "it" if len(changing_passes) == 1 else "they"
    return f"not what {exact_to(quantized_to)} says: {which} not exact, and {who} changed the model; {text}"


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(quote(name) for name in names)


def _groups(graph: Graph, reports: Mapping[str, OpReport] | None) -> list[_Group]:
    consumers = graph.consumers()
    group_of: dict[str, _Group] = {}
    groups: list[_Group] = []
    for op in graph.ops:
        source = op.operands[0].name if op.operands else ""
        if isinstance(op, Requantize | Round | Clamp | Lookup) and source in group_of and len(consumers[source]) == 1:
            group = group_of[source]
        elif isinstance(op, _STARTS) or (
            reports is not None
            and (not certified(op, reports) or (op.result.name in reports and reports[op.result.name].cycles))
        ):
            group = _Group()
            groups.append(group)
        else:
            continue
        group.ops.append(op)
        group_of[op.result.name] = group
    return groups


def cost_report(
    integer: Graph,
    reports: Mapping[str, OpReport],
    costs: Costs,
    target: str,
) -> CostReport:
    """What the target said about the parts of its program, under the names of the layer table, in its order.

    reports  as for `layer_rows`
    """
    ops = {op.result.name: op for op in integer.ops}
    layer_of = {op.result.name: g.ops[0].result.origin for g in _groups(integer, reports) for op in g.ops}
    layers = []
    for part in costs.parts:
        done = [ops[name] for name in part.ops]
        origins = [layer_of[name] for name in part.ops if name in layer_of] or [op.result.origin for op in done[:1]]
        names = dict.fromkeys(layer_name(origin) for origin in origins)
        layers.append(
            LayerCost(
                layer=" + ".join(names) or part.what,
                nodes=tuple(dict.fromkeys(op.result.origin.node for op in done if op.result.origin.node)),
                macs=sum(map(macs, done)),
                useful_macs=sum(map(useful_macs, done)),
                cycles=part.cycles,
                bytes=part.bytes,
                peaks=part.peaks,
                instructions=part.instructions,
            )
        )
    return CostReport(
        model=integer.name,
        target=target,
        arch=costs.arch,
        layers=tuple(layers),
        memories=costs.memories,
        peak_macs=costs.peak_macs,
        clock_mhz=costs.clock_mhz,
        footprint=costs.footprint,
    )


def layer_name(origin: Origin) -> str:
    """The module path without what the exporter added: /blocks/blocks.0/c1/conv/Conv is blocks.0/c1/conv."""
    parts = [p for p in origin.node.split("/") if p]
    if len(parts) > 1 and parts[-1].rstrip("0123456789_").lower() == origin.op_type.lower():
        parts.pop()
    for handler in [i for i, p in enumerate(parts) if p.startswith(("act_quant", "export_handler"))][:1]:
        parts = parts[:handler] or parts
    kept = [p for p, following in zip(parts, [*parts, ""][1:], strict=True) if not following.startswith(f"{p}.")]
    name = "/".join(kept) or origin.tensor or origin.op_type
    return "".join(c if c.isprintable() else "?" for c in name)


def _formats(integer: Graph, quantized: Graph) -> dict[str, Value]:
    """Value name -> the value that names its format."""
    formats = {op.result.name: op.result for op in quantized.ops}
    for i in integer.inputs:
        if i.quantizer is not None:
            codes, own = i.value.type.codes, i.quantizer.quantization  # the host's may be of what stands before
            formats[i.value.name] = _with_element(i.value, replace(own, scale=codes.scale, zero_point=codes.zero_point))
    return formats


def _with_element(value: Value, quantization: Quantization) -> Value:
    return Value(value.name, type(value.type)(value.type.shape, quantization), value.origin)


def _format(value: Value, formats: Mapping[str, Value]) -> str:
    known = formats.get(value.name)
    if known is not None and isinstance(known.type.element, Quantization):
        return short_format(known.type.element)
    codes = value.type.codes
    bits = bits_for_range(codes.low, codes.high)
    exponent = None if codes.scale.per_channel else power_of_two_exponent(codes.scale.step)
    return f"{bits} bits" if exponent is None else str(FixedPoint(bits + exponent, -exponent))


def short_format(quantization: Quantization) -> str:
    """Qm.n, or the width: "s8" signed, "u8" unsigned, "/ch" with a scale per channel."""
    fixed = quantization.fixed_point
    if fixed is not None:
        return str(fixed)
    return f"{'s' if quantization.signed else 'u'}{quantization.bits}{'/ch' if quantization.scale.per_channel else ''}"


def _weight_format(op: Op, weights: Mapping[str, Value | None]) -> str:
    if not isinstance(op, Conv2d | Dense):
        return ""
    weight = weights.get(op.result.name)
    if weight is not None and isinstance(weight.type.element, Quantization):
        return short_format(weight.type.element)
    data = op.weight.data
    return f"{bits_for_range(int(data.min(initial=0)), int(data.max(initial=0)))} bits"


def _needed_bits(ops: Sequence[Op]) -> int | None:
    needed = [accumulator_bits(op) for op in ops if isinstance(op, Conv2d | Dense | Sum | SumPool | Rescale)]
    return max(needed, default=None)
