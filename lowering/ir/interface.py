"""What a graph shows to the outside: its level, its inputs and outputs, and the map from codes to values."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from fractions import Fraction

from pefslc.ir.value import Value
from pefslc.numeric.staircase import Quantizer

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
    """An input: the ONNX name, the value, and (integer level) the quantizer that the host applies."""

    name: str
    value: Value
    quantizer: Quantizer | None = None


@dataclass(frozen=True, slots=True)
class GraphOutput:
    """An output: the ONNX name, the value, and (integer level) the map from codes to values."""

    name: str
    value: Value
    map: OutputMap | None = None
