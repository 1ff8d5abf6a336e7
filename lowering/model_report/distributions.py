"""How the values of a tensor lie in the format that holds them: quartiles, a histogram over codes, what is lost."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pefslc.artifacts.sidecar import JsonObject
from pefslc.numeric.format import Quantization
from pefslc.numeric.quantize import broadcast_steps, round_floats
from pefslc.numeric.rounding import RoundingMode
from pefslc.reports.layer_report import short_format
from pefslc.reports.saturation import rounded

__all__ = ["Distribution", "Histogram", "distribution_of"]

Floats = NDArray[np.float64]

_MOST_BINS = 64
_QUARTILES = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True, slots=True)
class Histogram:
    """How many values lie nearest to codes [first + i * width, first + (i + 1) * width), for each of `counts`."""

    first: int
    width: int
    counts: tuple[int, ...]

    def to_json(self) -> JsonObject:
        return {"first_code": self.first, "codes_each": self.width, "counts": list(self.counts)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution:
    """The values of one tensor, before its quantizer rounds them, against the quantizer's format.

    format       in short: "Q2.3", "s8/ch"
    codes        the lowest and the highest that the format has
    step         between neighbouring codes; of a scale per channel, the smallest
    held         the lowest and the highest value; of a scale per channel, of all channels together
    count        of the values; `zeros` of them are 0
    low, high    the range of the values; mean and deviation (the root of the mean square around it) are theirs, too
    magnitudes   least, quartiles and largest of the absolute values that are not 0; None where all are 0
    clipped      how many have their nearest code outside of the format: they saturate
    vanished     how many that are not 0 become 0
    histogram    over codes, those outside of the format included
    """

    format: str
    codes: tuple[int, int]
    step: float
    held: tuple[float, float]
    count: int
    zeros: int
    low: float
    high: float
    mean: float
    deviation: float
    magnitudes: tuple[float, float, float, float, float] | None
    clipped: int
    vanished: int
    histogram: Histogram

    def share(self, count: int) -> float:
        """Of all values."""
        return count / max(self.count, 1)

    @property
    def idle_bits(self) -> float:
        """How many times the format's range could be halved and still hold every value: bits that are not needed.

        0 where values reach the outer half of the range, or nothing but zeros was seen.
        """
        reach, held = max(abs(self.low), abs(self.high)), max(abs(bound) for bound in self.held)
        if not reach or not held:
            return 0.0
        return max(0.0, float(np.floor(np.log2(held / reach))))

    def to_json(self) -> JsonObject:
        return {
            "format": self.format,
            "format_codes": list(self.codes),
            "format_step": rounded(self.step),
            "format_range": [rounded(bound) for bound in self.held],
            "count": self.count,
            "zeros": self.zeros,
            "range": [rounded(self.low), rounded(self.high)],
            "mean": rounded(self.mean),
            "standard_deviation": rounded(self.deviation),
            "magnitude_quartiles": None if self.magnitudes is None else [rounded(m) for m in self.magnitudes],
            "clipped": self.clipped,
            "vanished": self.vanished,
            "idle_bits": self.idle_bits,
            "histogram": self.histogram.to_json(),
        }


def distribution_of(
    values: Floats, quantization: Quantization, rounding: RoundingMode, channel_axis: int
) -> Distribution:
    """The distribution of values of which there is at least one, all finite."""
    q = quantization
    steps = broadcast_steps(q.scale, values.ndim, channel_axis)
    nearest = round_floats(values / steps, rounding) + q.zero_point
    magnitudes = np.abs(values[values != 0])
    smallest, largest = float(steps.min()), float(steps.max())
    return Distribution(
        format=short_format(q),
        codes=(q.low, q.high),
        step=smallest,
        held=((q.low - q.zero_point) * largest, (q.high - q.zero_point) * largest),
        count=values.size,
        zeros=values.size - magnitudes.size,
        low=float(values.min()) + 0.0,  # adding 0 makes a negative zero positive
        high=float(values.max()) + 0.0,
        mean=float(values.mean()) + 0.0,
        deviation=float(values.std()),
        magnitudes=_quartiles(magnitudes),
        clipped=int(np.count_nonzero((nearest < q.low) | (nearest > q.high))),
        vanished=int(np.count_nonzero((nearest == q.zero_point) & (values != 0))),
        histogram=_histogram(nearest, q),
    )


def _quartiles(magnitudes: Floats) -> tuple[float, float, float, float, float] | None:
    if not magnitudes.size:
        return None
    least, first, middle, third, largest = np.quantile(magnitudes, _QUARTILES).tolist()
    return (least, first, middle, third, largest)


def _histogram(nearest: Floats, q: Quantization) -> Histogram:
    """Bins of as many codes as are needed for few of them; one begins at the format's lowest code."""
    low, high = min(float(nearest.min()), q.low), max(float(nearest.max()), q.high)
    width = 1
    while (high - low + 1) / width > _MOST_BINS - 1:  # one more where the lowest code of the format cuts a bin
        width *= 2
    first = q.low - -(-int(q.low - low) // width) * width
    bins = int((high - first) // width) + 1
    counts = np.bincount(((nearest.reshape(-1) - first) // width).astype(np.int64), minlength=bins)
    return Histogram(first, width, tuple(counts.tolist()))
