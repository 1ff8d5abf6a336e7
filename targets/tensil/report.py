"""What became of each operation of the graph: how it is done, what it costs, what a bounded one computes instead."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from pefslc.ir.graph import Graph
from pefslc.ir.integer import Requantize
from pefslc.ir.value import Op
from pefslc.targets.protocol import OpReport
from pefslc.targets.tensil.cost.cycles import CycleReport
from pefslc.targets.tensil.groups.group_program import root_of
from pefslc.targets.tensil.schedule.batches import Batches
from pefslc.targets.tensil.split import Split
from pefslc.targets.tensil.words.word_program import Bounded, WordProgram

__all__ = ["computed_graph", "op_reports", "parts_of"]


def op_reports(
    split: Split, program: WordProgram, report: CycleReport, bounded: Mapping[str, Bounded], batches: Batches
) -> dict[str, OpReport]:
    """By operation. Cycles stand at the first one of each group, which is computed as one."""
    tensors = _tensors_of_outcomes(program)
    found: dict[str, OpReport] = {}
    for outcome in program.outcomes:
        for i, (op, how) in enumerate(outcome.implementation.items()):
            total = sum(report.of(tensors[outcome.tensor]).values()) if i == 0 else None
            deviations = bounded[op].deviations if op in bounded else None
            how += batches.text_of(tensors[outcome.tensor]) if i == 0 else ""
            found[op] = OpReport(how, outcome.exact, total, deviations)
    for name, parts in split.wide.parts.items():
        reports = [found.pop(part) for part in (*parts, name) if part in found]
        cycles = [r.cycles for r in reports if r.cycles is not None]
        exact = all(r.exact for r in reports)
        how = f"{split.wide.plans[name]}, {reports[-1].implementation}"
        found[name] = OpReport(how, exact, sum(cycles) if cycles else None, is_split=True)
    for name, parts in split.wide.corrections.items():
        reports = [found.pop(part) for part in (*parts, name) if part in found]
        cycles = [r.cycles for r in reports if r.cycles is not None]
        how = f"{reports[0].implementation}, corrected by the residual"
        found[name] = OpReport(how, all(r.exact for r in reports), sum(cycles) if cycles else None)
    for name, stand in split.wide.stands.items():
        if stand.is_near and name in bounded:
            found[name] = replace(found[name], exact=False, deviations=bounded[name].deviations)
    for name, bent in split.bends.parts.items():
        reports = [found.pop(part.result.name) for part in bent] + [found[name]]
        cycles = [r.cycles for r in reports if r.cycles is not None]
        found[name] = OpReport(
            f"{reports[0].implementation} below 0, {reports[1].implementation} above",
            all(r.exact for r in reports),
            sum(cycles) if cycles else None,
            bounded[name].deviations if name in bounded else None,
        )
    return found


def parts_of(split: Split, program: WordProgram) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    """(operations, tensors that instructions make for them): a group and what it was rewritten into are one part."""
    whole = split.wholes()
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
