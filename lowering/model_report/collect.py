"""From a compiled program, and inputs where there are some, to its report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from pefslc.artifacts.costs import Costs
from pefslc.driver.program import Program
from pefslc.files.arrays import ArraysLike, as_arrays
from pefslc.ir.graph import Graph
from pefslc.ir.integer import Lookup, Requantize, Round
from pefslc.ir.interpret import as_batches
from pefslc.ir.quantized import Elementwise, Quantize
from pefslc.ir.value import Op
from pefslc.model_report.model import InputTensor, LayerDetail, MergedNode, ModelReport, OutputTensor, SumRange
from pefslc.model_report.network import network_of
from pefslc.model_report.step_curves import step_curve_of
from pefslc.model_report.tensors import Seen, few_rows, see, weight_distributions
from pefslc.passes.check_accumulators import sum_ranges
from pefslc.reports.clipped_inputs import ClippedInput, clipped_inputs
from pefslc.reports.layer_report import cost_report, exact_to, format_texts, layer_name, layer_operations
from pefslc.reports.post_training import PostTrainingReport, post_training_report
from pefslc.targets.protocol import TargetOptions
from pefslc.version import __version__

__all__ = ["collect_report"]


def collect_report(program: Program, inputs: ArraysLike | None = None) -> ModelReport:
    """The report of a program. Raises CompileError for inputs that do not suit the model.

    inputs  as for `Program.verify`: with them, the report has the values of the layers, and of a float model errors and
            signal to noise. Of many rows only the first are run
    """
    lowered, emission = program.lowered, program.emission
    costs = None if emission.costs is None else emission.costs()
    limits = program.target.limits(TargetOptions(allow_overflow=program.options.allow_overflow))
    given = _Given.of(program, inputs)
    rows = layer_operations(lowered.integer, emission.ops)
    formats = format_texts(lowered.integer, lowered.quantized)
    quantized = {op.input.name: op.result.name for op in lowered.reference.of_type(Quantize)}
    codes_of = {i.name: quantized.get(i.value.name, "") for i in lowered.reference.inputs}
    given_inputs = [given.seen.values.get(codes_of.get(i.name, "")) for i in lowered.integer.inputs]
    return ModelReport(
        version=__version__,
        model=program.name,
        target=program.target.name,
        arch=None if costs is None else costs.arch,
        exact=program.exact,
        exact_to=exact_to(program.quantized_to, lowered.changing_passes),
        verdict=program.verdict,
        quantized_to=program.quantized_to,
        native_format="" if emission.native is None else str(emission.native),
        accumulator=limits.accumulator_name,
        accumulator_bits=limits.accumulator_bits,
        macs=program.macs,
        cycles=emission.cycles,
        clock=None if costs is None else costs.clock,
        inputs=tuple(
            InputTensor(i.name, i.value.type.shape, formats[i.value.name], values)
            for i, values in zip(lowered.integer.inputs, given_inputs, strict=True)
        ),
        outputs=tuple(
            OutputTensor(o.name, o.shape, o.value.type.codes.low, o.value.type.codes.high)
            for o in lowered.integer.outputs
        ),
        layers=_layers(program, rows, costs, given),
        network=network_of(lowered.integer, rows, formats),
        costs=None if costs is None else cost_report(lowered.integer, emission.ops, costs, program.target.name),
        bytes_per_cycle=None if costs is None else costs.bytes_per_cycle,
        timelines=() if costs is None else costs.timelines,
        begins=() if costs is None else tuple(part.begins for part in costs.parts),
        blocks=() if costs is None else costs.blocks,
        given_rows=given.rows,
        seen_rows=given.run_rows,
        clipped_inputs=given.clipped,
        float_model=given.float_model,
        notes=(*program.notes, *emission.notes),
        files={name: len(content) for name, content in emission.files.items()},
    )


class _Given:
    """What the given inputs show."""

    def __init__(self) -> None:
        self.rows = self.run_rows = 0
        self.seen = Seen()
        self.clipped: tuple[ClippedInput, ...] = ()
        self.float_model: PostTrainingReport | None = None

    @classmethod
    def of(cls, program: Program, inputs: ArraysLike | None) -> _Given:
        found = cls()
        lowered = program.lowered
        found.float_model = program.post_training
        if inputs is None:
            return found
        named = as_arrays(inputs, "report")
        arrays, found.rows = as_batches(lowered.integer, named)
        found.run_rows = few_rows(lowered.reference, arrays)
        run = {i.name: arrays[i.name][: found.run_rows * i.value.type.shape[0]] for i in lowered.integer.inputs}
        before = lowered.float_model or lowered.reference
        found.seen = see(before, lowered.reference, lowered.integer, run)
        if lowered.float_model is None:
            found.clipped = clipped_inputs(lowered.integer.inputs, arrays)
        else:
            labels = (
                {n: a for n, a in named.items() if n not in arrays and n != "x"} if found.run_rows == found.rows else {}
            )
            found.float_model = post_training_report(lowered.float_model, lowered.reference, {**labels, **run})
        return found


def _layers(
    program: Program, rows: Sequence[Sequence[Op]], costs: Costs | None, given: _Given
) -> tuple[LayerDetail, ...]:
    lowered = program.lowered
    proved = sum_ranges(lowered.integer)
    weights = weight_distributions(lowered.quantized, lowered.float_model)
    merged = _merged(lowered.reference)
    parts = () if costs is None else costs.parts
    cost_of = {name: number for number, part in enumerate(parts) for name in part.ops}
    noise = {} if given.float_model is None else {t.value: t.noise.snr_db for t in given.float_model.tensors}
    quantizer_input = {op.result.name: op.input.name for op in lowered.reference.of_type(Quantize)}
    found = []
    for row, ops in zip(program.layers, rows, strict=True):
        names = [op.result.name for op in ops]
        curves = (op for op in reversed(ops) if isinstance(op, Requantize | Lookup | Round))
        rounding = next(curves, None)
        snr = next((noise[quantizer_input[n]] for n in names if quantizer_input.get(n) in noise), None)
        found.append(
            LayerDetail(
                row=row,
                merged=next((merged[n] for n in names if n in merged), ()),
                sums=_sums(names, proved, given.seen.sums),
                curve=None if rounding is None else step_curve_of(rounding),
                weights=next((weights[n] for n in names if n in weights), None),
                values=next((given.seen.values[n] for n in names if n in given.seen.values), None),
                snr_db=None if snr is None or not np.isfinite(snr) else snr,
                cost=next((cost_of[n] for n in names if n in cost_of), None),
            )
        )
    return tuple(found)


def _sums(
    names: Sequence[str], proved: Mapping[str, tuple[int, int]], seen: Mapping[str, tuple[int, int]]
) -> SumRange | None:
    """Of the widest sum of a layer."""
    ranges = [(name, *proved[name]) for name in names if name in proved]
    if not ranges:
        return None
    name, low, high = max(ranges, key=lambda r: r[2] - r[1])
    return SumRange(low, high, *seen.get(name, ()))


def _merged(reference: Graph) -> dict[str, tuple[MergedNode, ...]]:
    """By a quantizer's result: what stands between it and what is summed, and itself."""
    producers = reference.producers()
    found = {}
    for op in reference.of_type(Quantize):
        chain: list[Op] = [op]
        before = producers.get(op.input.name)
        while isinstance(before, Elementwise):
            chain.append(before)
            before = producers.get(before.input.name)
        found[op.result.name] = tuple(
            MergedNode(o.result.origin.op_type, layer_name(o.result.origin)) for o in reversed(chain)
        )
    return found
