"""What a compile and an inspection end with: the layer table, totals, files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pefslc.compiler import Program
from pefslc.ir.graph import Graph, OutputMap
from pefslc.limits import TargetLimits
from pefslc.numeric.format import FixedPoint
from pefslc.passes.check_format import describe
from pefslc.report import LayerRow, verdict
from pefslc.verification import Verification

__all__ = ["print_inspection", "print_summary"]

_WIDTH = 100


def print_summary(
    program: Program,
    verification: Verification | None,
    written: Sequence[Path],
    fmt: FixedPoint | None,
    seconds: float,
) -> None:
    """The end of a compile."""
    _console().print(_table(program.layers))
    print(_totals(program.layers, program.emission.cycles, program.lowered.bounded_passes))
    for note in program.emission.notes:
        print(note)
    if fmt is not None:
        print(f"format {fmt.describe()}")
    for row in program.layers:
        if row.may_overflow:
            print(f"warning: {row.layer} may overflow: {row.accumulator_bits} bits, {row.available_bits} there")
    if verification is not None:
        print(verification)
    folder = written[-1].parent
    names = ", ".join(p.name for p in written)
    print(f"wrote {names} into {folder} in {seconds:.1f} s")


def print_inspection(graph: Graph, rows: Sequence[LayerRow], limits: TargetLimits | None) -> None:
    """The inputs, layers and outputs of a model."""
    for i in graph.inputs:
        assert i.quantizer is not None
        shape = ",".join(map(str, i.value.type.shape))
        print(f"input  {i.name} [{shape}]: {describe(i.quantizer.quantization)}")
    for o in graph.outputs:
        assert o.map is not None
        shape, codes = ",".join(map(str, o.value.type.shape)), o.value.type.codes
        print(f"output {o.name} [{shape}]: codes {codes.low} to {codes.high}, value = {_map_text(o.map)}")
    _console().print(_table(rows))
    print(_totals(rows))
    if limits is not None:
        over = [r for r in rows if r.may_overflow]
        verdict = "every sum fits" if not over else f"{_count(len(over), 'layer')} may overflow"
        print(f"{limits.accumulator_name}, {limits.accumulator_bits} bits: {verdict}")


def _map_text(output_map: OutputMap) -> str:
    def one(name: str, numbers: Sequence[object], values: list[float]) -> str:
        return f"{name} per channel" if len(set(numbers)) > 1 else f"{values[0]:g}"

    scale = one("scale", output_map.scale, [float(s) for s in output_map.scale])
    if not any(output_map.offset):
        return f"code * {scale}"
    return f"code * {scale} + {one('offset', output_map.offset, [float(o) for o in output_map.offset])}"


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """For cli.run to answer; rich would end the process with status 1."""
        raise BrokenPipeError


def _console() -> Console:
    console = _Console(highlight=False, soft_wrap=False)
    return console if console.is_terminal and console.width < _WIDTH else _Console(highlight=False, width=_WIDTH)


def _table(rows: Sequence[LayerRow]) -> Table:
    cycles = any(r.cycles is not None for r in rows)
    targeted = any(r.implementation for r in rows)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for header, right in (
        ("layer", False),
        ("op", False),
        ("shape", False),
        ("in", False),
        ("weight", False),
        ("out", False),
        ("acc bits", True),
        *((("", False),) if targeted else ()),
        ("MACs", True),
        *((("cycles", True),) if cycles else ()),
    ):
        table.add_column(header, justify="right" if right else "left", overflow="ellipsis", no_wrap=True)
    for row in rows:
        needed = "" if row.accumulator_bits is None else str(row.accumulator_bits)
        there = f"/{row.available_bits}" if needed and row.available_bits is not None else ""
        table.add_row(
            Text(row.layer),
            row.op,
            "x".join(map(str, row.shape[1:])),
            row.input,
            row.weight,
            row.output,
            Text(needed + there, style="bold red" if row.may_overflow else ""),
            *((Text("exact" if row.exact else "bounded", style="" if row.exact else "yellow"),) if targeted else ()),
            f"{row.macs:,}" if row.macs else "",
            *((f"{row.cycles:,}" if row.cycles is not None else "",) if cycles else ()),
        )
    return table


def _totals(rows: Sequence[LayerRow], cycles: int | None = None, bounded_passes: Sequence[str] = ()) -> str:
    macs = sum(r.macs for r in rows)
    parts = [_count(len(rows), "layer"), f"{macs / 1e6:.2f} MMAC"]
    if cycles is not None:
        parts.append(f"{cycles:,} modelled cycles")
    widest = max((r.accumulator_bits or 0 for r in rows), default=0)
    parts.append(f"widest accumulator {widest} bits")
    if any(r.implementation for r in rows):
        parts.append(verdict(rows, bounded_passes))
    return ", ".join(parts)


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
