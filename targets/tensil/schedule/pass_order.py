"""In which order a group's passes read blocks of what it reads, and write blocks of its results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pefslc.targets.tensil.groups.group import MaxHead
from pefslc.targets.tensil.groups.layout import Layout
from pefslc.targets.tensil.machine.architecture import Architecture
from pefslc.targets.tensil.schedule.pass_plan import Needs, Scratch, plan_passes
from pefslc.targets.tensil.schedule.weight_stream import hidden_behind
from pefslc.targets.tensil.schedule.weights import Tile
from pefslc.targets.tensil.words.steps import Accumulate
from pefslc.targets.tensil.words.word_group import WordGroup

__all__ = ["PassOrder", "hidden_by", "sets_of_blocks"]


def sets_of_blocks(
    tiles: Sequence[Sequence[Tile]], together: int, architecture: Architecture, *, is_read: bool, fewest_first: bool
) -> list[list[int]]:
    """The output blocks, so many in a pass: those first whose tiles hide least SIMD, for the last ones' tiles hide what
    was left before them.

    is_read       whether the tiles come from DRAM1
    fewest_first  whether the blocks that are left over make the first pass, not the last one
    """
    order = sorted(range(len(tiles)), key=lambda block: hidden_by(tiles[block], architecture, is_read=is_read))
    first = len(order) % together if fewest_first else 0
    starts = range(first, len(order), together)
    return [order[:first]] * bool(first) + [order[start : start + together] for start in starts]


def hidden_by(tiles: Sequence[Tile], architecture: Architecture, *, is_read: bool) -> int:
    """Cycles of SIMD that the tiles of an output block hide."""
    return sum(hidden_behind(tile, architecture, is_read=is_read) for tile in tiles)


@dataclass(frozen=True, slots=True)
class PassOrder:
    """Passes of whole images: for each of the `parts` of the pictures, counted from the run's first, sets of output
    blocks in turn.

    free_from  by (tensor, block), the number of the first set whose results may lie where that block lies: all tiles
               of the pass have read it by then, and nothing reads it any more. The number of sets: not before the next
               part
    """

    parts: tuple[range, ...]
    sets: tuple[tuple[int, ...], ...]
    free_from: Mapping[tuple[str, int], int]

    @classmethod
    def of(
        cls,
        group: WordGroup,
        layouts: Mapping[str, Layout],
        tiles: Sequence[Sequence[Tile]],
        needs: Needs,
        pictures: int,
        capacity: int,
        architecture: Architecture,
        *,
        is_read: bool,
    ) -> PassOrder | None:
        """Of a group that streams nothing; None where it has no such order."""
        if needs.streams or group.reads_in_place or isinstance(group.head, MaxHead) or group.add_high is not None:
            return None
        plan = plan_passes(group, layouts, needs, Scratch(0, architecture.local_depth), capacity, architecture)
        if (plan.rows, plan.columns) != (group.layout.height, group.layout.width):
            return None
        sets = sets_of_blocks(tiles, plan.blocks, architecture, is_read=is_read, fewest_first=True)
        free_from: dict[tuple[str, int], int] = {}
        added = [step.tensor for step in group.steps if isinstance(step, Accumulate)]
        for number, chosen in enumerate(sets):
            for block in chosen:
                for tile in tiles[block]:
                    if tile.tap is not None:
                        free_from[group.terms[tile.term].tensor, tile.in_block] = number
        for number, chosen in enumerate(sets):
            for key in ((tensor, block) for tensor in added for block in chosen):
                free_from[key] = max(free_from.get(key, 0), number + 1)
        return cls(tuple(plan.pictures_of_passes(range(pictures))), tuple(map(tuple, sets)), free_from)
