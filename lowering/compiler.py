"""The driver: a model file becomes a `Program` - graphs, artifacts, layer report - for one target."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

import pefslc
from pefslc.arrays import Arrays, read_arrays
from pefslc.codes import Code
from pefslc.cost import CostReport
from pefslc.diagnosis import every_problem
from pefslc.diagnostics import CompileError, Origin, Problem, quote
from pefslc.format_changes import FormatChange, format_changes
from pefslc.frontend import NOTHING_GIVEN, GivenShapes, Imported, import_model, survey_model
from pefslc.given import ModelPath, as_file
from pefslc.interpret import apply_output_map, as_batches, quantize_input
from pefslc.ir.graph import Graph, Level
from pefslc.ir.integer import Requantize
from pefslc.limits import TargetLimits
from pefslc.numeric.choose_format import AutoFormat, Calibration
from pefslc.numeric.format import FixedPoint
from pefslc.passes.calibrate import CalibratedFormats
from pefslc.passes.check_format import CheckFormat, is_float, require_float, require_formats
from pefslc.passes.manager import Exactness, Pass, PassRecord, run_passes
from pefslc.passes.pipeline import SAID_BY_USER, pipeline
from pefslc.plugins import load_plugins
from pefslc.post_training import PostTrainingReport, post_training_report
from pefslc.report import LayerRow, cost_report, layer_rows
from pefslc.shapes import Shape
from pefslc.sidecar import Sidecar, load_sidecar, make_sidecar
from pefslc.staging import publish, safe_file_name
from pefslc.targets.protocol import Emission, Runner, Target, TargetOptions
from pefslc.targets.registry import find_target, target_names
from pefslc.verification import REFERENCE, Prediction, Verification, verify

if TYPE_CHECKING:
    from torch.nn import Module

    from pefslc.train.export import Examples

__all__ = ["Lowered", "Program", "compile", "load", "lower_model"]

Observer = Callable[[PassRecord, Graph], None]
Progress = Callable[[int, int, str], None]

# What only one of our targets reads; a target of someone else's is trusted to read all.
_ONLY_FOR = {"arch": "tensil", "caller_arena": "c", "clock_mhz": "tensil"}

_RANGES_LISTED = 20  # of the codes that differ, in the message of --require-exact

_TARGET_MEMBERS = ("name", "limits", "lower", "runner")


@dataclass(frozen=True, slots=True)
class Lowered:
    """A model on the integer level, before any target.

    reference  the quantized level as imported, with what --fmt filled or quantized: what the model means
    quantized  the quantized level as it was lowered
    float_model  the model as imported, where it was quantized after training
    """

    reference: Graph
    quantized: Graph
    integer: Graph
    passes: tuple[PassRecord, ...]
    float_model: Graph | None = None

    @property
    def bounded_passes(self) -> tuple[str, ...]:
        """The passes that changed the model, within a bound. Not --fmt: what it fills in is what the model means."""
        changed = (r.name for r in self.passes if r.changed and r.exactness is Exactness.BOUNDED)
        return tuple(dict.fromkeys(name for name in changed if name not in SAID_BY_USER))


@dataclass(frozen=True, slots=True)
class Program:
    """A compiled model: `save` writes its artifacts, `run` and `verify` execute them.

    post_training   a float model's comparison with what it was quantized to, where there was data for it
    format_changes  what --requantize changed of a quantized model
    """

    lowered: Lowered
    target: Target
    options: TargetOptions
    emission: Emission
    sidecar: Sidecar
    layers: tuple[LayerRow, ...]
    post_training: PostTrainingReport | None = None
    format_changes: tuple[FormatChange, ...] = ()

    def __repr__(self) -> str:
        count = len(self.layers)
        layers = f"{count} layer{'' if count == 1 else 's'}"
        return f"<Program {self.name!r} for {self.target.name}: {layers}, {'exact' if self.exact else 'bounded'}>"

    @property
    def name(self) -> str:
        return self.sidecar.model

    @property
    def exact(self) -> bool:
        """Whether every output code is the model's own for every input: proved, not measured."""
        return all(row.exact for row in self.layers) and not self.lowered.bounded_passes

    @property
    def graph(self) -> Graph:
        """The integer graph that the target lowered."""
        return self.lowered.integer

    @property
    def costs(self) -> CostReport | None:
        """Where modelled cycles, bytes and memory go, layer by layer; None where the target does not say.

        Worked out at each call: up to a second for a program of half a million instructions.
        """
        if self.emission.costs is None:
            return None
        costs = self.emission.costs()
        return cost_report(self.graph, self.emission.ops, costs, self.target.name, self.options.clock_mhz)

    def save(self, folder: ModelPath) -> tuple[Path, ...]:
        """Write the artifacts and, last, the sidecar. Returns their paths; raises CompileError."""
        return publish(Path(folder), self.emission.files, (self.sidecar.file_name, self.sidecar.to_bytes()))

    def run(self, inputs: Mapping[str, NDArray[np.float64]] | NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        """Output name -> float64 values, computed by the artifacts themselves: the C compiled, the TCU simulated.

        inputs  input name -> array in the ONNX shape, or (one input) the array itself; any multiple of the batch
        """
        arrays, _ = as_batches(self.graph, inputs)
        codes = {i.name: quantize_input(i, arrays[i.name]) for i in self.graph.inputs}
        with self._runner() as runner:
            results = runner.run(codes)
        return {o.name: apply_output_map(o, results[o.name]) for o in self.graph.outputs}

    def verify(self, inputs: Arrays | ModelPath) -> Verification:
        """Compare model, interpreter and artifacts on the inputs (arrays by name, or an .npz), integer for integer.

        Of artifacts in native arithmetic it is measured how far they are off the float model.
        """
        arrays = inputs if isinstance(inputs, Mapping) else read_arrays(Path(inputs))
        float_model = None if self.emission.native is None else self.lowered.float_model
        if float_model is None and (self.lowered.float_model is not None or self.format_changes):
            # The evaluation of the file; this program is of the network that --fmt made of it.
            arrays = {name: array for name, array in arrays.items() if name != REFERENCE}
        with self._runner() as runner:
            return verify(
                self.lowered.reference, self.graph, runner, self.target.name, arrays, self.options.progress,
                self._prediction(), float_model,
            )  # fmt: skip

    def _prediction(self) -> Prediction | None:
        if self.emission.computed is None:
            return None
        layers = {id(deviations): row.layer for row in self.layers for deviations in row.deviations}
        found = []
        for op in self.graph.of_type(Requantize):
            deviations = self.emission.ops[op.result.name].deviations
            if deviations is not None:
                found.append((layers[id(deviations)], op, deviations))
        return Prediction(self.emission.computed, tuple(found))

    @contextmanager
    def _runner(self) -> Iterator[Runner]:
        """A runner of the files, written to disk and read back."""
        with TemporaryDirectory(prefix="pefslc-") as folder:
            *_, sidecar = self.save(folder)
            yield self.target.runner(Path(folder), load_sidecar(sidecar))


def load(model: ModelPath, *, batch: int | None = None, input_shapes: Mapping[str, Shape] | None = None) -> Graph:
    """The quantized-level graph of an ONNX file: `print(graph)`, `graph.run(x)`. Raises CompileError.

    batch, input_shapes  sizes of axes that the file leaves open; see `compile`
    """
    path = Path(model)
    graph = import_model(path, GivenShapes(batch, input_shapes or {}))
    return replace(graph, name=safe_file_name(path.stem))


def lower_model(
    model: ModelPath,
    limits: TargetLimits,
    *,
    fmt: FixedPoint | None = None,
    allow_overflow: bool = False,
    given: GivenShapes = NOTHING_GIVEN,
) -> Lowered:
    """Import a model and run every pass. Raises CompileError with every problem of both."""
    lowering = _Lowering(limits, fmt, allow_overflow)
    imported = lowering.survey(model, given)
    with every_problem(imported, partial(lowering.attempt, imported)):
        return lowering.lower(imported.graph)


@dataclass(frozen=True, slots=True)
class _Lowering:
    """How a model is brought to the integer level. `observe` sees the graph after the import and after each pass."""

    limits: TargetLimits
    fmt: FixedPoint | CalibratedFormats | None
    allow_overflow: bool
    plugins: Sequence[Pass] = ()
    observe: Observer | None = None
    check_passes: bool = False
    requantize: bool = False

    def survey(self, model: ModelPath, given: GivenShapes) -> Imported:
        """The model, as far as it can be imported."""
        start = time.perf_counter()
        ours = {*SAID_BY_USER, *(p.name for p in pipeline(self.limits))}
        taken = [p.name for p in self.plugins if p.name in ours]
        if taken:  # records tell passes apart by their names
            raise CompileError(
                Code.WRONG_OPTION, f"plugin pass {quote(taken[0])} has the name of a pass of pefslc", hint="rename it"
            )
        path = Path(model)
        imported = survey_model(path, given)
        imported = replace(imported, graph=replace(imported.graph, name=safe_file_name(path.stem)))
        if self.observe is not None and not imported.problems:
            self.observe(PassRecord("import", Exactness.EXACT, True, time.perf_counter() - start), imported.graph)
        return imported

    def lower(self, graph: Graph) -> Lowered:
        """The graph of a model without problems, through every pass."""
        reference = quantized = graph

        def watch(record: PassRecord, after: Graph) -> None:
            nonlocal reference, quantized
            if record.name in SAID_BY_USER:
                reference = after
            if after.level is Level.QUANTIZED:
                quantized = after
            if self.observe is not None:
                self.observe(record, after)

        if self.fmt is None:
            require_formats(graph)
        elif isinstance(self.fmt, CalibratedFormats):
            require_float(graph)
        integer, records = run_passes(graph, self._passes(self.plugins), watch, check=self.check_passes)
        return Lowered(reference, quantized, integer, records, graph if is_float(graph) else None)

    def attempt(self, imported: Imported, part: Graph, check_format: bool) -> Graph:
        """Part of a model with problems on the integer level. Plugins expect whole models: they are left out."""
        lost_quantizers = any(isinstance(p.at, Origin) and "Quant" in p.at.op_type for p in imported.problems)
        if self.fmt is None and not lost_quantizers:
            require_formats(imported.graph)
        return run_passes(part, [p for p in self._passes() if check_format or not isinstance(p, CheckFormat)])[0]

    def _passes(self, plugins: Sequence[Pass] = ()) -> tuple[Pass, ...]:
        return pipeline(
            self.limits,
            fmt=self.fmt,
            allow_overflow=self.allow_overflow,
            requantize=self.requantize,
            plugins=plugins,
        )


def compile(
    model: ModelPath | Module,
    *,
    target: str | Target,
    example: Examples | None = None,
    fmt: str | FixedPoint | AutoFormat | None = None,
    calibrate: Arrays | ModelPath | None = None,
    calibration: str | Calibration = Calibration.MSE,
    requantize: bool = False,
    arch: ModelPath | None = None,
    caller_arena: bool = False,
    clock_mhz: float | None = None,
    plugins: str | Path | Pass | Sequence[str | Path | Pass] = (),
    allow_overflow: bool = False,
    check_passes: bool = False,
    batch: int | None = None,
    input_shapes: Mapping[str, Shape] | None = None,
    require_exact: bool = False,
    verify: Arrays | ModelPath | None = None,
    observe: Observer | None = None,
    progress: Progress | None = None,
) -> Program:
    """Compile an ONNX file, or a torch network, for one target; nothing is written until `Program.save`.

    Raises CompileError with every problem of the model, not only the first.

    target          "c", "tensil", an installed one's name, or a Target
    example         of a torch network, its input: rows on which it is checked, see `pefslc.train.export`
    fmt             "Q2.3": asserted of the model's quantizers, filled into unquantized inputs, given to a float model;
                    "auto:8": a float model's tensors get formats of 8 bits from `calibrate`
    calibrate       inputs (arrays or an .npz) on which formats are chosen, and compared with the float model
    calibration     how "auto:8" chooses: "mse", "percentile" or "minmax"
    requantize      change a quantized model that contradicts `fmt`; `Program.format_changes` says what changed
    arch            Tensil: a board's name or a .tarch file
    caller_arena    C: the caller supplies the working memory
    clock_mhz       Tensil: the accelerator's clock, for the times in `Program.costs`
    plugins         passes, or .py files and installed names that hold some
    allow_overflow  accept sums that are not proven to fit the accumulator
    check_passes    compare each pass with the interpreter
    batch           the size of axis 0 of every input, where the file leaves it open
    input_shapes    input name -> shape, where the file leaves axes open
    require_exact   refuse what is bounded, with the list of what differs
    verify          inputs (arrays or an .npz) on which model, interpreter and artifacts must agree
    observe         called with (record, graph) after the import and after each pass
    progress        called with (done, total, what) on work over a second
    """
    chosen = _chosen_target(target)
    options = TargetOptions(
        os.fspath(arch) if isinstance(arch, os.PathLike) else arch, caller_arena, allow_overflow, progress, clock_mhz
    )
    check_options(chosen, options)
    limits = chosen.limits(options)
    parsed = parse_format(fmt)
    data = calibrate if calibrate is None or isinstance(calibrate, Mapping) else read_arrays(Path(calibrate))
    formats = _formats(parsed, data, calibration, progress, requantize)
    lowering = _Lowering(
        limits, formats, allow_overflow, load_plugins(plugins, check=check_passes), observe, check_passes, requantize
    )
    quiet = replace(options, progress=None)
    with as_file(model, example) as file:
        imported = lowering.survey(file, GivenShapes(batch, input_shapes or {}))
        source = file.read_bytes()

    def again(part: Graph, check_format: bool) -> None:
        if not isinstance(formats, CalibratedFormats):  # formats from data belong to the whole model
            chosen.lower(lowering.attempt(imported, part, check_format), quiet)

    with every_problem(imported, again):
        lowered = lowering.lower(imported.graph)
        emission = chosen.lower(lowered.integer, options)
    changes = format_changes(imported.graph, lowered.reference, data) if requantize and not lowered.float_model else ()
    post_training = None if data is None or changes else _post_training(lowered, parsed, data, progress)
    rows = layer_rows(lowered.integer, lowered.quantized, limits, emission.ops)
    if require_exact:
        _require_exact(lowered, emission)
    details = {**emission.details, "exact": all(row.exact for row in rows) and not lowered.bounded_passes}
    if lowered.bounded_passes:
        details["bounded_passes"] = lowered.bounded_passes
    if post_training is not None:
        details["post_training"] = post_training.to_json()
    if changes:
        details["format_changes"] = [change.to_json() for change in changes]
    sidecar = make_sidecar(
        lowered.integer,
        chosen.name,
        pefslc.__version__,
        source,
        emission.files,
        details,
        tuple(row.to_json() for row in rows),
        file.name,
    )
    program = Program(lowered, chosen, options, emission, sidecar, rows, post_training, changes)
    if verify is not None:
        program.verify(verify).require()
    return program


def _require_exact(lowered: Lowered, emission: Emission) -> None:
    """Raise CompileError with everything that is bounded."""
    problems = [
        Problem(Code.NOT_EXACT, f"pass {quote(name)} is bounded: it changed the model", hint="leave the pass out")
        for name in lowered.bounded_passes
    ]
    for op in lowered.integer.ops:
        report = emission.ops.get(op.result.name)
        if report is None or report.exact:
            continue
        if report.deviations is not None:
            problems.append(
                Problem(
                    Code.NOT_EXACT,
                    f"not exact: {report.deviations.text(_RANGES_LISTED)}",
                    at=op.result.origin,
                    hint="without --require-exact it compiles as bounded, and the sidecar holds the whole list",
                )
            )
    if not problems and not all(report.exact for report in emission.ops.values()):
        problems.append(Problem(Code.NOT_EXACT, "not exact: sums may overflow", hint="leave out --allow-overflow"))
    if problems:
        raise CompileError.of(problems)


def _chosen_target(target: str | Target) -> Target:
    if isinstance(target, str):
        return find_target(target)
    if isinstance(target, type) or not all(hasattr(target, member) for member in _TARGET_MEMBERS):
        raise CompileError(
            Code.UNKNOWN_TARGET,
            f"{quote(repr(target))} is not a target",
            hint=f"a name ({', '.join(target_names())}), or an object with {', '.join(_TARGET_MEMBERS)}",
        )
    return target


def check_options(target: Target, options: TargetOptions) -> None:
    """Raise CompileError for options that the target would ignore, and for what its own check of them finds."""
    given = {
        "arch": options.arch is not None,
        "caller_arena": options.caller_arena,
        "clock_mhz": options.clock_mhz is not None,
    }
    problems = [
        Problem(
            Code.WRONG_OPTION,
            f"--{option.replace('_', '-')} is for target {quote(owner)}, not {quote(target.name)}",
            hint="leave it out",
        )
        for option, owner in _ONLY_FOR.items()
        if given[option] and target.name in _ONLY_FOR.values() and target.name != owner
    ]
    if options.arch is not None and not (isinstance(options.arch, str) and options.arch):
        problems.append(
            Problem(
                Code.WRONG_OPTION,
                f"--arch is {quote(repr(options.arch))}, not the name of an architecture",
                hint="leave it out",
            )
        )
    if options.clock_mhz is not None and not (0 < options.clock_mhz < math.inf):
        problems.append(
            Problem(Code.WRONG_OPTION, f"--clock-mhz is {options.clock_mhz}, not a frequency", hint="for example 100")
        )
    if problems:
        raise CompileError.of(problems)


def parse_format(fmt: str | FixedPoint | AutoFormat | None) -> FixedPoint | AutoFormat | None:
    """The format that the user named, or the request for formats. Raises CompileError."""
    if fmt is None or isinstance(fmt, FixedPoint | AutoFormat):
        return fmt
    if not isinstance(fmt, str):
        raise CompileError(
            Code.BAD_FORMAT, f"{quote(repr(fmt))} is not a format", hint='for example "Q2.3" or FixedPoint(2, 3)'
        )
    try:
        return AutoFormat.parse(fmt) or FixedPoint.parse(fmt)
    except ValueError as e:
        raise CompileError(Code.BAD_FORMAT, str(e)) from None


def _post_training(
    lowered: Lowered, fmt: FixedPoint | AutoFormat | None, data: Arrays, progress: Progress | None
) -> PostTrainingReport:
    if lowered.float_model is None:
        raise CompileError(
            Code.CALIBRATION,
            "calibration data for a model that is quantized already",
            at=lowered.reference.name,
            hint="leave out --calibrate",
        )
    asked_bits = fmt.bits if isinstance(fmt, AutoFormat) else None
    return post_training_report(lowered.float_model, lowered.reference, data, asked_bits, progress)


def _formats(
    fmt: FixedPoint | AutoFormat | None,
    data: Arrays | None,
    method: str | Calibration,
    progress: Progress | None,
    requantize: bool,
) -> FixedPoint | CalibratedFormats | None:
    known = [m.value for m in Calibration]
    if not isinstance(method, Calibration) and method not in known:
        raise CompileError(
            Code.CALIBRATION, f"there is no calibration {quote(str(method))}", hint=f"one of {', '.join(known)}"
        )
    if requantize and not isinstance(fmt, FixedPoint):
        raise CompileError(
            Code.WRONG_OPTION,
            "--requantize changes a quantized model to a format, and none is named",
            hint="for example --fmt Q2.3 --requantize",
        )
    if not isinstance(fmt, AutoFormat):
        return fmt
    if data is None:
        raise CompileError(
            Code.CALIBRATION,
            f"--fmt {fmt} chooses formats from data, and there is none",
            hint="--calibrate data.npz, with inputs as the model will see them; or name the format: --fmt Q3.4",
        )
    return CalibratedFormats(fmt, data, Calibration(method), progress)
