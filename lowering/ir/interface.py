"""What a graph shows to the outside: its level, its inputs and outputs, and the map from codes to values."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from fractions import Fraction

import numpy as np

from pefslc.geometry.shapes import Shape
from pefslc.ir.output_function import OutputFunction
from pefslc.ir.value import Value
from pefslc.numeric.quantizer import Quantizer
from pefslc.numeric.stages import Stage

__all__ = ["GraphInput", "GraphOutput", "Level", "OutputMap"]


class Level(Enum):
    """What the operations of a graph compute with."""

    QUANTIZED = "quantized"  # real values and quantizers: what the file says
    INTEGER = "integer"  # codes


@dataclass(frozen=True, slots=True)
class OutputMap:
    """How the host turns output codes into values: scale[c] * code + offset[c], one entry or one per channel (axis 1).

    Exact rationals, except where a BatchNorm's square root stays at the output: then within 2^-100, relatively.
    """

    scale: tuple[Fraction, ...]
    offset: tuple[Fraction, ...]


@dataclass(frozen=True, slots=True)
class GraphInput:
    """An input: the ONNX name, the value, and (integer level) what the host does: quantizer(stages(x)), exactly.

    quantizer     makes the codes; their meaning for the network is the value's element, which may have another scale:
                  what the model computes before its first quantizer may be a part of either
    stages        Affine, ClipStage and LeakyReluStage only: an affine map or an activation before the first quantizer
    channel_axis  where the channels of a stage or a scale lie
    integers      the type of a file's input of integers ("uint8"), "" for real numbers
    """

    name: str
    value: Value
    quantizer: Quantizer | None = None
    stages: tuple[Stage, ...] = ()
    channel_axis: int = 1
    integers: str = ""

    @property
    def is_codes(self) -> bool:
        """Whether the integers of the file are the codes."""
        if not self.integers or self.quantizer is None or self.stages:
            return False
        limits, q = np.iinfo(self.integers), self.quantizer.quantization
        one = q.zero_point == 0 and all(step == 1 for step in q.scale.steps)
        return one and (q.low, q.high) == (int(limits.min), int(limits.max))


@dataclass(frozen=True, slots=True)
class GraphOutput:
    """An output: the ONNX name, the value, and (integer level) the map from codes to values.

    function  what the host computes of the values, where the model ends with it: the output itself is its result
    """

    name: str
    value: Value
    map: OutputMap | None = None
    function: OutputFunction | None = None

    @property
    def shape(self) -> Shape:
        """What the host returns: that of the value, but behind an ArgMax."""
        shape = self.value.type.shape
        return shape if self.function is None else self.function.shape(shape)
