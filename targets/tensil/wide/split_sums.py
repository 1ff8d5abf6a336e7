"""Sums that need more bits than a word has, made of words: a rewrite of the integer graph.

    y = staircase(sum)    ==>    t = the sum, saturated where the staircase is flat;  y = staircase'(t)

The sum is made of parts of its fan-in, or of sums over both digits of its input, whatever is cheapest of what is
certified (`plans`). Where even the part of the sum that matters is wider than a word, it is halved until it fits, and
the staircase' is the nearest that this can tell apart: the codes that differ are listed. What the target reports of the
parts is brought back to the operations that the model has.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from pefslc.ir.graph import Graph
from pefslc.ir.integer import Conv2d, Dense, Requantize, Rescale, Sum, SumPool
from pefslc.ir.structural import Reshape, Slice, Transpose
from pefslc.ir.value import Op, Value
from pefslc.numeric.staircase import Staircase
from pefslc.passes.check_accumulators import accumulator_bits
from pefslc.targets.tensil.machine.architecture import Architecture
from pefslc.targets.tensil.wide.active_range import FAR, ActiveRange
from pefslc.targets.tensil.wide.corrected import Corrector
from pefslc.targets.tensil.wide.digits import Digits
from pefslc.targets.tensil.wide.fan_in import FanIn, linear_form
from pefslc.targets.tensil.wide.made_of_words import Maker, Word, add_saturated
from pefslc.targets.tensil.wide.plans import DigitPlan, Plan, Saturation, apart_plans, holds_whole, plans_of
from pefslc.targets.tensil.wide.staircase_of_sum import Stand, shift_offset
from pefslc.targets.tensil.wide.summed import Summed
from pefslc.targets.tensil.words.channel_fits import ChannelFits

__all__ = ["Chosen", "WideSums", "is_wide", "split_sums"]

Words = NDArray[np.int64]
Summing = Conv2d | Dense | Sum | SumPool | Rescale
Moving = Reshape | Transpose | Slice
Chosen = dict[tuple[str, tuple[int, ...]], tuple[Stand, Plan] | None]  # by the sum, and the digits there already

_SHIFTS = 9  # multiples of 2^9 leave a shift by up to 8 what it is
_COARSEST = 4  # times that a sum is halved


@dataclass(frozen=True, slots=True)
class WideSums:
    """The graph to lower, and what became of the sums that are wider than a word.

    parts   by the sum: the results of the operations that it is made of; where it is requantized, the last one, beside
            these, has its name
    plans   by the sum
    words   by the name of an output of such sums: how many bits up each of its words stands, whose sum it is
    stands  by the requantization that reads it: where the sum stands
    corrections  by the requantization that is corrected: what its result is made of, beside the last operation
    """

    graph: Graph
    parts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    plans: Mapping[str, Plan] = field(default_factory=dict)
    stands: Mapping[str, Stand] = field(default_factory=dict)
    words: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    corrections: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def is_wide(op: Op, bits: int) -> bool:
    """Whether some partial sum of the operation needs more bits."""
    return isinstance(op, Summing) and accumulator_bits(op) > bits


def split_sums(
    graph: Graph,
    architecture: Architecture,
    fits: ChannelFits | None = None,
    correct: Collection[str] | None = (),
    chosen: Chosen | None = None,
) -> WideSums:
    """The graph with every wide sum, for which there is a way, made of words. The others stay as they are.

    fits     what is known of words for staircases, and learns it here
    correct  requantizations of narrow sums, by name, that are corrected, too; None for no correction at all
    chosen   the cheapest plans, whatever is corrected: of the same graph before; learns them here
    """
    if not correct and not any(is_wide(op, architecture.data_type.width_bits) for op in graph.ops):
        return WideSums(graph)
    fits = fits or ChannelFits(architecture.data_type)
    return _Splitter(graph, architecture, fits, correct, {} if chosen is None else chosen).split()


class _Splitter:
    def __init__(
        self,
        graph: Graph,
        architecture: Architecture,
        fits: ChannelFits,
        correct: Collection[str] | None,
        chosen: Chosen,
    ) -> None:
        self.chosen = chosen
        self.fits, self.correct, self.corrects = fits, correct or (), correct is not None
        self.graph, self.architecture, self.data_type = graph, architecture, architecture.data_type
        self.producers, self.readers = graph.producers(), graph.consumers()
        self.outputs = {o.value.name for o in graph.outputs}
        self.ops: list[Op] = []
        self.digits = Digits(self.producers, self.ops)
        self.parts: dict[str, tuple[str, ...]] = {}
        self.plans: dict[str, Plan] = {}
        self.stands: dict[str, Stand] = {}
        self.changed: dict[str, Value] = {}
        self.words: dict[str, tuple[Word, ...]] = {}
        self.whole: dict[str, tuple[Word, ...]] = {}
        self.corrector = Corrector(self.ops, fits, self.data_type)
        self.corrections: dict[str, tuple[str, ...]] = {}

    def split(self) -> WideSums:
        """Operation by operation, in order."""
        for op in self.graph.ops:
            if isinstance(op, Requantize) and (op.result.name in self.stands or op.result.name in self.correct):
                self._requantized(op)
            elif isinstance(op, Reshape) and op.input.name in self.changed:
                made = self.changed[op.input.name]
                result = replace(op.result, type=replace(made.type, shape=op.result.type.shape))
                self.changed[op.result.name] = result
                self.ops.append(replace(op, input=made, result=result))
                if (words := self.whole.get(op.input.name)) is not None:  # what corrects it reads them as it lies
                    self.whole[op.result.name] = tuple(self._moved(op, word, i) for i, word in enumerate(words))
            elif isinstance(op, Moving) and op.input.name in self.words:
                self.words[op.result.name] = tuple(self._moved(op, word, i) for i, word in self._words_of(op.input))
            elif not is_wide(op, self.data_type.width_bits) or not self._made(op):
                self.ops.append(op)
        graph = self.graph.with_ops(self.ops)
        if not self.words:
            return WideSums(graph, self.parts, self.plans, self.stands, corrections=self.corrections)
        outputs = tuple(
            replace(o, value=value)
            for o in graph.outputs
            for value in ([w.value for w in self.words[o.value.name]] if o.value.name in self.words else [o.value])
        )
        ups = {
            o.name: tuple(word.up for word in self.words[o.value.name])
            for o in graph.outputs
            if o.value.name in self.words
        }
        return WideSums(replace(graph, outputs=outputs), self.parts, self.plans, self.stands, ups, self.corrections)

    def _words_of(self, value: Value) -> Iterator[tuple[int, Word]]:
        return enumerate(self.words[value.name])

    def _moved(self, op: Moving, word: Word, number: int) -> Word:
        type_ = replace(word.value.type, shape=op.result.type.shape)
        result = Value(f"{op.result.name}.word{number}", type_, op.result.origin)
        self.ops.append(replace(op, input=word.value, result=result))
        return Word(result, word.up)

    def _requantized(self, op: Requantize) -> None:
        """The requantization of a sum, corrected where it is to be exact and no words compute it."""
        stand = self.stands.get(op.result.name)
        asked = op if stand is None else self._asked(op)
        first = len(self.ops)
        summed = self._summed(op, asked, stand) if self.corrects else None
        if summed is not None and self.corrector.requantize(op, summed):
            self.corrections[op.result.name] = tuple(new.result.name for new in self.ops[first:-1])
            self.stands.pop(op.result.name, None)
        else:
            self.ops.append(asked)

    def _summed(self, op: Requantize, asked: Requantize, stand: Stand | None) -> Summed | None:
        """What is to be corrected; None where it need not be, or cannot."""
        value, staircase = asked.input, asked.staircase
        rows = staircase.rows(0, staircase.channels)
        if stand is None:
            return Summed(value, rows, (Word(value, 0),), rows)
        if not stand.is_near:
            return None if self.fits.has_words(staircase, value) else Summed(value, rows, (Word(value, 0),), rows)
        words = self.whole.get(value.name)
        if words is None:
            return None
        whole = Stand(stand.offset).asked_of(op.staircase, -FAR, FAR)
        return Summed(value, rows, words, whole.rows(0, whole.channels), stand.coarser)

    def _asked(self, op: Requantize) -> Requantize:
        """The requantization of what was made in place of its input."""
        made = self.changed[op.input.name]
        codes, stand = made.type.codes, self.stands[op.result.name]
        return replace(op, input=made, staircase=stand.asked_of(op.staircase, codes.low, codes.high))

    def _made(self, op: Op) -> bool:
        """Whether the sum is made of words from here on."""
        if isinstance(op, Sum):
            return self._saturates(op)
        linear = linear_form(op)
        if linear is None or not self._is_word(linear.input):
            return False
        if self._only_leaves(op.result):
            return self._left_in_words(linear)
        readers = self._requantizations(op.result)
        key = op.result.name, tuple(self.digits.bits_made(linear.input))
        if key not in self.chosen:
            self.chosen[key] = None if readers is None else self._cheapest(linear, readers)
        found = self.chosen[key]
        if found is None:
            return False
        stand, plan = found
        first = len(self.ops)
        maker, name = Maker(linear, self.digits, self.ops, self.data_type), op.result.name
        made = maker.make(plan)
        if isinstance(plan, DigitPlan) and maker.whole:
            own = ActiveRange.of((r.staircase for r in readers or ()), op.result.type.channels)
            ends = self.data_type.min_code, self.data_type.max_code
            if holds_whole(plan, Stand(stand.offset).of_active(own), *ends):
                self.whole[name] = maker.whole
        self.parts[name] = tuple(new.result.name for new in self.ops[first:-1])
        self.plans[name], self.changed[name] = plan, made
        self.stands |= dict.fromkeys((r.result.name for r in readers or ()), stand)
        return True

    def _saturates(self, op: Sum) -> bool:
        """Whether a sum of two words may saturate as it is: at its end alone, and where its staircases are flat."""
        readers, data_type = self._requantizations(op.result), self.data_type
        if readers is None or not (self._is_word(op.lhs) and self._is_word(op.rhs)):
            return False
        channels = op.result.type.channels
        active = ActiveRange.of((r.staircase for r in readers), channels)
        if not active.lies_in(data_type.min_code, data_type.max_code):
            return False
        made, name = add_saturated(op, data_type), op.result.name
        self.ops += made
        self.parts[name], self.plans[name] = (made[0].result.name,), Saturation()
        self.changed[name] = made[1].result
        stand = Stand(np.zeros(channels, dtype=np.int64))
        self.stands |= dict.fromkeys((r.result.name for r in readers), stand)
        return True

    def _only_leaves(self, value: Value) -> bool:
        """Whether it is an output, or what moves its elements is, and nothing else reads it."""
        readers = self.readers.get(value.name, [])
        return all(isinstance(r, Moving) and self._only_leaves(r.result) for r in readers) and (
            bool(readers) or value.name in self.outputs
        )

    def _left_in_words(self, op: Conv2d | Dense) -> bool:
        """Whether an output is made in several words, which the host adds."""
        fan_in, bias = self._fan_in(op)
        codes, first = op.input.type.codes, len(self.ops)
        plan = min(
            apart_plans(fan_in, codes.low, codes.high, bias, self.data_type), key=lambda p: p.cycles, default=None
        )
        if plan is None:
            return False
        self.words[op.result.name] = Maker(op, self.digits, self.ops, self.data_type).make_apart(plan)
        self.parts[op.result.name] = tuple(new.result.name for new in self.ops[first:])
        self.plans[op.result.name] = plan
        return True

    def _fan_in(self, op: Conv2d | Dense) -> tuple[FanIn, Words]:
        """The products and the bias."""
        bias = np.zeros(len(op.weight.data), dtype=np.int64) if op.bias is None else op.bias.data
        return FanIn.of(op, self.architecture.array_size, self.producers.get(op.input.name)), bias

    def _is_word(self, value: Value) -> bool:
        codes = value.type.codes
        return self.data_type.min_code <= codes.low and codes.high <= self.data_type.max_code

    def _requantizations(self, value: Value) -> list[Requantize] | None:
        """All that read a value, or what moves its elements and not its channels; None where something else does."""
        found: list[Requantize] = []
        for reader in self.readers.get(value.name, []):
            if isinstance(reader, Requantize):
                found.append(reader)
                continue
            moves = isinstance(reader, Reshape) and reader.result.type.channels == value.type.channels
            behind = self._requantizations(reader.result) if moves else None
            if behind is None:
                return None
            found += behind
        return found if found and value.name not in self.outputs else None

    def _cheapest(self, op: Conv2d | Dense, readers: list[Requantize]) -> tuple[Stand, Plan] | None:
        """The cheapest plan of those that are certified: with a coarser stand, where none keeps the whole sum."""
        channels, codes = len(op.weight.data), op.input.type.codes
        fan_in, bias = self._fan_in(op)
        already = self.digits.bits_made(op.input)
        active = ActiveRange.of((r.staircase for r in readers), channels)
        least, most = self.data_type.min_code, self.data_type.max_code
        best: tuple[Stand, Plan] | None = None
        for stand in self._stands(readers, active):
            if stand.coarser and best is not None:
                return best
            wanted = stand.of_active(active)
            if not wanted.lies_in(least, most):
                continue
            if stand.sticky and not all(stand.tells_apart(r.staircase) for r in readers):
                continue
            inputs, whole = (codes.low, codes.high), bias + stand.offset
            found = plans_of(fan_in, *inputs, whole, wanted, stand.coarser, self.data_type, sticky=stand.sticky)
            plan = min(found, key=lambda p: (p.cycles, getattr(p, "bits", 0) not in already), default=None)
            if plan is not None and (best is None or plan.cycles < best[1].cycles):
                best = stand, plan
            if plan is not None and stand.coarser:
                return best
        return best

    def _stands(self, readers: list[Requantize], active: ActiveRange) -> Iterator[Stand]:
        """Where the sum may stand: so that a shift requantizes it, as it is, around 0, and coarser and coarser."""
        middle, own, point = active.middle(), np.zeros_like(active.top), self.data_type.binary_point
        (shifted,) = readers if len(readers) == 1 else (None,)
        offset = None if shifted is None else shift_offset(shifted.staircase, point)
        if offset is not None and offset.any():
            yield Stand(np.broadcast_to(offset, own.shape))
        if shifted is not None and offset is None:  # no word shifts so far at once
            yield from self._sticky_stands(shifted.staircase, middle)
        yield Stand(own)
        if any(r.staircase.channels == 1 for r in readers):  # one that all channels share has one middle
            apart = active.is_told_apart
            if apart.any():
                middle = np.full_like(own, (active.bottom[apart].min() + active.top[apart].max()) >> 1)
        yield Stand(-(middle + (1 << _SHIFTS - 1) >> _SHIFTS << _SHIFTS))
        yield Stand(-middle)
        if shifted is not None and offset is not None:
            yield from self._sticky_stands(shifted.staircase, middle)
        for coarser in range(1, _COARSEST + 1):
            yield Stand(-middle, coarser)

    def _sticky_stands(self, staircase: Staircase, middle: Words) -> Iterator[Stand]:
        """With the sign of a remainder, which is all that a shift wants to know of the last bits."""
        for coarser in range(1, _COARSEST + 1):
            offset = shift_offset(staircase, self.data_type.binary_point + coarser)
            if offset is not None:
                whole = _SHIFTS + coarser
                yield Stand(offset - (middle + offset + (1 << whole - 1) >> whole << whole), coarser, sticky=True)
