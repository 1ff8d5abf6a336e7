"""Both rewrites of additions, if the rows that they need fit in local memory: else neither, for what an addition clips
has to be done there.
"""

from __future__ import annotations

from typing import ClassVar

from pefslc.targets.tensil.matrix.resident_rows import resident_rows
from pefslc.targets.tensil.rewriting.rewrite import LOG, Context
from pefslc.targets.tensil.word_rewrites.addends import FoldAddends
from pefslc.targets.tensil.word_rewrites.sums_in_addition import RequantizeWhileAdding
from pefslc.targets.tensil.words.word_program import WordProgram

__all__ = ["MergeAdditions"]

_PARTS = FoldAddends(), RequantizeWhileAdding()


class MergeAdditions:
    """`fold-addends`, then `requantize-while-adding`, where local memory holds the rows of all matrix steps."""

    name: ClassVar[str] = "merge-additions"
    needs: ClassVar[str] = (
        "drop-idle-clips has run; the last rewrite but for offsets, for it counts the rows of all groups"
    )
    ensures: ClassVar[str] = "the rows of every addition that clips are resident"

    def run(self, program: WordProgram, context: Context) -> WordProgram:
        merged = program
        for part in _PARTS:
            if context.runs(part.name):
                merged = part.run(merged, context)
            else:
                LOG.debug("%s: left out", part.name)
        if merged is not program and not resident_rows(merged.groups, context.architecture):
            LOG.debug("%s: the rows of matrix steps are too many for local memory", self.name)
            return program
        return merged
