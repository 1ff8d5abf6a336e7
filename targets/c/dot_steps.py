"""Convolutions and dense layers as dot products: how their taps come together, and which kernels compute them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from pefslc.geometry.dilation_phases import Phase, phases
from pefslc.geometry.shapes import Window
from pefslc.ir.integer import Conv2d, Dense
from pefslc.targets.c.cpus import BLOCKS, GENERIC, ROWS, ROWS_OF_16, Cpu
from pefslc.targets.c.dots import (
    accumulator_type,
    converted_taps,
    most_chained,
    most_halved,
    most_paired,
    packed_weights,
    product_type,
    round_up,
)
from pefslc.targets.c.packing import Pass, bits_of, passes_of
from pefslc.targets.c.steps import DotPart, DotStep
from pefslc.targets.c.storage import INT32, WEIGHT, Buffer, CType, Layout, Place, Tensor, narrowest_signed
from pefslc.targets.c.taps import Gather, Move, PaddedImage, TapView
from pefslc.targets.c.tiles import chunks, pixels_of_a_tile, tile

__all__ = ["convolution_dots", "dense_dots"]

Codes = NDArray[np.int64]

_SIGNED_BYTE = CType(8, signed=True)
_WORD = 4  # bytes
_FEW_TAPS = 16  # and bytes: the narrowest vector that compilers make, to which no more taps are filled up


def convolution_dots(
    op: Conv2d, source: Tensor, result: Tensor, index: int, found: list[tuple[Phase, Codes]], cpu: Cpu
) -> DotStep:
    """The convolution: into a channels-last tensor, from one, or from planes.

    index  of the step in the program
    found  the phases, and the weights of each: [outputs, KH * KW * channels of a group]
    """
    n, channels, height, width = source.shape
    return _Dots(op, source, result, index, (n, channels, height, width), op.groups, source.layout is Layout.ROWS).step(
        found, cpu
    )


def dense_dots(op: Dense, source: Tensor, weight: Codes, result: Tensor, index: int, cpu: Cpu) -> DotStep:
    """The dense layer on rows of `source`; `weight` [outputs, taps] is in the order of its elements in memory."""
    (point,) = phases(Window(kernel=(1, 1)), 1, 1)
    images = (op.result.type.shape[0], weight.shape[1], 1, 1)
    return _Dots(op, source, result, index, images, 1, False).step([(point, weight)], cpu)


@dataclass(frozen=True, slots=True)
class _Dots:
    """The step that is made. images: [N, C, H, W] of the source, which lies as planes or channels last."""

    op: Conv2d | Dense
    source: Tensor
    result: Tensor
    index: int
    images: tuple[int, int, int, int]
    groups: int
    planes: bool

    def step(self, found: list[tuple[Phase, Codes]], cpu: Cpu) -> DotStep:
        """For the processor; where its narrow layout is proven to be exact, in that; where it has few taps, in that."""
        if cpu.narrow is not None:
            narrow = self._laid_out(found, cpu.narrow)
            if narrow.paired or narrow.halved:
                return narrow
        step = self._laid_out(found, cpu)
        taps = min(cpu.order.filled(weight.shape[1], cpu.order.taps) for _, weight in found)
        outputs = self.op.weight.shape[0] // self.groups
        if cpu.few is not None and not all(cpu.suits(part.apiece, taps, outputs) for part in step.parts):
            return self.step(found, cpu.few)
        return step

    def _laid_out(self, found: list[tuple[Phase, Codes]], cpu: Cpu) -> DotStep:
        op, source = self.op, self.source
        sums = accumulator_type(op)
        weight_type = narrowest_signed(op.weight.data)
        bias = None if op.bias is None else op.bias.data
        suits = weight_type.bits <= (cpu.order.weights or _SIGNED_BYTE).bits and (sums == INT32 or cpu.order == ROWS)
        wanted = cpu.taps if suits else None
        taps, offset, bias = converted_taps(source, found[0][1], bias, wanted, may_offset=len(found) == 1)
        if cpu.order != ROWS and not (suits and taps == cpu.taps):
            cpu = cpu.general or GENERIC
        weight_type = cpu.order.weights or weight_type
        outputs = round_up(op.weight.shape[0] // self.groups, cpu.outputs)
        parts = [self._part(*each, len(found) == 1, taps, offset, weight_type, sums, outputs, cpu) for each in found]
        sums_together = max(part.pixels * self._sums_of_a_pixel(part, outputs) for part in parts)
        scratch = [_scratch(f"s{self.index}a", sums, sums_together)]
        copies = [self._copied(part) for part in parts if part.gather is not Gather.NONE]
        if copies:
            scratch.append(_scratch(f"s{self.index}p", taps, max(copies)))
        halves = cpu.halves and _is_of_bytes(taps, weight_type, sums) and all(part.pixels > 1 for part in parts)
        bits = 0
        if parts[0].unpacked:
            bits = bits_of(op.weight.data)
            most = max(each.outputs for each in parts[0].unpacked)
            scratch.append(_scratch(f"s{self.index}w", weight_type, most * parts[0].view.padded))
        return DotStep(
            source=source,
            result=self.result,
            scratch=tuple(scratch),
            images=self.images,
            order=cpu.order,
            taps=taps,
            offset=offset,
            planes=self.planes,
            parts=tuple(parts),
            groups=self.groups,
            weight_type=WEIGHT if cpu.widens and _is_of_bytes(taps, weight_type, sums) else weight_type,
            bias=bias,
            sums=sums,
            products=product_type(source, op.weight.data, sums),
            chained=_chained(most_chained, parts, source, offset) if cpu.order == ROWS_OF_16 else 0,
            paired=_chained(most_paired, parts, source, offset) if cpu.order == BLOCKS else 0,
            halved=_chained(partial(most_halved, order=cpu.order), parts, source, offset) if halves else 0,
            outputs=op.weight.shape[0],
            padded_outputs=outputs,
            packed=bits,
            aligned=cpu.line or (_WORD if cpu.order.aligned else 0),
        )

    def _part(
        self, phase: Phase, weight: Codes, alone: bool, taps: CType, offset: int, kind: CType, sums: CType,
        outputs: int, cpu: Cpu,
    ) -> DotPart:  # fmt: skip
        n, channels, height, width = self.images
        window, count = phase.window, weight.shape[1]
        lies_there = (
            window.kernel == window.strides == (1, 1) and not window.is_padded and self.groups == 1 and not self.planes
        )
        lines, columns, image = 1, n * len(phase.rows) * len(phase.columns), None
        order = cpu.order
        fewest = min(cpu.alignment, _FEW_TAPS if count <= _FEW_TAPS else cpu.alignment)
        alignment = max(fewest // taps.bytes, order.taps)

        of_images = cpu.copies_image and not order.aligned  # whose windows begin anywhere
        is_copy = Move(self.source.type, taps, offset).is_copy
        too_few = cpu.lanes > 0 and order == ROWS and count < _FEW_TAPS and columns > 1
        if lies_there and (order.aligned or not is_copy or too_few) and not of_images:
            filled = order.filled(count, alignment)
            gather, view = Gather.ROWS, TapView(pixel=filled, segments=1, segment=filled, taps=filled)
        elif lies_there and is_copy and count == order.filled(count, order.taps):
            gather, view = Gather.NONE, TapView(pixel=count, segments=1, segment=count, taps=count)
        elif of_images and alone and self.groups == 1 and window.dilations[1] == 1:
            gather, lines, columns = Gather.IMAGE, len(phase.rows), len(phase.columns)
            filled = order.filled(window.kernel[1] * channels, alignment)
            if lies_there:  # all rows of an image are one
                lines, columns, height, width = 1, lines * columns, 1, height * width
            image = PaddedImage.of(window, (channels, height, width), (lines, columns), filled)
            view = TapView(
                pixel=window.strides[1] * channels,
                segments=window.kernel[0],
                segment=window.dilations[0] * image.row_elements,
                taps=filled,
            )
        else:
            filled = order.filled(count, alignment)
            rows = window.kernel[0] if cpu.halves and count // window.kernel[0] % alignment == 0 else 1
            segment = filled // rows
            gather, view = Gather.PATCH, TapView(self.groups * filled, segments=rows, segment=segment, taps=segment)
        unit = cpu.outputs // cpu.order.outputs
        blocks = outputs // cpu.order.outputs
        most = columns
        if cpu.scratch_bytes is not None:
            most = min(columns, max(cpu.scratch_bytes // (self.groups * outputs * sums.bytes), 1))
        apiece, blocks_apiece = tile(cpu, most, blocks if self.groups == 1 else unit, view.padded * kind.bytes)
        pixels = pixels_of_a_tile(cpu, most, apiece)
        passes = alone and gather in (Gather.NONE, Gather.IMAGE) and 0 < cpu.cache < outputs * view.padded * kind.bytes
        if gather is Gather.PATCH and alone and channels <= cpu.strip:
            strip = self._strip(phase, pixels, alignment, taps.bytes if cpu.order.aligned else _WORD)
            gather, view = (gather, view) if strip is None else (Gather.STRIP, strip)
        if self.planes and gather is Gather.PATCH:  # codes side by side are taps side by side
            weight = weight.reshape(-1, *window.kernel, channels).transpose(0, 1, 3, 2).reshape(weight.shape)
        unpacked: tuple[Pass, ...] = ()
        if cpu.packs and alone and self.groups == 1 and kind == _SIGNED_BYTE and bits_of(weight) < 8:
            unpacked = passes_of(cpu, self.op.weight.shape[0], outputs, view.padded, blocks_apiece)
        return DotPart(
            rows=phase.rows,
            columns=phase.columns,
            window=None if gather in (Gather.NONE, Gather.ROWS) else window,
            weight=packed_weights(weight, self.groups, outputs, view, cpu.order, kind),
            gather=gather,
            view=view,
            image=image,
            lines=lines,
            line=columns,
            pixels=pixels,
            apiece=apiece,
            chunks=tuple(chunks(cpu, self.groups * outputs, blocks_apiece)),
            passes=(passes and lines * columns > pixels) or bool(unpacked),
            unpacked=unpacked,
            run=max(cpu.run // pixels, 1) if cpu.run is not None and sum(each.calls for each in unpacked) > 1 else 0,
        )

    def _strip(self, phase: Phase, pixels: int, alignment: int, tap_bytes: int) -> TapView | None:
        """What `pixels` see of the image; None where they need not lie side by side, share no taps, or begin anywhere.

        alignment  taps that a segment is a multiple of
        tap_bytes  such that a pixel's taps begin at a whole word
        """
        window, channels = phase.window, self.images[1]
        rows, columns = window.kernel
        is_line = pixels > 1 and len(phase.columns) % pixels == 0
        shares = self.groups == window.strides[1] == window.dilations[1] == 1 < columns
        if not (is_line and shares) or columns * channels % alignment or channels * tap_bytes % _WORD:
            return None
        return TapView(
            pixel=channels, segments=rows, segment=(pixels - 1 + columns) * channels, taps=columns * channels
        )

    def _sums_of_a_pixel(self, part: DotPart, outputs: int) -> int:
        if part.unpacked:
            return max(each.outputs for each in part.unpacked)
        return part.chunks[0].step if part.passes else self.groups * outputs

    @staticmethod
    def _copied(part: DotPart) -> int:
        """Elements of the copies that the kernels read."""
        if part.gather is Gather.STRIP:
            return part.view.segments * part.view.segment
        return part.image.elements if part.image is not None else part.pixels * part.view.pixel


def _chained(most: Callable[..., int], parts: list[DotPart], source: Tensor, offset: int) -> int:
    """`most_chained`, `most_paired` or `most_halved` of all parts."""
    low, high = min(source.low, 0) + offset, max(source.high, 0) + offset  # a pad is a tap of code 0
    return min(most(part.weight, part.view, low=low, high=high) for part in parts)


def _is_of_bytes(taps: CType, weights: CType, sums: CType) -> bool:
    return taps.bits == weights.bits == 8 and sums == INT32


def _scratch(name: str, kind: CType, elements: int) -> Buffer:
    return Buffer(name, Place.ARENA, kind, elements)
