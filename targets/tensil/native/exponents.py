"""Where the words of a float model stand, layer by layer: chosen from what its layers hold on calibration inputs.

Words of exponent e are values times 2^(p+e). With a tensor at d and the sums that read it at a, a weight w is the word
w * 2^(p+a-d), and three errors meet in a sum of n products of values x by weights w, all in 2^-(p+a) / sqrt(12):

    products     sqrt(n)                    the MAC rounds each of them
    weights      sqrt(n) rms(x) 2^d
    the tensor   sqrt(n) rms(w) 2^(a-d)

Sums stand as high as the largest of them, times a headroom, allows: HEADROOM for what was measured. Then d shifts bits
between weights and tensor: it is taken where both errors together are least over all that read the tensor. A
multiplication by 2^(d-a) brings the sums there, where d is lower than their own exponent.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import takewhile

import numpy as np

from pefslc.numeric.accumulate import largest_magnitude
from pefslc.targets.tensil.groups.group import AddTensor, Group, LinearHead, MaxHead, TransposeHead
from pefslc.targets.tensil.groups.group_program import GroupProgram, Role, StoredTensor
from pefslc.targets.tensil.machine.architecture import DataType
from pefslc.targets.tensil.native.magnitudes import Magnitudes
from pefslc.targets.tensil.native.native_scales import NativeScales

__all__ = ["HEADROOM", "Exponents", "additions", "choose_exponents", "copied_tensor", "highest_exponent"]

HEADROOM = 2
_MANY = 4096  # values of a tensor, of which MatMuls multiply and clip in the time in which SIMD clips


@dataclass(frozen=True, slots=True)
class Exponents:
    """Of each stored tensor, and of the accumulators of each group.

    copies  groups whose accumulators stand as what they read does
    """

    tensors: Mapping[str, int]
    accumulators: Mapping[str, int]
    copies: frozenset[str] = frozenset()

    @classmethod
    def none(cls, program: GroupProgram) -> Exponents:
        """The data type's own words everywhere."""
        return cls(dict.fromkeys(program.tensors, 0), {group.result: 0 for group in program.groups})


def highest_exponent(largest: Fraction, data_type: DataType, headroom: int = HEADROOM) -> int:
    """The highest at which headroom * largest still is a word, p at most; 0 if none is."""
    p = data_type.binary_point
    fitting = (e for e in range(p, 0, -1) if headroom * largest * (1 << p + e) <= data_type.max_code)
    return next(fitting, 0)


def choose_exponents(
    program: GroupProgram, scales: NativeScales, data_type: DataType, magnitudes: Magnitudes, headroom: int = HEADROOM
) -> Exponents:
    """For a program after its sums were fused; `scales` and `magnitudes` of the program before that.

    Where magnitudes are proven, and nothing is known of usual values, tensors stand as high as they can. A headroom of
    1 grants nothing for what is rounded: whoever takes it has to prove that words hold that, too (`word_ranges`).
    """
    return _Choice(program, scales, data_type, magnitudes, headroom).exponents()


def additions(group: Group) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The tensors that the group adds: those that may as well be terms of its head, and those that are added where they
    stand, because they come after a step.
    """
    first = list(takewhile(lambda step: isinstance(step, AddTensor), group.steps))
    if not isinstance(group.head, LinearHead) or group.head.stationary is not None:
        first = []
    later = [step.tensor for step in group.steps[len(first) :] if isinstance(step, AddTensor)]
    return tuple(step.tensor for step in first if isinstance(step, AddTensor)), tuple(later)


def copied_tensor(tensors: Mapping[str, StoredTensor], group: Group) -> str | None:
    """The tensor whose words the group copies, to pack or to transpose them; None where it computes."""
    if isinstance(group.head, TransposeHead):
        return group.head.tensor
    if tensors[group.result].role is not Role.PACKED:
        return None
    assert isinstance(group.head, LinearHead)
    return group.head.terms[0].tensor


@dataclass(frozen=True, slots=True)
class _Reader:
    """What reads a tensor: a convolution, with rms(w) and the share of the sum's products that are its own.

    room  by how much the sums may stand higher than the tensor: then the largest weight is a word; None for a tensor
          that is added where it lies
    """

    group: str
    weight: float
    share: float
    rounds: bool
    room: int | None


def _binades(ratio: Fraction) -> int:
    """The largest e with 2^e <= ratio."""
    e = ratio.numerator.bit_length() - ratio.denominator.bit_length()
    return e if Fraction(2) ** e <= ratio else e - 1


class _Choice:
    def __init__(
        self,
        program: GroupProgram,
        scales: NativeScales,
        data_type: DataType,
        magnitudes: Magnitudes,
        headroom: int,
    ) -> None:
        self.program, self.scales, self.data_type, self.magnitudes = program, scales, data_type, magnitudes
        self.headroom = headroom
        self.groups = {group.result: group for group in program.groups}
        self.leaders = {name: name for name in program.tensors}  # tensors that stand alike
        self.readers: dict[str, list[_Reader]] = defaultdict(list)
        self.copies: set[str] = set()
        self.maxima: dict[str, str] = {}  # of which tensor
        self.inputs = {port.tensor for port in program.inputs}
        self.highest = {name: self._highest(self._largest(name)) for name in program.tensors}
        self.accumulators = {group.result: self._highest(self._largest_sum(group)) for group in program.groups}
        for group in program.groups:
            self._read(group)

    def exponents(self) -> Exponents:
        tensors: dict[str, int] = {}
        classes: dict[str, list[str]] = defaultdict(list)
        for name in self.program.tensors:
            classes[self._leader(name)].append(name)
        while True:
            before = dict(self.accumulators)
            for names in classes.values():
                tensors |= dict.fromkeys(names, self._best(names))
                self.accumulators |= {n: tensors[of] for n, of in self.maxima.items() if of in tensors}
            if self.accumulators == before:
                copied = {name: tensors[name] for name in self.copies}
                return Exponents(tensors, {**before, **copied}, frozenset({*self.copies, *self.maxima}))

    # --- what is known ---------------------------------------------------------------------------------------------

    def _highest(self, largest: Fraction) -> int:
        return highest_exponent(largest, self.data_type, self.headroom)

    def _largest(self, value: str) -> Fraction:
        return self.magnitudes.largest_of(self.program, value)

    def _largest_sum(self, group: Group) -> Fraction:
        """Of what the accumulators hold before the first step."""
        if not isinstance(group.head, LinearHead):
            return self._largest(group.head.tensor)
        bias = largest_magnitude(group.head.bias) * self.scales.accumulators[group.result]
        own = len(group.ops) - len(group.steps) + len(additions(group)[0])
        before = group.ops[:own] or (group.result,)
        return max([bias, *(self._largest(name) for name in before)])

    def _leader(self, name: str) -> str:
        while self.leaders[name] != name:
            name = self.leaders[name]
        return name

    def _alike(self, *names: str) -> None:
        for name in names[1:]:
            self.leaders[self._leader(name)] = self._leader(names[0])

    def _read(self, group: Group) -> None:
        head = group.head
        as_it_lies = isinstance(head, MaxHead) and self._is_brought_before(head.tensor)
        if as_it_lies or copied_tensor(self.program.tensors, group) is not None:
            self._alike(*group.tensors, group.result)
            self.copies.add(group.result)
            return
        later = additions(group)[1]
        self._alike(*later)
        for tensor in later:
            self.readers[tensor].append(_Reader(group.result, 1.0, 1.0, rounds=False, room=None))
        if not isinstance(head, LinearHead):
            assert isinstance(head, MaxHead)
            self.maxima[group.result] = head.tensor
            return
        products = [np.count_nonzero(term.weight) / len(term.weight) for term in head.terms]
        for term, count in zip(head.terms, products, strict=True):
            step = self.scales.accumulators[group.result] / self.scales.tensors[term.tensor]
            weights = term.weight[term.weight != 0].astype(np.float64) * float(step)
            rms = float(np.sqrt((weights**2).mean())) if weights.size else 0.0
            largest = largest_magnitude(term.weight) * step * self.data_type.one
            room = _binades(self.data_type.max_code / largest) if largest else self.data_type.width_bits
            rounds = bool((np.frexp(np.abs(weights))[0] != 0.5).any())
            self.readers[term.tensor].append(_Reader(group.result, rms, count / sum(products), rounds, room))
        for tensor in additions(group)[0]:
            room = self.data_type.width_bits - 2 - self.data_type.binary_point
            self.readers[tensor].append(_Reader(group.result, 1.0, 1 / sum(products), rounds=False, room=room))

    def _is_brought_before(self, tensor: str) -> bool:
        """Whether a tensor stands as the readers of its maximum want it: the others are multiplied after the maximum,
        which leaves fewer vectors.
        """
        layout = self.program.layout(tensor)
        return tensor in self.inputs or layout.channels * layout.pixels >= _MANY

    # --- the choice ------------------------------------------------------------------------------------------------

    def _best(self, names: list[str]) -> int:
        """The exponent of tensors that stand alike; sums that it leaves no words for are lowered."""
        makers = [name for name in names if name in self.groups and name not in self.copies]
        highest = min(map(self._limit, names))
        readers = [(name, reader) for name in names for reader in self.readers[name]]
        for _, reader in readers:
            if reader.room is not None:
                self.accumulators[reader.group] = min(self.accumulators[reader.group], highest + reader.room)
        if any(name in self.program.output_tensors for name in names):
            return highest
        p = self.data_type.binary_point
        least = [self.accumulators[r.group] - r.room for _, r in readers if r.room is not None]
        least += [self.accumulators[name] - p for name in makers]
        lowest = min(max(least, default=highest), highest)
        own = [-_binades(self.scales.tensors[name] * self.data_type.one) for name in names if name in self.inputs]
        of_input = bool(own)
        if of_input:  # its codes are words, or multiples of them; beyond the highest, they saturate
            lowest = max(lowest, *own)
            highest = max(lowest, highest)
        candidates = range(lowest, highest + 1)

        def error(d: int) -> float:
            return sum(self._error(d, name, reader, of_input=of_input) for name, reader in readers)

        return min(candidates, key=lambda d: (error(d), d if of_input else -d))

    def _limit(self, name: str) -> int:
        """The highest exponent of a tensor: its words fit, and no sums are multiplied up."""
        limits = [self.highest[name]]
        if name in self.groups and name not in self.copies:
            limits.append(self.accumulators[name])
        for group in self.program.groups:
            ops = group.ops[len(group.ops) - len(group.steps) :]
            for op, step in zip(ops, group.steps, strict=True):
                if isinstance(step, AddTensor) and step.tensor == name and name in additions(group)[1]:
                    limits += [self.accumulators[group.result], self._highest(self._largest(op))]
        return min(limits)

    def _error(self, d: int, tensor: str, reader: _Reader, *, of_input: bool) -> float:
        """The square of the errors that d has a say in. An input is on its own grid: there, d rounds nothing."""
        x = self.magnitudes.rms_of(self.program, tensor) if reader.rounds else 0.0
        w = 0.0 if of_input and reader.room is not None else reader.weight
        return reader.share * (x**2 * 4.0**d + w**2 * 4.0 ** (self.accumulators[reader.group] - d))
