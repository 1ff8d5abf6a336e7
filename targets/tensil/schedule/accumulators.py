"""Which accumulators hold constants: those of all lanes for the whole program, at the top; below them the words per
channel of the group at hand, spare ones for SIMD steps, and what passes may use.
"""

from __future__ import annotations

from dataclasses import dataclass

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError
from pefslc.targets.tensil.machine.architecture import Architecture
from pefslc.targets.tensil.schedule.simd_steps import SPARE_VECTORS, needs_spare, simd_words
from pefslc.targets.tensil.schedule.tensor_memory import no_local_memory
from pefslc.targets.tensil.words.steps import ChannelAdd, ChannelMultiply, block_words
from pefslc.targets.tensil.words.word_group import WordGroup
from pefslc.targets.tensil.words.word_program import WordProgram

__all__ = ["Accumulators"]


@dataclass(frozen=True, slots=True)
class Accumulators:
    """How a program shares the accumulators.

    words     every word that a SIMD step uses in all lanes; they lie from accumulator `first` on
    capacity  accumulators from 0 on that passes may use, if the group has no words per channel
    spare     those that SIMD steps may overwrite
    """

    architecture: Architecture
    words: tuple[int, ...]
    capacity: int
    spare: range

    @classmethod
    def of(cls, program: WordProgram, architecture: Architecture) -> Accumulators:
        """Raises CompileError where they are too few."""
        data_type = architecture.data_type
        steps = [step for group in program.groups for step in group.steps]
        found = {1 << data_type.binary_point: None}  # one at least: the hazard guard reads it
        for step in steps:
            found |= dict.fromkeys(simd_words(step, data_type))
        words = tuple(found)
        first = architecture.accumulator_depth - len(words)
        least = 3 if any(map(needs_spare, steps)) else 2
        if first < least:
            raise CompileError(
                Code.TCU_ACCUMULATORS,
                f"the accumulators have {architecture.accumulator_depth} vectors, {len(words)} constants and "
                f"{'three' if least == 3 else 'two'} lanes of work need {len(words) + least}",
                hint="use an architecture with a larger accumulator_depth",
            )
        if len(words) > architecture.local_depth:
            raise no_local_memory(architecture, "one copy of the constants of all layers", len(words))
        spare = min(SPARE_VECTORS, first // 2) if any(map(needs_spare, steps)) else 0
        return cls(architecture, words, first - spare, range(first - spare, first))

    @property
    def first(self) -> int:
        return self.architecture.accumulator_depth - len(self.words)

    def channel_words(self, group: WordGroup) -> list[tuple[int, ...]]:
        """The words per channel of one group, each once. Raises CompileError where no work fits beside them."""
        a, there = self.architecture.array_size, self.architecture.accumulator_depth
        steps = [s for s in group.steps if isinstance(s, ChannelMultiply | ChannelAdd)]
        blocks = range(group.layout.blocks(a))
        words = list(dict.fromkeys(block_words(step, block, a) for step in steps for block in blocks))
        first = self.capacity - len(words)
        if words and first < 2:
            raise CompileError(
                Code.TCU_ACCUMULATORS,
                f"the accumulators have {there} vectors, the constants of this requantization per channel and two "
                f"lanes of work need {there - first + 2}",
                at=group.origin,
                hint="use an architecture with a larger accumulator_depth or array_size",
            )
        return words

    def capacity_of(self, group: WordGroup) -> int:
        """Accumulators that the passes of a group may use."""
        return self.capacity - len(self.channel_words(group))
