"""What of a graph was split before its lowering, and what the target says of the parts, brought back to the whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pefslc.analysis.ranges import channel_accumulators
from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, Problem
from pefslc.ir.graph import Graph
from pefslc.ir.integer import Conv2d, Dense, Requantize
from pefslc.ir.value import Op
from pefslc.numeric.deviation import deviations_of
from pefslc.numeric.staircase import Staircase
from pefslc.targets.tensil.machine.architecture import DataType
from pefslc.targets.tensil.wide.split_sums import WideSums
from pefslc.targets.tensil.words.bent_requantize import Bends, merged
from pefslc.targets.tensil.words.channel_requantize import LARGEST_DEVIATION
from pefslc.targets.tensil.words.word_program import Bounded, WordProgram

__all__ = ["Split", "bounded_operations", "require_close"]


@dataclass(frozen=True, slots=True)
class Split:
    """Requantizations that bend, then sums that are wider than a word."""

    bends: Bends
    wide: WideSums

    def wholes(self) -> dict[str, str]:
        """By the operation that only the split graph has, that of the model which it is a part of."""
        made = (*self.wide.parts.items(), *self.wide.corrections.items())
        found = {part: name for name, parts in made for part in parts}
        return found | {part.result.name: name for name, parts in self.bends.parts.items() for part in parts}


def bounded_operations(graph: Graph, split: Split, program: WordProgram) -> dict[str, Bounded]:
    """The requantizations of `graph` that are not certified, by name: one that was split, as a whole."""
    producers = graph.producers()
    found = {name: b for outcome in program.outcomes for name, b in outcome.bounded.items()}
    found = _of_wide_sums(found, split)
    for op in graph.of_type(Requantize):
        parts = split.bends.parts.get(op.result.name, ())
        if not any(part.result.name in found for part in parts):
            continue
        below, above = (
            found[part.result.name].computed if part.result.name in found else part.staircase for part in parts
        )
        whole = merged(op.staircase, below, above)
        found[op.result.name] = _bounded(
            op, whole, producers.get(op.input.name), [found[p.result.name] for p in parts if p.result.name in found]
        )
    return found


def require_close(graph: Graph, split: Split, bounded: Mapping[str, Bounded], data_type: DataType) -> None:
    """Raise CompileError where a sum that is made of words tells so little apart that codes are off by more than 1."""
    problems = [
        Problem(
            Code.TCU_NOT_EXACT,
            f"the part of the sum that matters is wider than {data_type.value}, and the word nearest to it gives codes "
            f"that are off by {bounded[op.result.name].deviations.largest}",
            at=op.result.origin,
            hint="use fewer bits for what the layer makes, an architecture with a wider data type, or --target c",
        )
        for op in graph.of_type(Requantize)
        if op.result.name in split.wide.stands
        and op.result.name in bounded
        and bounded[op.result.name].deviations.largest > LARGEST_DEVIATION
    ]
    if problems:
        raise CompileError.of(problems)


def _of_wide_sums(found: Mapping[str, Bounded], split: Split) -> dict[str, Bounded]:
    """The same of the sums' own codes: those of what is made in their place are others."""
    lifted, bent = dict(found), split.bends.graph
    producers = bent.producers()
    asked = {op.result.name: op.staircase for op in split.wide.graph.of_type(Requantize)}
    for op in bent.of_type(Requantize):
        name = op.result.name
        stand = split.wide.stands.get(name)
        if stand is None or not (name in found or stand.is_near):
            continue
        computed = found[name].computed if name in found else asked[name]
        whole = stand.answered(op.staircase, computed)
        bounded = _bounded(op, whole, producers.get(op.input.name), [found[name]] if name in found else [])
        if name in found or bounded.deviations.found:
            lifted[name] = bounded
    return lifted


def _bounded(op: Requantize, whole: Staircase, producer: Op | None, parts: list[Bounded]) -> Bounded:
    """What `whole` is in place of the operation's staircase; `parts` know how far a search for it went."""
    deviations = deviations_of(op.staircase, whole, *_codes_of_channels(op, producer))
    if not deviations.found:  # the parts are placed for the codes of the whole tensor, and miss some of these
        deviations = deviations_of(op.staircase, whole, *_codes_of_channels(op, None))
    searched = [d for part in parts if (d := part.deviations.searched)]
    if searched:
        deviations = replace(deviations, searched=(sum(t for t, _ in searched), sum(c for _, c in searched)))
    return Bounded(whole, deviations)


def _codes_of_channels(op: Requantize, producer: Op | None) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Bounds of the codes that `op` reads, of each channel where `producer` makes them channel by channel."""
    domain, channels = (op.staircase.domain_low, op.staircase.domain_high), op.result.type.channels
    if isinstance(producer, Conv2d | Dense):
        low, high = (np.clip(np.array(ends, dtype=np.int64), *domain) for ends in channel_accumulators(producer))
        return low, high
    low, high = (np.full(channels, end, dtype=np.int64) for end in domain)
    return low, high
