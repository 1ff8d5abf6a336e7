"""In which order a pass works on its tiles: together, or input block by input block where those are streamed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pefslc.targets.tensil.groups.layout import Layout
from pefslc.targets.tensil.matrix.step_choice import Choice
from pefslc.targets.tensil.schedule.pass_plan import Needs
from pefslc.targets.tensil.schedule.pass_steps import PassSteps
from pefslc.targets.tensil.schedule.weights import Tile, in_order
from pefslc.targets.tensil.words.word_group import WordGroup

__all__ = ["Phase", "TilePhases"]


@dataclass(frozen=True, slots=True)
class Phase:
    """What is worked on together: tiles, and the input blocks of the term (-1: of any) that they read."""

    term: int
    blocks: range
    tiles: list[Tile]


@dataclass(frozen=True, slots=True)
class TilePhases:
    """How the tiles of a group are divided into phases."""

    group: WordGroup
    needs: Needs
    layouts: Mapping[str, Layout]
    array_size: int
    tiles: list[list[Tile]]
    steps: PassSteps

    def of(self, chosen: Sequence[int], choice: Choice, whole: int) -> list[Phase]:
        """Without streaming, everything is one phase; with it, `whole` input blocks of one term at a time are."""
        blocks_of = [self.tiles[block] for block in chosen]
        late: list[Tile] = []
        if self.group.carried:
            blocks_of, late = self._carrying_sums(chosen)
        if choice.plan is not None and choice.carried:
            for i, block in enumerate(chosen[choice.first :], choice.first):
                carrying = self.steps.carrying(block, choice.plan.carried)
                assert carrying is not None
                blocks_of[i] = carrying
        tiles = in_order(blocks_of)
        if not self.needs.streamed_terms:
            return [Phase(-1, range(0), tiles + late)]
        phases = [Phase(-1, range(0), [t for t in tiles if t.tap is None])]
        for t, term in enumerate(self.group.terms):
            blocks = range(self.layouts[term.tensor].blocks(self.array_size))
            streamed = any(side[t] in self.needs.streamed_terms for side in self.group.sides)
            step = whole if streamed else len(blocks)
            for first in range(0, len(blocks), step):
                part = blocks[first : first + step]
                of_part = [i for i in tiles if i.tap is not None and i.term == t and i.in_block in part]
                phases.append(Phase(t, part, of_part))
        return [*phases, Phase(-1, range(0), late)]

    def _carrying_sums(self, chosen: Sequence[int]) -> tuple[list[list[Tile]], list[Tile]]:
        """Tiles for sums that are stored with a constant: in their own biases, or by tiles of its own, after them."""
        word = self.group.carried
        carrying = [self.steps.carrying(block, word) for block in chosen]
        if not self.needs.streamed_terms and None not in carrying:
            return [tiles for tiles in carrying if tiles is not None], []
        row = np.full((1, self.array_size), word, dtype=np.int64)
        return [self.tiles[b] for b in chosen], [Tile(b, 0, 0, None, False, True, row) for b in chosen]
