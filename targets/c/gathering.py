"""How the taps of a convolution come to lie as kernels read them, by what the processor likes and the layer allows."""

from __future__ import annotations

from dataclasses import dataclass

from pefslc.geometry.dilation_phases import Phase
from pefslc.targets.c.cpus import Cpu
from pefslc.targets.c.storage import CType
from pefslc.targets.c.taps import Gather, PaddedImage, TapView
from pefslc.targets.c.weight_orders import ROWS

__all__ = ["WORD", "Gathering", "Windows"]

WORD = 4  # bytes
_LEAST_VECTOR = 16  # bytes, and taps: of the narrowest that compilers make, to which no more taps are filled up


@dataclass(frozen=True, slots=True)
class Gathering:
    """Where the taps of some results are read, and how they come there.

    lines  of results for each image; one, of all images, where the pixels are counted through
    line   results of a line
    """

    gather: Gather
    view: TapView
    lines: int
    line: int
    image: PaddedImage | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Windows:
    """The windows of a convolution, or the rows of a dense layer, as a processor is to read them.

    images   [N, C, H, W] of the source
    planes   whether it lies as planes of a channel each, rather than channels last
    phases   of the convolution
    taps     the type that kernels read
    is_copy  whether codes are such taps as they are
    """

    images: tuple[int, int, int, int]
    groups: int
    planes: bool
    phases: int
    taps: CType
    is_copy: bool
    cpu: Cpu

    def gathering(self, phase: Phase, count: int) -> Gathering:
        """Of a phase, each of whose results has `count` taps: without a copy where that can be."""
        order, pixels = self.cpu.order, self.images[0] * len(phase.rows) * len(phase.columns)
        lies_there = self._lies_there(phase)
        too_few = self.cpu.lanes > 0 and order == ROWS and count < _LEAST_VECTOR and pixels > 1
        of_images = self.cpu.copies_image and not order.aligned  # whose windows begin anywhere
        if lies_there and (order.aligned or not self.is_copy or too_few) and not of_images:
            filled = order.filled(count, self.alignment(count))
            return Gathering(Gather.ROWS, TapView(pixel=filled, segments=1, segment=filled, taps=filled), 1, pixels)
        if lies_there and self.is_copy and count == order.filled(count, order.taps):
            return Gathering(Gather.NONE, TapView(pixel=count, segments=1, segment=count, taps=count), 1, pixels)
        if of_images and self.phases == self.groups == phase.window.dilations[1] == 1:
            return self._image(phase, count)
        return Gathering(Gather.PATCH, self._patch(phase, count), 1, pixels)

    def alignment(self, count: int) -> int:
        """What the taps of a segment are filled up to a multiple of, where a result has `count`."""
        size_bytes = min(self.cpu.alignment, _LEAST_VECTOR) if count <= _LEAST_VECTOR else self.cpu.alignment
        return max(size_bytes // self.taps.bytes, self.cpu.order.taps)

    def _lies_there(self, phase: Phase) -> bool:
        """Whether the taps of each result lie side by side in the source."""
        window = phase.window
        is_point = window.kernel == window.strides == (1, 1) and not window.is_padded
        return is_point and self.groups == 1 and not self.planes

    def _patch(self, phase: Phase, count: int) -> TapView:
        """A segment; or one for each row of the kernel, where that fills nothing up and shorter sums may be proven."""
        alignment, rows = self.alignment(count), phase.window.kernel[0]
        filled = self.cpu.order.filled(count, alignment)
        segments = rows if self.cpu.halves and count // rows % alignment == 0 else 1
        segment = filled // segments
        return TapView(self.groups * filled, segments=segments, segment=segment, taps=segment)

    def _image(self, phase: Phase, count: int) -> Gathering:
        """A segment for each row of the kernel."""
        _, channels, height, width = self.images
        window, lines, line = phase.window, len(phase.rows), len(phase.columns)
        filled = self.cpu.order.filled(window.kernel[1] * channels, self.alignment(count))
        if self._lies_there(phase):  # all rows of an image are one
            lines, line, height, width = 1, lines * line, 1, height * width
        image = PaddedImage.of(window, (channels, height, width), (lines, line), filled)
        pixel, segment = window.strides[1] * channels, window.dilations[0] * image.row_elements
        view = TapView(pixel, segments=window.kernel[0], segment=segment, taps=filled)
        return Gathering(Gather.IMAGE, view, lines, line, image)

    def strip(self, phase: Phase, found: Gathering, pixels: int) -> Gathering | None:
        """Instead of patches, what a tile of `pixels` sees of the image; None where these need not lie side by side,
        share no taps, or begin anywhere.
        """
        window, (_, channels, _, _) = phase.window, self.images
        rows, columns = window.kernel
        if found.gather is not Gather.PATCH or channels > self.cpu.strip:
            return None
        is_line = pixels > 1 and len(phase.columns) % pixels == 0
        shares = self.phases == self.groups == window.strides[1] == window.dilations[1] == 1 < columns
        is_filled = columns * channels % self.alignment(rows * columns * channels) == 0
        begins_at_words = channels * (self.taps.bytes if self.cpu.order.aligned else WORD) % WORD == 0
        if not (is_line and shares and is_filled and begins_at_words):
            return None
        segment = (pixels - 1 + columns) * channels
        view = TapView(pixel=channels, segments=rows, segment=segment, taps=columns * channels)
        return Gathering(Gather.STRIP, view, found.lines, found.line)
