"""Leftover channels: 16 channels on 12 lanes are a full block and one of 4, which costs as much as the full one.

Where convolutions *read* such a tensor, a small group packs the leftover channels of neighbouring pixels into one
vector (as the host does with inputs, see `packing`), and the convolutions read their taps from there: a 3 x 3 window
over the leftover block takes 3 MatMuls instead of 9. Eight leftover channels of three pixels take two vectors: 6.

Where a convolution *makes* leftover channels, they are factored: a 1 x 3 convolution computes the partial sums of
(row of the kernel, channel) in the spare lanes, a 3 x 1 convolution by ones adds each at its own row: 3 + 3 MatMuls
instead of 9, and the 3 only once for all input blocks. Rows, where a packed vector holds the pixels of one; where it
holds those of a column, columns: layer by layer the one or the other, for `packed_sums` gains where the axis that
partial sums are summed along is the one that the sums are packed along.

Both are rewrites of convolutions into convolutions, done where the cycles saved are more than the cost, and where local
memory holds the helper beside everything else that is live.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from pefslc.analysis.ranges import conv_bounds
from pefslc.geometry.shapes import Window
from pefslc.targets.tensil.groups.group import AddTensor, Group, LinearHead, Selection, Term, Weights
from pefslc.targets.tensil.groups.layout import Layout
from pefslc.targets.tensil.machine.architecture import Architecture
from pefslc.targets.tensil.merge.addends import clamped_addends
from pefslc.targets.tensil.rewrite.convolution_cost import convolution_cycles
from pefslc.targets.tensil.rewrite.input_packing import Offsets, convolutions_of, lane_offsets, shrink

__all__ = [
    "HELPERS",
    "PACKED",
    "PARTIAL",
    "SUMS",
    "TRANSPOSED",
    "factor_leftovers",
    "has_room",
    "pack_leftovers",
]

# Added to the name of a tensor: its packed leftover channels, the partial sums of its leftover channels, these sums
# themselves, before they are requantized (`packed_sums`); the tensor transposed (`few_pixels`).
PACKED, PARTIAL, SUMS, TRANSPOSED = ".packed", ".partial", ".sums", ".transposed"
HELPERS = (PACKED, PARTIAL, SUMS, TRANSPOSED)
_WEIGHTS_SHARE = 8  # this part of local memory stays free for weights


def factor_leftovers(selection: Selection, architecture: Architecture) -> Selection:
    """The selection with a group of partial sums before each convolution whose leftover channels gain by it."""
    for group in selection.groups:
        factored = _factored(selection, group, architecture)
        if factored is None:
            continue
        partial, rest = factored
        assert isinstance(partial.head, LinearHead)
        (term,) = partial.head.terms
        low, high = conv_bounds(term.weight, term.window, *selection.ranges[term.tensor])
        groups = tuple(new for g in selection.groups for new in ((partial, rest) if g is group else (g,)))
        candidate = _with_helper(selection, partial, (int(low.min()), int(high.max())), groups)
        if has_room(candidate, partial.result, architecture):
            selection = candidate
    return selection


def pack_leftovers(selection: Selection, architecture: Architecture, *, sums_follow: bool = True) -> Selection:
    """The selection with a packing group after each group where that saves cycles.

    sums_follow  `packed_sums` takes packed channels out of their tensors afterwards, which needs less memory
    """
    for group in selection.groups:
        packing = _packing(selection, group, architecture)
        if packing is None:
            continue
        packer, split = packing
        groups: list[Group] = []
        for g in selection.groups:
            groups.append(_with_split_terms(g, split))
            if g.result == group.result:
                groups.append(packer)
        low, high = selection.ranges[group.result]
        within = min(low, 0), max(high, 0)  # 0 lies outside of the image
        candidate = _with_helper(selection, packer, within, tuple(groups))
        planned = candidate
        if sums_follow and _reads_are_split(
            selection, group.result, split
        ):  # then `packed_sums` takes them out of the tensor itself
            channels = group.layout.channels // architecture.array_size * architecture.array_size
            smaller = {group.result: replace(group.layout, channels=channels)}
            planned = replace(candidate, layouts={**candidate.layouts, **smaller})
        if has_room(planned, packer.result, architecture):
            selection = candidate
    return selection


def _reads_are_split(selection: Selection, tensor: str, split: dict[int, tuple[Term, Term]]) -> bool:
    """Whether all that read the tensor are convolutions that read its leftover channels from the packed vectors."""
    readers = [group for group in selection.groups if tensor in group.tensors]
    terms = [t for g in readers if isinstance(g.head, LinearHead) for t in g.head.terms if t.tensor == tensor]
    added = [s for g in readers for s in g.steps if isinstance(s, AddTensor) and s.tensor == tensor]
    return all(isinstance(g.head, LinearHead) for g in readers) and not added and all(id(t) in split for t in terms)


def _with_helper(selection: Selection, helper: Group, within: tuple[int, int], groups: tuple[Group, ...]) -> Selection:
    return replace(
        selection,
        groups=groups,
        layouts={**selection.layouts, helper.result: helper.layout},
        ranges={**selection.ranges, helper.result: within},
        storage={**selection.storage, helper.result: helper.result},
    )


def has_room(selection: Selection, helper: str, architecture: Architecture) -> bool:
    """Whether local memory holds all that is live, and weights, wherever the helper is."""
    made: dict[str, int] = {}
    last: dict[str, int] = {}
    clamped = clamped_addends(selection)
    for i, group in enumerate(selection.groups):
        if group.result in clamped:
            continue
        made[group.result] = i
        last[group.result] = max(last.get(group.result, i), i)
        for tensor in group.tensors:
            last[clamped.get(tensor, tensor)] = i
    room = architecture.local_depth - architecture.local_depth // _WEIGHTS_SHARE
    if helper in clamped:
        return True
    for i in range(made[helper], last[helper] + 1):
        live = [t for t, end in last.items() if made.get(t, 0) <= i <= end]
        if sum(selection.layouts[t].vectors(architecture.array_size) for t in live) > room:
            return False
    return True


def _factored(selection: Selection, group: Group, architecture: Architecture) -> tuple[Group, Group] | None:
    """The group of partial sums, and the group that adds them; None where that does not pay."""
    head, layout = group.head, group.layout
    leftover = layout.channels % architecture.array_size
    if not isinstance(head, LinearHead) or len(head.terms) != 1 or leftover in (0, layout.channels):
        return None
    (term,) = head.terms
    if term.window.dilates_input or _is_mean(term):
        return None
    # What packs the source along one axis wants the partial sums along the other.
    packed_along = _summed_along(selection, term.tensor)
    axes = [axis for axis in (1 - packed_along, packed_along) if term.window.kernel[axis] > 1]
    found = [_factored_along(axis, selection.layouts[term.tensor], group, term, leftover) for axis in axes]
    costs = [_factored_cycles(*parts, architecture) for parts in found]
    before = _cycles_with_packed_inputs(term.weight[-leftover:], layout.pixels, architecture)
    if not costs or before <= min(costs):
        return None
    return found[costs.index(min(costs))]


def _summed_along(selection: Selection, tensor: str) -> int:
    """The axis along which a tensor's leftover channels are sums of most taps: of partial sums, if they are factored.

    There, neighbours share taps, where a vector holds more than one (`packed_sums`).
    """
    heads = [g.head for g in selection.groups if g.result == tensor]
    windows = [t.window for head in heads if isinstance(head, LinearHead) for t in head.terms[-1:]]
    return 0 if windows and windows[0].kernel[0] > windows[0].kernel[1] else 1


def _factored_along(axis: int, source: Layout, group: Group, term: Term, leftover: int) -> tuple[Group, Group]:
    """Partial sums of each row of the kernel (axis 0) or column, over all rows or columns of the source."""
    first, window = group.layout.channels - leftover, term.window
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
    partial = Group(group.result + PARTIAL, layout, head, (), (), group.origin)
    main = term.weight.copy()
    main[first:] = 0
    assert isinstance(group.head, LinearHead)
    terms = replace(term, weight=main), Term(partial.result, ones, down)
    return partial, replace(group, head=replace(group.head, terms=terms))


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


def _packing(
    selection: Selection, group: Group, architecture: Architecture
) -> tuple[Group, dict[int, tuple[Term, Term]]] | None:
    """The packing group of a result, and its readers' terms split in two; None where that does not pay."""
    a = architecture.array_size
    leftover = group.layout.channels % a
    found = convolutions_of(selection, group.result)
    if not leftover or leftover == group.layout.channels or not found:
        return None
    widest = max((term.window for term, _ in found), key=lambda window: window.taps)
    first = _summed_along(selection, group.result)
    tries = dict.fromkeys(
        _offsets_along(axis, widest, most)
        for axis in (first, 1 - first)
        for most in (a // leftover, widest.kernel[axis])
    )
    choices = (_packed_by(group, found, offsets, architecture) for offsets in tries)
    saved, packer, split = max(choices, key=lambda choice: choice[0])
    return (packer, split) if saved > 0 else None


def _packed_by(
    group: Group, found: list[tuple[Term, Layout]], offsets: Offsets, architecture: Architecture
) -> tuple[int, Group, dict[int, tuple[Term, Term]]]:
    """Cycles saved with leftover channels at these offsets packed in one block or more, the packing group, and the
    terms of `found` that gain by it, split in two.
    """
    leftover = group.layout.channels % architecture.array_size
    first = group.layout.channels - leftover
    part = replace(group.layout, channels=leftover)
    split: dict[int, tuple[Term, Term]] = {}
    saved = 0
    for term, output in found:
        if _is_mean(term):
            continue
        alone = replace(term, weight=term.weight[:, first:])
        rest = shrink(alone, part, output, offsets)
        if rest is None:
            continue
        cycles, packed = (convolution_cycles(t.weight, output.pixels, architecture) for t in (alone, rest))
        if packed >= cycles:
            continue
        main = term.weight.copy()
        main[:, first:] = 0
        split[id(term)] = replace(term, weight=main), replace(rest, tensor=group.result + PACKED)
        saved += cycles - packed
    strides = _common_strides([rest.window for _, rest in split.values()])
    packer = _packer(group, leftover, first, offsets, strides)
    assert isinstance(packer.head, LinearHead)
    (ones,) = packer.head.terms
    saved -= convolution_cycles(ones.weight, packer.layout.pixels, architecture)
    saved -= packer.layout.vectors(architecture.array_size)
    return saved, packer, {term: (main, _at_every(rest, strides)) for term, (main, rest) in split.items()}


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


def _packer(group: Group, leftover: int, first: int, offsets: Offsets, strides: tuple[int, int]) -> Group:
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
    return Group(group.result + PACKED, layout, head, (), (), group.origin)


def _with_split_terms(group: Group, split: dict[int, tuple[Term, Term]]) -> Group:
    if not isinstance(group.head, LinearHead) or not any(id(t) in split for t in group.head.terms):
        return group
    terms = tuple(part for t in group.head.terms for part in split.get(id(t), (t,)))
    return replace(group, head=replace(group.head, terms=terms))
