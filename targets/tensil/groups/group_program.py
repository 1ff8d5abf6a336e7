"""The first form of a network on the TCU: groups in codes, and the tensors that they store.

Selection makes it from an integer graph, `group_rewrites/` changes it, placement brings it into the machine's words
(`words.word_program`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TypeAlias

from pefslc.ir.value import Value
from pefslc.targets.tensil.groups.group import AddTensor, Group, LinearHead, Term
from pefslc.targets.tensil.groups.host_movement import HostMove
from pefslc.targets.tensil.groups.layout import ALONE, Layout, Offsets

__all__ = ["GroupProgram", "Port", "Role", "StoredTensor", "TermKey", "TermUse", "root_of"]


class Role(Enum):
    """What a stored tensor is for. The value ends the name of a helper: `conv1.packed`."""

    VALUE = ""  # a value of the network
    PACKED = "packed"  # the leftover channels of neighbouring pixels of another tensor, in one vector
    PARTIAL = "partial"  # partial sums of another tensor's leftover channels
    LEFTOVERS = "leftovers"  # the leftover channels of another tensor, of several pixels in one vector
    SUMS = "sums"  # the sums of another tensor's leftover channels, before they are requantized
    TRANSPOSED = "transposed"  # another tensor with pixels in the lanes, and a row for each channel
    MEAN = "mean"  # a step on the way to another tensor, which is a mean
    PIXELS = "pixels"  # another tensor as a plain host lays it, pixel by pixel


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor in the TCU's memories.

    low, high  the codes that it can hold
    packing    the offsets (dy, dx) of the pixels that share a vector, of an input that the host packs
    steps      rows and columns from one vector of such an input to the next: `layout` is that of the vectors
    by_pixel   the layout of the tensor of which `layout` is an image: the blocks of a pixel's channels are neighbouring
               columns; None where it is its own
    dense      its pixels lie one behind the other without a gap, not each in vectors of its own
    role, of   what a helper is for, and of which tensor; of = "" for a value of the network
    """

    name: str
    layout: Layout
    low: int
    high: int
    packing: Offsets = ALONE
    steps: tuple[int, int] = (1, 1)
    role: Role = Role.VALUE
    of: str = ""
    by_pixel: Layout | None = None
    dense: bool = False

    def helper(self, role: Role, layout: Layout, codes: tuple[int, int], number: int | None = None) -> StoredTensor:
        """A helper of this tensor; `number` tells helpers of one role apart."""
        name = f"{self.name}.{role.value}{'' if number is None else number}"
        return StoredTensor(name, layout, *codes, role=role, of=self.name)

    @property
    def codes(self) -> tuple[int, int]:
        return self.low, self.high

    @property
    def image(self) -> Layout:
        """Of an input that the host packs, the layout before that."""
        down, across = self.steps
        channels = self.layout.channels // len(self.packing)
        return Layout(channels, self.layout.height * down, self.layout.width * across)


@dataclass(frozen=True, slots=True)
class Port:
    """An input or output: its ONNX name, its value in the graph, and the stored tensor that holds it.

    moves  how the host moves elements: of an input before it stores them, of an output when it has read them
    """

    name: str
    value: Value
    tensor: str
    moves: tuple[HostMove, ...] = ()


TermKey: TypeAlias = tuple[str, int]  # the result of a group, and the place of a term among its terms


@dataclass(frozen=True, slots=True)
class TermUse:
    """A term, and the layout of the result that it adds to."""

    key: TermKey
    term: Term
    output: Layout


@dataclass(frozen=True, slots=True)
class GroupProgram:
    """Groups in the order in which they run. A tensor is an input, or the result of one group.

    tensors  by name, in the order in which they were chosen
    storage  where each value of the graph lies; values inside of a group do not
    """

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    groups: tuple[Group, ...]
    tensors: Mapping[str, StoredTensor]
    storage: Mapping[str, str] = field(default_factory=dict)

    def layout(self, tensor: str) -> Layout:
        return self.tensors[tensor].layout

    @property
    def output_tensors(self) -> frozenset[str]:
        """Stored tensors that the host reads: they must lie as usual."""
        return frozenset(port.tensor for port in self.outputs)

    def with_groups(self, groups: Iterable[Group], tensors: Iterable[StoredTensor] = ()) -> GroupProgram:
        """Other groups; `tensors` are new, or replace those of their names. What nobody makes any more goes."""
        groups = tuple(groups)
        known = {**self.tensors, **{tensor.name: tensor for tensor in tensors}}
        kept = {port.tensor for port in self.inputs} | {group.result for group in groups}
        return replace(
            self,
            groups=groups,
            tensors={name: tensor for name, tensor in known.items() if name in kept},
        )

    def uses_of(self, tensor: str) -> list[TermUse]:
        """The convolutions that read a tensor."""
        return [
            TermUse((group.result, place), term, group.layout)
            for group in self.groups
            if isinstance(group.head, LinearHead)
            for place, term in enumerate(group.head.terms)
            if term.tensor == tensor
        ]

    def groups_with_terms(self, parts: Mapping[TermKey, tuple[Term, ...]]) -> list[Group]:
        """The groups with some of their terms replaced, each by one or more."""
        return [_with_terms(group, parts) for group in self.groups]

    def is_read_otherwise(self, tensor: str) -> bool:
        """Whether a sum or a maximum reads a tensor: they want it as it is."""
        added = {s.tensor for g in self.groups for s in g.steps if isinstance(s, AddTensor)}
        maxima = {g.head.tensor for g in self.groups if not isinstance(g.head, LinearHead)}
        return tensor in added | maxima


def root_of(tensors: Mapping[str, StoredTensor], name: str) -> str:
    """The value of the network that a tensor is, or is a helper of, directly or by way of other helpers."""
    while name in tensors and tensors[name].of:
        name = tensors[name].of
    return name


def _with_terms(group: Group, parts: Mapping[TermKey, tuple[Term, ...]]) -> Group:
    head = group.head
    if not isinstance(head, LinearHead):
        return group
    terms = [parts.get((group.result, place), (term,)) for place, term in enumerate(head.terms)]
    if all(len(part) == 1 and part[0] is term for part, term in zip(terms, head.terms, strict=True)):
        return group
    return replace(group, head=replace(head, terms=tuple(term for part in terms for term in part)))
