"""Passes run one by one on a graph, each by its name or from a user's file: what `pefslc opt` does."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pefslc.analysis.limits import TargetLimits
from pefslc.analysis.verify import verify
from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, Problem, quote
from pefslc.driver.compiler import load
from pefslc.driver.plugins import installed_passes, load_plugins, require_names_of_their_own
from pefslc.ir.graph import Graph, Level
from pefslc.ir.parse import parse_graph
from pefslc.numeric.format import FixedPoint
from pefslc.passes.check_format import CheckFormat, CheckGivenFormats
from pefslc.passes.input_formats import InputFormats
from pefslc.passes.manager import Difference, Exactness, Pass, PassRecord, differences, run_passes
from pefslc.passes.pipeline import SAID_BY_USER, pipeline, to_integer

__all__ = ["PassRun", "find_passes", "legal_graph", "read_graph", "run_one_by_one"]


@dataclass(frozen=True, slots=True)
class PassRun:
    """What one pass did. `differences` by output, of the graph before it, where they were asked for."""

    record: PassRecord
    differences: Mapping[str, Difference] | None

    @property
    def broken(self) -> bool:
        """Whether the pass says that it is exact, and an output differs."""
        found = (self.differences or {}).values()
        return self.record.exactness is Exactness.EXACT and any(d.differing for d in found)


def read_graph(path: Path) -> Graph:
    """The graph of an .onnx file as imported, or that of an IR text, verified. Raises CompileError."""
    if path.suffix == ".onnx":
        return load(path)
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise CompileError(
            Code.IR_TEXT, f"{quote(path)} is no text", hint="give an .ir file, as --dump-dir writes, or an .onnx file"
        ) from None
    return legal_graph(text)


def legal_graph(text: str) -> Graph:
    """The graph that a text prints. Raises CompileError where it does not parse, or is not legal."""
    graph = parse_graph(text)
    faults = verify(graph)
    if faults:
        raise CompileError.of([Problem(Code.IR_TEXT, f"the graph is not legal: {fault}") for fault in faults])
    return graph


def find_passes(
    names: Iterable[str], limits: TargetLimits, fmt: FixedPoint | None = None, input_fmt: InputFormats = None
) -> tuple[tuple[Pass, ...], ...]:
    """For each name the passes that bear it: ours, those of a .py file, or an installed one. Raises CompileError.

    Of ours, several of one name are of two levels: the graph's decides.
    """
    ours: dict[str, list[Pass]] = {}
    for requantize in (False, True) if fmt is not None else (False,):
        for p in pipeline(limits, fmt=fmt, requantize=requantize, input_fmt=input_fmt):
            if all(type(p) is not type(known) or p.level is not known.level for known in ours.get(p.name, ())):
                ours.setdefault(p.name, []).append(p)
    return tuple(_find(name, ours) for name in names)


def _find(name: str, ours: Mapping[str, Sequence[Pass]]) -> tuple[Pass, ...]:
    if name in ours:
        return tuple(ours[name])
    if name.endswith(".py") or os.path.exists(name) or name in [e.name for e in installed_passes()]:
        loaded = load_plugins(name)
        require_names_of_their_own(loaded, {*ours, *SAID_BY_USER})
        return loaded
    known = list(dict.fromkeys([*ours, *SAID_BY_USER, *(e.name for e in installed_passes())]))
    if name == CheckGivenFormats.name:
        hint = f"pefslc MODEL --formats FILE.toml; or {CheckFormat.name} with --fmt"
        raise CompileError(Code.NO_SUCH_PLUGIN, f"pass {quote(name)} runs in a compile only", hint=hint)
    if name in SAID_BY_USER:
        raise CompileError(
            Code.NO_SUCH_PLUGIN, f"pass {quote(name)} fills in a format, and none is given", hint="--fmt or --input-fmt"
        )
    close = difflib.get_close_matches(name, known, n=1)
    meant = f"did you mean {close[0]}? " if close else ""
    raise CompileError(
        Code.NO_SUCH_PLUGIN, f"no pass {quote(name)}", hint=f"{meant}a .py file, or one of {', '.join(known)}"
    )


def run_one_by_one(
    graph: Graph, found: Iterable[Sequence[Pass]], *, compare: bool = False
) -> tuple[Graph, tuple[PassRun, ...]]:
    """The graph after the passes, verified after each. `compare`: with the graph before each, on random inputs.

    found  as from `find_passes`: of a name's passes those of a file run in their order; of two of ours, that of the
           level that the graph has
    """
    runs: list[PassRun] = []
    for group in found:
        of_one_name = len(group) > 1 and len({p.name for p in group}) == 1
        for p in [p for p in group if p.level is graph.level][:1] or group[:1] if of_one_name else group:
            before = graph
            try:
                graph, (record,) = run_passes(graph, [p])
            except CompileError as e:
                raise _with_chain(e, p) from None
            runs.append(PassRun(record, differences(before, graph) if compare else None))
    return graph, tuple(runs)


def _with_chain(error: CompileError, failed: Pass) -> CompileError:
    """What a pass was refused with, and which passes a compile runs before it, where they are missing."""
    last = error.problems[-1]
    quantized = [p.name for p in to_integer() if p.level is Level.QUANTIZED]  # the last of them is lower-to-integer
    wrong_level = last.code is Code.PASS_LEVEL
    if wrong_level and failed.level is Level.QUANTIZED:
        hint = f"{quantized[-1]} has run on this graph: put the pass before it, or take the graph of an earlier step"
    elif wrong_level or failed.name == quantized[-1]:
        before = quantized if wrong_level else quantized[:-1]
        hint = f"a compile runs these before it: {' '.join(f'--pass {name}' for name in before)}"
    else:
        return error
    return CompileError.of([*error.problems[:-1], replace(last, hint=f"{last.hint}\n{hint}" if last.hint else hint)])
