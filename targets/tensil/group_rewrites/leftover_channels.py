"""Leftover channels: 16 channels on 12 lanes are a full block and one of 4, which costs as much as the full one.

Where convolutions *read* such a tensor, a small group packs the leftover channels of neighbouring pixels into one
vector (as the host does with inputs, see `input_packing`), and the convolutions read their taps from there: a 3 x 3
window over the leftover block takes 3 MatMuls instead of 9. Eight leftover channels of three pixels take two vectors:
6 MatMuls.

Where a convolution *makes* leftover channels, they are factored: a 1 x 3 convolution computes the partial sums of
(row of the kernel, channel) in the spare lanes, a 3 x 1 convolution by ones adds each at its own row: 3 + 3 MatMuls
instead of 9, and the 3 only once for all input blocks. Rows, where a packed vector holds the pixels of one; where it
holds those of a column, columns: layer by layer the one or the other, for `word_rewrites.sums_in_packing` gains where
the axis that partial sums are summed along is the one that the sums are packed along.

Both are rewrites of convolutions into convolutions, done where the cycles saved are more than the cost, and where local
memory holds the helper beside everything else that is live.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np

from pefslc.analysis.ranges import conv_bounds
from pefslc.geometry.shapes import Window
from pefslc.numeric.accumulate import prefix_bounds
from pefslc.targets.tensil.group_rewrites.convolution_cost import convolution_cycles
from pefslc.targets.tensil.group_rewrites.digit_pairs import rewritten_in_pairs, sums_in_pairs, tensors_in_pairs
from pefslc.targets.tensil.group_rewrites.input_packing import lane_offsets, shrink
from pefslc.targets.tensil.group_rewrites.plain_ends import is_quantized_input
from pefslc.targets.tensil.group_rewrites.room import has_room
from pefslc.targets.tensil.groups.group import Group, LinearHead, Term, Weights
from pefslc.targets.tensil.groups.group_program import GroupProgram, Role, StoredTensor, TermKey, TermUse
from pefslc.targets.tensil.groups.layout import Layout, Offsets
from pefslc.targets.tensil.machine.architecture import Architecture, DataType
from pefslc.targets.tensil.rewriting.rewrite import LOG, Context

__all__ = ["FactorLeftovers", "PackLeftovers"]

SUMS_FOLLOW = "requantize-while-packing"


class FactorLeftovers:
    """A group of partial sums stands before each convolution whose leftover channels gain by it."""

    name: ClassVar[str] = "factor-leftovers"
    needs: ClassVar[str] = (
        "convolutions of one term that make channels beyond whole blocks; pack-leftovers packs what stays"
    )
    ensures: ClassVar[str] = (
        "a factored convolution has two terms: one without these channels, one on a tensor of role `partial`"
    )

    def run(self, program: GroupProgram, context: Context) -> GroupProgram:
        pairs, groups_of = sums_in_pairs(program), {group.result: group for group in program.groups}

        def factored(program: GroupProgram, group: Group) -> GroupProgram | None:
            other = groups_of[pairs[group.result]] if group.result in pairs else None
            found = _factored(program, group, other, context)
            if found is None:
                return None
            tensor, partial, rest = found
            groups = [new for g in program.groups for new in ((partial, rest) if g is group else (g,))]
            candidate = program.with_groups(groups, [tensor])
            if has_room(candidate, tensor.name, context.architecture):
                return candidate
            LOG.debug("%s: %s stays whole: local memory has no room for %s", self.name, group.result, tensor.name)
            return None

        return rewritten_in_pairs(program, pairs, factored)


class PackLeftovers:
    """A packing group stands after each group whose leftover channels gain by it, and convolutions read from there."""

    name: ClassVar[str] = "pack-leftovers"
    needs: ClassVar[str] = (
        "channels beyond whole blocks, which convolutions read that are no means; factor-leftovers has run, if it is "
        "to, for what is factored may be packed, too; room is judged as if requantize-while-packing followed"
    )
    ensures: ClassVar[str] = (
        "a reader that gains has two terms: one without the leftover channels, one on a tensor of role `packed`; the "
        "tensor itself stays whole"
    )

    def run(self, program: GroupProgram, context: Context) -> GroupProgram:
        architecture, sums_follow = context.architecture, context.runs(SUMS_FOLLOW)

        def packed(program: GroupProgram, group: Group) -> GroupProgram | None:
            # What the host would have packed is packed as it is quantized.
            no_block = group.layout.channels < architecture.array_size
            whole = context.plain_host and no_block and is_quantized_input(program, group)
            packing = _packing(program, group, architecture, whole=whole)
            if packing is None:
                return None
            tensor, packer, split = packing
            groups: list[Group] = []
            parts = {key: (rest,) if whole else (main, rest) for key, (main, rest) in split.items()}
            for g in program.groups_with_terms(parts):
                groups += [g, packer] if g.result == group.result else [g]
            candidate = planned = program.with_groups(groups, [tensor])
            if sums_follow and not whole and _reads_are_split(program, group.result, split):
                # Then these channels are taken out of the tensor itself, which needs less memory.
                stored = program.tensors[group.result]
                channels = group.layout.channels // architecture.array_size * architecture.array_size
                smaller = replace(stored, layout=replace(group.layout, channels=channels))
                planned = candidate.with_groups(groups, [smaller])
            if has_room(planned, tensor.name, architecture):
                return candidate
            LOG.debug("%s: %s is not packed: local memory has no room", self.name, group.result)
            return None

        return rewritten_in_pairs(program, tensors_in_pairs(program), packed)


def _reads_are_split(program: GroupProgram, tensor: str, split: dict[TermKey, tuple[Term, Term]]) -> bool:
    """Whether all that read the tensor are convolutions that read its leftover channels from the packed vectors."""
    return not program.is_read_otherwise(tensor) and all(use.key in split for use in program.uses_of(tensor))


def _factored(
    program: GroupProgram, group: Group, other: Group | None, context: Context
) -> tuple[StoredTensor, Group, Group] | None:
    """The partial sums, the group that makes them, and the group that adds them; None where that does not pay.

    other  of the group's pair, which is to be factored in the same way
    """
    architecture = context.architecture
    head, layout = group.head, group.layout
    leftover = layout.channels % architecture.array_size
    if not isinstance(head, LinearHead) or len(head.terms) != 1 or leftover in (0, layout.channels):
        return None
    (term,) = head.terms
    if term.window.dilates_input or _is_mean(term):
        return None
    # What packs the source along one axis wants the partial sums along the other.
    packed_along = _summed_along(program, term.tensor)
    axes = [axis for axis in (1 - packed_along, packed_along) if term.window.kernel[axis] > 1]
    for each in (group,) if other is None else (group, other):
        axes = [axis for axis in axes if _stays_in_words(axis, program, each, leftover, context.data_type)]
    ways = [_factored_along(axis, program, group, leftover) for axis in axes]
    costs = [_factored_cycles(partial, rest, architecture) for _, partial, rest in ways]
    before = _cycles_with_packed_inputs(term.weight[-leftover:], layout.pixels, architecture)
    if not costs or before <= min(costs):
        return None
    return ways[costs.index(min(costs))]


def _stays_in_words(axis: int, program: GroupProgram, group: Group, leftover: int, data_type: DataType) -> bool:
    """Whether sums that fit a word still do by the bounds of partial sums, of all channels together and so coarser."""
    if not isinstance(group.head, LinearHead) or len(group.head.terms) != 1:
        return False
    tensor, _, factored = _factored_along(axis, program, group, leftover)
    tensors = {**program.tensors, tensor.name: tensor}
    return not _fits(group, tensors, data_type) or _fits(factored, tensors, data_type)


def _fits(group: Group, tensors: Mapping[str, StoredTensor], data_type: DataType) -> bool:
    """Whether no sum leaves a word."""
    assert isinstance(group.head, LinearHead)
    bounds = [conv_bounds(t.weight, t.window, *tensors[t.tensor].codes) for t in group.head.terms]
    low, high = (np.sum(ends, axis=0).tolist() for ends in zip(*bounds, strict=True))
    lowest, highest = prefix_bounds(low, high, group.head.bias.tolist())
    return data_type.min_code <= lowest and highest <= data_type.max_code


def _summed_along(program: GroupProgram, tensor: str) -> int:
    """The axis along which a tensor's leftover channels are sums of most taps: of partial sums, if they are factored.

    There, neighbours share taps, where a vector holds more than one (`word_rewrites.sums_in_packing`).
    """
    heads = [g.head for g in program.groups if g.result == tensor]
    windows = [t.window for head in heads if isinstance(head, LinearHead) for t in head.terms[-1:]]
    if windows and windows[0].dilates_input:  # neighbours share vectors there, too
        return int(windows[0].input_dilations[1] > 1)
    return 0 if windows and windows[0].kernel[0] > windows[0].kernel[1] else 1


def _factored_along(axis: int, program: GroupProgram, group: Group, leftover: int) -> tuple[StoredTensor, Group, Group]:
    """Partial sums of each row of the kernel (axis 0) or column, over all rows or columns of the source."""
    assert isinstance(group.head, LinearHead)
    (term,) = group.head.terms
    read, made = program.tensors[term.tensor], program.tensors[group.result]
    first, window, source = group.layout.channels - leftover, term.window, read.layout
    taps = window.kernel[axis]
    height, width = _along(axis, (source.height, source.width), (group.layout.height, group.layout.width))
    layout = Layout(taps * leftover, height, width)
    # partial[k * leftover + c] at (y, x): the sum over the kernel's row k, at input row y.
    each = np.moveaxis(term.weight[first:], 2 + axis, 0)  # [taps, leftover, C_in, the kernel's other axis]
    rows = np.expand_dims(each.reshape(taps * leftover, *each.shape[2:]), 2 + axis)
    ones = np.zeros((group.layout.channels, taps, leftover, taps), dtype=np.int64)
    for k in range(taps):
        ones[first:, k, :, k] = np.eye(leftover, dtype=np.int64)
    ones = np.expand_dims(ones.reshape(len(ones), -1, taps), 3 - axis)
    (top, left, bottom, right), one = window.pads, (1, 1)
    before, after = _along(axis, (0, 0), (top, left)), _along(axis, (0, 0), (bottom, right))
    across = Window(
        kernel=_along(axis, one, window.kernel),
        strides=_along(axis, one, window.strides),
        dilations=_along(axis, one, window.dilations),
        pads=(*before, *after),
    )
    down = Window(
        kernel=_along(axis, window.kernel, one),
        strides=_along(axis, window.strides, one),
        dilations=_along(axis, window.dilations, one),
        pads=(top - before[0], left - before[1], bottom - after[0], right - after[1]),
    )
    head = LinearHead((Term(term.tensor, rows, across),), np.zeros(taps * leftover, dtype=np.int64))
    low, high = conv_bounds(rows, across, *read.codes)
    tensor = made.helper(Role.PARTIAL, layout, (int(low.min()), int(high.max())))
    partial = Group(tensor.name, layout, head, (), (), group.origin)
    main = term.weight.copy()
    main[first:] = 0
    terms = replace(term, weight=main), Term(partial.result, ones, down)
    return tensor, partial, replace(group, head=replace(group.head, terms=terms))


def _along(axis: int, here: tuple[int, int], elsewhere: tuple[int, int]) -> tuple[int, int]:
    """One pair's number along an axis, the other's along the other."""
    return (here[0], elsewhere[1]) if axis == 0 else (elsewhere[0], here[1])


def _factored_cycles(partial: Group, group: Group, architecture: Architecture) -> int:
    """Cycles of the leftover channels by way of partial sums."""
    assert isinstance(partial.head, LinearHead)
    assert isinstance(group.head, LinearHead)
    (rows,), (_, ones) = partial.head.terms, group.head.terms
    cycles = _cycles_with_packed_inputs(rows.weight, partial.layout.pixels, architecture)
    cycles += partial.layout.vectors(architecture.array_size)
    return cycles + convolution_cycles(ones.weight, group.layout.pixels, architecture)


def _cycles_with_packed_inputs(weight: Weights, pixels: int, architecture: Architecture) -> int:
    """Cycles of a convolution whose source's own leftover channels are packed, along either axis, where that pays."""
    leftover = weight.shape[1] % architecture.array_size
    if leftover in (0, weight.shape[1]):
        return convolution_cycles(weight, pixels, architecture)
    alone = weight[:, -leftover:]
    packed = [np.moveaxis(alone, axis, 2).reshape(len(weight), -1, alone.shape[5 - axis], 1) for axis in (2, 3)]
    least = min(convolution_cycles(part, pixels, architecture) for part in (alone, *packed))
    return convolution_cycles(weight[:, :-leftover], pixels, architecture) + least


_Packing = tuple[StoredTensor, Group, dict[TermKey, tuple[Term, Term]]]


def _packing(program: GroupProgram, group: Group, architecture: Architecture, *, whole: bool) -> _Packing | None:
    """The packed tensor, the group that makes it, and its readers' terms split in two; None where that does not pay.

    whole  a tensor without a whole block is packed, too: then the first parts of the terms hold nothing
    """
    a = architecture.array_size
    leftover = group.layout.channels % a
    uses = program.uses_of(group.result)
    if not leftover or (leftover == group.layout.channels and not whole) or not uses:
        return None
    widest = max((use.term.window for use in uses), key=lambda window: window.taps)
    first = _summed_along(program, group.result)
    tries = dict.fromkeys(
        _offsets_along(axis, widest, most)
        for axis in (first, 1 - first)
        for most in (a // leftover, widest.kernel[axis])
    )
    stored = program.tensors[group.result]
    choices = (_packed_by(stored, group, uses, offsets, architecture, whole=whole) for offsets in tries)
    saved, packing = max(choices, key=lambda choice: choice[0])
    return packing if saved > 0 else None


def _packed_by(
    stored: StoredTensor,
    group: Group,
    uses: list[TermUse],
    offsets: Offsets,
    architecture: Architecture,
    *,
    whole: bool,
) -> tuple[int, _Packing]:
    """Cycles saved with leftover channels at these offsets packed in one block or more, and the packing, in which the
    terms are split that gain by it; of a whole tensor those, too, that lose nothing: it may be gone then.
    """
    leftover = group.layout.channels % architecture.array_size
    first = group.layout.channels - leftover
    part = replace(group.layout, channels=leftover)
    mains: dict[TermKey, Term] = {}
    rests: dict[TermKey, Term] = {}
    saved = 0
    for use in uses:
        term = use.term
        if _is_mean(term):
            continue
        alone = replace(term, weight=term.weight[:, first:])
        rest = shrink(alone, part, use.output, offsets)
        if rest is None:
            continue
        cycles, packed = (convolution_cycles(t.weight, use.output.pixels, architecture) for t in (alone, rest))
        if packed > cycles or (packed == cycles and not whole):
            continue
        main = term.weight.copy()
        main[:, first:] = 0
        mains[use.key], rests[use.key] = replace(term, weight=main), rest
        saved += cycles - packed
    strides = _common_strides([rest.window for rest in rests.values()])
    tensor, packer = _packer(stored, group, leftover, first, offsets, strides)
    assert isinstance(packer.head, LinearHead)
    (ones,) = packer.head.terms
    saved -= convolution_cycles(ones.weight, packer.layout.pixels, architecture)
    saved -= packer.layout.vectors(architecture.array_size)
    split = {key: (main, _at_every(replace(rests[key], tensor=tensor.name), strides)) for key, main in mains.items()}
    return saved, (tensor, packer, split)


def _offsets_along(axis: int, window: Window, most: int) -> Offsets:
    """`lane_offsets` that fill columns (axis 0) before rows, or rows before columns."""
    if axis == 1:
        return lane_offsets(window, most)
    (kh, kw), (dh, dw), (top, left, bottom, right) = window.kernel, window.dilations, window.pads
    turned = Window(kernel=(kw, kh), dilations=(dw, dh), pads=(left, top, right, bottom))
    return tuple((dy, dx) for dx, dy in lane_offsets(turned, most))


def _is_mean(term: Term) -> bool:
    """Whether one matrix serves all taps: loaded once, it is better as it is."""
    return term.window.taps > 1 and bool((term.weight == term.weight[:, :, :1, :1]).all())


def _common_strides(windows: Sequence[Window]) -> tuple[int, int]:
    """The strides at which all of the windows read, along the axes where each has one tap, at the pixel itself."""

    def along(axis: int) -> int:
        strides = {window.strides[axis] for window in windows}
        alone = all(window.kernel[axis] == 1 and window.pads[axis] == 0 for window in windows)
        return strides.pop() if alone and len(strides) == 1 else 1

    return along(0), along(1)


def _at_every(term: Term, strides: tuple[int, int]) -> Term:
    """The same of a tensor that holds one pixel of each stride."""
    (down, across), (sh, sw) = term.window.strides, strides
    return replace(term, window=replace(term.window, strides=(down // sh, across // sw)))


def _packer(
    stored: StoredTensor, group: Group, leftover: int, first: int, offsets: Offsets, strides: tuple[int, int]
) -> tuple[StoredTensor, Group]:
    """result[j * leftover + c] at (y, x) = channel first + c at (y * sh + dy_j, x * sw + dx_j), by a convolution."""
    rows, columns = [dy for dy, _ in offsets], [dx for _, dx in offsets]
    top, left = min(rows), min(columns)
    kernel = max(rows) - top + 1, max(columns) - left + 1
    weight = np.zeros((len(offsets), leftover, group.layout.channels, *kernel), dtype=np.int64)
    for j, (dy, dx) in enumerate(offsets):
        weight[j, :, first:, dy - top, dx - left] = np.eye(leftover, dtype=np.int64)
    window = Window(kernel=kernel, strides=strides, pads=(-top, -left, 0, 0))
    channels = len(offsets) * leftover
    height, width = -(-group.layout.height // strides[0]), -(-group.layout.width // strides[1])
    term = Term(group.result, weight.reshape(channels, -1, *kernel), window)
    layout = Layout(channels, height, width)
    head = LinearHead((term,), np.zeros(channels, dtype=np.int64))
    tensor = stored.helper(
        Role.PACKED, layout, (min(stored.low, 0), max(stored.high, 0))
    )  # 0 lies outside of the image
    return tensor, Group(tensor.name, layout, head, (), (), group.origin)
