"""Which pixels and outputs a dot product kernel computes together.

A kernel multiplies the taps of some pixels by the weights of some output blocks, and keeps a sum for each pair in a
register: a tap and a weight that were loaded serve many products.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from pefslc.targets.c.cpus import Cpu
from pefslc.targets.c.storage import round_up

__all__ = ["Chunk", "chunks", "pixels_of_a_tile", "tile"]


@dataclass(frozen=True, slots=True)
class Chunk:
    """Calls of one kernel for outputs that follow each other.

    first   output
    calls   one after the other
    blocks  of outputs that each computes
    step    outputs that each computes
    """

    first: int
    calls: int
    blocks: int
    step: int

    @property
    def end(self) -> int:
        return self.first + self.calls * self.step


def tile(cpu: Cpu, columns: int, blocks: int, weights: int) -> tuple[int, int]:
    """(pixels, blocks) of the kernel that computes `columns` pixels side by side and so many output blocks quickest.

    weights  bytes of an output's
    """
    unit = cpu.outputs // cpu.order.outputs
    candidates = [
        (pixels, together)
        for pixels in range(1, min(cpu.pixels, columns) + 1)
        for together in range(unit, max(min(cpu.blocks, blocks), unit) + 1, unit)
        if pixels * together <= max(cpu.sums, unit)
        and _fits(cpu, pixels, together * cpu.per_block)
        and (together == unit or columns == 1 or not cpu.cache or together * cpu.order.outputs * weights <= cpu.cache)
    ]

    def cost(candidate: tuple[int, int]) -> tuple[Fraction, int]:
        pixels, together = candidate
        calls = [together] * (blocks // together) + [blocks % together] * (blocks % together > 0)
        return -(-columns // pixels) * sum((_cycles(cpu, pixels, b) for b in calls), Fraction(0)), pixels * together

    return min(candidates, key=cost)


def pixels_of_a_tile(cpu: Cpu, columns: int, pixels: int) -> int:
    """Pixels of `columns` side by side that are a tile: as many as a kernel's, or a multiple that leaves few over."""
    candidates = range(pixels, max(min(cpu.tile, columns), pixels) + 1, pixels)
    return min(candidates, key=lambda each: (round_up(columns, each), -each))


def chunks(cpu: Cpu, outputs: int, together: int) -> Iterator[Chunk]:
    """The calls for all outputs: as many as possible of `together` blocks, then one of the rest."""
    step = together * cpu.order.outputs
    calls, rest = divmod(outputs, step)
    if calls:
        yield Chunk(0, calls, together, step)
    if rest:
        yield Chunk(calls * step, 1, rest // cpu.order.outputs, rest)


def _fits(cpu: Cpu, pixels: int, weights: int) -> bool:
    """Whether the registers hold what a step over the taps needs, of so many pixels and registers of weights."""
    return not cpu.registers or pixels * weights + min(pixels, weights) + 2 <= cpu.registers


def _cycles(cpu: Cpu, pixels: int, blocks: int) -> Fraction:
    """Of one step over the taps: all products, no two of one sum at a time, and the loads beside them."""
    loads = pixels + cpu.far * blocks
    return max(Fraction(pixels * blocks) / cpu.multiplies, Fraction(cpu.latency)) + Fraction(loads, cpu.loads)
