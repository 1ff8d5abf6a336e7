"""Convolutions and dense layers as dot products: by which row of the processor's, and which kernels compute them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pefslc.geometry.dilation_phases import Phase, phases
from pefslc.geometry.shapes import Window
from pefslc.ir.integer import Conv2d, Dense
from pefslc.targets.c.certificates import certificate
from pefslc.targets.c.cpus import GENERIC, Cpu
from pefslc.targets.c.dots import accumulator_type, code_range, converted_taps, packed_weights, product_type
from pefslc.targets.c.gathering import WORD, Windows
from pefslc.targets.c.packing import Pass, bits_of, passes_of
from pefslc.targets.c.steps import DotPart, DotStep
from pefslc.targets.c.storage import (
    INT32,
    Buffer,
    CType,
    Layout,
    Tensor,
    narrowest_signed,
    round_up,
    scratch,
)
from pefslc.targets.c.taps import Gather, Move, TapView
from pefslc.targets.c.tiles import chunks, pixels_of_a_tile, tile
from pefslc.targets.c.weight_orders import ROWS

__all__ = ["convolution_dots", "dense_dots"]

Codes = NDArray[np.int64]

_SIGNED_BYTE = CType(8, signed=True)


def convolution_dots(op: Conv2d, source: Tensor, result: Tensor, found: list[tuple[Phase, Codes]], cpu: Cpu) -> DotStep:
    """The convolution: into a channels-last tensor, from one, or from planes.

    found  the phases, and the weights of each: [outputs, KH * KW * channels of a group]
    """
    n, channels, height, width = source.shape
    images, planes = (n, channels, height, width), source.layout is Layout.ROWS
    return _Layer(op, source, result, images, op.groups, planes, found).step(cpu)


def dense_dots(op: Dense, source: Tensor, weight: Codes, result: Tensor, cpu: Cpu) -> DotStep:
    """The dense layer on rows of `source`; `weight` [outputs, taps] is in the order of its elements in memory."""
    (point,) = phases(Window(kernel=(1, 1)), 1, 1)
    images = (op.result.type.shape[0], weight.shape[1], 1, 1)
    return _Layer(op, source, result, images, 1, False, [(point, weight)]).step(cpu)


@dataclass(frozen=True, slots=True)
class _Layer:
    """What is computed.

    images  [N, C, H, W] of the source
    planes  whether it lies as planes of a channel each, rather than channels last
    found   the phases, and the weights of each: [outputs, taps]
    """

    op: Conv2d | Dense
    source: Tensor
    result: Tensor
    images: tuple[int, int, int, int]
    groups: int
    planes: bool
    found: list[tuple[Phase, Codes]]

    def step(self, cpu: Cpu) -> DotStep:
        """By the row; or by its narrow one, where that is proven to be exact; or by that for few taps."""
        if cpu.narrow is not None:
            narrow = _Layout.of(self, cpu.narrow).step()
            if narrow.certificate.paired or narrow.certificate.halved:
                return narrow
        step = _Layout.of(self, cpu).step()
        taps = min(cpu.order.filled(weight.shape[1], cpu.order.taps) for _, weight in self.found)
        outputs = self.op.weight.shape[0] // self.groups
        if cpu.few is not None and not all(cpu.suits(part.apiece, taps, outputs) for part in step.parts):
            return self.step(cpu.few)
        return step


@dataclass(frozen=True, slots=True)
class _Layout:
    """The layer as a row of the processor lays it out.

    taps         the type that kernels read
    offset       what is added to each code of the source as it becomes one; the bias has its part
    weight_type  that kernels read
    outputs      of a group, filled up
    """

    layer: _Layer
    cpu: Cpu
    taps: CType
    offset: int
    bias: Codes | None
    weight_type: CType
    sums: CType
    outputs: int

    @classmethod
    def of(cls, layer: _Layer, cpu: Cpu) -> _Layout:
        """By the row, or by the general one where kernels of its order do not take the layer's types."""
        op, sums, weight_type = layer.op, accumulator_type(layer.op), narrowest_signed(layer.op.weight.data)
        bias = None if op.bias is None else op.bias.data
        suits = weight_type.bits <= (cpu.order.weights or _SIGNED_BYTE).bits and (sums == INT32 or cpu.order == ROWS)
        may_offset = len(layer.found) == 1
        taps, offset, bias = converted_taps(
            layer.source, layer.found[0][1], bias, cpu.taps if suits else None, may_offset=may_offset
        )
        if cpu.order != ROWS and not (suits and taps == cpu.taps):
            cpu = cpu.general or GENERIC
        outputs = round_up(op.weight.shape[0] // layer.groups, cpu.outputs)
        return cls(layer, cpu, taps, offset, bias, cpu.order.weights or weight_type, sums, outputs)

    @property
    def alone(self) -> bool:
        """Whether the layer is one phase."""
        return len(self.layer.found) == 1

    @property
    def is_of_bytes(self) -> bool:
        return self.taps.bits == self.weight_type.bits == 8 and self.sums == INT32

    def step(self) -> DotStep:
        layer, cpu, source = self.layer, self.cpu, self.layer.source
        parts = [self._part(*each) for each in layer.found]
        low, high = code_range(source)
        proven = certificate(
            cpu.order,
            [(part.weight, part.view) for part in parts],
            low + self.offset,
            high + self.offset,
            halves=cpu.halves and self.is_of_bytes and all(part.pixels > 1 for part in parts),
        )
        return DotStep(
            source=source,
            result=layer.result,
            scratch=tuple(self._scratch(parts)),
            images=layer.images,
            order=cpu.order,
            taps=self.taps,
            offset=self.offset,
            planes=layer.planes,
            parts=tuple(parts),
            groups=layer.groups,
            weight_type=(self.is_of_bytes and cpu.widens and cpu.order.widened) or self.weight_type,
            bias=self.bias,
            sums=self.sums,
            products=product_type(source, layer.op.weight.data, self.sums),
            certificate=proven,
            outputs=layer.op.weight.shape[0],
            padded_outputs=self.outputs,
            packed=bits_of(layer.op.weight.data) if parts[0].unpacked else 0,
            aligned=cpu.line or (WORD if cpu.order.aligned else 0),
        )

    def _part(self, phase: Phase, weight: Codes) -> DotPart:
        """weight: [outputs, taps]"""
        cpu, groups, kind = self.cpu, self.layer.groups, self.weight_type
        windows = self._windows()
        found = windows.gathering(phase, weight.shape[1])
        row_bytes = found.view.padded * kind.bytes
        pixels, apiece, blocks = self._tile(found.line, row_bytes)
        found = windows.strip(phase, found, pixels) or found
        if self.layer.planes and found.gather is Gather.PATCH:  # codes side by side are taps side by side
            by_rows = weight.reshape(-1, *phase.window.kernel, self.layer.images[1])
            weight = by_rows.transpose(0, 1, 3, 2).reshape(weight.shape)
        unpacked = self._unpacked(weight, found.view, blocks)
        # Where all weights are more than what stays near, each pass over the pixels takes some outputs.
        is_far = 0 < cpu.cache < self.outputs * row_bytes
        passes = is_far and self.alone and found.gather in (Gather.NONE, Gather.IMAGE)
        in_runs = cpu.run is not None and sum(each.calls for each in unpacked) > 1
        return DotPart(
            rows=phase.rows,
            columns=phase.columns,
            window=None if found.gather in (Gather.NONE, Gather.ROWS) else phase.window,
            weight=packed_weights(weight, groups, self.outputs, found.view, cpu.order, kind),
            image=found.image,
            gather=found.gather,
            view=found.view,
            lines=found.lines,
            line=found.line,
            pixels=pixels,
            apiece=apiece,
            chunks=tuple(chunks(cpu, groups * self.outputs, blocks)),
            passes=(passes and found.lines * found.line > pixels) or bool(unpacked),
            unpacked=unpacked,
            run=max((cpu.run or 0) // pixels, 1) if in_runs else 0,
        )

    def _windows(self) -> Windows:
        return Windows(
            images=self.layer.images,
            groups=self.layer.groups,
            planes=self.layer.planes,
            phases=len(self.layer.found),
            taps=self.taps,
            is_copy=Move(self.layer.source.type, self.taps, self.offset).is_copy,
            cpu=self.cpu,
        )

    def _tile(self, line: int, row_bytes: int) -> tuple[int, int, int]:
        """(pixels of a tile, pixels and blocks of a kernel) for a line of pixels; row_bytes: of an output's weights."""
        cpu, groups = self.cpu, self.layer.groups
        most = line
        if cpu.scratch_bytes is not None:
            most = min(line, max(cpu.scratch_bytes // (groups * self.outputs * self.sums.bytes), 1))
        blocks = (self.outputs if groups == 1 else cpu.outputs) // cpu.order.outputs
        apiece, blocks = tile(cpu, most, blocks, row_bytes)
        return pixels_of_a_tile(cpu, most, apiece), apiece, blocks

    def _unpacked(self, weight: Codes, view: TapView, blocks: int) -> tuple[Pass, ...]:
        """The passes that unpack weights; none where they are not packed."""
        is_packed = self.cpu.packs and self.alone and self.layer.groups == 1 and self.weight_type == _SIGNED_BYTE
        if not is_packed or bits_of(weight) == self.weight_type.bits:
            return ()
        return passes_of(self.cpu, len(weight), self.outputs, view.padded, blocks)

    def _scratch(self, parts: Sequence[DotPart]) -> Iterator[Buffer]:
        """For the sums of a tile, for the copies that kernels read, for the weights of a pass."""
        yield scratch("a", self.sums, max(part.pixels * self._sums_of_a_pixel(part) for part in parts))
        copied = [part.copied for part in parts if part.gather is not Gather.NONE]
        if copied:
            yield scratch("p", self.taps, max(copied))
        if parts[0].unpacked:
            most = max(each.outputs for each in parts[0].unpacked)
            yield scratch("w", self.weight_type, most * parts[0].view.padded)

    def _sums_of_a_pixel(self, part: DotPart) -> int:
        """That one call of the tile's function makes."""
        if part.unpacked:
            return max(each.outputs for each in part.unpacked)
        return part.chunks[0].step if part.passes else self.layer.groups * self.outputs
