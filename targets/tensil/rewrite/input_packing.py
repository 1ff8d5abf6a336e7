"""Packing of network inputs: an image of 3 channels leaves most lanes empty, so the host puts other pixels there.

With lane offsets (dy, dx)_j, lane j * C + c at pixel (y, x) holds channel c of pixel (y + dy_j, x + dx_j), and 0
outside of the image. A convolution then reads several of its taps in one vector: its window shrinks, its input has more
channels. The host lays the input out anyway; the program does not know the difference.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pefslc.geometry.shapes import Window
from pefslc.targets.tensil.groups.group import AddTensor, Group, LinearHead, Selection, Term
from pefslc.targets.tensil.groups.layout import Layout

__all__ = ["Offsets", "convolutions_of", "lane_offsets", "pack_inputs", "packed", "shrink"]

Offsets = tuple[tuple[int, int], ...]
Codes = NDArray[np.int64]


def packed(codes: Codes, offsets: Offsets) -> Codes:
    """[C, H, W] codes with neighbouring pixels as channels: [len(offsets) * C, H, W]."""
    channels, height, width = codes.shape
    result = np.zeros((len(offsets), channels, height, width), dtype=np.int64)
    for j, (dy, dx) in enumerate(offsets):
        y, x = max(-dy, 0), max(-dx, 0)
        source = codes[:, y + dy : max(height + dy, 0), x + dx : max(width + dx, 0)]
        result[j, :, y : y + source.shape[1], x : x + source.shape[2]] = source
    return result.reshape(-1, height, width)


def pack_inputs(selection: Selection, inputs: list[str], outputs: list[str], array_size: int) -> Selection:
    """The selection with every input packed whose readers are convolutions that gain by it."""
    for tensor in inputs:
        terms = convolutions_of(selection, tensor)
        layout = selection.layouts[tensor]
        if not terms or tensor in outputs or 2 * layout.channels > array_size or _is_read_otherwise(selection, tensor):
            continue
        widest = max((term for term, _ in terms), key=lambda t: t.window.taps)
        offsets = lane_offsets(widest.window, array_size // layout.channels)
        if len(offsets) < 2:
            continue
        shrunk = {id(term): shrink(term, layout, output, offsets) for term, output in terms}
        if any(term is None for term in shrunk.values()):
            continue
        selection = replace(
            selection,
            groups=tuple(_with_terms(g, shrunk) for g in selection.groups),
            layouts={**selection.layouts, tensor: replace(layout, channels=layout.channels * len(offsets))},
            packings={**selection.packings, tensor: offsets},
        )
    return selection


def convolutions_of(selection: Selection, tensor: str) -> list[tuple[Term, Layout]]:
    """The convolutions that read the tensor, with the layouts of their results."""
    heads = [(g.head, g.layout) for g in selection.groups if isinstance(g.head, LinearHead)]
    return [(term, layout) for head, layout in heads for term in head.terms if term.tensor == tensor]


def _is_read_otherwise(selection: Selection, tensor: str) -> bool:
    """Whether a sum or a maximum reads the tensor: they want it as it is."""
    added = [s.tensor for g in selection.groups for s in g.steps if isinstance(s, AddTensor)]
    maxima = [g.head.tensor for g in selection.groups if not isinstance(g.head, LinearHead)]
    return tensor in added + maxima


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
    return tuple(offsets) if (0, 0) in offsets else ((0, 0),)


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


def _with_terms(group: Group, shrunk: dict[int, Term | None]) -> Group:
    if not isinstance(group.head, LinearHead):
        return group
    terms = tuple(shrunk.get(id(t)) or t for t in group.head.terms)
    return replace(group, head=replace(group.head, terms=terms))
