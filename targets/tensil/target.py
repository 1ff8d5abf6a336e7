"""The target `tensil`: .tmodel, .tprog and .tdata for any .tarch, and a host-side `<name>_io.py`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Set
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial, reduce
from operator import add
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pefslc.analysis.limits import TargetLimits
from pefslc.artifacts.sidecar import Json, JsonObject, Sidecar
from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, quote
from pefslc.ir.graph import Graph
from pefslc.numeric.format import saturate
from pefslc.numeric.rounding import round_shift
from pefslc.targets.protocol import Emission, LayerAudit, Runner, TargetOptions
from pefslc.targets.tensil.check.checker import require_valid
from pefslc.targets.tensil.cost import cycles
from pefslc.targets.tensil.cost.program_costs import program_costs
from pefslc.targets.tensil.groups.group import Selection
from pefslc.targets.tensil.groups.layout import Layout, from_vectors, to_vectors
from pefslc.targets.tensil.groups.selection import select
from pefslc.targets.tensil.host_io import TensorRecord, codes_in_words, host_io_module, host_io_source
from pefslc.targets.tensil.machine.architecture import Architecture, load_architecture
from pefslc.targets.tensil.merge.addends import drop_idle_clips
from pefslc.targets.tensil.merge.sums_in_packing import requantize_while_packing
from pefslc.targets.tensil.native.native_placement import is_native, place_natively
from pefslc.targets.tensil.native.native_words import Magnitudes, measure_magnitudes, native_format
from pefslc.targets.tensil.native_audit import NativeAudit
from pefslc.targets.tensil.program.tmodel import IoEntry, TensilProgram, constant_blocks, load_tmodel, tmodel_files
from pefslc.targets.tensil.report import bounded_operations, computed_graph, op_reports, parts_of
from pefslc.targets.tensil.rewrite.input_packing import Offsets, pack_inputs, packed
from pefslc.targets.tensil.rewrite.leftover_channels import factor_leftovers, pack_leftovers
from pefslc.targets.tensil.rewrite.means import split_means
from pefslc.targets.tensil.rewrite.stationary_activations import transpose_few_pixels
from pefslc.targets.tensil.schedule.schedule import Entry, Schedule, schedule
from pefslc.targets.tensil.simulate.simulator import Machine
from pefslc.targets.tensil.words.bent_requantize import Bends, split_bends
from pefslc.targets.tensil.words.placed_group import Placed
from pefslc.targets.tensil.words.placement import place

__all__ = ["DEFAULT_ARCHITECTURE", "TensilTarget"]

DEFAULT_ARCHITECTURE = "pynqz1"
_SLACK_VECTORS = 32  # other choices, such as a bias more, may take a few constants more


class TensilTarget:
    """Lowers to the Tensil Compute Unit. `options.arch` is a built-in board or the path of a .tarch file."""

    name = "tensil"
    summary = "programs for the Tensil accelerator (.tmodel, .tprog, .tdata), run by its stock PYNQ driver"

    def limits(self, options: TargetOptions) -> TargetLimits:
        architecture = _architecture(options)
        data_type = architecture.data_type
        return TargetLimits(data_type.width_bits, f"the TCU with {data_type.value}", native_format(data_type))

    def lower(self, model: Graph, options: TargetOptions) -> Emission:
        architecture = _architecture(options)
        data_type = architecture.data_type
        bends = Bends(model) if is_native(model, data_type) else split_bends(model, data_type)
        graph = bends.graph
        selection = select(graph)
        storage = selection.storage
        inputs = [storage[i.value.name] for i in graph.inputs]
        outputs = [storage[o.value.name] for o in graph.outputs]
        selection = pack_inputs(selection, inputs, outputs, architecture.array_size)
        magnitudes = _magnitudes(graph, selection, architecture, options)
        selection, placed, plan = _scheduled(graph, selection, architecture, options, magnitudes)
        program = _program(graph.name, architecture, plan)
        require_valid(program)
        report = cycles.model_cycles(program, plan.segments)
        resident = _resident(graph, selection, placed, plan, architecture)
        if resident is not None:
            other = _program(graph.name, architecture, resident)
            require_valid(other)
            faster = cycles.model_cycles(other, resident.segments)
            if faster.total < report.total:
                plan, program, report = resident, other, faster
        records = _records(graph, selection, placed, plan, architecture)
        files = tmodel_files(program)
        files[f"{host_io_module(graph.name)}.py"] = host_io_source(graph.name, architecture, *records).encode()
        model_file = next(name for name in files if name.endswith(".tmodel"))
        details: dict[str, Json] = {
            "tmodel": model_file,
            "architecture": architecture.to_json_dict(),
            "inputs": [r.to_json() for r in records[0]],
            "outputs": [r.to_json() for r in records[1]],
        }
        notes = _notes(program, plan, report, options)
        if placed.native is not None:
            details["native_arithmetic"] = str(native_format(data_type))
            details["native_words"] = str(placed.native)
            notes += () if magnitudes is None else (magnitudes.text(placed.native),)
        bounded = bounded_operations(model, bends, placed)
        return Emission(
            files,
            details,
            op_reports(bends, placed, report, bounded),
            notes,
            report.total,
            partial(
                program_costs,
                program,
                plan.segments,
                parts_of(bends, placed),
                report,
                Path(options.arch or DEFAULT_ARCHITECTURE).stem,
            ),
            computed_graph(model, bounded),
            placed.native,
            None if placed.native is None else partial(_audited, NativeAudit.of(plan, selection.layouts)),
        )

    def runner(self, folder: Path, sidecar: Sidecar) -> Runner:
        return TensilRunner(load_tmodel(folder / str(sidecar.details["tmodel"])), sidecar)


def _architecture(options: TargetOptions) -> Architecture:
    return load_architecture(options.arch or DEFAULT_ARCHITECTURE)


def _magnitudes(
    graph: Graph, selection: Selection, architecture: Architecture, options: TargetOptions
) -> Magnitudes | None:
    """Of what native words hold, on the calibration inputs; None where there are none."""
    if options.calibrate is None or not is_native(graph, architecture.data_type):
        return None
    return measure_magnitudes(graph, factor_leftovers(split_means(selection), architecture), options.calibrate)


def _scheduled(
    graph: Graph,
    selection: Selection,
    architecture: Architecture,
    options: TargetOptions,
    magnitudes: Magnitudes | None,
) -> tuple[Selection, Placed, Schedule]:
    """The program of the first rewriting of the selection that can be placed and scheduled."""
    if is_native(graph, architecture.data_type):
        factored = factor_leftovers(split_means(selection), architecture)
        selection = pack_leftovers(factored, architecture, sums_follow=False)
        selection, placed = place_natively(graph, selection, architecture.data_type, magnitudes)
        return selection, placed, schedule(graph, selection, placed, architecture, options.progress)
    outputs = {selection.storage[output.value.name] for output in graph.outputs}

    def attempt(chosen: Selection) -> tuple[Selection, Placed, Schedule]:
        placed = place(graph, chosen, architecture.data_type, allow_overflow=options.allow_overflow)
        if not options.allow_overflow:  # then bounds of sums hold
            placed = drop_idle_clips(placed, outputs, architecture.data_type)
        chosen, placed = requantize_while_packing(chosen, placed, outputs, architecture)
        return chosen, placed, schedule(graph, chosen, placed, architecture, options.progress)

    for rewritten in _rewritings(selection, outputs, architecture):
        with suppress(CompileError):  # a rewritten sum's bound is too coarse, or its memory too small
            return attempt(rewritten)
    return attempt(selection)


def _rewritings(selection: Selection, outputs: Set[str], architecture: Architecture) -> Iterator[Selection]:
    """What computes the same as the selection in fewer cycles, the best first."""
    transposed = transpose_few_pixels(selection, outputs, architecture)
    if transposed is not selection:
        yield pack_leftovers(factor_leftovers(transposed, architecture), architecture)
    rewritten = pack_leftovers(factor_leftovers(selection, architecture), architecture)
    if rewritten is not selection:
        yield rewritten


def _resident(
    graph: Graph, selection: Selection, placed: Placed, plan: Schedule, architecture: Architecture
) -> Schedule | None:
    """The same with the constants in local memory from run to run, if half of it holds them; else None. Where it holds
    them only so, SIMD alone requantizes per channel.
    """
    most = min(architecture.local_depth // 2, *architecture.reserved_local_vectors)
    for by_matrix in (True, False) if plan.channel_rows else (True,):
        vectors = len(plan.constants) + _SLACK_VECTORS - (0 if by_matrix else plan.channel_rows)
        if vectors <= most:
            with suppress(CompileError):  # the rest of local memory is too small
                return schedule(graph, selection, placed, architecture, resident=vectors, by_matrix=by_matrix)
    return None


def _program(name: str, architecture: Architecture, plan: Schedule) -> TensilProgram:
    def entries(found: tuple[Entry, ...]) -> list[IoEntry]:
        return [IoEntry(e.name, e.base, e.size) for e in sorted(found, key=lambda e: e.base)]

    return TensilProgram(
        architecture,
        name,
        plan.code,
        constant_blocks(plan.constants),
        tuple(entries(plan.inputs)),
        tuple(entries(plan.outputs)),
        plan.resident,
    )


def _records(
    graph: Graph, selection: Selection, placed: Placed, plan: Schedule, architecture: Architecture
) -> tuple[list[TensorRecord], list[TensorRecord]]:
    def record(name: str, entry: Entry) -> TensorRecord:
        layout, offsets = selection.layouts[entry.tensor], selection.packings.get(entry.tensor, ((0, 0),))
        layout = replace(layout, channels=layout.channels // len(offsets))
        return TensorRecord(
            name, layout, offsets, placed.exponents[entry.tensor], architecture, placed.finer.get(entry.tensor, 1)
        )

    inputs = [record(i.name, e) for i, e in zip(graph.inputs, plan.inputs, strict=True)]
    outputs = [record(o.name, e) for o, e in zip(graph.outputs, plan.outputs, strict=True)]
    for r, graph_input in zip(inputs, graph.inputs, strict=True):
        r.complete(graph_input)
    for r, output in zip(outputs, graph.outputs, strict=True):
        r.complete(output)
    return inputs, outputs


def _notes(
    program: TensilProgram, plan: Schedule, report: cycles.CycleReport, options: TargetOptions
) -> tuple[str, ...]:
    architecture = options.arch or DEFAULT_ARCHITECTURE
    spent = sorted(report.of(list(report.spent)).items(), key=lambda i: -i[1])
    kinds = ", ".join(f"{kind.value} {count:,}" for kind, count in spent[:4])
    return (
        f"on {architecture}: {kinds} modelled cycles",
        f"{len(program):,} instructions, {len(plan.constants):,} of {program.architecture.dram1_depth:,} DRAM1 vectors",
    )


def _audited(
    audit: NativeAudit, runner: Runner, inputs: Mapping[str, NDArray[np.int64]]
) -> tuple[dict[str, NDArray[np.int64]], tuple[LayerAudit, ...]]:
    assert isinstance(runner, TensilRunner)
    return runner.audited(inputs, audit)


_Inference = Callable[[Machine, Mapping[str, NDArray[np.int64]]], dict[str, NDArray[np.int64]]]


class TensilRunner:
    """Simulates the emitted files, read back from disk, on a machine whose memories start poisoned."""

    def __init__(self, program: TensilProgram, sidecar: Sidecar) -> None:
        self.program = program
        self.inputs = [_Placement.of(r, i.shape) for r, i in zip(_list(sidecar, "inputs"), sidecar.inputs, strict=True)]
        self.outputs = [
            _Placement.of(r, o.shape) for r, o in zip(_list(sidecar, "outputs"), sidecar.outputs, strict=True)
        ]
        self.rounds = "native_arithmetic" in sidecar.details

    def run(self, inputs: Mapping[str, NDArray[np.int64]]) -> dict[str, NDArray[np.int64]]:
        return self._run(inputs, lambda machine, raw: machine.infer(self.program, raw))

    def audited(
        self, inputs: Mapping[str, NDArray[np.int64]], audit: NativeAudit
    ) -> tuple[dict[str, NDArray[np.int64]], tuple[LayerAudit, ...]]:
        """`run`, and what the audit finds of each group on all inputs together."""
        found: list[tuple[LayerAudit, ...]] = []

        def infer(machine: Machine, raw: Mapping[str, NDArray[np.int64]]) -> dict[str, NDArray[np.int64]]:
            outputs, layers = audit.infer(machine, self.program, raw)
            found.append(layers)
            return outputs

        outputs = self._run(inputs, infer)
        return outputs, tuple(reduce(add, same) for same in zip(*found, strict=True))

    def _run(self, inputs: Mapping[str, NDArray[np.int64]], infer: _Inference) -> dict[str, NDArray[np.int64]]:
        machine = Machine(self.program.architecture, poison_seed=0)
        machine.load_constants(self.program)
        rows = len(next(iter(inputs.values())))
        found: dict[str, list[NDArray[np.int64]]] = {p.name: [] for p in self.outputs}
        for row in range(rows):
            raw = {p.name: p.to_raw(inputs[p.name][row], self.program.architecture) for p in self.inputs}
            results = infer(machine, raw)
            for p in self.outputs:
                found[p.name].append(p.from_raw(np.asarray(results[p.name], dtype=np.int64), rounds=self.rounds))
        return {name: np.stack(codes) for name, codes in found.items()}


@dataclass(frozen=True, slots=True)
class _Placement:
    """One input or output: codes in the ONNX shape <-> raw vectors."""

    name: str
    layout: Layout
    offsets: Offsets
    exponent: int
    finer: int
    shape: tuple[int, ...]

    @classmethod
    def of(cls, record: JsonObject, shape: tuple[int, ...]) -> _Placement:
        channels, height, width = _ints(record["layout"])
        flat = _ints(record["lane_offsets"])
        offsets = tuple(zip(flat[::2], flat[1::2], strict=True))
        exponent, finer = _ints([record["exponent"], record.get("finer", 1)])
        return cls(str(record["name"]), Layout(channels, height, width), offsets, exponent, finer, shape)

    def to_raw(self, codes: NDArray[np.int64], architecture: Architecture) -> NDArray[np.int64]:
        codes = saturate(codes, *codes_in_words(self.exponent, architecture.data_type))
        planes = codes.reshape(self.layout.channels, self.layout.height, self.layout.width)
        return to_vectors(packed(planes, self.offsets) << self.exponent, architecture.array_size)

    def from_raw(self, vectors: NDArray[np.int64], *, rounds: bool) -> NDArray[np.int64]:
        """rounds: words may lie between codes, and are rounded half to even."""
        words = from_vectors(vectors, self.layout) * self.finer
        if not rounds and (words & ((1 << self.exponent) - 1)).any():
            raise CompileError(
                Code.TCU_PROGRAM, f"output {quote(self.name)} holds words that are no codes: the program is broken"
            )
        return round_shift(words, self.exponent).reshape(self.shape[1:])


def _ints(value: Json) -> list[int]:
    assert isinstance(value, list)
    return [int(str(v)) for v in value]


def _list(sidecar: Sidecar, key: str) -> list[JsonObject]:
    found = sidecar.details[key]
    assert isinstance(found, list)
    return found
