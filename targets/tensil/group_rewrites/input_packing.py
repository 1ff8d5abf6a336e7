"""Packing of network inputs: an image of 3 channels leaves most lanes empty, so the host puts other pixels there.

With lane offsets (dy, dx)_j, lane j * C + c at pixel (y, x) holds channel c of pixel (y + dy_j, x + dx_j), and 0
outside of the image. A convolution then reads several of its taps in one vector: its window shrinks, its input has more
channels. The host lays the input out anyway; the program does not know the difference.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np

from pefslc.geometry.shapes import Window
from pefslc.targets.tensil.groups.group import AddTensor, Group, LinearHead, Requantization, Step, Term
from pefslc.targets.tensil.groups.group_program import GroupProgram
from pefslc.targets.tensil.groups.layout import ALONE, Layout, Offsets
from pefslc.targets.tensil.rewriting.rewrite import LOG, Context

__all__ = ["PackInputs", "lane_offsets", "shrink"]


class PackInputs:
    """Every input whose readers are convolutions that gain by it has the pixels of several taps in a vector."""

    name: ClassVar[str] = "pack-inputs"
    needs: ClassVar[str] = "nothing"
    ensures: ClassVar[str] = "inputs with a packing have more channels; the host lays them out so"

    def run(self, program: GroupProgram, context: Context) -> GroupProgram:
        if context.plain_host:
            LOG.debug("%s: a plain host packs nothing", self.name)
            return program
        for port in program.inputs:
            packed = _packed_input(program, port.tensor, context.architecture.array_size)
            if isinstance(packed, str):
                LOG.debug("%s: %s stays as it is: %s", self.name, port.tensor, packed)
            else:
                program = packed
        return program


def _packed_input(program: GroupProgram, tensor: str, array_size: int) -> GroupProgram | str:
    """The program with an input packed, or why it is not. Its digits lie as it does, and convolutions read those."""
    stored, made = program.tensors[tensor], _made_in_place(program, tensor)
    same = [tensor, *made]
    uses = [use for name in same for use in program.uses_of(name) if use.key[0] not in made]
    channels = stored.layout.channels
    if stored.packing != ALONE:
        return "it is packed"
    if 2 * channels > array_size:
        return f"its {channels} channels leave no room for another pixel"
    if not uses or any(name in program.output_tensors or _is_read_otherwise(program, name, made) for name in same):
        return "an addition, a maximum or the host reads it"
    widest = max((use.term for use in uses), key=lambda term: term.window.taps)
    offsets = lane_offsets(widest.window, array_size // channels)
    if len(offsets) < 2:
        return "the convolutions that read it have one tap"
    shrunk = {use.key: shrink(use.term, stored.layout, use.output, offsets) for use in uses}
    terms = {key: (term,) for key, term in shrunk.items() if term is not None}
    if len(terms) < len(shrunk):
        return "a convolution finds some of its taps in no lane"
    layout = replace(stored.layout, channels=channels * len(offsets))
    groups = [_wider(g, layout) if g.result in made else g for g in program.groups_with_terms(terms)]
    tensors = [replace(program.tensors[name], layout=layout) for name in made]
    return program.with_groups(groups, [replace(stored, layout=layout, packing=offsets), *tensors])


def _made_in_place(program: GroupProgram, tensor: str) -> list[str]:
    """The digits of a tensor: what is made of it pixel by pixel and channel by channel, 0 of 0. They lie as it does."""
    same, is_split = {tensor: None}, False
    for group in program.groups:
        head = group.head
        if not isinstance(head, LinearHead) or len(head.terms) != 1 or head.bias.any() or head.stationary is not None:
            continue
        (term,) = head.terms
        is_alike = term.tensor in same and term.is_copy(int(term.weight.sum(axis=1).flat[0]))
        if is_alike and group.steps and all(_keeps_zero(step, same) for step in group.steps):
            same[group.result] = None
            is_split = is_split or any(isinstance(step, AddTensor) for step in group.steps)
    return list(same)[1:] if is_split else []


def _keeps_zero(step: Step, same: Collection[str]) -> bool:
    match step:
        case Requantization(staircase):
            return staircase.channels == 1 and not staircase(np.zeros((1, 1), dtype=np.int64)).any()
        case AddTensor(tensor):
            return tensor in same
        case _:
            return False


def _is_read_otherwise(program: GroupProgram, tensor: str, made: Sequence[str]) -> bool:
    """Whether a sum or a maximum reads a tensor, but for those that make digits."""
    others = [group for group in program.groups if group.result not in made]
    return replace(program, groups=tuple(others)).is_read_otherwise(tensor)


def _wider(group: Group, layout: Layout) -> Group:
    """A group that makes each channel of the same, with more of them."""
    assert isinstance(group.head, LinearHead)
    (term,), channels = group.head.terms, layout.channels
    weight = np.eye(channels, dtype=np.int64)[:, :, None, None] * term.weight[0, 0, 0, 0]
    steps = [replace(s, channels=channels) if isinstance(s, Requantization) else s for s in group.steps]
    head = LinearHead((replace(term, weight=weight),), np.zeros(channels, dtype=np.int64))
    return replace(group, layout=layout, head=head, steps=tuple(steps))


def lane_offsets(window: Window, most: int) -> Offsets:
    """The offsets of the window's taps that fit: all; else whole rows; else a part of a row, the centre in it."""
    (kh, kw), (dh, dw) = window.kernel, window.dilations
    rows = [y * dh - window.pads[0] for y in range(kh)]
    columns = [x * dw - window.pads[1] for x in range(kw)]
    if len(columns) > most:
        columns = sorted(sorted(columns, key=lambda c: (abs(c), c))[:most])
    rows = sorted(sorted(rows, key=lambda r: (abs(r), r))[: max(most // len(columns), 1)])
    offsets = [(y, x) for y in rows for x in columns]
    # The pixel itself must be among them: every 1 x 1 convolution needs it, and so does a window's rest.
    return tuple(offsets) if (0, 0) in offsets else ALONE


def shrink(term: Term, layout: Layout, output: Layout, offsets: Offsets) -> Term | None:
    """The same convolution on the packed input: each tap goes to a base and lane that reach it where it is inside.

    None where some tap reaches none; one over a dilated input stays as it is.
    """
    window = term.window
    if window.dilates_input:
        return None
    outputs, channels, kh, kw = term.weight.shape
    chosen: dict[tuple[int, int], tuple[tuple[int, int], int]] = {}  # tap -> (base, lane)
    taps = {(ky, kx): window.tap_offset(ky, kx) for ky in range(kh) for kx in range(kw)}
    reach: dict[tuple[int, int], dict[tuple[int, int], int]] = {}  # base -> tap -> lane
    for tap, (oy, ox) in taps.items():
        for lane, (dy, dx) in enumerate(offsets):
            base = oy - dy, ox - dx
            rows = range(0, output.height * window.strides[0], window.strides[0])
            columns = range(0, output.width * window.strides[1], window.strides[1])
            if _follows(oy, base[0], rows, layout.height) and _follows(ox, base[1], columns, layout.width):
                reach.setdefault(base, {})[tap] = lane
    while len(chosen) < len(taps):
        left = {base: [t for t in found if t not in chosen] for base, found in reach.items()}
        best = max(sorted(left), key=lambda b: len(left[b]), default=None)
        if best is None or not left[best]:
            return None
        chosen |= {tap: (best, reach[best][tap]) for tap in left[best]}
    bases = [base for base, _ in chosen.values()]
    top, leftmost = min(y for y, _ in bases), min(x for _, x in bases)
    kernel = max(y for y, _ in bases) - top + 1, max(x for _, x in bases) - leftmost + 1
    weight = np.zeros((outputs, len(offsets), channels, *kernel), dtype=np.int64)
    for (ky, kx), ((by, bx), lane) in chosen.items():
        weight[:, lane, :, by - top, bx - leftmost] = term.weight[:, :, ky, kx]
    # Where a base lies right of or below the pixel, its "padding" is negative: Window.tap_offset is what counts.
    shrunk = Window(kernel=kernel, strides=window.strides, pads=(-top, -leftmost, 0, 0))
    return Term(term.tensor, weight.reshape(outputs, -1, *kernel), shrunk)


def _follows(offset: int, base: int, positions: range, size: int) -> bool:
    """Whether, wherever the tap at `offset` from a position lies inside, the vector at `base` from it does too."""
    return all(0 <= p + base < size for p in positions if 0 <= p + offset < size)
