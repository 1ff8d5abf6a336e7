"""A target that is not part of pefslc: its faults are reported as its own, with the place in its file.

Everything that such a target is asked, and everything that it answers, passes through here.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from pefslc.analysis.limits import TargetLimits
from pefslc.artifacts.costs import Costs
from pefslc.artifacts.footprint import Footprint
from pefslc.artifacts.sidecar import Sidecar, sidecar_name
from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, quote, quote_given
from pefslc.diagnostics.user_code import exception_text, place_in, source_of
from pefslc.files.file_names import is_file_name
from pefslc.ir.graph import Graph
from pefslc.ir.row_batches import run_whole_batches
from pefslc.numeric.deviation import Deviations
from pefslc.numeric.format import FixedPoint
from pefslc.targets.options import Option, check_values, faults_of_names, options_of, with_options
from pefslc.targets.protocol import Audit, Codes, Emission, LayerAudit, OpReport, Runner, Stage, Target, TargetOptions

__all__ = ["MEMBERS", "RESERVED", "UserTarget", "inner_target", "missing_members", "user_target"]

MEMBERS = ("name", "limits", "lower", "runner")

# Names that no option of a target can have: those of every compile, in Python and on the command line.
RESERVED = frozenset({
    "against", "allow_overflow", "as_json", "as_text", "batch", "calibrate", "calibration", "check_passes", "costs",
    "data_limit", "debug", "dump_dir", "example", "fmt", "formats", "help", "input_fmt", "input_shape", "input_shapes",
    "inputs", "json", "max_error", "model", "name", "observe", "observe_target", "output", "pass", "passes", "picture",
    "plugin", "plugins", "print_ir_after", "progress", "quiet", "report", "requantize", "require_exact", "short",
    "stages", "summary", "target", "text", "verify", "version",
})  # fmt: skip

_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
_STAGE = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")
_HINT = "the target is not part of pefslc: correct it; `pefslc explain adding-a-target` has one to copy"
_T = TypeVar("_T")


def missing_members(made: object) -> list[str]:
    """What an object lacks to be a target. Raises CompileError where it cannot be asked."""
    try:
        return [member for member in MEMBERS if not hasattr(made, member)]
    except (Exception, SystemExit) as e:  # a property
        raise CompileError(
            Code.TARGET_FAILED,
            f"target {type(made).__qualname__} failed: {exception_text(e)}",
            at=place_in(source_of(made), e),
            hint=_HINT,
        ) from e


def user_target(made: Target) -> UserTarget:
    """The target, guarded. Raises CompileError for a name that files cannot bear."""
    source, name = source_of(made), made.name
    if not (isinstance(name, str) and _NAME.fullmatch(name)):
        raise CompileError(
            Code.PLUGIN_UNUSABLE,
            f"a target is named {quote_given(name)}",
            at=source,
            hint="use lower-case letters, digits and _, at most 40 of them, the first one a letter",
        )
    target = UserTarget(made, name, source)
    reserved = [f"option {quote(o.name)} has a name that every compile uses" for o in target.reserved_options]
    target.refuse([*reserved, *faults_of_names(made)])
    return target


def inner_target(target: Target) -> Target:
    """The target itself, without the guard."""
    return target.inner if isinstance(target, UserTarget) else target


@dataclass(frozen=True, slots=True)
class UserTarget:
    """A target, guarded. Its own CompileErrors are refusals, as ours are."""

    inner: Target
    name: str
    source: str

    @property
    def summary(self) -> str:
        return self.answer("summary", lambda: str(getattr(self.inner, "summary", "")))

    @property
    def reserved_options(self) -> list[Option]:
        return [o for o in options_of(self.inner) if o.name in RESERVED]

    @property
    def stages(self) -> tuple[str, ...]:
        stages: object = self.answer("stages", lambda: getattr(self.inner, "stages", ()))
        if not (isinstance(stages, tuple) and all(isinstance(s, str) and _STAGE.fullmatch(s) for s in stages)):
            self.refuse(["stages are not a tuple of names of lower-case letters, digits, - and _"])
        return stages  # type: ignore[return-value]  # just checked

    def with_options(self, values: Mapping[str, object]) -> UserTarget:
        """The same target with these options. Raises CompileError for values that they cannot have."""
        inner = self.answer("its options", lambda: with_options(self.inner, values))
        self.answer("its options", lambda: check_values(inner))
        return replace(self, inner=inner)

    def limits(self, options: TargetOptions) -> TargetLimits:
        limits = self.answer("limits", lambda: self.inner.limits(options))
        self.require("limits", limits, TargetLimits)
        self.refuse(_limits_faults(limits))
        return limits

    def lower(self, graph: Graph, options: TargetOptions) -> Emission:
        watcher = None if options.observe is None else _Watcher(self, options.observe)
        try:
            emission = self.answer("lower", lambda: self.inner.lower(graph, replace(options, observe=watcher)))
        except CompileError:
            if watcher is not None and watcher.failure is not None:
                raise watcher.failure from None
            raise
        self.require("lower", emission, Emission)
        self.refuse([*_emission_faults(emission, graph, sidecar_name(graph.name, self.name))])
        costs, audit = emission.costs, emission.audit
        return replace(
            emission,
            costs=None if costs is None else lambda: self._costs(costs, graph),
            audit=None if audit is None else _UserAudit(self, audit),
        )

    def runner(self, folder: Path, sidecar: Sidecar) -> Runner:
        runner = self.answer("runner", lambda: self.inner.runner(folder, sidecar))
        if not callable(getattr(runner, "run", None)):
            self.refuse([f"runner returned {type(runner).__name__}, which has no `run`"])
        return _UserRunner(self, runner, sidecar)

    def judged(self, stage: Stage) -> Stage:
        """A stage that the target reports; CompileError where it is none, or none of its `stages`."""
        if not isinstance(stage, Stage):
            self.refuse([f"it reports {type(stage).__name__}, not a Stage"])
        if stage.name not in self.stages:
            self.refuse([f"it reports a stage {quote_given(stage.name)}, which is not one of its `stages`"])
        if not (isinstance(stage.text, str) and isinstance(stage.changed, bool)):
            self.refuse([f"the stage {quote(stage.name)} has fields of wrong types"])
        return stage

    def _costs(self, costs: Callable[[], Costs], graph: Graph) -> Costs:
        found = self.answer("costs", costs)
        self.require("costs", found, Costs)
        known = {op.result.name for op in graph.ops}
        wrong = [name for part in self.answer("costs", lambda: list(found.parts)) for name in part.ops]
        self.refuse([f"costs name {quote_given(n)}, which is no operation" for n in wrong if n not in known])
        clock = found.clock_mhz
        if not (clock is None or (isinstance(clock, int | float) and 0 < clock < math.inf)):
            self.refuse([f"costs have the clock {quote_given(clock)}, not a frequency in MHz"])
        if not isinstance(found.footprint, Footprint | None):
            self.refuse([f"costs have the footprint {quote_given(found.footprint)}, not a Footprint"])
        return found

    def answer(self, what: str, question: Callable[[], _T]) -> _T:
        """What a method of the target answers; CompileError where it fails."""
        try:
            return question()
        except CompileError:
            raise
        except (Exception, SystemExit) as e:
            raise CompileError(
                Code.TARGET_FAILED,
                f"target {quote(self.name)} failed in {what}: {exception_text(e)}",
                at=place_in(self.source, e),
                hint=_HINT,
            ) from e

    def require(self, what: str, found: object, kind: type) -> None:
        """CompileError where a method returned something else than it must."""
        if not isinstance(found, kind):
            article = "an" if kind.__name__[0] in "AEIOU" else "a"
            self.refuse([f"{what} returned {type(found).__name__}, not {article} {kind.__name__}"])

    def refuse(self, faults: list[str]) -> None:
        """CompileError with the faults of an answer, where there are any."""
        if faults:
            message = f"target {quote(self.name)} is faulty: {'; '.join(faults)}"
            raise CompileError(Code.TARGET_FAILED, message, at=self.source, hint=_HINT)


@dataclass(slots=True)
class _Watcher:
    """Passes on the stages that a target reports. `failure` is the watcher's own: no fault of the target's."""

    target: UserTarget
    observe: Callable[[Stage], None]
    failure: Exception | None = None

    def __call__(self, stage: Stage) -> None:
        judged = self.target.judged(stage)
        try:
            self.observe(judged)
        except Exception as e:
            self.failure = e
            raise


@dataclass(frozen=True, slots=True)
class _UserRunner:
    target: UserTarget
    inner: Runner
    sidecar: Sidecar

    def run(self, inputs: Mapping[str, Codes]) -> dict[str, Codes]:
        rows = [{end.name: end.shape[0] for end in ends} for ends in (self.sidecar.inputs, self.sidecar.outputs)]
        return run_whole_batches(self._run, inputs, *rows)

    def _run(self, inputs: Mapping[str, Codes]) -> dict[str, Codes]:
        return self.checked(self.target.answer("run", lambda: self.inner.run(inputs)), inputs)

    def checked(self, results: object, inputs: Mapping[str, Codes]) -> dict[str, Codes]:
        """The output codes that `run` returned for these inputs; CompileError where they are none."""
        if not isinstance(results, Mapping):
            self.target.refuse([f"run returned {type(results).__name__}, not a dict of arrays by output name"])
            raise AssertionError
        batches = {inputs[i.name].shape[0] // i.shape[0] for i in self.sidecar.inputs}
        found, faults = {}, []
        for output in self.sidecar.outputs:
            if output.name not in results:
                faults.append(f"run returned no output {quote(output.name)}")
                continue
            codes = self.target.answer("run", partial(np.asarray, results[output.name]))
            shape = (max(batches) * output.shape[0], *output.shape[1:])
            if codes.dtype.kind not in "iu" or codes.shape != shape:
                what = f"{codes.dtype} {list(codes.shape)}"
                faults.append(f"run returned output {quote(output.name)} as {what}, not as integers {list(shape)}")
            found[output.name] = codes
        self.target.refuse(faults)
        return {name: codes.astype(np.int64) for name, codes in found.items()}


@dataclass(frozen=True, slots=True)
class _UserAudit:
    target: UserTarget
    inner: Audit

    def __call__(
        self, runner: Runner, inputs: Mapping[str, Codes], /
    ) -> tuple[dict[str, Codes], tuple[LayerAudit, ...]]:
        assert isinstance(runner, _UserRunner)
        answer = self.target.answer("audit", lambda: self.inner(runner.inner, inputs))
        match answer:
            case (results, tuple() as layers) if all(isinstance(layer, LayerAudit) for layer in layers):
                return runner.checked(results, inputs), layers
        self.target.refuse(["audit returned no pair of output codes and a tuple of LayerAudit"])
        raise AssertionError


def _limits_faults(limits: TargetLimits) -> list[str]:
    faults = []
    if not _is_count(limits.accumulator_bits) or limits.accumulator_bits == 0:
        faults.append(f"accumulator_bits is {quote_given(limits.accumulator_bits)}, not a number of bits")
    if not isinstance(limits.accumulator_name, str):
        faults.append(f"accumulator_name is {quote_given(limits.accumulator_name)}, not a string")
    if not isinstance(limits.native_format, FixedPoint | None):
        faults.append(f"native_format is {quote_given(limits.native_format)}, not a FixedPoint")
    if not isinstance(limits.native_weights, FixedPoint | None):
        faults.append(f"native_weights is {quote_given(limits.native_weights)}, not a FixedPoint")
    return faults


def _emission_faults(emission: Emission, graph: Graph, sidecar: str) -> Iterator[str]:
    """What is wrong with an emission, in words.

    sidecar  the name of the file that no target may write
    """
    yield from _file_faults(emission.files, sidecar)
    yield from _details_faults(emission.details)
    yield from _report_faults(emission.ops, {op.result.name for op in graph.ops})
    if not (isinstance(emission.notes, tuple) and all(isinstance(note, str) for note in emission.notes)):
        yield "notes are not a tuple of strings"
    if not (emission.cycles is None or _is_count(emission.cycles)):
        yield f"cycles are {quote_given(emission.cycles)}, not a number"
    functions = emission.functions
    if not isinstance(functions, Mapping) or not all(isinstance(v, str) for item in functions.items() for v in item):
        yield "functions are not texts by the names of outputs"
    for what in ("costs", "audit"):
        if not (getattr(emission, what) is None or callable(getattr(emission, what))):
            yield f"{what} is {quote_given(getattr(emission, what))}, not a function"
    for what, kind in (("computed", Graph), ("native", FixedPoint)):
        if not isinstance(getattr(emission, what), kind | None):
            yield f"{what} is {quote_given(getattr(emission, what))}, not a {kind.__name__}"


def _file_faults(files: object, sidecar: str) -> Iterator[str]:
    if not isinstance(files, Mapping):
        yield f"files is a {type(files).__name__}, not a dict of bytes by file name"
        return
    for name, content in files.items():
        if not (isinstance(name, str) and is_file_name(name)):
            yield f"{quote_given(name)} is not the name of a file in the folder"
        elif name == sidecar:
            yield f"file {quote(name)} is the sidecar, which the driver writes"
        if not isinstance(content, bytes):
            yield f"file {quote_given(name)} holds {type(content).__name__}, not bytes"


def _details_faults(details: object) -> Iterator[str]:
    if not isinstance(details, Mapping):
        yield f"details is a {type(details).__name__}, not a dict"
        return
    try:
        if json.loads(json.dumps(details, allow_nan=False)).keys() != details.keys():
            yield "the keys of details are not strings"
    except (TypeError, ValueError, RecursionError) as e:
        yield f"details are not JSON: {e}"


def _report_faults(ops: object, known: set[str]) -> Iterator[str]:
    if not isinstance(ops, Mapping):
        yield f"ops is a {type(ops).__name__}, not a dict of OpReport by the name of the operation's result"
        return
    for name, report in ops.items():
        if name not in known:
            yield f"ops has a report on {quote_given(name)}, which is no operation of the graph"
        elif not isinstance(report, OpReport):
            yield f"ops has {type(report).__name__} for {quote(name)}, not an OpReport"
        elif not (
            isinstance(report.implementation, str)
            and isinstance(report.exact, bool)
            and (report.cycles is None or _is_count(report.cycles))
            and isinstance(report.deviations, Deviations | None)
        ):
            yield f"the report on {quote(name)} has fields of wrong types: {report}"


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
