"""What a compile and an inspection end with: the layer table, totals, files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from pefslc.analysis.limits import TargetLimits
from pefslc.console.columns import Column, print_columns
from pefslc.console.float_distance import against_model
from pefslc.driver.program import Program
from pefslc.ir.graph import Graph, GraphInput, GraphOutput, OutputMap
from pefslc.ir.integer import Requantize
from pefslc.numeric.choose_format import AutoFormat
from pefslc.numeric.float32_ties import float32_ties
from pefslc.numeric.format import FixedPoint
from pefslc.passes.check_format import describe
from pefslc.reports.layer_report import LayerRow, exact_to, layer_name
from pefslc.verification.outcome import Verification

__all__ = ["print_inspection", "print_layers", "print_summary"]

_SHOWN = 3  # layers that one note names
_CYCLES = "modelled\ncycles"
# In a terminal that is too narrow for all columns.
_DROPPED_FIRST = ("op", "weight", "in", "MACs", "shape", "out", _CYCLES)


def print_summary(
    program: Program,
    verification: Verification | None,
    written: Sequence[Path],
    fmt: FixedPoint | AutoFormat | None,
    seconds: float,
) -> None:
    """The end of a compile."""
    print_layers(program.layers, reference=exact_to(program.quantized_to, program.lowered.changing_passes))
    proved = program.verdict
    print(_totals(program.layers, program.emission.cycles, f"{proved}{against_model(program, verification)}"))
    for note in (*(f"note: {note}" for note in program.notes), *program.emission.notes):
        print(note)
    print(_ties_text(program.graph), end="")
    if isinstance(fmt, FixedPoint):
        also = "" if fmt.quantization.signed else ", or signed with the same width and step"
        print(f"format {fmt.describe()}{also}")
    native = program.emission.native
    if native is not None:
        print(
            f"native {native} arithmetic: each product rounds to 2^-{native.fraction_bits}, each sum saturates; "
            "bounded, not exact: --verify measures the error"
        )
    for output in program.graph.outputs:
        if output.function is not None:
            by = program.emission.functions.get(output.name, f"the host computes {output.function}")
            print(f"output {output.name}: the codes are those before the end; {by}")
    for row in program.layers:
        if row.may_overflow and native is None:
            print(f"warning: {row.layer} may overflow: {row.accumulator_bits} bits, {row.available_bits} there")
    for row in program.layers:
        for deviations in row.deviations:
            print(f"bounded: {row.layer}: {deviations}")
    if verification is not None:
        print(verification)
    print(f"wrote {_count(len(written), 'file')} into {written[-1].parent} in {seconds:.1f} s")
    for path in written:
        print(f"  {path.name}")


def _function_text(output: GraphOutput) -> str:
    return "" if output.function is None else f"; the host computes {output.function}"


def _host_text(graph_input: GraphInput) -> str:
    """What the host makes of an input."""
    assert graph_input.quantizer is not None
    if graph_input.is_codes:
        return f"the {graph_input.integers} of the file"
    steps = len(graph_input.stages)
    before = f" behind {_count(steps, 'step')} of the host's" if steps else ""
    return f"{describe(graph_input.quantizer.quantization)}{before}"


def _ties_text(graph: Graph) -> str:
    """A line on the quantizers of which many thresholds are ties for float32; nothing without any."""
    quantizers = graph.of_type(Requantize)
    ties = {op: count for op in quantizers if (count := float32_ties(op.staircase))}
    if not ties:
        return ""
    names = [layer_name(op.result.origin) for op in ties]
    shown = ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
    return (
        f"note: {sum(ties.values())} of {sum(op.staircase.steps for op in ties)} thresholds of {shown} are next to "
        "sums that occur: there torch and ONNX Runtime, in float32, may give the next code "
        "(`pefslc explain exactness`)\n"
    )


def print_inspection(graph: Graph, rows: Sequence[LayerRow], limits: TargetLimits | None) -> None:
    """The inputs, layers and outputs of a model."""
    for i in graph.inputs:
        assert i.quantizer is not None
        shape = ",".join(map(str, i.value.type.shape))
        print(f"input  {i.name} [{shape}]: {_host_text(i)}")
    for o in graph.outputs:
        assert o.map is not None
        shape, codes = ",".join(map(str, o.value.type.shape)), o.value.type.codes
        print(
            f"output {o.name} [{shape}]: codes {codes.low} to {codes.high}, value = {_map_text(o.map)}"
            + _function_text(o)
        )
    print()
    print_layers(rows)
    print(_totals(rows))
    if limits is not None:
        over = [r for r in rows if r.may_overflow]
        verdict = "every sum fits" if not over else f"{_count(len(over), 'layer')} may overflow"
        if over and limits.splits_sums:
            verdict = f"{_count(len(over), 'layer')} with wider sums, which are made of several where there is a way"
        print(f"{limits.accumulator_name}, {limits.accumulator_bits} bits: {verdict}")


def _map_text(output_map: OutputMap) -> str:
    def one(name: str, numbers: Sequence[object], values: list[float]) -> str:
        return f"{name} per channel" if len(set(numbers)) > 1 else f"{values[0]:g}"

    scale = one("scale", output_map.scale, [float(s) for s in output_map.scale])
    if not any(output_map.offset):
        return f"code * {scale}"
    return f"code * {scale} + {one('offset', output_map.offset, [float(o) for o in output_map.offset])}"


def print_layers(rows: Sequence[LayerRow], console: Console | None = None, reference: str = "the file") -> None:
    """The layer table. `reference`: what "exact" means, as `exact_to` has it."""
    print_columns(_columns(rows, reference), _DROPPED_FIRST, console)
    print()


def _columns(rows: Sequence[LayerRow], reference: str) -> list[Column]:
    columns = [
        Column("layer", [Text(r.layer) for r in rows]),
        Column("op", [Text(r.op) for r in rows]),
        Column("shape", [Text("x".join(map(str, r.shape[1:]))) for r in rows]),
        Column("in", [Text(r.input) for r in rows]),
        Column("weight", [Text(r.weight) for r in rows]),
        Column("out", [Text(r.output) for r in rows]),
        Column("acc bits", [_bits(r) for r in rows], right=True),
    ]
    if any(r.implementation for r in rows):
        cells = [Text("exact") if r.exact else Text("bounded", "yellow") for r in rows]
        columns.append(Column(f"to {reference}".replace(" file", "\nfile").replace(" model", "\nmodel"), cells))
    columns.append(Column("MACs", [Text(f"{r.macs:,}" if r.macs else "") for r in rows], right=True))
    if any(r.cycles is not None for r in rows):
        cells = [Text("" if r.cycles is None else f"{r.cycles:,}") for r in rows]
        columns.append(Column(_CYCLES, cells, right=True))
    return columns


def _bits(row: LayerRow) -> Text:
    if row.accumulator_bits is None:
        return Text("")
    there = "" if row.available_bits is None else f"/{row.available_bits}"
    return Text(f"{row.accumulator_bits}{there}", "bold red" if row.may_overflow else "")


def _totals(rows: Sequence[LayerRow], cycles: int | None = None, proved: str = "") -> str:
    macs = sum(r.macs for r in rows)
    parts = [_count(len(rows), "layer"), f"{macs / 1e6:,.2f} MMAC" if macs >= 10_000 else _count(macs, "MAC")]
    if cycles is not None:
        parts.append(f"{cycles:,} modelled cycles")
    widest = max((r.accumulator_bits or 0 for r in rows), default=0)
    parts.append(f"widest accumulator {widest} bits")
    if proved and (not rows or any(r.implementation for r in rows)):
        parts.append(proved)
    return ", ".join(parts)


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
