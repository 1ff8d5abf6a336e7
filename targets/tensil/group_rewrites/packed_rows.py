"""Packed vectors with lanes left: those of several rows are one, and what lies in two lanes lies in one.

`leftover_channels` packs the neighbours of a row into one vector, and `grouped_pixels` has it packed for several pixels
of the result at once, so that it holds some pixels twice. Merged, they leave lanes for a second row: then a 3 x 3
window reads two vectors where it read three, and there are half as many to pack and to store.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from pefslc.targets.tensil.group_rewrites.convolution_cost import tiles_of_few_lanes
from pefslc.targets.tensil.group_rewrites.pixel_groups import making_groups, reading_groups
from pefslc.targets.tensil.groups.group import Group, LinearHead, Term, Weights
from pefslc.targets.tensil.groups.group_program import GroupProgram, Role, StoredTensor, TermKey, TermUse
from pefslc.targets.tensil.groups.layout import Layout
from pefslc.targets.tensil.machine.architecture import Architecture
from pefslc.targets.tensil.rewriting.rewrite import LOG, Context

__all__ = ["PackRows"]

_ROWS = 0  # the axis


class PackRows:
    """Packed tensors whose readers gain by it have several rows in a vector."""

    name: ClassVar[str] = "pack-rows"
    needs: ClassVar[str] = "pack-leftovers has run, and group-pixels, if it is to"
    ensures: ClassVar[str] = (
        "such a tensor of role `packed` has more channels and fewer rows; no channel is there twice"
    )

    def run(self, program: GroupProgram, context: Context) -> GroupProgram:
        for packed in [stored for stored in program.tensors.values() if stored.role is Role.PACKED]:
            assert not program.is_read_otherwise(packed.name), "it was packed for convolutions"
            ways = list(_ways(program, packed, context.architecture))
            best = min(ways, key=lambda way: way.cycles(context.architecture), default=None)
            if best is None or best is ways[0]:
                LOG.debug("%s: %s stays as it is", self.name, packed.name)
            else:
                program = best.program()
        return program


@dataclass(frozen=True, slots=True, eq=False)
class _Way:
    """The packing group, and the terms of its readers, by their places."""

    before: GroupProgram
    packer: Group
    readers: Mapping[TermKey, tuple[Term, Layout]]

    def cycles(self, architecture: Architecture) -> int:
        """Of the MatMuls, and of storing the packed vectors."""
        assert isinstance(self.packer.head, LinearHead)
        (ones,) = self.packer.head.terms
        source = self.before.layout(ones.tensor)
        uses = [(ones, source, self.packer.layout), *((t, self.packer.layout, out) for t, out in self.readers.values())]
        return self.packer.layout.pixels + sum(
            tiles_of_few_lanes(term.weight, term.window, read, made, architecture)[0] for term, read, made in uses
        )

    def program(self) -> GroupProgram:
        stored = replace(self.before.tensors[self.packer.result], layout=self.packer.layout)
        groups = self.before.groups_with_terms({key: (term,) for key, (term, _) in self.readers.items()})
        return self.before.with_groups([self.packer if g.result == stored.name else g for g in groups], [stored])


def _ways(program: GroupProgram, packed: StoredTensor, architecture: Architecture) -> Iterator[_Way]:
    """First as it is, then the others."""
    (packer,) = (group for group in program.groups if group.result == packed.name)
    uses = program.uses_of(packed.name)
    assert isinstance(packer.head, LinearHead)
    (ones,) = packer.head.terms
    yield _Way(program, packer, {use.key: (use.term, use.output) for use in uses})
    lanes = _Lanes.of(ones.weight)
    for rows in range(1, architecture.array_size // lanes.count + 1):
        if (way := _of_rows(program, packer, ones, uses, lanes, rows)) is not None:
            yield way


def _of_rows(
    program: GroupProgram, packer: Group, ones: Term, uses: Sequence[TermUse], lanes: _Lanes, rows: int
) -> _Way | None:
    """The way with so many rows in a vector. The last one may end behind the image: its lanes hold pixels as they lie
    there, or the 0 outside, which is what windows count on.
    """
    made = making_groups(lanes.kept(ones.weight), ones.window, _ROWS, rows)
    read = {use.key: reading_groups(lanes.merged(use.term.weight), use.term.window, _ROWS, rows) for use in uses}
    if made is None or None in read.values():
        return None
    layout = packer.layout
    layout = Layout(lanes.count * rows, -(-layout.height // rows), layout.width)
    head = LinearHead((replace(ones, weight=made[0], window=made[1]),), np.zeros(layout.channels, dtype=np.int64))
    terms = {use.key: (Term(use.term.tensor, *found), use.output) for use in uses if (found := read[use.key])}
    return _Way(program, replace(packer, layout=layout, head=head), terms)


@dataclass(frozen=True, slots=True, eq=False)
class _Lanes:
    """Which lanes of packed vectors are kept: of those that hold the same, the first.

    place  by lane, where among those that are kept what it holds is
    """

    first: Weights
    place: Weights

    @classmethod
    def of(cls, ones: Weights) -> _Lanes:
        """`ones` [lanes, C, KH, KW]: the convolution that packs."""
        found: dict[bytes, int] = {}
        place = [found.setdefault(lane.tobytes(), len(found)) for lane in ones]
        return cls(np.array([place.index(i) for i in range(len(found))]), np.array(place))

    @property
    def count(self) -> int:
        return len(self.first)

    def kept(self, ones: Weights) -> Weights:
        return ones[self.first]

    def merged(self, weight: Weights) -> Weights:
        """Of a reader [C_out, lanes, KH, KW]: what lay in several lanes is read from one, by all their weights."""
        same = (np.arange(self.count)[:, None] == self.place).astype(np.int64)  # [kept lanes, lanes]
        merged: Weights = np.einsum("kl,olyx->okyx", same, weight)
        return merged
