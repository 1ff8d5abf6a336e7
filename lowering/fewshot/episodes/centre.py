"""The point that a nearest-class-mean head subtracts from features, with the name of what it is the mean of.

EASY takes the mean of the base classes, PEFSL's demonstrator that of some frames of the background: an accuracy means
nothing without the name.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pefslc.diagnostics.errors import quote
from pefslc.fewshot.episodes.features import float_features, integer_features
from pefslc.fewshot.head.spec import centre_of

__all__ = ["BASE_MEAN", "FRACTION_BITS", "NO_CENTRE", "FloatCentre", "IntegerCentre"]

BASE_MEAN = "base mean"
NO_CENTRE = "none"
FRACTION_BITS = 4  # what these lose against an exact mean is not seen in an accuracy; with none it is, by 0.1 points


@dataclass(frozen=True, slots=True)
class IntegerCentre:
    """codes[D] approximate 2^fraction_bits times a mean of feature codes."""

    name: str
    codes: tuple[int, ...]
    fraction_bits: int = FRACTION_BITS

    @classmethod
    def none(cls, dimension: int) -> IntegerCentre:
        """The origin: nothing is subtracted, and no fraction bits are needed."""
        return cls(NO_CENTRE, (0,) * dimension, 0)

    @classmethod
    def mean(
        cls, codes: NDArray[np.integer], name: str = BASE_MEAN, fraction_bits: int = FRACTION_BITS
    ) -> IntegerCentre:
        """round(2^fraction_bits * mean of the rows), halves to even, of codes [N, D]. Raises CompileError."""
        checked = integer_features(codes, f"features of the centre {quote(name)}")
        return cls(name, centre_of(checked, fraction_bits), fraction_bits)

    def __str__(self) -> str:
        return self.name if self.name == NO_CENTRE else f"{self.name} ({self.fraction_bits} fraction bits)"


@dataclass(frozen=True, slots=True)
class FloatCentre:
    """values[D] in units of the features."""

    name: str
    values: tuple[float, ...]

    @classmethod
    def none(cls, dimension: int) -> FloatCentre:
        """The origin."""
        return cls(NO_CENTRE, (0.0,) * dimension)

    @classmethod
    def mean(cls, features: NDArray[np.floating], name: str = BASE_MEAN) -> FloatCentre:
        """The mean of the rows of features [N, D], in float64. Raises CompileError."""
        checked = float_features(features, f"features of the centre {quote(name)}")
        return cls(name, tuple(float(v) for v in checked.mean(axis=0)))

    def __str__(self) -> str:
        return self.name
