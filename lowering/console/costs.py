"""The cost report in a terminal: where the modelled cycles, bytes and memory go."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from pefslc.artifacts.costs import CostReport, LayerCost, MemorySize
from pefslc.console.columns import Column, print_columns
from pefslc.files.staging import write_file

__all__ = ["print_costs", "write_costs"]

_MOST_EXPENSIVE = 3  # layers shown in bold
_BAR = 8  # characters of the most expensive layer's
_CYCLES, _SHARE, _PEAK, _TIME, _INSTRUCTIONS, _MACS = "modelled\ncycles", "%", "of\npeak", "ms", "instr.", "MACs"


def write_costs(report: CostReport, path: Path) -> None:
    """The report as a JSON file. Raises CompileError."""
    write_file(path, (json.dumps(report.to_json(), indent=1, ensure_ascii=True) + "\n").encode())


def print_costs(report: CostReport, console: Console | None = None) -> None:
    """A row for each layer, the most expensive ones in bold, and the totals."""
    rows = [*report.layers, report.total]
    columns = _columns(report, rows, ascii_only=console is not None and console.options.ascii_only)
    print_columns(columns, _dropped_first(report), console, total=True)
    for line in (*_totals(report), ""):
        print(line, file=console.file if console else None)


def _columns(report: CostReport, rows: Sequence[LayerCost], *, ascii_only: bool) -> list[Column]:
    total = report.total
    expensive = sorted(report.layers, key=_weight)[-_MOST_EXPENSIVE:]
    styles = ["bold" if row in expensive or row is rows[-1] else "" for row in rows]

    def numbers(header: str, found: Sequence[int | None]) -> Column:
        cells = [Text(f"{n:,}" if n else "", s) for n, s in zip(found, styles, strict=True)]
        return Column(header, cells, right=True)

    def texts(header: str, found: Sequence[str]) -> Column:
        return Column(header, [Text(t, s) for t, s in zip(found, styles, strict=True)], right=True)

    columns = [Column("layer", [Text(row.layer, s) for row, s in zip(rows, styles, strict=True)])]
    if total.cycles:
        most = max(row.total_cycles or 0 for row in report.layers)
        shares = [100 * (row.total_cycles or 0) / (total.total_cycles or 1) for row in rows]
        bars = [
            round(_BAR * (row.total_cycles or 0) / most) * ("#" if ascii_only else "\u2588") for row in report.layers
        ]
        columns += [
            numbers(_CYCLES, [row.total_cycles for row in rows]),
            texts(_SHARE, [f"{share:.1f}" for share in shares]),
            Column("", [Text(bar) for bar in (*bars, "")]),
            texts(_PEAK, [f"{share:.0%}" if (share := report.peak_share(row)) else "" for row in rows]),
        ]
        if report.clock_mhz is not None:
            columns.append(texts(_TIME, [f"{report.milliseconds(row) or 0:.3f}" for row in rows]))
        columns += [numbers(kind, [row.cycles.get(kind) for row in rows]) for kind in reversed(_kinds(total))]
    else:
        columns.append(numbers(_MACS, [row.macs for row in rows]))
    columns += [texts(_kilobytes(key), [_thousands(row.bytes.get(key)) for row in rows]) for key in _moved(total)]
    columns += [numbers(_peak(m), [row.peaks.get(m.name) for row in rows]) for m in report.memories]
    if total.instructions is not None:
        columns.append(numbers(_INSTRUCTIONS, [row.instructions for row in rows]))
    return columns


def _weight(row: LayerCost) -> int:
    return row.total_cycles if row.total_cycles is not None else row.macs


def _dropped_first(report: CostReport) -> list[str]:
    """What a narrow terminal does without; the layers' cycles stay."""
    memory = [*map(_peak, report.memories), *map(_kilobytes, _moved(report.total))]
    return [_INSTRUCTIONS, *memory, *_kinds(report.total), _MACS, _TIME, _PEAK, "", _SHARE]


def _kinds(total: LayerCost) -> list[str]:
    """What cycles go to, the largest part last."""
    return sorted(total.cycles, key=lambda kind: total.cycles[kind])


def _totals(report: CostReport) -> list[str]:
    total, lines = report.total, []
    if total.total_cycles:
        text = f"{total.total_cycles:,} modelled cycles"
        if (milliseconds := report.milliseconds(total)) is not None:
            text += f", {milliseconds:.3f} ms at {report.clock_mhz:g} MHz"
        if (share := report.peak_share(total)) is not None:
            text += f"; {share:.1%} of the array's peak of {report.peak_macs} MACs a cycle"
        lines.append(text)
        shares = [f"{kind} {total.cycles[kind] / total.total_cycles:.1%}" for kind in reversed(_kinds(total))]
        lines.append("  " + ", ".join(shares))
    used = [f"{key} {_thousands(total.bytes[key])} kB" for key in _moved(total)]
    used += [f"{m.name} {total.peaks.get(m.name, 0):,} of {m.available:,} {m.unit}" for m in report.memories]
    if total.instructions is not None:
        used.append(f"{total.instructions:,} instructions")
    lines.append("  " + ", ".join(used))
    if report.footprint is not None:
        lines += [f"  {line}" for line in report.footprint.lines()]
    return lines


def _moved(total: LayerCost) -> list[str]:
    """The memories whose bytes are worth a column."""
    return [key for key, number in total.bytes.items() if number]


def _kilobytes(key: str) -> str:
    return f"{key}\nkB"


def _peak(memory: MemorySize) -> str:
    return f"{memory.name}\nof {memory.available:,}"


def _thousands(number: int | None) -> str:
    return f"{number / 1000:,.1f}" if number else ""
