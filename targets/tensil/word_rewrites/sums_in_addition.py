"""Requantization while adding: an addend that nobody else reads is stored as sums, and the addition shifts them.

    have  b = clip(shift(conv(y))); c = steps(... + b)      a group of its own that requantizes
    want  b = conv(y); c = steps(... + shift(b))            its MatMul adds b times a diagonal matrix

The sums carry a constant that made those saturate that end above the clip; the MatMul's bias takes it away again. Where
the addend had a lower clip, `drop-idle-clips` must have dropped it. Done where that takes fewer cycles, and
where a certified plan exists for the group that adds.
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from pefslc.targets.tensil.machine.architecture import Architecture
from pefslc.targets.tensil.matrix.group_steps import added_tensors, addend_plan
from pefslc.targets.tensil.matrix.matrix_plan import shift_of
from pefslc.targets.tensil.rewriting.rewrite import LOG, Context
from pefslc.targets.tensil.word_rewrites.addends import rewrite_addends
from pefslc.targets.tensil.word_rewrites.step_cycles import step_cycles
from pefslc.targets.tensil.words.steps import Minimum, Multiply
from pefslc.targets.tensil.words.word_group import WordGroup
from pefslc.targets.tensil.words.word_program import WordProgram

__all__ = ["RequantizeWhileAdding"]


class RequantizeWhileAdding:
    """Addends that nobody else reads are stored as sums, where that is shorter: the addition requantizes them."""

    name: ClassVar[str] = "requantize-while-adding"
    needs: ClassVar[str] = "drop-idle-clips has run; room for the rows of matrix steps (`word_rewrites.additions`)"
    ensures: ClassVar[str] = "an addend that is stored as sums carries a constant, which the addition takes away"

    def run(self, program: WordProgram, context: Context) -> WordProgram:
        if program.native is not None:
            LOG.debug("%s: native arithmetic does not requantize", self.name)
            return program
        architecture = context.architecture

        def shorter(group: WordGroup, addend: WordGroup) -> tuple[WordGroup, WordGroup] | None:
            pair = _as_sums(group, addend, architecture)
            if pair is None or _cycles(*pair, architecture) >= _cycles(group, addend, architecture):
                return None
            return pair

        return rewrite_addends(program, shorter)


def _as_sums(group: WordGroup, addend: WordGroup, architecture: Architecture) -> tuple[WordGroup, WordGroup] | None:
    """Both groups, the second without steps; None where the first cannot do them."""
    data_type = architecture.data_type
    (added,) = added_tensors(group)
    match addend.steps:
        case (Multiply() as multiply, Minimum(ceiling)) if addend.terms and not addend.carried:
            shift = shift_of(multiply, data_type)
        case _:
            return None
    if shift is None or added.ceiling is not None or addend.stationary or group.stationary:
        return None
    carried = -data_type.min_code - (ceiling << shift)
    low, high = addend.words
    if not data_type.min_code <= carried <= data_type.max_code or low + carried < data_type.min_code:
        return None
    scaled = replace(added, low=low, high=high, ceiling=ceiling, word=multiply.word, carried=carried)
    adding = replace(group, steps=tuple(scaled if step is added else step for step in group.steps))
    if addend_plan(adding, data_type) is None:
        return None
    return adding, replace(addend, steps=(), carried=carried)


def _cycles(group: WordGroup, addend: WordGroup, architecture: Architecture) -> int:
    """About what the steps of both groups take."""
    return sum(step_cycles(each, architecture, carried=False) for each in (group, addend))
