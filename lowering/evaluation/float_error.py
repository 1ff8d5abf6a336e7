"""How far the values of an output are off those that a float model has there: the largest error, where, and the rms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isfinite

import numpy as np
from numpy.typing import NDArray

from pefslc.diagnostics.errors import quote

__all__ = ["FloatError", "SameIndices", "index_text"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class FloatError:
    """One output from two sources, over all inputs.

    compared        the two, in words
    largest         of the absolute errors; `worst` says where: [row, channel, ...], the value and the expected one
    sum_of_squares  of the errors
    reach           the largest absolute value that was expected
    """

    output: str
    compared: str
    count: int = 0
    largest: float = 0.0
    sum_of_squares: float = 0.0
    reach: float = 0.0
    worst: str = ""

    def plus(self, expected: NDArray[np.generic], got: Floats, first_row: int = 0) -> FloatError:
        """With more values, the first of which has that row."""
        wanted = expected.astype(np.float64)
        errors = np.abs(wanted - got)
        largest, worst = self.largest, self.worst
        if errors.size and (found := float(errors.max())) > largest:
            index = tuple(int(i) for i in np.unravel_index(int(errors.argmax()), errors.shape))
            largest = found
            worst = f"{index_text(index, first_row)}: {float(got[index]):.5g} instead of {float(wanted[index]):.5g}"
        return replace(
            self,
            count=self.count + errors.size,
            largest=largest,
            sum_of_squares=self.sum_of_squares + float((errors**2).sum()),
            reach=max(self.reach, float(np.abs(wanted).max(initial=0.0))),
            worst=worst,
        )

    @property
    def rms(self) -> float:
        """The root of the mean of the squares."""
        return float(np.sqrt(self.sum_of_squares / max(self.count, 1)))

    @property
    def relative(self) -> float:
        """The largest error as a share of the largest value."""
        return self.largest / self.reach if self.reach else float("inf") if self.largest else 0.0

    def to_json(self) -> dict[str, str | int | float | None]:
        """Of infinite errors, which JSON has not, None."""
        errors = {"largest_error": self.largest, "rms_error": self.rms, "largest_value": self.reach}
        return {
            "output": self.output,
            "compared": self.compared,
            "count": self.count,
            **{key: number if isfinite(number) else None for key, number in errors.items()},
            "worst": self.worst,
        }

    def __str__(self) -> str:
        where = f"; most at {self.worst}" if self.worst else ""
        return (
            f"{self.compared}: off by at most {self.largest:.4g} of {self.reach:.4g}, rms {self.rms:.4g} "
            f"({quote(self.output)}){where}"
        )


@dataclass(frozen=True, slots=True)
class SameIndices:
    """One output of indices (ArgMax) from two sources, over all inputs: how many are the same. 4 is not near to 3."""

    output: str
    compared: str
    count: int = 0
    differing: int = 0

    def plus(self, expected: NDArray[np.generic], got: Floats, first_row: int = 0) -> SameIndices:
        """With more indices."""
        del first_row
        differing = int((expected.astype(np.float64) != got).sum())
        return replace(self, count=self.count + got.size, differing=self.differing + differing)

    @property
    def relative(self) -> float:
        """The share of those that differ."""
        return self.differing / max(self.count, 1)

    def to_json(self) -> dict[str, str | int]:
        return {"output": self.output, "compared": self.compared, "count": self.count, "differing": self.differing}

    def __str__(self) -> str:
        same = self.count - self.differing
        share = f"{same:,} of {self.count:,}, {1 - self.relative:.1%}"
        return f"{self.compared}: the same class on {share} ({quote(self.output)})"


def index_text(index: Sequence[int], first_row: int = 0) -> str:
    """[row, channel, ...], counted over all inputs; of a scalar []."""
    return str([index[0] + first_row, *index[1:]]) if index else "[]"
