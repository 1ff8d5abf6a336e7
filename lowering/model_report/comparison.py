"""Two reports, compared: what became faster, smaller, wider, less exact. Both are JSON, of this or of another model."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pefslc.artifacts.sidecar import Json, JsonObject
from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, quote
from pefslc.files.reading import read_file
from pefslc.model_report.model import REPORT_FORMAT

__all__ = ["PAGE_DATA", "Change", "Comparison", "LayerChange", "compare", "read_report"]

_Report = Mapping[str, Any]
_Footprint = Mapping[str, Any] | None

# Where a page holds its report; the JSON in it has no "<".
PAGE_DATA = '<script type="application/json" id="report-data">'
_PAGE = re.compile(re.escape(PAGE_DATA).encode() + rb"(.*?)</script>", re.DOTALL)
_FORMATS = ("input", "weight", "output")
_WIDTH = re.compile(r"(U?)Q(-?\d+)\.(-?\d+)|[su]?(\d+)(?: bits|/ch)?")


@dataclass(frozen=True, slots=True)
class Change:
    """A number in both reports. `better` is "less" or "more"."""

    name: str
    unit: str
    before: float
    after: float
    better: str

    @property
    def verdict(self) -> str:
        """ "better", "worse" or "same"."""
        if self.before == self.after:
            return "same"
        return "better" if (self.after < self.before) == (self.better == "less") else "worse"

    @property
    def ratio(self) -> float | None:
        """after / before; None from 0."""
        return self.after / self.before if self.before else None

    def to_json(self) -> JsonObject:
        return {
            "name": self.name,
            "unit": self.unit,
            "before": self.before,
            "after": self.after,
            "better": self.better,
            "verdict": self.verdict,
        }


@dataclass(frozen=True, slots=True)
class LayerChange:
    """What changed of a layer that is in both, in words, each with whether it is "better", "worse" or "other"."""

    layer: str
    changes: tuple[tuple[str, str], ...]

    def to_json(self) -> JsonObject:
        return {"layer": self.layer, "changes": [{"text": text, "verdict": verdict} for text, verdict in self.changes]}


@dataclass(frozen=True, slots=True)
class Comparison:
    """This report against another one.

    other            what that is of: "resnet20 on tensil (custom_perf)"
    totals           of the whole programs, those that both know
    layers           the layers of both that changed
    added, removed   layers that are in one report alone
    """

    other: str
    totals: tuple[Change, ...]
    layers: tuple[LayerChange, ...]
    added: tuple[str, ...]
    removed: tuple[str, ...]

    def to_json(self) -> JsonObject:
        return {
            "other": self.other,
            "totals": [c.to_json() for c in self.totals],
            "layers": [c.to_json() for c in self.layers],
            "added_layers": list(self.added),
            "removed_layers": list(self.removed),
        }


def read_report(path: Path) -> dict[str, Json]:
    """The JSON of a report: a .json file, or a page that holds it. Raises CompileError."""
    content = read_file(path)
    held = _PAGE.search(content)
    try:
        fields = json.loads(content if held is None else held[1])
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict) or "report_format" not in fields:
        raise CompileError(
            Code.NOT_A_REPORT,
            f"{quote(path)} is no report",
            hint="give a .json or .html file that `pefslc report` wrote",
        )
    if fields["report_format"] != REPORT_FORMAT:
        raise CompileError(
            Code.NOT_A_REPORT,
            f"{quote(path)} is a report of format {fields['report_format']}, and this version reads {REPORT_FORMAT}",
            hint="write it again with this version",
        )
    try:
        compare(fields, fields)  # reads all that a comparison reads
    except (LookupError, TypeError, AttributeError):
        raise CompileError(
            Code.NOT_A_REPORT,
            f"{quote(path)} is a report that lacks what every report has",
            hint="it was changed: write it again with `pefslc report`",
        ) from None
    return fields


def compare(report: _Report, other: _Report) -> Comparison:
    """What is different in `report`, from `other` on. Both are of this REPORT_FORMAT."""
    before, after = _by_name(other), _by_name(report)
    both = [name for name in after if name in before]
    layers = [LayerChange(name, tuple(_layer_changes(before[name], after[name]))) for name in both]
    return Comparison(
        _heading(other),
        tuple(_totals(other, report)),
        tuple(layer for layer in layers if layer.changes),
        tuple(name for name in after if name not in before),
        tuple(name for name in before if name not in after),
    )


def _heading(report: _Report) -> str:
    arch = f" ({report['arch']})" if report["arch"] else ""
    fmt = f", {report['quantized_to']}" if report["quantized_to"] else ""
    return f"{report['model']} on {report['target']}{arch}{fmt}"


def _by_name(report: _Report) -> dict[str, dict[str, Any]]:
    """The layers by name; of equal names each further one with its number; with the cycles of its row of the costs."""
    found: dict[str, dict[str, Any]] = {}
    costs = report["costs"]["layers"] if report["costs"] else []
    counted: set[int] = set()
    for layer in report["layers"]:
        name, number = layer["layer"], 2
        while name in found:
            name, number = f"{layer['layer']} ({number})", number + 1
        row = layer["cost_row"]
        cycles = None if row is None or row in counted else costs[row]["modelled_cycles"]
        counted.add(-1 if row is None else row)
        found[name] = {**layer, "cycles_of_row": cycles}
    return found


def _totals(before: _Report, after: _Report) -> Iterator[Change]:
    def both(name: str, unit: str, better: str, a: object, b: object) -> Iterator[Change]:
        if isinstance(a, int | float) and isinstance(b, int | float):
            yield Change(name, unit, a, b, better)

    yield from both("modelled cycles", "", "less", before["modelled_cycles"], after["modelled_cycles"])
    yield from both("modelled time", "ms", "less", before["modelled_milliseconds"], after["modelled_milliseconds"])
    needed = (r["accumulator"]["needed"] for r in (before, after))
    yield from both("widest accumulator", "bits", "less", *needed)
    bounded = (sum(not layer["exact"] for layer in r["layers"]) for r in (before, after))
    yield from both("bounded layers", "", "less", *bounded)
    yield from both("exact (1) or not (0)", "", "more", *(int(r["exact"] is True) for r in (before, after)))
    if before["costs"] and after["costs"]:
        old, new = before["costs"]["total"], after["costs"]["total"]
        there = {memory["name"]: memory["available"] for memory in before["costs"]["memories"]}
        for memory in after["costs"]["memories"]:
            name = memory["name"]
            if memory["unit"] == "bytes":  # all of it is the program's
                yield from both("working memory", "bytes", "less", there.get(name), memory["available"])
            yield from both(f"{name}, at most", memory["unit"], "less", old["peaks"].get(name), new["peaks"].get(name))
        for key in new["bytes"]:
            yield from both(key, "bytes", "less", old["bytes"].get(key), new["bytes"][key])
        yield from both("instructions", "", "less", old["instructions"], new["instructions"])
        yield from _footprint(before["costs"].get("footprint"), after["costs"].get("footprint"), both)
    yield from both("multiply-accumulates", "", "less", before["macs"], after["macs"])
    if before["float_model"] and after["float_model"]:
        old, new = before["float_model"]["outputs"], after["float_model"]["outputs"]
        for name in new:
            noise = (outputs.get(name, {}).get("snr_db") for outputs in (old, new))
            yield from both(f"signal to noise of {name}", "dB", "more", *noise)


def _footprint(before: _Footprint, after: _Footprint, both: Callable[..., Iterator[Change]]) -> Iterator[Change]:
    """Of programs in C. What compilers measured is compared where they are the same, with the same flags."""
    if not before or not after:
        return
    yield from both("RAM without stack", "bytes", "less", *(r["ram_bytes_without_stack"] for r in (before, after)))
    old, new = before["compiled"], after["compiled"]
    if old and new and old["command"] == new["command"]:
        for name, key in (("code", "code_bytes"), ("stack", "stack_bytes")):
            yield from both(name, "bytes", "less", old[key], new[key])


def _layer_changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if before["exact"] != after["exact"]:
        yield ("exact, was bounded", "better") if after["exact"] else ("bounded, was exact", "worse")
    for what in _FORMATS:
        if before[what] != after[what]:
            yield f"{what} {after[what]}, was {before[what]}{_wider(before[what], after[what])}", "other"
    old, new = before["accumulator_bits"], after["accumulator_bits"]
    if old is not None and new is not None and old != new:
        yield f"sums of {new} bits, were {old}", "better" if new < old else "worse"
    old, new = before["cycles_of_row"], after["cycles_of_row"]
    if old is not None and new is not None and old != new:
        more = f"{(new - old) / old:+.1%}" if old else f"{new - old:+,}"
        yield f"{new:,} modelled cycles, were {old:,} ({more})", "better" if new < old else "worse"


def _wider(before: str, after: str) -> str:
    old, new = _bits(before), _bits(after)
    if old is None or new is None or old == new:
        return ""
    return f": {abs(new - old)} bit{'' if abs(new - old) == 1 else 's'} {'wider' if new > old else 'narrower'}"


def _bits(text: str) -> int | None:
    found = _WIDTH.fullmatch(text)
    if found is None:
        return None
    return int(found[4]) if found[4] else int(found[2]) + int(found[3])
