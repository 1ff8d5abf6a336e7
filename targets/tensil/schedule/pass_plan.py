"""How large a pass is and what it needs: scratch in local memory beside the accumulators.

A pass computes a rectangle of pixels of some output blocks; of small images, those of several pictures. It is as large
as the accumulators allow; where inputs, addends or the result live in DRAM0, it is also limited by the scratch through
which they go. How many accumulators there are (`capacity`), the schedule says: those that hold no constants.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pefslc.geometry.shapes import Window
from pefslc.targets.tensil.groups.group import MaxHead
from pefslc.targets.tensil.groups.layout import Layout, Rect
from pefslc.targets.tensil.machine.architecture import Architecture
from pefslc.targets.tensil.schedule.maxima import held_vectors
from pefslc.targets.tensil.words.steps import Accumulate, TwoSlopes
from pefslc.targets.tensil.words.word_group import WordGroup

__all__ = ["Needs", "PassPlan", "Scratch", "plan_passes"]


@dataclass(frozen=True, slots=True)
class Scratch:
    """Free local memory [base, base + size) for the duration of a group."""

    base: int
    size: int


@dataclass(frozen=True, slots=True)
class Needs:
    """Scratch that a group needs, in vectors.

    streamed_terms  what it reads from DRAM0, by tensor: all windows over it, and its layout
    added           tensors added from DRAM0
    staging         whether the result goes to DRAM0
    positive        whether matrix steps keep positive parts beside the result
    sides           how many tensors go through a term's weights at once
    pictures        on how many the group works at once
    """

    streamed_terms: dict[str, tuple[tuple[Window, ...], Layout]]
    added: tuple[str, ...]
    staging: bool
    weight_rows: int
    tile_rows: int
    comfort: int
    sides: int = 1
    positive: bool = False
    pictures: int = 1

    @classmethod
    def of(
        cls,
        group: WordGroup,
        layouts: dict[str, Layout],
        architecture: Architecture,
        in_dram: set[str],
        *,
        result_in_dram: bool,
        weight_rows: int,
        tile_rows: int,
        pictures: int = 1,
    ) -> Needs:
        head = group.head
        windows = [(tensor, t.window) for side in group.sides for tensor, t in zip(side, group.terms, strict=True)]
        if isinstance(head, MaxHead):
            windows = [(head.tensor, head.window)]
        streamed = {
            tensor: (tuple(window for t, window in windows if t == tensor), layouts[tensor])
            for tensor, _ in windows
            if tensor in in_dram
        }
        added = tuple(s.tensor for s in group.steps if isinstance(s, Accumulate) and s.tensor in in_dram)
        comfort = min(weight_rows, architecture.local_depth // 16)
        positive = any(isinstance(step, TwoSlopes) for step in group.steps)
        return cls(
            streamed, added, result_in_dram, weight_rows, tile_rows, comfort, len(group.sides), positive, pictures
        )

    @property
    def streams(self) -> bool:
        """Whether anything passes through scratch."""
        return bool(self.streamed_terms or self.added or self.staging or self.positive)

    @property
    def least(self) -> int:
        """For a pass of one pixel and one block."""
        return self.of_pass(Rect(0, 1, 0, 1), 1) + self.tile_rows

    @property
    def comfortable(self) -> int:
        """With room for bursts of weights."""
        return self.least + self.comfort

    def of_pass(self, rect: Rect, blocks: int, input_blocks: int = 1) -> int:
        """For inputs, addends and results in DRAM0 in a pass of this size; weights come on top."""
        whole = len(self.added) + self.staging + self.positive
        return self.input_vectors(rect, input_blocks) + rect.area * blocks * whole

    def input_vectors(self, rect: Rect, input_blocks: int) -> int:
        return self.sides * max(
            (
                _window_area(rect, window, layout) * input_blocks
                for windows, layout in self.streamed_terms.values()
                for window in windows
            ),
            default=0,
        )


def _window_area(rect: Rect, window: Window, layout: Layout) -> int:
    """An upper bound of the input pixels that a rectangle of this size sees, wherever it lies."""
    spans = [
        (size - 1) * stride + extent
        for size, stride, extent in zip((rect.height, rect.width), window.strides, window.extent, strict=True)
    ]
    height, width = (-(-span // apart) for span, apart in zip(spans, window.input_dilations, strict=True))
    return min(height, layout.height) * min(width, layout.width)


@dataclass(frozen=True, slots=True)
class PassPlan:
    """The largest pass of a group, and where its scratch lies: inputs, then addends, then the result, then its
    positive parts, then weights.

    input_size    of each of the tensors that go through a term's weights at once
    input_blocks  input blocks that are streamed in at once: all, where the scratch holds them, else one
    pictures      so many in a pass; more than one only as whole images
    """

    rows: int
    columns: int
    blocks: int
    input_blocks: int
    input_base: int
    input_size: int
    added_base: int
    staging_base: int
    positive_base: int
    weight_base: int
    weight_size: int
    pictures: int = 1

    @property
    def vectors(self) -> int:
        """Of one output block of the largest pass."""
        return self.rows * self.columns * self.pictures

    def pictures_of_passes(self, pictures: range) -> Iterator[range]:
        """The pictures of a run, pass after pass."""
        for first in range(0, len(pictures), self.pictures):
            yield pictures[first : first + self.pictures]

    def rects(self, layout: Layout) -> Iterator[Rect]:
        """The passes over a result, as parts of its image."""
        for top in range(0, layout.height, self.rows):
            for left in range(0, layout.width, self.columns):
                bottom, right = min(top + self.rows, layout.height), min(left + self.columns, layout.width)
                yield Rect(top, bottom, left, right)


def plan_passes(
    group: WordGroup,
    layouts: Mapping[str, Layout],
    needs: Needs,
    scratch: Scratch,
    capacity: int,
    architecture: Architecture,
) -> PassPlan:
    """The plan of one group, for `capacity` accumulators."""
    a = architecture.array_size
    capacity //= len(group.sides)
    pictures = _pictures_of_pass(group, needs, capacity)
    if pictures > 1:
        rows, columns = group.layout.height, group.layout.width
        blocks = min(group.layout.blocks(a), capacity // (rows * columns * pictures))
    else:
        rows, columns, blocks = _pass_size(group, layouts, needs, scratch, capacity, a)
    rect = Rect(0, rows, 0, columns)
    most = max((layout.blocks(a) for _, layout in needs.streamed_terms.values()), default=1)
    fits = needs.of_pass(rect, blocks, most) + needs.tile_rows <= scratch.size
    input_blocks = most if fits else 1
    input_size = needs.input_vectors(rect, input_blocks)
    added_base = scratch.base + input_size
    staging_base = added_base + rect.area * blocks * len(needs.added)
    positive_base = staging_base + rect.area * blocks * needs.staging
    weight_base = positive_base + rect.area * blocks * needs.positive
    weight_size = scratch.base + scratch.size - weight_base
    return PassPlan(
        rows,
        columns,
        blocks,
        input_blocks,
        scratch.base,
        input_size // needs.sides,
        added_base,
        staging_base,
        positive_base,
        weight_base,
        weight_size,
        pictures,
    )


def _pictures_of_pass(group: WordGroup, needs: Needs, capacity: int) -> int:
    """How many pictures share a pass, and its weights: as many as have room for one block of the whole image each, and
    evenly. One, where weights are not what passes share, and where something streams.
    """
    if needs.streams or group.reads_in_place or isinstance(group.head, MaxHead):
        return 1
    most = max(1, min(needs.pictures, capacity // group.layout.pixels))
    return -(-needs.pictures // -(-needs.pictures // most))


def _pass_size(
    group: WordGroup, layouts: Mapping[str, Layout], needs: Needs, scratch: Scratch, capacity: int, a: int
) -> tuple[int, int, int]:
    """Rows, columns and output blocks: the most that accumulators and scratch hold."""
    layout = group.layout
    head = group.head
    if isinstance(head, MaxHead):
        capacity, blocks = capacity // 2, 1  # one half at least is for the input
    else:
        blocks = max(1, min(layout.blocks(a), capacity // layout.pixels))
    if group.stationary is not None:
        blocks = min(layout.blocks(a), capacity)  # each pass over rows reads their weights, whatever blocks it has
    columns = min(layout.width, capacity)
    extra = 0 if group.stationary is None else group.stationary.slots - layout.blocks(a)
    rows = max(1, min(layout.height, capacity // (columns * (blocks + extra))))
    if isinstance(head, MaxHead):
        rows, columns = _of_maximum(head, layouts[head.tensor], rows, columns, 2 * capacity)
    room = scratch.size - max(needs.tile_rows, min(needs.weight_rows, scratch.size // 4))
    least = scratch.size - needs.tile_rows
    while needs.of_pass(Rect(0, rows, 0, columns), blocks) > room:
        if blocks > 1:
            blocks = 1
        elif rows > 1:
            rows = -(-rows // 2)
        elif columns > 1:
            columns = -(-columns // 2)
        else:
            assert room < least, "the scheduler gives at least what one pixel needs"
            room = least
    return rows, columns, blocks


def _of_maximum(head: MaxHead, source: Layout, rows: int, columns: int, capacity: int) -> tuple[int, int]:
    """The most of a pass of this size whose whole input the accumulators hold, too; all of it where that is nothing."""

    def fits(rows: int, columns: int) -> bool:
        rect = Rect(0, rows, 0, columns)
        seen = _window_area(rect, head.window, source)
        return rect.area + held_vectors(head.window, rect, seen) <= capacity

    smaller = [(n, columns) for n in range(rows, 0, -1)] + [(1, n) for n in range(columns - 1, 0, -1)]
    return next((size for size in smaller if fits(*size)), (rows, columns))
