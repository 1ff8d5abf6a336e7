"""Layers of few pixels with the roles exchanged: activations stay in the array, weights move through it.

A tile of weights serves as many vectors as the image has pixels: for an image of 4 x 4, loading it, and the drain of
the array before, take longer than its MatMuls. The other way around, an array full of activations, up to A pixels in
its columns and A channels of one tap in its rows, serves a vector of weights for every output channel:

    normal      accumulators[pixel] += pixels[pixel] @ weights          weights [A channels, A outputs] in the array
    exchanged   accumulators[output] += weights^T[output] @ pixels^T    pixels^T [A channels, A pixels] in the array

That wants tensors *transposed*: pixels in the lanes, a row for each channel; and it makes them so, hence layers chain.
A group with a TransposeHead brings a tensor into the chain, or out of it. An exchanged layer is a LinearHead with
`stationary`; MatMuls by ones bring the pixels under a tap into the lanes of the output's (`moving_weights`). Its steps
are those of the layer, for they treat all lanes alike.

Done where the cycles saved are more than the transpositions cost, and where local memory holds all that is live.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, replace

import numpy as np

from pefslc.geometry.shapes import Window
from pefslc.targets.tensil.groups.group import (
    AddTensor,
    Group,
    LinearHead,
    Selection,
    Step,
    Term,
    TransposeHead,
    Weights,
)
from pefslc.targets.tensil.groups.layout import Layout
from pefslc.targets.tensil.machine.architecture import Architecture
from pefslc.targets.tensil.machine.timing import clearing_rows, drain_cycles, load_cycles, tile_cycles, vector_beats
from pefslc.targets.tensil.rewrite.convolution_cost import convolution_cycles, tile_count
from pefslc.targets.tensil.rewrite.leftover_channels import TRANSPOSED, has_room

__all__ = ["transpose_few_pixels"]

_POINT = Window(kernel=(1, 1))
_STEP_CYCLES = 6  # a vector's requantization where nothing hides SIMD (`matrix_plan`), with its moves


@dataclass(frozen=True, slots=True, eq=False)
class _Exchange:
    """A layer that may be exchanged: its group, the taps per block of pixels, the matrix that puts pixels under taps
    [lanes, input pixels] (None: they lie so), and the cycles saved, transpositions not counted.
    """

    group: Group
    stationary: tuple[tuple[int, ...], ...]
    pixels: Weights | None
    saved: int

    @property
    def term(self) -> Term:
        assert isinstance(self.group.head, LinearHead)
        return self.group.head.terms[0]

    @property
    def added(self) -> list[str]:
        return [step.tensor for step in self.group.steps if isinstance(step, AddTensor)]


def transpose_few_pixels(selection: Selection, outputs: Set[str], architecture: Architecture) -> Selection:
    """The selection with layers exchanged where that saves cycles. `outputs` are tensors that must lie as usual."""
    found = [_exchange(selection, group, architecture) for group in selection.groups]
    candidates = {e.group.result: e for e in found if e is not None}
    while True:
        chosen = _choice(selection, candidates, outputs, architecture)
        if not chosen:
            return selection
        rewritten = _rewritten(selection, chosen, outputs)
        helpers = [g.result for g in rewritten.groups if g.result not in selection.layouts]
        crowded = next((name for name in helpers if not has_room(rewritten, name, architecture)), None)
        if crowded is None:
            return rewritten
        name = crowded.removesuffix(TRANSPOSED)
        # A transposition of what no chosen layer makes serves the first of them.
        del candidates[name if name in chosen else next(iter(chosen))]


# --- which layers ----------------------------------------------------------------------------------------------------


def _exchange(selection: Selection, group: Group, architecture: Architecture) -> _Exchange | None:
    """How to exchange one layer; None where that saves nothing by itself."""
    a = architecture.array_size
    if not isinstance(group.head, LinearHead) or len(group.head.terms) != 1:
        return None
    (term,) = group.head.terms
    source = selection.layouts[term.tensor]
    saved = _saved_cycles(term, group.layout, architecture)
    if saved <= 0:
        return None
    stationary, pixels = _pixels_under_taps(term.window, source, group.layout, a)
    if not all(stationary):
        return None  # some pixels see nothing but padding
    if term.window == _POINT and (source.height, source.width) == (group.layout.height, group.layout.width):
        return _Exchange(group, stationary, None, saved)
    gathered = convolution_cycles(pixels[:, :, None, None], source.channels, architecture)
    gathered += len(pixels) // a * source.channels
    return _Exchange(group, stationary, pixels, saved - gathered * _passes(term, group.layout, architecture))


def _saved_cycles(term: Term, output: Layout, architecture: Architecture) -> int:
    """Cycles of MatMuls, loads and steps that are saved, where the pixels under taps lie in rows."""
    a, beats = architecture.array_size, vector_beats(architecture)
    outputs, inputs = len(term.weight), int(term.weight[0].size)
    blocks = -(-output.pixels // a)
    arrays = blocks * -(-inputs // a)
    normal = tile_count(term.weight, a) * (output.pixels + tile_cycles(a))
    exchanged = arrays * (outputs + _passes(term, output, architecture) * tile_cycles(a)) + outputs * (blocks + beats)
    # Usually, the next block's tiles hide a block's steps; here nothing does.
    return normal - exchanged - (blocks * outputs - output.pixels) * _STEP_CYCLES


def _passes(term: Term, output: Layout, architecture: Architecture) -> int:
    """Passes over the output channels: their sums share the accumulators with pixels on their way under taps."""
    outputs, channels = len(term.weight), len(term.weight[0])
    depth, blocks = architecture.accumulator_depth, -(-output.pixels // architecture.array_size)
    return -(-(blocks * outputs) // max(depth - channels, depth // 2, 1))


def _pixels_under_taps(
    window: Window, source: Layout, output: Layout, a: int
) -> tuple[tuple[tuple[int, ...], ...], Weights]:
    """Per block of A output pixels, the taps that lie inside of the input for one of them; and ones [A lanes for each
    of these, input pixel] where a lane's output pixel has the input pixel under that tap.
    """
    size, positions = (source.height, source.width), (output.height, output.width)
    stationary: list[list[int]] = [[] for _ in range(-(-output.pixels // a))]
    ones: list[list[Weights]] = [[] for _ in stationary]
    for tap in range(window.taps):
        where = divmod(tap, window.kernel[1])
        rows, columns = window.seen(where, size, positions)
        matrix = np.zeros((len(stationary) * a, source.pixels), dtype=np.int64)
        for y in rows:
            for x in columns:
                row, column = window.pixel(where, y, x)
                matrix[y * output.width + x, row * source.width + column] = 1
        for block, lanes in enumerate(np.split(matrix, len(stationary))):
            if lanes.any():
                stationary[block].append(tap)
                ones[block].append(lanes)
    none = np.zeros((0, source.pixels), dtype=np.int64)
    return tuple(map(tuple, stationary)), np.concatenate([none, *(lanes for under in ones for lanes in under)])


def _choice(
    selection: Selection, candidates: dict[str, _Exchange], outputs: Set[str], architecture: Architecture
) -> dict[str, _Exchange]:
    """The layers from one on, for networks end in few pixels, less those that the rest does better without."""

    def saved(chosen: dict[str, _Exchange]) -> int:
        crossings = sum(_transposition_cycles(selection.layouts[t], architecture) for t in _entering(chosen))
        crossings += sum(
            _transposition_cycles(_transposed_layout(selection.layouts[t]), architecture)
            for t in _leaving(selection, chosen, outputs)
        )
        return sum(exchange.saved for exchange in chosen.values()) - crossings

    names = list(candidates)
    best = max(({n: candidates[n] for n in names[i:]} for i in range(len(names) + 1)), key=saved)
    for name in names:
        without = {n: e for n, e in best.items() if n != name}
        if saved(without) > saved(best):
            best = without
    return best


def _entering(chosen: dict[str, _Exchange]) -> dict[str, None]:
    """Tensors that lie as usual and that exchanged layers read."""
    read = [t for exchange in chosen.values() for t in (exchange.term.tensor, *exchange.added)]
    return dict.fromkeys(t for t in read if t not in chosen)


def _leaving(selection: Selection, chosen: dict[str, _Exchange], outputs: Set[str]) -> set[str]:
    """Results of exchanged layers that others read."""
    others = {t for group in selection.groups if group.result not in chosen for t in group.tensors}
    return {name for name in chosen if name in others or name in outputs}


def _transposition_cycles(layout: Layout, architecture: Architecture) -> int:
    """A MatMul a lane of what is read and lane of what is made: see `moving_weights.transpose`."""
    a, rows, lanes = architecture.array_size, layout.pixels, layout.channels
    loads = clearing_rows(a) + min(a, lanes) * (drain_cycles(a) + load_cycles(1))
    return min(a, rows) * loads + lanes * rows + lanes * -(-rows // a)


# --- the rewritten groups --------------------------------------------------------------------------------------------


def _rewritten(selection: Selection, chosen: dict[str, _Exchange], outputs: Set[str]) -> Selection:
    leaving, made = _leaving(selection, chosen, outputs), set(chosen)
    groups: list[Group] = []
    ranges = dict(selection.ranges)
    for group in selection.groups:
        exchange = chosen.get(group.result)
        if exchange is None:
            groups.append(group)
            continue
        for tensor in (exchange.term.tensor, *exchange.added):
            if tensor not in made:
                made.add(tensor)
                groups.append(_transposition(group, tensor, tensor + TRANSPOSED, selection.layouts[tensor]))
                ranges[tensor + TRANSPOSED] = ranges[tensor]
        groups.append(_exchanged(exchange))
        ranges[groups[-1].result] = ranges[group.result]
        if group.result in leaving:
            made_by = groups[-1]
            back = _transposition(group, made_by.result, group.result, made_by.layout)
            groups.append(replace(back, layout=group.layout))
    added = [group for group in groups if group.result not in selection.layouts]
    return replace(
        selection,
        groups=tuple(groups),
        layouts={**selection.layouts, **{group.result: group.layout for group in added}},
        ranges=ranges,
        storage={**selection.storage, **{group.result: group.result for group in added}},
    )


def _transposed_layout(layout: Layout) -> Layout:
    """Pixels as channels, channels as rows of one pixel."""
    return Layout(layout.pixels, layout.channels, 1)


def _transposition(group: Group, tensor: str, result: str, layout: Layout) -> Group:
    return Group(result, _transposed_layout(layout), TransposeHead(tensor), (), (), group.origin)


def _exchanged(exchange: _Exchange) -> Group:
    """The layer with its weights as [outputs, taps * channels]: what moves is a row of that, A at a time."""
    group, weight = exchange.group, exchange.term.weight
    assert isinstance(group.head, LinearHead)
    by_tap = weight.transpose(0, 2, 3, 1).reshape(len(weight), -1, 1, 1)
    term = Term(exchange.term.tensor + TRANSPOSED, by_tap, _POINT)
    head = LinearHead((term,), group.head.bias, exchange.stationary, exchange.pixels)
    return replace(
        group,
        result=group.result + TRANSPOSED,
        layout=_transposed_layout(group.layout),
        head=head,
        steps=tuple(_transposed_step(step) for step in group.steps),
    )


def _transposed_step(step: Step) -> Step:
    return AddTensor(step.tensor + TRANSPOSED) if isinstance(step, AddTensor) else step
