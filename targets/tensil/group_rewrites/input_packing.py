"""Packing of network inputs: an image of 3 channels leaves most lanes empty, so the host puts other pixels there.

Where lanes are left, they hold the rows that two rows of windows see, and only every other row has vectors: half of
them come from DRAM0. A window finds its rows in the lanes of the same vector, in other lanes for even and odd rows, so
it takes as many MatMuls, half as long. On many lanes, the same of columns: every other one of every other row.

With lane offsets (dy, dx)_j, lane j * C + c at pixel (y, x) holds channel c of pixel (y + dy_j, x + dx_j), and 0
outside of the image. A convolution then reads several of its taps in one vector: its window shrinks, its input has more
channels. The host lays the input out anyway; the program does not know the difference.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from pefslc.geometry.shapes import Window
from pefslc.targets.tensil.group_rewrites.convolution_cost import inside_cycles
from pefslc.targets.tensil.groups.group import AddTensor, Group, LinearHead, Requantization, Step, Term
from pefslc.targets.tensil.groups.group_program import GroupProgram, TermUse
from pefslc.targets.tensil.groups.layout import ALONE, Layout, Offsets
from pefslc.targets.tensil.machine.architecture import Architecture
from pefslc.targets.tensil.machine.timing import streaming_cycles
from pefslc.targets.tensil.rewriting.rewrite import LOG, Context

__all__ = ["PackInputs", "lane_offsets", "shrink"]


# What vectors for two rows must save: where sums carry a constant (`schedule.weights.with_carried`), their first and
# last tile reach half of the rows each, MatMuls of zeroes the others: 190 to 350 cycles on images of 16 x 16.
_LEAST_SAVED = 350
_STEPS = (2, 1), (2, 2)


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
            packed = _packed_input(program, port.tensor, context.architecture)
            if isinstance(packed, str):
                LOG.debug("%s: %s stays as it is: %s", self.name, port.tensor, packed)
            else:
                program = packed
        return program


def _packed_input(program: GroupProgram, tensor: str, architecture: Architecture) -> GroupProgram | str:
    """The program with an input packed, or why it is not. Its digits lie as it does, and convolutions read those."""
    stored, made, array_size = program.tensors[tensor], _made_in_place(program, tensor), architecture.array_size
    same = [tensor, *made]
    uses = [use for name in same for use in program.uses_of(name) if use.key[0] not in made]
    channels = stored.layout.channels
    if stored.packing != ALONE:
        return "it is packed"
    if 2 * channels > array_size:
        return f"its {channels} channels leave no room for another pixel"
    if not uses or any(name in program.output_tensors or _is_read_otherwise(program, name, made) for name in same):
        return "an addition, a maximum or the host reads it"
    widest = max((use.term.window for use in uses), key=lambda window: window.taps)
    most = array_size // channels
    usual = _packed(program, tensor, made, uses, lane_offsets(widest, most), (1, 1))
    if isinstance(usual, str) or made:
        return usual
    ways = [(_cycles(usual, tensor, architecture), usual)]
    for steps in _STEPS:
        even = stored.layout.height % steps[0] == stored.layout.width % steps[1] == 0
        offsets = _offsets_in_steps(widest, most, steps) if even else ()
        if offsets and not isinstance(way := _packed(program, tensor, made, uses, offsets, steps), str):
            ways.append((_cycles(way, tensor, architecture) + _LEAST_SAVED, way))
    return min(ways, key=lambda way: way[0])[1]


def _offsets_in_steps(window: Window, most: int, steps: tuple[int, int]) -> Offsets:
    """The offsets of the taps of so many rows and columns of windows: along the axis that is gone along in larger steps
    all of them, along the other those that fit; none where not even a step does.
    """
    rows, columns = (
        sorted(
            {k * apart - pad + i for k in range(taps) for i in range(step)}, key=lambda offset: (abs(offset), -offset)
        )
        for taps, apart, pad, step in zip(window.kernel, window.dilations, window.pads[:2], steps, strict=True)
    )
    if steps[1] > 1:
        rows = rows[: most // len(columns)]
    else:
        columns = columns[: most // len(rows)]
    if len(rows) < steps[0] or len(columns) < steps[1] or 0 not in rows or 0 not in columns:
        return ()
    return tuple((y, x) for y in sorted(rows) for x in sorted(columns))


def _packed(
    program: GroupProgram, tensor: str, made: list[str], uses: list[TermUse], offsets: Offsets, steps: tuple[int, int]
) -> GroupProgram | str:
    """The program with an input packed so, or why it is not."""
    stored = program.tensors[tensor]
    if len(offsets) < 2:
        return "the convolutions that read it have one tap"
    shrunk = {use.key: shrink(use.term, stored.layout, use.output, offsets, steps) for use in uses}
    terms = {key: (term,) for key, term in shrunk.items() if term is not None}
    if len(terms) < len(shrunk):
        return "a convolution finds some of its taps in no lane"
    channels, height, width = stored.layout.channels, stored.layout.height, stored.layout.width
    layout = Layout(channels * len(offsets), height // steps[0], width // steps[1])
    groups = [_wider(g, layout) if g.result in made else g for g in program.groups_with_terms(terms)]
    tensors = [replace(program.tensors[name], layout=layout) for name in made]
    return program.with_groups(groups, [replace(stored, layout=layout, packing=offsets, steps=steps), *tensors])


def _cycles(program: GroupProgram, tensor: str, architecture: Architecture) -> int:
    """Of reading an input, and of the convolutions that read it."""
    layout = program.layout(tensor)
    cycles = streaming_cycles(architecture, layout.vectors(architecture.array_size))
    for use in program.uses_of(tensor):
        cycles += inside_cycles(use.term.weight, use.term.window, layout, use.output, architecture)
    return cycles


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


def shrink(
    term: Term, layout: Layout, output: Layout, offsets: Offsets, steps: tuple[int, int] = (1, 1)
) -> Term | None:
    """The same convolution on the packed input: each tap goes to a base and lane that reach it where it is inside.

    None where some tap reaches none; one over a dilated input stays as it is.

    layout  of the image
    steps   how many rows and columns there are from one vector to the next. Where a window's strides are no multiples
            of them, its taps go elsewhere for every remainder of its position, as over a dilated input
    """
    window = term.window
    axes = [_Axis.of(s, step) for s, step in zip(window.strides, steps, strict=True)]
    if window.dilates_input or None in axes:
        return None
    down, across = (axis for axis in axes if axis is not None)
    outputs, channels, kh, kw = term.weight.shape
    chosen: dict[_Tap, tuple[tuple[int, int], int]] = {}  # tap -> (base, lane)
    taps = [(ky, kx, y, x) for ky in range(kh) for kx in range(kw) for y in down.phases for x in across.phases]
    reach: dict[tuple[int, int], dict[_Tap, int]] = {}  # base -> tap -> lane
    for tap in taps:
        oy, ox = window.tap_offset(*tap[:2])
        for lane, (dy, dx) in enumerate(offsets):
            base = oy - dy, ox - dx
            follows = down.follows(oy, base[0], tap[2], output.height, layout.height)
            if follows and across.follows(ox, base[1], tap[3], output.width, layout.width):
                reach.setdefault(base, {})[tap] = lane
    while len(chosen) < len(taps):
        left = {base: [t for t in found if t not in chosen] for base, found in reach.items()}
        best = max(sorted(left), key=lambda b: len(left[b]), default=None)
        if best is None or not left[best]:
            return None
        chosen |= {tap: (best, reach[best][tap]) for tap in left[best]}
    places = {tap: (by // down.base, bx // across.base, lane) for tap, ((by, bx), lane) in chosen.items()}
    top, leftmost = min(y for y, _, _ in places.values()), min(x for _, x, _ in places.values())
    kernel = max(y for y, _, _ in places.values()) - top + 1, max(x for _, x, _ in places.values()) - leftmost + 1
    weight = np.zeros((outputs, len(offsets), channels, *kernel), dtype=np.int64)
    for (ky, kx, _, _), (y, x, lane) in places.items():
        weight[:, lane, :, y - top, x - leftmost] = term.weight[:, :, ky, kx]
    # Where a base lies right of or below the pixel, its "padding" is negative: Window.tap_offset is what counts.
    shrunk = Window(
        kernel=kernel,
        strides=(down.strides, across.strides),
        pads=(-top, -leftmost, 0, 0),
        input_dilations=(down.apart, across.apart),
    )
    return Term(term.tensor, weight.reshape(outputs, -1, *kernel), shrunk)


_Tap = tuple[int, int, int, int]  # of the kernel, and the phases of the window's position


@dataclass(frozen=True, slots=True)
class _Axis:
    """How windows that go on by `stride` pixels lie over vectors that are `step` pixels apart.

    phases   the remainders of positions by the step
    strides  those over the vectors, which are `apart`
    base     pixels between two bases that differ by 1
    """

    stride: int
    step: int
    phases: range
    strides: int
    apart: int
    base: int

    @classmethod
    def of(cls, stride: int, step: int) -> _Axis | None:
        """None where a window is over a dilated input, and its strides are not 1."""
        if stride % step == 0:
            return cls(stride, step, range(1), stride // step, 1, step)
        return cls(stride, step, range(step), 1, step, 1) if stride == 1 else None

    def follows(self, offset: int, base: int, phase: int, outputs: int, size: int) -> bool:
        """Whether, wherever the tap at `offset` from a position of this phase lies in the image of `size` pixels, there
        is a vector at `base` from it.
        """
        positions = range(phase * self.stride, outputs * self.stride, self.stride * len(self.phases))
        inside = [p + base for p in positions if 0 <= p + offset < size]
        return all(0 <= at < size and at % self.step == 0 for at in inside) and (phase + base) % self.step == 0
