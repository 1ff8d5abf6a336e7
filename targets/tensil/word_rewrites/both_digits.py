"""Sums over both digits of a tensor in one pass: the weights are loaded once, and no sum but the last is stored.

    have  a = conv(high digit); b = conv(low digit); c = steps(a * 2^n + b)      three groups
    want  c = steps(conv(low digit) + 2^n * conv(high digit))                    both sums side by side

What saturates does so as before: the product, and the sum of both.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import ClassVar

import numpy as np

from pefslc.targets.tensil.groups.group import is_copy
from pefslc.targets.tensil.machine.architecture import DataType
from pefslc.targets.tensil.matrix.resident_rows import resident_rows
from pefslc.targets.tensil.rewriting.rewrite import LOG, Context
from pefslc.targets.tensil.words.steps import Accumulate, AddHigh, Multiply, apply_steps
from pefslc.targets.tensil.words.word_group import WordGroup
from pefslc.targets.tensil.words.word_program import WordProgram

__all__ = ["SumBothDigits"]


class SumBothDigits:
    """Groups that add two sums with the same weights, one of them times a power of two, make both themselves."""

    name: ClassVar[str] = "sum-both-digits"
    needs: ClassVar[str] = "what changes the steps of sums before they are added has run; merge-additions follows"
    ensures: ClassVar[str] = "the matrix of every step that adds high sums is resident"

    def run(self, program: WordProgram, context: Context) -> WordProgram:
        groups = {group.result: group for group in program.groups}
        reads = Counter(tensor for group in program.groups for tensor in group.tensors)
        alone = {name for name, count in reads.items() if count == 1} - program.output_tensors
        one = context.data_type.one
        changed = False
        for group in program.groups:
            fused = _fused(group, groups, alone, one)
            if fused is not None:
                del groups[group.terms[0].tensor], groups[_added(group).tensor]
                groups[group.result], changed = fused, True
        if not changed:
            return program
        groups = {name: _scaled_at_once(group, context.data_type) for name, group in groups.items()}
        if not resident_rows(list(groups.values()), context.architecture):
            LOG.debug("%s: the rows of matrix steps are too many for local memory", self.name)
            return program
        return program.with_groups(groups.values())


def _scaled_at_once(group: WordGroup, data_type: DataType) -> WordGroup:
    """A tensor times one number in its MatMul, where a step would multiply the copy: so are high digits made.

    A MatMul with one product for each sum rounds it as the step does.
    """
    if len(group.terms) != 1 or group.bias.any() or group.stationary or group.carried:
        return group
    (term,), first = group.terms, group.steps[:1]
    if not first or not isinstance(first[0], Multiply) or not is_copy(term.weight, term.window, data_type.one):
        return group
    step, ends = first[0], np.stack(group.partial)
    low, high = apply_steps([step], ends, data_type)
    words = apply_steps([step], np.array(group.words), data_type)
    scaled = replace(term, weight=term.weight // data_type.one * step.word)
    return replace(
        group,
        terms=(scaled,),
        steps=group.steps[1:],
        words=(int(words.min()), int(words.max())),
        partial=(np.minimum(low, high), np.maximum(low, high)),
    )


def _added(group: WordGroup) -> Accumulate:
    (step,) = group.steps[:1]
    assert isinstance(step, Accumulate)
    return step


def _fused(group: WordGroup, groups: dict[str, WordGroup], alone: set[str], one: int) -> WordGroup | None:
    """The group that makes both sums; None where it is no sum of two such sums."""
    if len(group.terms) != 1 or group.bias.any() or group.stationary or group.carried or not group.steps:
        return None
    (term,), added = group.terms, group.steps[0]
    if not isinstance(added, Accumulate) or added.ceiling is not None or added.word is not None or added.carried:
        return None
    high, low = groups.get(term.tensor), groups.get(added.tensor)
    if high is None or low is None or high is low or not {high.result, low.result} <= alone:
        return None
    word = int(term.weight.max())
    if word <= one or not is_copy(term.weight, term.window, word) or not _alike(high, low):
        return None
    step = AddHigh(tuple(t.tensor for t in high.terms), word, high.bias, *high.partial)
    return replace(
        group,
        terms=low.terms,
        bias=low.bias,
        words=low.words,
        partial=low.partial,
        steps=(step, *group.steps[1:]),
    )


def _alike(high: WordGroup, low: WordGroup) -> bool:
    """Whether both are bare sums of the same products."""
    if not high.terms or high.layout != low.layout or len(high.terms) != len(low.terms):
        return False
    if any(g.steps or g.stationary or g.carried for g in (high, low)):
        return False
    return all(
        a.window == b.window and np.array_equal(a.weight, b.weight) for a, b in zip(high.terms, low.terms, strict=True)
    )
