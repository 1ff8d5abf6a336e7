"""What became of each operation of the graph: how it is done, what it costs, what a bounded one computes instead."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pefslc.analysis.ranges import channel_accumulators
from pefslc.ir.graph import Graph
from pefslc.ir.integer import Conv2d, Dense, Requantize
from pefslc.ir.value import Op
from pefslc.numeric.deviation import deviations_of
from pefslc.targets.protocol import OpReport
from pefslc.targets.tensil.cost.cycles import CycleReport
from pefslc.targets.tensil.groups.group_program import root_of
from pefslc.targets.tensil.words.bent_requantize import Bends, merged
from pefslc.targets.tensil.words.word_program import Bounded, WordProgram

__all__ = ["bounded_operations", "computed_graph", "op_reports", "parts_of"]


def bounded_operations(graph: Graph, bends: Bends, program: WordProgram) -> dict[str, Bounded]:
    """The requantizations of `graph` that are not certified, by name: one that was split, as a whole."""
    producers = graph.producers()
    found = {name: b for outcome in program.outcomes for name, b in outcome.bounded.items()}
    for op in graph.of_type(Requantize):
        parts = bends.parts.get(op.result.name, ())
        if not any(part.result.name in found for part in parts):
            continue
        below, above = (
            found[part.result.name].computed if part.result.name in found else part.staircase for part in parts
        )
        whole = merged(op.staircase, below, above)
        deviations = deviations_of(op.staircase, whole, *_codes_of_channels(op, producers.get(op.input.name)))
        if not deviations.found:  # the parts are placed for the codes of the whole tensor, and miss some of these
            deviations = deviations_of(op.staircase, whole, *_codes_of_channels(op, None))
        searched = [
            d for part in parts if part.result.name in found and (d := found[part.result.name].deviations.searched)
        ]
        if searched:
            deviations = replace(deviations, searched=(sum(t for t, _ in searched), sum(c for _, c in searched)))
        found[op.result.name] = Bounded(whole, deviations)
    return found


def _codes_of_channels(op: Requantize, producer: Op | None) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Bounds of the codes that `op` reads, of each channel where `producer` makes them channel by channel."""
    domain, channels = (op.staircase.domain_low, op.staircase.domain_high), op.result.type.channels
    if isinstance(producer, Conv2d | Dense):
        low, high = (np.clip(np.array(ends, dtype=np.int64), *domain) for ends in channel_accumulators(producer))
        return low, high
    low, high = (np.full(channels, end, dtype=np.int64) for end in domain)
    return low, high


def op_reports(
    bends: Bends, program: WordProgram, report: CycleReport, bounded: Mapping[str, Bounded]
) -> dict[str, OpReport]:
    """By operation. Cycles stand at the first one of each group, which is computed as one."""
    tensors = _tensors_of_outcomes(program)
    found: dict[str, OpReport] = {}
    for outcome in program.outcomes:
        for i, (op, how) in enumerate(outcome.implementation.items()):
            total = sum(report.of(tensors[outcome.tensor]).values()) if i == 0 else None
            deviations = bounded[op].deviations if op in bounded else None
            found[op] = OpReport(how, outcome.exact, total, deviations)
    for name, parts in bends.parts.items():
        reports = [found.pop(part.result.name) for part in parts] + [found[name]]
        cycles = [r.cycles for r in reports if r.cycles is not None]
        found[name] = OpReport(
            f"{reports[0].implementation} below 0, {reports[1].implementation} above",
            all(r.exact for r in reports),
            sum(cycles) if cycles else None,
            bounded[name].deviations if name in bounded else None,
        )
    return found


def parts_of(bends: Bends, program: WordProgram) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    """(operations, tensors that instructions make for them): a group and what it was rewritten into are one part."""
    whole = {part.result.name: name for name, parts in bends.parts.items() for part in parts}
    tensors = _tensors_of_outcomes(program)
    return [
        (
            tuple(dict.fromkeys(whole.get(op, op) for op in outcome.implementation)),
            tuple(tensors[outcome.tensor]),
        )
        for outcome in program.outcomes
        if outcome.implementation
    ]


def _tensors_of_outcomes(program: WordProgram) -> dict[str, list[str]]:
    """By the tensor of each outcome that reports operations: the tensors that are it, or help with it, by any number of
    steps. What helps with an input of the network belongs to the first group that reads it.
    """
    stored = {name: tensor.stored for name, tensor in program.tensors.items()}
    roots = {name: root_of(stored, name) for name in stored}
    owners = {root_of(stored, o.tensor): o.tensor for o in program.outcomes if o.implementation}
    for group in program.groups:
        owner = owners.get(roots[group.result])
        if owner is not None:
            for tensor in group.tensors:
                owners.setdefault(roots[tensor], owner)
    found: dict[str, list[str]] = {outcome.tensor: [] for outcome in program.outcomes}
    for name, root in roots.items():
        if root in owners:
            found[owners[root]].append(name)
    return found


def computed_graph(graph: Graph, bounded: Mapping[str, Bounded]) -> Graph | None:
    """The graph with the staircases that the program computes; None where they are all the model's own."""

    def computing(op: Op) -> Op:
        if not isinstance(op, Requantize) or op.result.name not in bounded:
            return op
        domain = op.staircase.domain_low, op.staircase.domain_high
        computed = replace(bounded[op.result.name].computed, domain_low=domain[0], domain_high=domain[1])
        return replace(op, staircase=computed)

    found = graph.with_ops(computing(op) for op in graph.ops)
    return None if found is graph else found
