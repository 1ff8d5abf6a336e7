"""The second form of a network on the TCU: groups in raw words.

Placement makes it from groups in codes, `word_rewrites/` changes it, the schedule turns it into instructions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from pefslc.numeric.deviation import Deviations
from pefslc.numeric.format import FixedPoint
from pefslc.numeric.staircase import Staircase
from pefslc.targets.tensil.groups.group_program import Port, StoredTensor
from pefslc.targets.tensil.groups.layout import Layout
from pefslc.targets.tensil.words.word_group import WordGroup

__all__ = ["Bounded", "Outcome", "WordProgram", "WordTensor"]


@dataclass(frozen=True, slots=True)
class WordTensor:
    """A stored tensor in raw words: word = code * 2^exponent / finer + offset.

    finer   1, but in native arithmetic, where codes may be no multiples of words
    offset  where its group's steps end shorter so (`word_rewrites.offsets`); whatever reads it takes that off again
    """

    stored: StoredTensor
    exponent: int
    finer: int = 1
    offset: int = 0

    @property
    def layout(self) -> Layout:
        return self.stored.layout

    def with_layout(self, layout: Layout) -> WordTensor:
        return replace(self, stored=replace(self.stored, layout=layout))


@dataclass(frozen=True, slots=True, eq=False)
class Bounded:
    """A requantization that is not certified: what it computes, and where that differs."""

    computed: Staircase
    deviations: Deviations


@dataclass(frozen=True, slots=True)
class Outcome:
    """What placement made of the operations that one group computes. No rewrite of the group changes it.

    tensor          the result of the group, as it was placed
    implementation  how each operation is done, by its result
    exact           whether all of them were proven equal to the model's
    bounded         the requantizations that are not certified
    """

    tensor: str
    implementation: Mapping[str, str]
    exact: bool
    bounded: Mapping[str, Bounded] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class WordProgram:
    """Groups in the order in which they run. A tensor is an input, or the result of one group.

    outcomes  a report on the operations of each group that was placed
    native    the format of the words in native arithmetic, but for inputs; else None
    """

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    groups: tuple[WordGroup, ...]
    tensors: Mapping[str, WordTensor]
    outcomes: tuple[Outcome, ...]
    native: FixedPoint | None = None

    def layout(self, tensor: str) -> Layout:
        return self.tensors[tensor].layout

    @property
    def layouts(self) -> dict[str, Layout]:
        """The layout of each stored tensor."""
        return {name: tensor.layout for name, tensor in self.tensors.items()}

    @property
    def output_tensors(self) -> frozenset[str]:
        """Stored tensors that the host reads: they must lie as usual."""
        return frozenset(port.tensor for port in self.outputs)

    def with_groups(self, groups: Iterable[WordGroup], tensors: Iterable[WordTensor] = ()) -> WordProgram:
        """Other groups; `tensors` are new, or replace those of their names. What nobody makes any more goes."""
        groups = tuple(groups)
        known = {**self.tensors, **{tensor.stored.name: tensor for tensor in tensors}}
        kept = {port.tensor for port in self.inputs} | {group.result for group in groups}
        return replace(self, groups=groups, tensors={name: tensor for name, tensor in known.items() if name in kept})
