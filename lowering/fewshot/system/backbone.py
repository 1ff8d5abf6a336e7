"""A compiled network as a backbone: a picture in, a vector of feature codes out; and what runs it, in batches if the
program has some.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pefslc.artifacts.sidecar import Sidecar
from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, quote
from pefslc.geometry.shapes import element_count
from pefslc.numeric.quantizer import Quantizer

__all__ = ["Backbone", "Runs"]

Codes = NDArray[np.int64]

_COLOURS = 3


class Runs(Protocol):
    """What runs a network on codes: compiled C, the simulated TCU."""

    def run(self, inputs: Mapping[str, Codes], /) -> dict[str, Codes]: ...


@dataclass(frozen=True, slots=True)
class Backbone:
    """The ends of a network.

    input, output  their ONNX names
    height, width  of a picture, in pixels
    quantizer      of the input
    dimension      features of a picture: the output in the order of its ONNX shape, channels, rows, columns
    low, high      the proven range of a feature's code; code 0 is the value 0, whatever zero point the file has
    scale          value = scale * code, the same for all features: distances of codes are those of values then
    """

    input: str
    output: str
    height: int
    width: int
    quantizer: Quantizer
    dimension: int
    low: int
    high: int
    scale: Fraction

    @classmethod
    def of(cls, sidecar: Sidecar) -> Backbone:
        """Of a compiled network. Raises CompileError where it cannot be a backbone."""
        if len(sidecar.inputs) != 1 or len(sidecar.outputs) != 1:
            ends = [
                f"{len(records)} {what}{'' if len(records) == 1 else 's'}"
                for records, what in ((sidecar.inputs, "input"), (sidecar.outputs, "output"))
            ]
            raise _refusal(
                sidecar,
                f"it has {' and '.join(ends)}, not one of each",
                "export the network with its features as the only output",
            )
        (source,), (features,) = sidecar.inputs, sidecar.outputs
        if len(source.shape) != 4 or source.shape[1] != _COLOURS:
            raise _refusal(
                sidecar, f"its input is {list(source.shape)}, not [N, 3, H, W]", "export it for pictures in colour"
            )
        if source.stages or source.channel_axis != 1:
            raise _refusal(
                sidecar,
                "a normalization or an activation stands before its input's quantizer",
                "export it without, and give the normalization as mean and std",
            )
        if features.shape[:1] != source.shape[:1]:
            what = f"its output is {list(features.shape)}, not [{source.shape[0]}, ...]"
            raise _refusal(sidecar, what, "keep the axis of the batch")
        if features.function is not None:
            raise _refusal(
                sidecar, f"it ends with {features.function}", "export the network with its features as the output"
            )
        scales = set(features.map.scale)
        if len(scales) != 1:
            raise _refusal(
                sidecar,
                f"its features have {len(scales)} scales: sums over their codes would weigh them differently",
                "quantize the features in one format for the whole tensor",
            )
        if any(features.map.offset):
            raise _refusal(
                sidecar,
                "code 0 of a feature is not the value 0: a bias is left over behind its codes",
                "end the network with a quantizer, or with a mean over quantized values",
            )
        (scale,) = scales
        if scale <= 0:
            raise _refusal(sidecar, f"the scale of its features is {scale}", "end it with a quantizer")
        if not features.low < features.high:
            raise CompileError(
                Code.DEAD_NETWORK,
                f"every feature of {quote(sidecar.model)} is {features.low}, whatever the picture",
                hint="more bits, formats chosen from data (auto:N), or training with the quantizers in place",
            )
        height, width = source.shape[2:]
        return cls(
            source.name, features.name, height, width, source.quantizer,
            element_count(features.shape[1:]), features.low, features.high, scale,
        )  # fmt: skip

    def features(self, runner: Runs, codes: Codes) -> Codes:
        """int64 [N, dimension] of input codes [N, 3, height, width]."""
        if not len(codes):
            return np.zeros((0, self.dimension), dtype=np.int64)
        return runner.run({self.input: codes})[self.output].reshape(len(codes), self.dimension)


def _refusal(sidecar: Sidecar, why: str, hint: str) -> CompileError:
    return CompileError(Code.SYSTEM_BACKBONE, f"{quote(sidecar.model)} is no backbone: {why}", hint=hint)
