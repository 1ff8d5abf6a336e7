"""Digits of packed channels: both digits of a tensor are made of its packed leftover channels, not packed themselves.

    have  high = round(v / 2^n); low = v - 2^n high; convolutions read leftover channels of both packed
    want  p = packed(v); high.packed = round(p / 2^n); low.packed = p - 2^n high.packed; high and low without these

One tensor is packed instead of two, and nobody keeps the leftover channels of the digits beside their packed form:
whole, they need as much local memory as without packing. What is packed from outside of the image is 0, and so are both
digits of 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, replace

import numpy as np

from pefslc.geometry.shapes import Window
from pefslc.targets.tensil.group_rewrites.convolution_cost import convolution_cycles
from pefslc.targets.tensil.group_rewrites.room import moved_cycles
from pefslc.targets.tensil.groups.group import AddTensor, Group, LinearHead, Requantization, Term
from pefslc.targets.tensil.groups.group_program import GroupProgram, Role, StoredTensor, TermKey
from pefslc.targets.tensil.groups.layout import Layout
from pefslc.targets.tensil.machine.architecture import Architecture
from pefslc.targets.tensil.rewriting.rewrite import LOG

__all__ = ["DigitPair", "Packing", "digit_pair", "packed_before_digits", "with_digits_packed"]

# The packed tensor, the group that makes it, and its readers' terms split in two: of whole blocks, and of the packed.
Packing = tuple[StoredTensor, Group, dict[TermKey, tuple[Term, Term]]]


@dataclass(frozen=True, slots=True)
class DigitPair:
    """The groups that make both digits of a tensor."""

    whole: str
    high: Group
    low: Group

    @property
    def rounding(self) -> Requantization:
        """What divides the tensor."""
        (step,) = self.high.steps
        assert isinstance(step, Requantization)
        return step

    @property
    def addition(self) -> AddTensor:
        """What the multiple of the high digit is taken from."""
        (step,) = self.low.steps
        assert isinstance(step, AddTensor)
        return step

    @property
    def base(self) -> int:
        """-2^n."""
        assert isinstance(self.low.head, LinearHead)
        return int(self.low.head.terms[0].weight.min())


def digit_pair(program: GroupProgram, first: str, second: str) -> DigitPair | None:
    """The two tensors as digits of a third, whichever is the high one; None where they are not."""
    groups = {group.result: group for group in program.groups}
    for high, low in ((groups.get(first), groups.get(second)), (groups.get(second), groups.get(first))):
        if high is None or low is None or not (_copies(high, 1) and _copies(low, None)):
            continue
        match high, low:
            case (
                Group(head=LinearHead(terms=(of,)), steps=(Requantization(staircase, _, 1),)),
                Group(head=LinearHead(terms=(taken,)), steps=(AddTensor(whole, within),)),
            ) if of.tensor == whole and taken.tensor == high.result and staircase.channels == 1 and within is not None:
                return DigitPair(whole, high, low)
    return None


def _copies(group: Group, factor: int | None) -> bool:
    """Whether the head is one tensor times the factor, as it lies; times any below 0, if that is None."""
    head = group.head
    if not isinstance(head, LinearHead) or len(head.terms) != 1 or head.stationary is not None or head.bias.any():
        return False
    (term,) = head.terms
    word = int(term.weight.min()) if factor is None else factor
    return (factor is not None or word < 0) and term.is_copy(word)


def with_digits_packed(
    program: GroupProgram,
    first: str,
    second: str,
    packing: Callable[[Group], Packing | None],
    packed: Callable[[GroupProgram, Group], GroupProgram | None],
    architecture: Architecture,
) -> GroupProgram | None:
    """The program with what two tensors are digits of packed, where that saves more than packing both; that where it
    saves more. None where neither does, or they are no digits.

    packing  what would pack a tensor
    packed   the program with that done; None where local memory has no room
    """
    pair = digit_pair(program, first, second)
    if pair is None:
        return None
    of_high, of_low = packing(pair.high), packing(pair.low)
    if of_high is None or of_low is None:
        return None
    channels = pair.high.layout.channels // architecture.array_size * architecture.array_size
    candidate = packed_before_digits(program, pair, of_high, of_low, channels)
    if candidate is None:
        return None
    other: GroupProgram | None = program
    for digit in (pair.high, pair.low):
        other = None if other is None else packed(other, digit)
    as_it_is = other or program
    common = {id(group) for group in as_it_is.groups} & {id(group) for group in candidate.groups}
    cycles, as_is = (_cycles(each, common, architecture) for each in (candidate, as_it_is))
    if cycles >= as_is:
        return other
    LOG.debug("%s: packed before it gets digits, which saves %d cycles", pair.whole, as_is - cycles)
    return candidate


def _cycles(program: GroupProgram, without: Set[int], architecture: Architecture) -> int:
    """About what changes where tensors are packed: sums of tensors, what stores and adds them, and moves to DRAM0.

    without  groups, by identity, that are not counted
    """
    cycles = moved_cycles(program, architecture)
    for group in program.groups:
        if id(group) in without:
            continue
        vectors = group.layout.vectors(architecture.array_size)
        cycles += vectors * (1 + sum(isinstance(step, AddTensor) for step in group.steps))
        if isinstance(group.head, LinearHead):
            pixels = group.layout.pixels
            cycles += sum(convolution_cycles(term.weight, pixels, architecture) for term in group.head.terms)
    return cycles


def packed_before_digits(
    program: GroupProgram, pair: DigitPair, of_high: Packing, of_low: Packing, first: int
) -> GroupProgram | None:
    """The program with the tensor packed before it gets digits; None where the digits are read otherwise, too.

    of_high, of_low  what would pack the digits themselves
    first            channels of the whole blocks
    """
    (_, packer, split), (_, other, split_of_low) = of_high, of_low
    stored = program.tensors[pair.whole]
    if not _are_alike(packer, other) or not stored.low <= 0 <= stored.high:
        return None
    for digit, splits, own in ((pair.high, split, {(pair.low.result, 0)}), (pair.low, split_of_low, set[TermKey]())):
        if program.is_read_otherwise(digit.result) or digit.result in program.output_tensors:
            return None
        if {use.key for use in program.uses_of(digit.result)} - own != set(splits):
            return None
    tensor = stored.helper(Role.PACKED, packer.layout, stored.codes)
    if tensor.name in program.tensors:
        return None
    assert isinstance(packer.head, LinearHead)
    window = packer.head.terms[0].window
    ones = replace(packer.head, terms=(Term(pair.whole, packer.head.terms[0].weight, window),))
    packed = Group(tensor.name, packer.layout, ones, (), (), packer.origin)
    helpers = [tensor, *(_helper(program.tensors[d.result], packer.layout) for d in (pair.high, pair.low))]
    layout = replace(pair.high.layout, channels=first)
    made = [packed, *_digits(pair, tensor.name, helpers[1].name, helpers[2].name, packer.layout)]
    made += _digits(pair, pair.whole, pair.high.result, pair.low.result, layout)
    smaller = [replace(program.tensors[digit.result], layout=layout) for digit in (pair.high, pair.low)]
    parts = {
        key: (replace(main, weight=main.weight[:, :first]), rest)
        for key, (main, rest) in (split | split_of_low).items()
    }
    groups: list[Group] = []
    for group in program.groups_with_terms(parts):
        groups += made if group.result == pair.high.result else [] if group.result == pair.low.result else [group]
    return program.with_groups(groups, [*helpers, *smaller])


def _are_alike(a: Group, b: Group) -> bool:
    """Whether two packing groups pack the same pixels."""
    assert isinstance(a.head, LinearHead)
    assert isinstance(b.head, LinearHead)
    (one,), (other,) = a.head.terms, b.head.terms
    return a.layout == b.layout and one.window == other.window and np.array_equal(one.weight, other.weight)


def _helper(digit: StoredTensor, layout: Layout) -> StoredTensor:
    return digit.helper(Role.PACKED, layout, (min(digit.low, 0), max(digit.high, 0)))


def _digits(pair: DigitPair, whole: str, high: str, low: str, layout: Layout) -> list[Group]:
    """The groups that make both digits of `whole`: of its first channels, where it has more than `layout`."""
    ops: Mapping[str, tuple[str, ...]] = {pair.high.result: pair.high.ops, pair.low.result: pair.low.ops}
    inputs = pair.high.layout.channels if whole == pair.whole else layout.channels
    ones = np.eye(layout.channels, inputs, dtype=np.int64)[:, :, None, None]
    taken = np.eye(layout.channels, dtype=np.int64)[:, :, None, None] * pair.base
    none, point = np.zeros(layout.channels, dtype=np.int64), Window(kernel=(1, 1))
    rounding = replace(pair.rounding, channels=layout.channels)
    addition = replace(pair.addition, tensor=whole)
    divided, rest = LinearHead((Term(whole, ones, point),), none), LinearHead((Term(high, taken, point),), none)
    return [
        Group(high, layout, divided, (rounding,), ops.get(high, ()), pair.high.origin),
        Group(low, layout, rest, (addition,), ops.get(low, ()), pair.low.origin),
    ]
