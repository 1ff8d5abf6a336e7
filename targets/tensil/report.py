"""What became of each operation of the graph: how it is done, what it costs, what a bounded one computes instead."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from pefslc.ir.graph import Graph
from pefslc.ir.integer import Requantize
from pefslc.ir.value import Op
from pefslc.numeric.deviation import deviations_of
from pefslc.targets.protocol import OpReport
from pefslc.targets.tensil.cost.cycles import CycleReport
from pefslc.targets.tensil.rewrite.leftover_channels import HELPERS, TRANSPOSED
from pefslc.targets.tensil.rewrite.means import MEANS
from pefslc.targets.tensil.words.bent_requantize import Bends, merged
from pefslc.targets.tensil.words.placed_group import Bounded, Placed, PlacedGroup

__all__ = ["bounded_operations", "computed_graph", "op_reports", "parts_of"]

_HELPERS = ("", *HELPERS, *MEANS)  # added to a group's name by what was split off it


def bounded_operations(graph: Graph, bends: Bends, placed: Placed) -> dict[str, Bounded]:
    """The requantizations of `graph` that are not certified, by name: one that was split, as a whole."""
    found = {name: b for group in placed.groups for name, b in group.bounded.items()}
    for op in graph.of_type(Requantize):
        parts = bends.parts.get(op.result.name, ())
        if not any(part.result.name in found for part in parts):
            continue
        below, above = (
            found[part.result.name].computed if part.result.name in found else part.staircase for part in parts
        )
        whole = merged(op.staircase, below, above)
        low, high = (np.full(whole.channels, end) for end in (whole.domain_low, whole.domain_high))
        deviations = deviations_of(op.staircase, whole, low, high)
        searched = [
            d for part in parts if part.result.name in found and (d := found[part.result.name].deviations.searched)
        ]
        if searched:
            deviations = replace(deviations, searched=(sum(t for t, _ in searched), sum(c for _, c in searched)))
        found[op.result.name] = Bounded(whole, deviations)
    return found


def op_reports(
    bends: Bends, placed: Placed, report: CycleReport, bounded: Mapping[str, Bounded]
) -> dict[str, OpReport]:
    """By operation. Cycles stand at the first one of each group, which is computed as one."""
    found: dict[str, OpReport] = {}
    for group in placed.groups:
        for i, (op, how) in enumerate(group.implementation.items()):
            names = _instructions_of(group)
            total = sum(report.of(names).values()) if i == 0 else None
            deviations = bounded[op].deviations if op in bounded else None
            found[op] = OpReport(how, group.exact, total, deviations)
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


def parts_of(bends: Bends, placed: Placed) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    """(operations, groups of instructions): a group and what it was rewritten into are computed as one."""
    whole = {part.result.name: name for name, parts in bends.parts.items() for part in parts}
    return [
        (
            tuple(dict.fromkeys(whole.get(op, op) for op in group.implementation)),
            tuple(_instructions_of(group)),
        )
        for group in placed.groups
        if group.implementation
    ]


def _instructions_of(group: PlacedGroup) -> list[str]:
    """The groups of instructions that a group was rewritten into."""
    name = group.group.result.removesuffix(TRANSPOSED)
    return [name + helper for helper in _HELPERS]


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
