"""A plan in operations of the integer graph: what saturates in a word is clamped to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from pefslc.ir.integer import Clamp, Conv2d, Dense, Requantize, Rescale, Sum
from pefslc.ir.value import Op, Value
from pefslc.targets.tensil.machine.architecture import DataType
from pefslc.targets.tensil.wide.digits import Digits, derived, rounded_quotient
from pefslc.targets.tensil.wide.fan_in import Part
from pefslc.targets.tensil.wide.plans import DigitPlan, PartsPlan, Plan, Saturation

__all__ = ["Maker", "Word", "add_saturated"]

Linear = Conv2d | Dense


@dataclass(frozen=True, slots=True)
class Word:
    """A part of a sum, which is worth 2^up of the sum's codes."""

    value: Value
    up: int


@dataclass(slots=True)
class Maker:
    """Appends the operations of one plan to `ops`."""

    op: Linear
    digits: Digits
    ops: list[Op]
    data_type: DataType
    whole: tuple[Word, ...] = ()  # where less is made of them than they hold: the words that are the sum

    def make(self, plan: Plan) -> Value:
        """The result: of the operation's name, with codes of words."""
        assert not isinstance(plan, Saturation)
        made = self._of_parts(plan) if isinstance(plan, PartsPlan) else self._of_digits(plan)
        assert self.ops[-1].result is made
        assert made.name == self.op.result.name
        return made

    def make_apart(self, plan: Plan) -> tuple[Word, ...]:
        """The parts, which nobody adds."""
        assert not isinstance(plan, Saturation)
        if isinstance(plan, PartsPlan):
            return tuple(Word(self._part(p, self.op.input, f"part{i}", 1), 0) for i, p in enumerate(plan.parts))
        high_digit, low_digit = self.digits.of(self.op.input, plan.bits)
        highs = [self._part(p, high_digit, f"high{i}", 1 << plan.bits) for i, p in enumerate(plan.high)]
        lows = [self._part(p, low_digit, f"low{i}", 1) for i, p in enumerate(plan.low)]
        return *(Word(high, plan.bits) for high in highs), *(Word(low, 0) for low in lows)

    def _of_parts(self, plan: PartsPlan) -> Value:
        if plan.keeps:
            return self._keeping(plan.parts)
        if len(plan.parts) > 1:
            return self._added(plan.parts, self.op.input, "part", 1, "")
        (part,) = plan.parts  # which fits where the sum's stand moves it
        low, high = int(part.low.min()), int(part.high.max())
        result = _named(derived(self.op.result, "", low, high), self.op.result.name)
        return self._append(part.of(self.op, self.op.input, result))

    def _keeping(self, parts: Sequence[Part]) -> Value:
        """sat(x + y + z + ...) of parts, of which the first two leave a word, and so may the sum of three.

            s = sat(x + y);  over = y - (s - x)        0, or by how much it saturates: then s is at a rail
            sat(s + sat(z + over))                     what saturates once more would have gone beyond that rail

        s - x is a word: y where nothing saturates, else between 0 and that rail.
        """
        most = self.data_type.max_code
        x, y, z = (self._part(part, self.op.input, f"part{i}", 1) for i, part in enumerate(parts[:3]))
        s = self._saturated(self._sum(x, y, "part_sum1"), "part_word1")
        taken = Sum(result=derived(self.op.result, "taken", -most, most), lhs=self._times(x, -1, "less"), rhs=s)
        self._append(taken)
        low = min(x.type.codes.low + y.type.codes.low - self.data_type.min_code, 0)
        high = max(x.type.codes.high + y.type.codes.high - most, 0)
        over = Sum(result=derived(self.op.result, "over", low, high), lhs=self._times(taken.result, -1, "back"), rhs=y)
        self._append(over)
        total = self._saturated(self._sum(z, over.result, "part_sum2"), "part_word2")
        last = len(parts) - 1
        total = self._saturated(self._sum(total, s, "part_sum3"), "" if last == 2 else "part_word3")
        for i, part in enumerate(parts[3:], 3):
            other = self._part(part, self.op.input, f"part{i}", 1)
            name = "" if i == last else f"part_word{i + 1}"
            total = self._saturated(self._sum(total, other, f"part_sum{i + 1}"), name)
        return total

    def _added(self, parts: Sequence[Part], source: Value, name: str, factor: int, last: str) -> Value:
        """Parts of one sum, added one after the other; with more than one, the last sum has the name `last`."""
        total = self._part(parts[0], source, name if len(parts) == 1 else f"{name}0", factor)
        for i, part in enumerate(parts[1:], 1):
            other = self._part(part, source, f"{name}{i}", factor)
            is_last = i == len(parts) - 1
            total = self._saturated(self._sum(total, other, f"{name}_sum{i}"), last if is_last else f"{name}_word{i}")
        return total

    def _of_digits(self, plan: DigitPlan) -> Value:
        high_digit, low_digit = self.digits.of(self.op.input, plan.bits)
        high = self._added(plan.high, high_digit, "high", 1 << plan.bits, "high")
        lows = [self._part(part, low_digit, f"low{i}", 1) for i, part in enumerate(plan.low)]
        low = lows[0]
        if plan.carries:
            remainders = []
            for i, part in enumerate(lows):
                carry, remainder = self._divided(part, plan.bits)
                high = self._saturated(self._sum(high, carry, f"carried_sum{i}"), f"carried{i}")
                remainders.append(remainder)
            low = remainders[0]
            for i, remainder in enumerate(remainders[1:], 1):
                low = self._sum(low, remainder, f"remainders{i}")
        if plan.coarser or plan.sticky:
            self.whole = Word(high, plan.bits), Word(low, 0)
            low = self._rounded(low, plan)
        scaled = self._saturated(self._times(high, 1 << plan.bits - plan.coarser, "scaled"), "scaled_word")
        return self._saturated(self._sum(scaled, low, "sum"), "")

    def _rounded(self, low: Value, plan: DigitPlan) -> Value:
        """The low sum / 2^coarser: rounded; or with one bit less, and the sign of the remainder as the last bit."""
        if not plan.sticky:
            return self._append(rounded_quotient(low, "rounded", plan.coarser))
        quotient, remainder = self._divided(low, plan.coarser + 1, "rounded", "left")
        sign = derived(remainder, "sign", -1, 1, 1 << plan.coarser)  # worth a code of what is made
        sign = self._append(Clamp(result=sign, input=remainder, low=-1, high=1))
        return self._sum(self._times(quotient, 2, "doubled"), sign, "with_sign")

    def _divided(self, value: Value, bits: int, name: str = "quotient", left: str = "remainder") -> tuple[Value, Value]:
        """The quotient by 2^bits, rounded, and the remainder."""
        half = 1 << bits - 1
        quotient = self._append(rounded_quotient(value, name, bits))
        taken = self._times(quotient, -1 << bits, "taken")
        # What it can be, interval arithmetic does not see.
        remainder = Sum(result=derived(value, left, -half, half), lhs=taken, rhs=value)
        return quotient, self._append(remainder)

    def _part(self, part: Part, source: Value, name: str, factor: int) -> Value:
        result = derived(self.op.result, name, int(part.low.min()), int(part.high.max()), factor)
        return self._append(part.of(self.op, source, result))

    def _sum(self, lhs: Value, rhs: Value, name: str) -> Value:
        a, b = lhs.type.codes, rhs.type.codes
        result = _named(derived(lhs, "", a.low + b.low, a.high + b.high), f"{self.op.result.name}.{name}")
        return self._append(Sum(result=result, lhs=lhs, rhs=rhs))

    def _times(self, value: Value, factor: int, name: str) -> Value:
        ends = sorted(factor * end for end in (value.type.codes.low, value.type.codes.high))
        scaled = derived(value, name, ends[0], ends[1], Fraction(1, abs(factor)))
        return self._append(Rescale(result=scaled, input=value, factor=factor))

    def _saturated(self, value: Value, name: str) -> Value:
        """Clamped to a word. Without a name it is the operation's result."""
        least, most = self.data_type.min_code, self.data_type.max_code
        low, high = (min(max(end, least), most) for end in (value.type.codes.low, value.type.codes.high))
        own = self.op.result.name
        result = _named(derived(value, "", low, high), f"{own}.{name}" if name else own)
        return self._append(Clamp(result=result, input=value, low=least, high=most))

    def _append(self, op: Conv2d | Dense | Requantize | Rescale | Sum | Clamp) -> Value:
        self.ops.append(op)
        return op.result


def add_saturated(op: Sum, data_type: DataType) -> tuple[Sum, Clamp]:
    """The sum, and the word that it saturates to, which has its name."""
    least, most = data_type.min_code, data_type.max_code
    codes = op.result.type.codes
    total = replace(op, result=_named(op.result, f"{op.result.name}.sum"))
    word = derived(op.result, "", max(codes.low, least), min(codes.high, most))
    return total, Clamp(result=_named(word, op.result.name), input=total.result, low=least, high=most)


def _named(value: Value, name: str) -> Value:
    return Value(name, value.type, value.origin)
