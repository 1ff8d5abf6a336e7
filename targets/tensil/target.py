"""The target `tensil`: .tmodel, .tprog and .tdata for any .tarch; `<name>_io.py` and `<name>_run.py` for the board."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from pefslc.analysis.limits import TargetLimits
from pefslc.artifacts.sidecar import Sidecar, make_sidecar
from pefslc.diagnostics.errors import CompileError
from pefslc.ir.batch import batch_of, with_batch
from pefslc.ir.graph import Graph, GraphInput, GraphOutput
from pefslc.ir.interpret import run_codes
from pefslc.numeric.format import FixedPoint
from pefslc.targets.protocol import Emission, LayerAudit, Runner, Stage, TargetOptions
from pefslc.targets.self_test import SelfTest, make_self_test
from pefslc.targets.tensil.board_script import board_script_source
from pefslc.targets.tensil.check.checker import require_valid
from pefslc.targets.tensil.cost import cycles
from pefslc.targets.tensil.cost.clock import clock_of
from pefslc.targets.tensil.cost.program_costs import program_costs
from pefslc.targets.tensil.details import cycle_details, native_details, program_details
from pefslc.targets.tensil.groups.group_program import Port
from pefslc.targets.tensil.host_io import HostTensor, board_script_name, host_io_module, host_io_source
from pefslc.targets.tensil.limits import limits_of
from pefslc.targets.tensil.lowered_network import LoweredNetwork
from pefslc.targets.tensil.machine.architecture import Architecture, DataType, load_architecture
from pefslc.targets.tensil.native_audit import NativeAudit
from pefslc.targets.tensil.notes import notes_on_exactness, notes_on_price, notes_on_time, program_notes
from pefslc.targets.tensil.options import DEFAULT_ARCHITECTURE, TensilOptions
from pefslc.targets.tensil.pipeline import STAGES, Observer, lower_graph
from pefslc.targets.tensil.plain_host import (
    notes_on_rounding,
    plain_notes,
    require_plain,
    words_of_inputs,
)
from pefslc.targets.tensil.program.tmodel import TensilProgram, load_tmodel, tmodel_files
from pefslc.targets.tensil.report import computed_graph, op_reports, parts_of
from pefslc.targets.tensil.rewriting.rewrite import LOG, Context
from pefslc.targets.tensil.runner import TensilRunner
from pefslc.targets.tensil.schedule.as_program import program_of
from pefslc.targets.tensil.schedule.schedule import Schedule, schedule
from pefslc.targets.tensil.schedule.text import print_schedule
from pefslc.targets.tensil.split import bounded_operations, require_close
from pefslc.targets.tensil.words.channel_fits import ChannelFits

__all__ = ["DEFAULT_ARCHITECTURE", "TensilTarget", "host_tensors"]

_SLACK_VECTORS = 32  # other choices, such as a bias more, may take a few constants more


class TensilTarget(TensilOptions):
    """Lowers to the Tensil Compute Unit."""

    __slots__ = ()

    stages: ClassVar[tuple[str, ...]] = (*STAGES, "schedule")

    def limits(self, options: TargetOptions) -> TargetLimits:
        del options
        return limits_of(load_architecture(self.architecture_name).data_type)

    def host_words(self, graph: Graph) -> Mapping[str, FixedPoint]:
        """See `targets.protocol.host_words_of`: a plain host's driver rounds real numbers to the machine's words."""
        if self.host == "module":
            return {}
        return words_of_inputs(graph, load_architecture(self.architecture_name).data_type)

    def lower(self, model: Graph, options: TargetOptions) -> Emission:
        architecture = load_architecture(self.architecture_name)
        context = Context(
            architecture,
            options.allow_overflow,
            self.left_out,
            plain_host=self.host != "module",
            dense_inputs=self.host == "dense",
            at_any_price=options.require_exact or self.wide,
        )
        whole, batch = model, batch_of(model) or 1
        model = with_batch(model, 1) if batch > 1 else model
        fits = _fits(options, architecture.data_type)
        if options.problems_only and _has_place(model, context, fits):
            return Emission({}, {})
        watching = options.calibrate, options.progress, _observer(options)
        priced = partial(_cycles, model.name, architecture)
        lowered = lower_graph(model, context, *watching, fits, batch=batch, cycles=priced)
        words = lowered.program
        bounded = bounded_operations(model, lowered.split, words)
        require_close(model, lowered.split, bounded, architecture.data_type)
        if options.problems_only:
            return Emission({}, {})
        plan, program, report = _fastest(model.name, lowered, architecture)
        if options.observe is not None:
            options.observe(Stage("schedule", print_schedule(plan, architecture)))
        inputs, outputs = host_tensors(whole, lowered, architecture.data_type)
        if context.plain_host:
            require_plain(outputs, self.host)
        files = tmodel_files(program)
        files[f"{host_io_module(model.name)}.py"] = host_io_source(model.name, architecture, inputs, outputs).encode()
        model_file = next(name for name in files if name.endswith(".tmodel"))
        computed = computed_graph(whole, bounded)
        ops = op_reports(lowered.split, words, report, bounded, plan.batches)
        details = {
            **program_details(model, architecture, (inputs, outputs), model_file, self.host),
            **cycle_details(report.total, ops.values()),
            **native_details(lowered, architecture.data_type),
        }
        cautions = notes_on_price(lowered, bounded, at_any_price=context.at_any_price, wide=self.wide)
        if context.plain_host:
            cautions += tuple(notes_on_rounding(model, inputs))
        clock = clock_of(self.architecture_name, self.clock_mhz)
        notes = (
            *program_notes(program, plan, report, self.architecture_name),
            *notes_on_time(clock, report.total, batch),
            *notes_on_exactness(lowered, ops),
            *(plain_notes(inputs, outputs) if context.plain_host else ()),
            *cautions,
            *(() if lowered.native is None else lowered.native.notes()),
        )
        # What saturates or rounds on its way is the program's own: the simulator says it, elsewhere the integers do.
        simulated = words.native is not None or options.allow_overflow
        runner = TensilRunner(program, make_sidecar(whole, self.name, "", "", {}, details)) if simulated else None
        test = _self_test(computed or whole, inputs, runner)
        files[board_script_name(model.name)] = board_script_source(
            model.name, files, test, program, self.architecture_name, report.total, self.clock_mhz, batch
        ).encode()
        parts, arch = parts_of(lowered.split, words), Path(self.architecture_name).stem
        return Emission(
            files,
            details,
            ops,
            notes,
            report.total,
            partial(program_costs, program, plan.segments, parts, report, arch, self.clock_mhz, clock),
            computed,
            words.native,
            None if words.native is None else partial(_audited, NativeAudit.of(plan, words.layouts)),
            cautions=cautions,
        )

    def runner(self, folder: Path, sidecar: Sidecar) -> Runner:
        program = load_tmodel(folder / str(sidecar.details["tmodel"]))
        bus = sidecar.details.get("axi_bytes", program.architecture.axi_bytes)
        assert isinstance(bus, int)
        return TensilRunner(replace(program, architecture=replace(program.architecture, axi_bytes=bus)), sidecar)


def _observer(options: TargetOptions) -> Observer | None:
    if options.observe is None:
        return None
    observe = options.observe
    return lambda name, text, changed: observe(Stage(name, text, changed))


def _fits(options: TargetOptions, data_type: DataType) -> ChannelFits:
    """What was searched in the attempts before, and a new budget."""
    before = None if options.kept is None else options.kept.get(ChannelFits)
    fits = before.again() if isinstance(before, ChannelFits) else ChannelFits(data_type)
    if options.kept is not None:
        options.kept[ChannelFits] = fits
    return fits


def _has_place(model: Graph, context: Context, fits: ChannelFits) -> bool:
    """Whether a short look finds words that are near enough. If not, the best ones may still be."""
    lowered = lower_graph(model, context, fits=fits, any_words=True)
    bounded = bounded_operations(model, lowered.split, lowered.program)
    try:
        require_close(model, lowered.split, bounded, context.data_type)
    except CompileError:
        return False
    return True


def _fastest(
    name: str, lowered: LoweredNetwork, architecture: Architecture
) -> tuple[Schedule, TensilProgram, cycles.CycleReport]:
    """The schedule, its program and its cycles: with the constants in local memory, where that is faster."""
    plan = lowered.schedule
    program = program_of(name, architecture, plan)
    require_valid(program)
    report = cycles.model_cycles(program, plan.segments)
    resident = _resident(lowered, architecture)
    if resident is not None:
        other = program_of(name, architecture, resident)
        require_valid(other)
        faster = cycles.model_cycles(other, resident.segments)
        if faster.total < report.total:
            return resident, other, faster
    return plan, program, report


def _cycles(name: str, architecture: Architecture, lowered: LoweredNetwork) -> int:
    return _fastest(name, lowered, architecture)[2].total


def _resident(lowered: LoweredNetwork, architecture: Architecture) -> Schedule | None:
    """The same with the constants in local memory from run to run, if three quarters of it hold them; else None. Where
    it holds them only so, SIMD alone requantizes per channel.
    """
    plan = lowered.schedule
    most = min(3 * architecture.local_depth // 4, *architecture.reserved_local_vectors)
    for by_matrix in (True, False) if plan.channel_rows else (True,):
        vectors = len(plan.constants) + _SLACK_VECTORS - (0 if by_matrix else plan.channel_rows)
        if vectors <= most:
            try:
                return schedule(
                    lowered.program, architecture, resident=vectors, by_matrix=by_matrix, batches=plan.batches
                )
            except CompileError as error:
                LOG.debug("constants do not stay in local memory: %s", error)
    return None


def host_tensors(
    graph: Graph, lowered: LoweredNetwork, data_type: DataType
) -> tuple[list[HostTensor], list[HostTensor]]:
    """The inputs and the outputs, in the order of the model's."""
    words, ups = lowered.program, lowered.split.wide.words

    def placed(end: GraphInput | GraphOutput, ports: list[Port]) -> HostTensor:
        first, tensors = ports[0], [words.tensors[port.tensor] for port in ports]
        parts = zip(tensors, ups.get(end.name, ()) if isinstance(end, GraphOutput) else (), strict=False)
        return HostTensor(end, tensors[0], data_type, first.moves, tuple((tensor.exponent, up) for tensor, up in parts))

    inputs = [placed(i, [port]) for i, port in zip(graph.inputs, words.inputs, strict=True)]
    outputs = [placed(o, [port for port in words.outputs if port.name == o.name]) for o in graph.outputs]
    return inputs, outputs


def _self_test(computed: Graph, inputs: Sequence[HostTensor], runner: TensilRunner | None) -> SelfTest:
    """Inputs, and what the program makes of them: by the runner, where there is one, else by the graph."""
    drawn = [tensor.drawn_input for tensor in inputs]
    return make_self_test(drawn, partial(_outputs, computed, runner), saturates=runner is not None)


def _outputs(
    graph: Graph, runner: TensilRunner | None, inputs: Mapping[str, NDArray[np.int64]]
) -> Mapping[str, NDArray[np.int64]]:
    """Output codes by name: of the runner, where there is one, else of the graph."""
    if runner is not None:
        return runner.run(inputs)
    values = run_codes(graph, inputs)
    return {o.name: values[o.value.name] for o in graph.outputs}


def _audited(
    audit: NativeAudit, runner: Runner, inputs: Mapping[str, NDArray[np.int64]]
) -> tuple[dict[str, NDArray[np.int64]], tuple[LayerAudit, ...]]:
    assert isinstance(runner, TensilRunner)
    return runner.audited(inputs, audit)
