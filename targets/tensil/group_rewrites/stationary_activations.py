"""Layers of few pixels with the roles exchanged: activations stay in the array, weights move through it.

A tile of weights serves as many vectors as the image has pixels: for an image of 4 x 4, loading it, and the drain of
the array before, take longer than its MatMuls. The other way around, an array full of activations, up to A pixels in
its columns and A channels of one tap in its rows, serves a vector of weights for every output channel:

    normal      accumulators[pixel] += pixels[pixel] @ weights          weights [A channels, A outputs] in the array
    exchanged   accumulators[output] += weights^T[output] @ pixels^T    pixels^T [A channels, A pixels] in the array

That wants tensors *transposed*: pixels in the lanes, a row for each channel; and it makes them so, hence layers chain.
A group with a TransposeHead brings a tensor into the chain, or out of it. An exchanged layer is a LinearHead with
`stationary`; MatMuls by ones bring the pixels under a tap into the lanes of the output's
(`schedule.stationary_emitter`). Its steps are those of the layer, for they treat all lanes alike.

Done where the cycles saved are more than the transpositions cost, and where local memory holds all that is live.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from pefslc.geometry.shapes import Window
from pefslc.targets.tensil.group_rewrites.convolution_cost import convolution_cycles, tile_count
from pefslc.targets.tensil.group_rewrites.pixel_frames import passes_and_gathers, pixel_frames, shared_gathers
from pefslc.targets.tensil.group_rewrites.room import has_room, summed_together
from pefslc.targets.tensil.groups.expanded_weights import is_diagonal
from pefslc.targets.tensil.groups.group import (
    AddTensor,
    Group,
    LinearHead,
    Stationary,
    Step,
    Term,
    TransposeHead,
    Weights,
)
from pefslc.targets.tensil.groups.group_program import GroupProgram, Role, StoredTensor
from pefslc.targets.tensil.groups.layout import Layout
from pefslc.targets.tensil.machine.architecture import Architecture
from pefslc.targets.tensil.machine.timing import drain_cycles, tile_cycles, vector_beats
from pefslc.targets.tensil.rewriting.rewrite import LOG, Context

__all__ = ["KeepActivations"]

_POINT = Window(kernel=(1, 1))
_STEP_CYCLES = 6  # a vector's requantization where nothing hides SIMD (`matrix.matrix_plan`), with its moves


@dataclass(frozen=True, slots=True, eq=False)
class _Exchange:
    """A layer that may be exchanged: its group, how, and the cycles saved, transpositions not counted.

    order  that of the window's taps among the weights
    """

    group: Group
    stationary: Stationary
    order: tuple[int, ...]
    saved: int

    @property
    def term(self) -> Term:
        assert isinstance(self.group.head, LinearHead)
        return self.group.head.terms[0]

    @property
    def added(self) -> list[str]:
        return [step.tensor for step in self.group.steps if isinstance(step, AddTensor)]


class KeepActivations:
    """Layers of few pixels are exchanged, where that saves cycles: weights move, activations stay in the array."""

    name: ClassVar[str] = "keep-activations"
    needs: ClassVar[str] = "convolutions of one term: before leftovers are factored or packed"
    ensures: ClassVar[str] = "an exchanged layer has `stationary`, reads and makes tensors of role `transposed`"

    def run(self, program: GroupProgram, context: Context) -> GroupProgram:
        architecture = context.architecture
        together = summed_together(program)  # with weights that are loaded once
        others = [group for group in program.groups if group.result not in together]
        exchanges = [_exchange(program, group, architecture) for group in others]
        candidates = {e.group.result: e for e in exchanges if e is not None}
        while True:
            chosen = _choice(program, candidates, architecture)
            if not chosen:
                LOG.debug("%s: of %d layers none is worth its transpositions", self.name, len(candidates))
                return program
            exchanged = _rewritten(program, chosen)
            helpers = [t for t in exchanged.tensors.values() if t.name not in program.tensors]
            crowded = next((t for t in helpers if not has_room(exchanged, t.name, architecture)), None)
            if crowded is None:
                return exchanged
            # A transposition of what no chosen layer makes serves the first of them.
            dropped = crowded.of if crowded.of in chosen else next(iter(chosen))
            LOG.debug("%s: %s stays as it is: local memory has no room for %s", self.name, dropped, crowded.name)
            del candidates[dropped]


# --- which layers ----------------------------------------------------------------------------------------------------


def _exchange(program: GroupProgram, group: Group, architecture: Architecture) -> _Exchange | None:
    """How to exchange one layer; None where that saves nothing by itself."""
    a = architecture.array_size
    if not isinstance(group.head, LinearHead) or len(group.head.terms) != 1:
        return None
    (term,) = group.head.terms
    if is_diagonal(term.weight):
        return None  # its tiles are one, which is loaded once
    source = program.layout(term.tensor)
    saved = _saved_cycles(term, group.layout, architecture)
    if saved <= 0:
        return None
    if term.window == _POINT and (source.height, source.width) == (group.layout.height, group.layout.width):
        taps = ((0,),) * -(-group.layout.pixels // a)
        return _Exchange(group, Stationary(taps, None), (0,), saved)
    outputs, channels = term.weight.shape[:2]
    tap_cycles = -(-channels * (outputs + tile_cycles(a)) // a)
    blocks = -(-group.layout.pixels // a)
    spread_cycles = outputs + drain_cycles(a) + blocks * (outputs + tile_cycles(a) + a * vector_beats(architecture))
    frames = pixel_frames(term.window, source, group.layout, a, tap_cycles, spread_cycles)
    if frames is None:
        return None  # some pixels see nothing but padding
    pixels = frames.stationary.pixels
    assert pixels is not None
    brought, shared = pixels, shared_gathers(pixels, a, source.channels)
    if shared is not None:
        brought = pixels.reshape(-1, a, source.pixels)[list(shared.matrices)].reshape(-1, source.pixels)
    gathered = convolution_cycles(brought[:, :, None, None], source.channels, architecture)
    gathered += len(brought) // a * source.channels
    saved -= gathered * _passes(term, frames.stationary.slots, architecture)
    return _Exchange(group, frames.stationary, frames.order, saved + frames.saved)


def _saved_cycles(term: Term, output: Layout, architecture: Architecture) -> int:
    """Cycles of MatMuls, loads and steps that are saved, where the pixels under taps lie in rows."""
    a, beats = architecture.array_size, vector_beats(architecture)
    outputs, inputs = len(term.weight), int(term.weight[0].size)
    blocks = -(-output.pixels // a)
    arrays = blocks * -(-inputs // a)
    normal = tile_count(term.weight, a) * (output.pixels + tile_cycles(a))
    passes = _passes(term, blocks, architecture)
    exchanged = arrays * (outputs + passes * tile_cycles(a)) + outputs * (blocks + beats)
    exchanged -= _rows_of_zeros(term.weight, a) * blocks
    # Usually, the next block's tiles hide a block's steps; here nothing does.
    return normal - exchanged - (blocks * outputs - output.pixels) * _STEP_CYCLES


def _rows_of_zeros(weight: Weights, array_size: int) -> int:
    """Of the rows of weights that would move, those that need not (`schedule.moved_rows`). About as many rows of tiles
    are zero, which are not read either (`schedule.weight_stream`).
    """
    by_tap = weight.transpose(0, 2, 3, 1).reshape(len(weight), -1)
    used = np.logical_or.reduceat(by_tap != 0, range(0, by_tap.shape[1], array_size), axis=1)
    return used.size - int(np.count_nonzero(used))


def _passes(term: Term, slots: int, architecture: Architecture) -> int:
    """Passes over the output channels, of each of which so many sums are held at once."""
    outputs, channels = term.weight.shape[:2]
    return passes_and_gathers(slots, outputs, channels, architecture.accumulator_depth)[0]


def _choice(
    program: GroupProgram, candidates: dict[str, _Exchange], architecture: Architecture
) -> dict[str, _Exchange]:
    """The layers from one on, for networks end in few pixels, less those that the rest does better without."""

    def saved(chosen: dict[str, _Exchange]) -> int:
        crossings = sum(_transposition_cycles(program.layout(t), architecture) for t in _entering(chosen))
        crossings += sum(
            _transposition_cycles(_transposed_layout(program.layout(t)), architecture)
            for t in _leaving(program, chosen)
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


def _leaving(program: GroupProgram, chosen: dict[str, _Exchange]) -> set[str]:
    """Results of exchanged layers that others read."""
    others = {t for group in program.groups if group.result not in chosen for t in group.tensors}
    return {name for name in chosen if name in others or name in program.output_tensors}


def _transposition_cycles(layout: Layout, architecture: Architecture) -> int:
    """A MatMul a lane of what is read and lane of what is made: see `schedule.stationary_emitter.transpose`."""
    a, rows, lanes = architecture.array_size, layout.pixels, layout.channels
    return min(a, rows) * min(a, lanes) * (drain_cycles(a) + 1) + lanes * rows + lanes * -(-rows // a)


# --- the rewritten groups --------------------------------------------------------------------------------------------


def _rewritten(program: GroupProgram, chosen: dict[str, _Exchange]) -> GroupProgram:
    leaving = _leaving(program, chosen)
    transposed = {name: _transposed(program.tensors[name]) for name in dict.fromkeys([*_entering(chosen), *chosen])}
    groups: list[Group] = []
    made = set(chosen)
    for group in program.groups:
        exchange = chosen.get(group.result)
        if exchange is None:
            groups.append(group)
            continue
        for tensor in (exchange.term.tensor, *exchange.added):
            if tensor not in made:
                made.add(tensor)
                groups.append(_transposition(group, tensor, transposed[tensor].name, transposed[tensor].layout))
        groups.append(_exchanged(exchange, transposed))
        if group.result in leaving:
            groups.append(_transposition(group, groups[-1].result, group.result, group.layout))
    by_name = {tensor.name: tensor for tensor in transposed.values()}
    added = [
        by_name[group.result] for group in groups if group.result in by_name
    ]  # in the order in which they are made
    return program.with_groups(groups, added)


def _transposed_layout(layout: Layout) -> Layout:
    """Pixels as channels, channels as rows of one pixel."""
    return Layout(layout.pixels, layout.channels, 1)


def _transposed(tensor: StoredTensor) -> StoredTensor:
    return tensor.helper(Role.TRANSPOSED, _transposed_layout(tensor.layout), tensor.codes)


def _transposition(group: Group, tensor: str, result: str, layout: Layout) -> Group:
    return Group(result, layout, TransposeHead(tensor), (), (), group.origin)


def _exchanged(exchange: _Exchange, transposed: dict[str, StoredTensor]) -> Group:
    """The layer with its weights as [outputs, taps * channels]: what moves is a row of that, A at a time."""
    group, weight = exchange.group, exchange.term.weight
    assert isinstance(group.head, LinearHead)
    by_tap = weight.transpose(0, 2, 3, 1).reshape(len(weight), exchange.term.window.taps, -1)
    rows = by_tap[:, list(exchange.order)].reshape(len(weight), -1, 1, 1)
    term = Term(transposed[exchange.term.tensor].name, rows, _POINT)
    result = transposed[group.result]

    def of(step: Step) -> Step:
        return replace(step, tensor=transposed[step.tensor].name) if isinstance(step, AddTensor) else step

    head = LinearHead((term,), group.head.bias, exchange.stationary)
    return replace(group, result=result.name, layout=result.layout, head=head, steps=tuple(map(of, group.steps)))
