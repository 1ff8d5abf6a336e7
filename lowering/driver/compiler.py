"""The driver: a model file becomes a `Program` - graphs, artifacts, layer report - for one target."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from pefslc.analysis.limits import TargetLimits
from pefslc.artifacts.sidecar import make_sidecar
from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, Origin, Problem, quote
from pefslc.diagnostics.progress import Progress
from pefslc.driver.compile_options import (
    check_functions,
    check_input_formats,
    check_max_error,
    check_switches,
    chosen_target,
    data_limit_bytes,
    parse_format,
    parse_input_format,
    words_of_host,
)
from pefslc.driver.every_problem import every_problem
from pefslc.driver.format_choice import choose_formats
from pefslc.driver.format_file import FormatsLike
from pefslc.driver.formats_by_name import FormatsByName, with_native_arithmetic
from pefslc.driver.model_source import as_file
from pefslc.driver.plugins import load_plugins, require_names_of_their_own
from pefslc.driver.program import Lowered, Program
from pefslc.files.arrays import Arrays, ArraysLike, as_arrays
from pefslc.files.file_names import safe_file_name
from pefslc.files.paths import ModelPath, as_path
from pefslc.frontend import NOTHING_GIVEN, GivenShapes, Imported, import_model, survey_model
from pefslc.geometry.shapes import Shape
from pefslc.ir.graph import Graph, Level
from pefslc.numeric.choose_format import AutoFormat, Calibration
from pefslc.numeric.format import FixedPoint
from pefslc.passes.calibrate import CalibratedFormats
from pefslc.passes.change_formats import ChangeFormats
from pefslc.passes.check_format import CheckFormat, CheckGivenFormats, is_float, require_float, require_formats
from pefslc.passes.fit_given_formats import GivenFormats
from pefslc.passes.input_formats import InputFormats
from pefslc.passes.manager import Exactness, Pass, PassRecord, run_passes
from pefslc.passes.pipeline import SAID_BY_USER, pipeline
from pefslc.reports.format_changes import format_changes
from pefslc.reports.given_inputs import given_inputs
from pefslc.reports.layer_report import certified, exact_to, layer_rows
from pefslc.reports.post_training import PostTrainingReport, post_training_report
from pefslc.targets.protocol import Emission, Stage, Target, TargetOptions
from pefslc.verification.outcome import nothing_to_measure
from pefslc.version import __version__

if TYPE_CHECKING:
    from torch.nn import Module

    from pefslc.train.export import Examples

__all__ = ["compile", "load", "lower_model"]

Observer = Callable[[PassRecord, Graph], None]
StageObserver = Callable[[Stage], None]

_PassFormats = FixedPoint | CalibratedFormats | GivenFormats | None

_RANGES_LISTED = 20  # of the codes that differ, in the message of --require-exact


def load(
    model: ModelPath,
    *,
    batch: int | None = None,
    input_shapes: Mapping[str, Shape] | None = None,
    data_limit: float = 1,
) -> Graph:
    """The quantized-level graph of an ONNX file: `print(graph)`, `graph.run(x)`. Raises CompileError.

    batch, input_shapes, data_limit  as for `compile`
    """
    path = as_path(model, Code.NOT_A_MODEL, "the path of a model", "the path of an ONNX file")
    graph = import_model(path, GivenShapes(batch, input_shapes or {}), data_limit_bytes(data_limit))
    return replace(graph, name=safe_file_name(path.stem))


def lower_model(
    model: ModelPath,
    limits: TargetLimits,
    *,
    fmt: str | FixedPoint | AutoFormat | None = None,
    formats: FormatsLike | None = None,
    calibrate: ArraysLike | None = None,
    calibration: str | Calibration = Calibration.MSE,
    progress: Progress | None = None,
    allow_overflow: bool = False,
    given: GivenShapes = NOTHING_GIVEN,
    input_fmt: str | FixedPoint | Mapping[str, str | FixedPoint] | None = None,
    data_limit: float = 1,
    observe: Observer | None = None,
) -> Lowered:
    """Import a model and run every pass. Raises CompileError with every problem of both."""
    check_switches(allow_overflow=allow_overflow)
    data = None if calibrate is None else as_arrays(calibrate, "calibrate")
    chooser = choose_formats(parse_format(fmt), formats, data, calibration, progress, requantize=False)
    lowering = _Lowering(limits, chooser, allow_overflow, observe=observe, input_fmt=parse_input_format(input_fmt))
    imported = lowering.survey(model, given, data_limit_bytes(data_limit))
    with every_problem(imported, partial(lowering.attempt, imported)):
        return lowering.lower(imported.graph)


@dataclass(frozen=True, slots=True)
class _Lowering:
    """How a model is brought to the integer level. `observe` sees the graph after the import and after each pass."""

    limits: TargetLimits
    fmt: FixedPoint | CalibratedFormats | FormatsByName | None
    allow_overflow: bool
    plugins: Sequence[Pass] = ()
    observe: Observer | None = None
    check_passes: bool = False
    requantize: bool = False
    input_fmt: InputFormats = None
    target: Target | None = None

    def survey(self, model: ModelPath, given: GivenShapes, most_data_bytes: int) -> Imported:
        """The model, as far as it can be imported."""
        start = time.perf_counter()
        ours = {*SAID_BY_USER, *(p.name for p in pipeline(self.limits))}
        require_names_of_their_own(self.plugins, ours)
        path = Path(model)
        imported = survey_model(path, given, most_data_bytes)
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

        check_input_formats(self.input_fmt, graph.inputs)
        if self.fmt is None:
            require_formats(graph)
        elif isinstance(self.fmt, CalibratedFormats):
            require_float(graph)
        passes = self._passes(self._formats_of(graph), graph, self.plugins)
        integer, records = run_passes(graph, passes, watch, check=self.check_passes)
        float_model = graph if is_float(graph) else None
        changed = float_model is None and any(r.name == ChangeFormats.name and r.changed for r in records)
        formats = {} if float_model is not None else given_inputs(graph, reference)
        ours = {p.name for p in self.plugins}
        exact = (r.name for r in records if r.changed and r.exactness is Exactness.EXACT and r.name in ours)
        promised = () if self.check_passes else tuple(exact)
        requantized = graph if changed else None
        return Lowered(reference, quantized, integer, records, float_model, requantized, formats, promised)

    def attempt(self, imported: Imported, part: Graph, check_format: bool) -> Graph:
        """Part of a model with problems on the integer level. Plugins expect whole models: they are left out."""
        lost_quantizers = any(isinstance(p.at, Origin) and "Quant" in p.at.op_type for p in imported.problems)
        if self.fmt is None and not lost_quantizers:
            require_formats(imported.graph)
        asserts = (CheckFormat, CheckGivenFormats)
        passes = self._passes(self._formats_of(imported.graph, whole=False), imported.graph)
        return run_passes(part, [p for p in passes if check_format or not isinstance(p, asserts)])[0]

    def _formats_of(self, graph: Graph, *, whole: bool = True) -> _PassFormats:
        if isinstance(self.fmt, FormatsByName):
            return self.fmt.of_model(graph, self.input_fmt, whole=whole)
        return self.fmt

    def _passes(self, fmt: _PassFormats, graph: Graph, plugins: Sequence[Pass] = ()) -> tuple[Pass, ...]:
        return pipeline(
            self.limits,
            fmt=fmt,
            allow_overflow=self.allow_overflow,
            requantize=self.requantize,
            plugins=plugins,
            input_fmt=self.input_fmt,
            host_words=words_of_host(self.target, graph, self.input_fmt),
        )


def compile(
    model: ModelPath | Module,
    *,
    target: str | Target,
    example: Examples | None = None,
    fmt: str | FixedPoint | AutoFormat | None = None,
    formats: FormatsLike | None = None,
    calibrate: ArraysLike | None = None,
    calibration: str | Calibration = Calibration.MSE,
    requantize: bool = False,
    plugins: str | Path | Pass | Sequence[str | Path | Pass] = (),
    allow_overflow: bool = False,
    check_passes: bool = False,
    batch: int | None = None,
    input_shapes: Mapping[str, Shape] | None = None,
    input_fmt: str | FixedPoint | Mapping[str, str | FixedPoint] | None = None,
    data_limit: float = 1,
    require_exact: bool = False,
    verify: ArraysLike | None = None,
    max_error: float | None = None,
    observe: Observer | None = None,
    observe_target: StageObserver | None = None,
    progress: Progress | None = None,
    **target_options: object,
) -> Program:
    """Compile an ONNX file, or a torch network, for one target; nothing is written until `Program.save`.

    Raises CompileError with every problem of the model, not only the first.

    target          "c", "tensil", an installed one's name, or a Target: `TensilTarget(arch="custom_perf")`
    example         of a torch network, its input: rows on which it is checked, see `pefslc.train.export`
    fmt             "Q2.3": asserted of the model's quantizers, filled into unquantized inputs, given to a float model;
                    "auto:8": a float model's tensors get formats of 8 bits from `calibrate`
    formats         a TOML file, or the same tables as dictionaries: formats by name of layers, tensors and kinds of
                    layers, beside `fmt`, which is then for whatever they do not name
    calibrate       inputs (arrays by name, one array, or an .npz) on which formats are chosen, and compared with the
                    float model; in the TCU's native arithmetic, on which its words get as fine as the values allow
    calibration     how "auto:8" chooses: "mse", "percentile" or "minmax"
    requantize      change a quantized model that contradicts `fmt`; `Program.format_changes` says what changed
    plugins         passes, or .py files and installed names that hold some
    allow_overflow  accept sums that are not proven to fit the accumulator
    check_passes    compare each pass with the interpreter; `require_exact` does it where there are plugins
    batch           rows of a run: the size of axis 0 of every input, whatever the file says of it
    input_shapes    input name -> shape, where the file leaves axes open
    input_fmt       "UQ0.8", or by name {"x": "UQ0.8"}: the host hands over numbers on that grid. An input that the
                    model does not quantize has that format; its own input quantizer runs on the target then
    data_limit      how many GiB of weights are read from files beside the model
    require_exact   refuse what is bounded, with the list of what differs
    verify          inputs (as for calibrate) on which model, interpreter and artifacts must agree
    max_error       by how much outputs may be off a float model's on these inputs; None: it is measured
    observe         called with (record, graph) after the import and after each pass
    observe_target  called with a Stage after each step of the target that it reports, all after the passes
    progress        called with (done, total, what) on work over a second
    target_options  options of the target by name, such as arch="custom_perf": `pefslc targets NAME` lists them
    """
    check_switches(
        requantize=requantize,
        allow_overflow=allow_overflow,
        check_passes=check_passes,
        require_exact=require_exact,
    )
    check_passes = check_passes or (require_exact and bool(plugins))
    check_max_error(max_error, verify is not None)
    check_functions(observe=observe, observe_target=observe_target, progress=progress)
    chosen = chosen_target(target, target_options)
    options = TargetOptions(allow_overflow=allow_overflow, require_exact=require_exact, progress=progress)
    limits = chosen.limits(options)
    parsed = parse_format(fmt)
    data = None if calibrate is None else as_arrays(calibrate, "calibrate")
    chooser = choose_formats(parsed, formats, data, calibration, progress, requantize)
    lowering = _Lowering(
        limits, chooser, allow_overflow, load_plugins(plugins, check=check_passes), observe, check_passes, requantize,
        parse_input_format(input_fmt), chosen,
    )  # fmt: skip
    watched = replace(options, calibrate=data, observe=observe_target, kept={})
    quiet = replace(options, problems_only=True, progress=None, kept=watched.kept)
    with as_file(model, example) as file:
        imported = lowering.survey(file, GivenShapes(batch, input_shapes or {}), data_limit_bytes(data_limit))
        source = sha256(file.read_bytes()).hexdigest()

    def again(part: Graph, check_format: bool) -> None:
        of_a_part = not isinstance(chooser, FormatsByName) or not is_float(imported.graph)
        if of_a_part and not isinstance(chooser, CalibratedFormats):  # formats from data belong to the whole model
            chosen.lower(lowering.attempt(imported, part, check_format), quiet)

    with every_problem(imported, again):
        try:
            lowered = lowering.lower(imported.graph)
            emission = chosen.lower(lowered.integer, watched)
        except CompileError as e:
            if isinstance(chooser, FormatsByName) and is_float(imported.graph):
                raise with_native_arithmetic(e, limits) from None
            raise
    changes = format_changes(imported.graph, lowered.reference, data) if requantize and not lowered.float_model else ()
    asked: int | Mapping[str, int] | None = parsed.bits if isinstance(parsed, AutoFormat) else None
    if isinstance(chooser, FormatsByName):
        asked = chooser.of_model(imported.graph, lowering.input_fmt).asked_bits
    post_training = None if data is None or changes else _post_training(lowered, asked, data, progress)
    rows = layer_rows(lowered.integer, lowered.quantized, limits, emission.ops)
    if require_exact:
        _require_exact(lowered, emission, chosen.name, allow_overflow)
    quantized_to = "" if lowered.before_format is None else str(parsed) if formats is None else "the table of formats"
    details = {**emission.details, "exact": lowered.is_exact(rows), "exact_to": exact_to(quantized_to)}
    if lowered.promised:
        details["exact_if_passes_are"] = lowered.promised
    if lowered.changing_passes:
        details["changing_passes"] = lowered.changing_passes
    if post_training is not None:
        details["post_training"] = post_training.to_json()
    if quantized_to:
        details["quantized_to"] = quantized_to
    if changes:
        details["format_changes"] = [change.to_json() for change in changes]
    sidecar = make_sidecar(
        lowered.integer,
        chosen.name,
        __version__,
        source,
        emission.files,
        details,
        tuple(row.to_json() for row in rows),
        file.name,
        imported.data_sha256,
    )
    program = Program(
        lowered, chosen, options, emission, sidecar, rows, post_training, changes, quantized_to, imported.notes
    )
    if max_error is not None and lowered.before_format is None:
        raise nothing_to_measure()
    if verify is not None:
        program.verify(verify).require(max_error)
    return program


def _require_exact(lowered: Lowered, emission: Emission, target: str, allow_overflow: bool) -> None:
    """Raise CompileError with everything that is bounded, or of which the target says nothing."""
    problems = [
        Problem(Code.NOT_EXACT, f"pass {quote(name)} is not exact: it changed the model", hint="leave the pass out")
        for name in lowered.changing_passes
    ]
    if emission.native is not None:
        problems.append(
            Problem(
                Code.NOT_EXACT,
                f"not exact: a float model at {emission.native} runs in the target's native arithmetic, which rounds "
                "each product",
                hint="use another --fmt, or leave out --require-exact",
            )
        )
    for op in lowered.integer.ops:
        if certified(op, emission.ops):
            continue
        report, at = emission.ops.get(op.result.name), op.result.origin
        if report is None:
            text = f"target {quote(target)} does not say that this is exact"
            problems.append(Problem(Code.NOT_EXACT, text, at, "Emission.ops wants a report on it"))
        elif report.deviations is not None:
            text = f"not exact: {report.deviations.text(_RANGES_LISTED)}"
            hint = "without --require-exact it compiles as bounded, and the sidecar holds the whole list"
            problems.append(Problem(Code.NOT_EXACT, text, at, hint))
    inexact = [op for op in lowered.integer.ops if not certified(op, emission.ops)]
    if inexact and not problems and allow_overflow:
        problems.append(Problem(Code.NOT_EXACT, "not exact: sums may overflow", hint="leave out --allow-overflow"))
    elif not problems:  # a target that has no list of what differs
        problems += [
            Problem(Code.NOT_EXACT, f"target {quote(target)} is not exact", op.result.origin) for op in inexact
        ]
    if problems:
        raise CompileError.of(problems)


def _post_training(
    lowered: Lowered, asked_bits: int | Mapping[str, int] | None, data: Arrays, progress: Progress | None
) -> PostTrainingReport:
    if lowered.float_model is None:
        raise CompileError(
            Code.CALIBRATION,
            "calibration data for a model that is quantized already",
            at=lowered.reference.name,
            hint="leave out the calibration data (--calibrate)",
        )
    return post_training_report(lowered.float_model, lowered.reference, data, asked_bits, progress)
