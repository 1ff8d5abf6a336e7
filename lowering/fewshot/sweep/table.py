"""The table of a sweep: as text, Markdown and CSV, and everything as JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from pefslc.artifacts.sidecar import JsonObject
from pefslc.diagnostics.text_table import plain_table
from pefslc.fewshot.episodes.intervals import Estimate
from pefslc.fewshot.sweep.cells import Cell
from pefslc.fewshot.sweep.rows import Result, Row, fronts
from pefslc.fewshot.sweep.setting import Setting

__all__ = ["to_csv", "to_json", "to_markdown", "to_text"]

Milliseconds = Mapping[str, float]

_NONE = "-"
_NOT_MEASURED: Milliseconds = {}
_EQUAL_CYCLES = (
    "Fewer bits do not save cycles on the TCU, whose array multiplies words of one width: they save bits of the "
    "accumulator and bytes of the C. Pruned channels save cycles."
)


def to_text(rows: Sequence[Row], setting: Setting, milliseconds: Milliseconds = _NOT_MEASURED) -> str:
    """Aligned with spaces, with what it was measured on below, and the Pareto fronts.

    milliseconds  of the C, by the labels of rows
    """
    header, cells = _table(rows, milliseconds)
    right = frozenset(range(1, len(header) - 1))
    return "\n".join([plain_table(header, cells, right), "", *_notes(rows, setting, milliseconds), ""])


def to_markdown(rows: Sequence[Row], setting: Setting, milliseconds: Milliseconds = _NOT_MEASURED) -> str:
    """The same for a page."""
    header, cells = _table(rows, milliseconds)
    lines = ["| " + " | ".join(line) + " |" for line in (header, ["---"] * len(header), *map(_escaped, cells))]
    return "\n".join([*lines, "", *(f"{note}  " for note in _notes(rows, setting, milliseconds)), ""])


def to_csv(rows: Sequence[Row], milliseconds: Milliseconds = _NOT_MEASURED) -> str:
    """A line for each row and number of shots, numbers as they are: accuracies 0 to 1, half widths of 95 %."""
    boards = _boards(rows)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(
        (
            "label", "method", "format", "bits", "distill", "prune", "seeds", "status", "shots", "accuracy",
            "half_width", "seed_sd", "difference", "difference_half_width", "float_ncm", "ties", "constant_bytes",
            "arena_bytes", "macs", "accumulator_bits", "exact", "c_milliseconds",
            *(f"modelled_cycles_{board}" for board in boards), "head", "reason",
        )
    )  # fmt: skip
    for row in rows:
        c = row.c or {}
        costs: list[object] = [
            c.get(n, "") for n in ("constant_bytes", "arena_bytes", "macs", "accumulator_bits", "exact")
        ]
        costs += [_or_empty(milliseconds.get(row.label)), *(_or_empty(row.cycles.get(board)) for board in boards)]
        cell = row.cell
        before = [
            row.label, cell.method, cell.fmt, _or_empty(cell.bits), cell.distill, _or_empty(cell.prune),
            " ".join(map(str, row.seeds)), row.status,
        ]  # fmt: skip
        for shots, found in row.shots.items() or [("", None)]:
            accuracy: list[object] = [""] * 7
            if found is not None:
                d = found.difference
                accuracy = [
                    found.accuracy.mean, found.accuracy.half_width, _or_empty(found.spread.sd),
                    "" if d is None else d.mean, "" if d is None else d.half_width, found.float_ncm.mean, found.ties,
                ]  # fmt: skip
            writer.writerow([*before, shots, *accuracy, *costs, "" if found is None else found.head, row.reason])
    return out.getvalue()


def to_json(
    rows: Sequence[Row],
    setting: Setting,
    results: Sequence[tuple[Cell, str, Result]],
    milliseconds: Milliseconds = _NOT_MEASURED,
) -> str:
    """Everything: the setting, each cell's result with its key and hashes, the rows, the fronts.

    results  (cell, key of its task, result)
    """
    content: JsonObject = {
        "setting": {**setting.to_json(), "data": asdict(setting.data)},  # type: ignore[dict-item]
        "cells": [{"key": key, **result} for _, key, result in results],
        "rows": [{**_row_json(row), "c_milliseconds": milliseconds.get(row.label)} for row in rows],
        "pareto": {
            str(shots): {name: list(labels) for name, labels in fronts(rows, shots).items()}
            for shots in setting.measurement.shots
        },
    }
    return json.dumps(content, indent=1, sort_keys=True) + "\n"


def _row_json(row: Row) -> JsonObject:
    return {
        "label": row.label,
        "seeds": list(row.seeds),
        "status": row.status,
        "reason": row.reason,
        "shots": {str(shots): asdict(found) for shots, found in row.shots.items()},
        "c": None if row.c is None else dict(row.c),
        "modelled_cycles": dict(row.cycles),
    }


def _table(rows: Sequence[Row], milliseconds: Milliseconds) -> tuple[list[str], list[list[str]]]:
    shots = list(dict.fromkeys(n for row in rows for n in row.shots))
    boards = _boards(rows)
    header = ["network"]
    for n in shots:
        header += [f"{n}-shot", f"{n}-shot - float", f"{n}-shot, float NCM"]
    timed = ["C ms"] * bool(milliseconds)
    header += [
        "ties",
        "C constants",
        "C memory",
        *timed,
        "sum bits",
        *(f"{board} cycles" for board in boards),
        "integers",
    ]
    return header, [_cells(row, shots, boards, milliseconds) for row in rows]


def _cells(row: Row, shots: Sequence[int], boards: Sequence[str], milliseconds: Milliseconds) -> list[str]:
    line = [row.label]
    for n in shots:
        found = row.shots.get(n)
        if found is None:
            line += [row.status, _NONE, _NONE]
            continue
        sd = "" if found.spread.sd is None else f" (sd {100 * found.spread.sd:.2f})"
        beside = _NONE if row.c is None else f"{100 * found.float_ncm.mean:.2f}"
        line += [f"{_percent(found.accuracy)}{sd}", _difference(found.difference), beside]
    c = row.c
    line.append(f"{100 * max(f.ties for f in row.shots.values()):.2f} %" if row.shots else _NONE)
    line += [_NONE] * 2 if c is None else [f"{c['constant_bytes']} B", f"{c['arena_bytes']} B"]
    if milliseconds:
        line.append(f"{milliseconds[row.label]:.3f}" if row.label in milliseconds else _NONE)
    line.append(_NONE if c is None else str(c["accumulator_bits"]))
    line += [_NONE if row.cycles.get(board) is None else str(row.cycles[board]) for board in boards]
    return [*line, _NONE if c is None else "exact" if c["exact"] else "bounded"]


def _notes(rows: Sequence[Row], setting: Setting, milliseconds: Milliseconds) -> list[str]:
    m, data = setting.measurement, setting.data
    seeds = sorted({seed for row in rows for seed in row.seeds})
    heads = dict.fromkeys(found.head for row in rows for found in row.shots.values())
    notes = [
        f"{data.source} {data.size} x {data.size} ({setting.data_digest[:12]}), {m.split} split; "
        f"{m.ways}-way, {m.queries} queries, {m.episodes} episodes of seed {m.seed}, the same for all",
        f"accuracy in %, +- 95 % of episodes, not of trainings; mean of training seed{'s' * (len(seeds) > 1)} "
        f"{', '.join(map(str, seeds))}; differences are paired, in points",
        f"heads: {'; '.join(heads) or _NONE}",
    ]
    notes += [f"{row.label}: {row.status}: {row.reason}" for row in rows if row.reason]
    if _boards(rows):
        notes.append(f"Cycles are modelled. {_EQUAL_CYCLES}")
    if milliseconds:
        notes.append("C ms: of one picture on this machine, one thread; another run measures another time")
    measured = [n for row in rows for n in row.shots]
    if measured:
        n = max(measured)
        notes += [f"Pareto front, {n}-shot against {name}: {'; '.join(f)}" for name, f in fronts(rows, n).items()]
    return notes


def _boards(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(board for row in rows for board in row.cycles))


def _percent(estimate: Estimate) -> str:
    return f"{100 * estimate.mean:.2f} +- {100 * estimate.half_width:.2f}"


def _difference(estimate: Estimate | None) -> str:
    return _NONE if estimate is None else f"{100 * estimate.mean:+.2f} +- {100 * estimate.half_width:.2f}"


def _escaped(cells: Sequence[str]) -> list[str]:
    return [cell.replace("|", "\\|") for cell in cells]


def _or_empty(value: object) -> object:
    return "" if value is None else value
