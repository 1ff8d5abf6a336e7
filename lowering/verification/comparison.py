"""Outputs from two sources: codes with codes, values with the values of codes.

Exactly, wherever float64 holds the values exactly.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, quote
from pefslc.evaluation.float_error import index_text
from pefslc.ir.graph import GraphOutput, OutputMap
from pefslc.ir.interpret import apply_output_map, map_codes

__all__ = [
    "Comparison", "compare_codes", "compare_results", "compare_values", "differing_results", "differing_values",
    "function_noise", "nearest_is",
]  # fmt: skip

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]

_VALUE_NOISE = 1e-9  # of outputs that float64 cannot hold exactly, relative to the output where it is larger than 1
_FUNCTION_NOISE = {False: 1e-12, True: 1e-5}  # of a softmax in float64, and in float32
_EXACT_STEPS = 2**53
_UNITS = 8


@dataclass(frozen=True, slots=True)
class Comparison:
    """One output from two sources: how many elements, how many differ, and the first that does.

    bounded  the artifacts are not exact, and another comparison shows that they differ as predicted
    given    one source is an array of the user's
    reason   of what differs from such an array: what its rounding to float32 explains
    """

    output: str
    compared: str
    count: int
    differing: int
    first: str = ""
    bounded: bool = False
    given: bool = False
    reason: str = ""

    def plus(self, more: Comparison) -> Comparison:
        """With another piece of the same two sources."""
        count, differing = self.count + more.count, self.differing + more.differing
        return replace(more, count=count, differing=differing, first=self.first or more.first)

    def __str__(self) -> str:
        if not self.differing:
            return f"{self.count} of {self.count} outputs equal: {self.compared} ({quote(self.output)})"
        return (
            f"output {quote(self.output)}: {self.differing} of {self.count} differ: {self.compared}; "
            f"first at {self.first}{' (bounded)' if self.bounded else ''}{self.reason and f'; {self.reason}'}"
        )


def compare_codes(output: str, expected: Codes, got: Codes, compared: str, first_row: int = 0) -> Comparison:
    """Integers with integers."""
    if expected.shape != got.shape:
        raise CompileError(
            Code.ARTIFACT_CHANGED, f"output {quote(output)} came back as {list(got.shape)}, not {list(expected.shape)}"
        )
    wrong = np.argwhere(expected != got)
    first = ""
    if len(wrong):
        index = tuple(int(i) for i in wrong[0])
        want, have = int(expected[index]), int(got[index])
        first = f"{index_text(index, first_row)}: code {have} instead of {want}, off by {abs(have - want)}"
    return Comparison(output, compared, expected.size, len(wrong), first)


def compare_values(
    output: GraphOutput,
    expected: NDArray[np.generic],
    got: Codes,
    compared: str,
    first_row: int = 0,
    same: NDArray[np.bool_] | None = None,
) -> Comparison:
    """Values with integers: equal values where float64 holds them exactly, else equal within the noise of the array.

    The noise is a few units in the last place of the array's own type, and 1e-9 where the exact value is no float64.
    It is far below a step of the codes, so that it hides no wrong code.

    same  outputs that are known to be equal although their values are further off: see `RoundingOfReference`
    """
    assert output.map is not None
    if expected.shape != got.shape:
        raise CompileError(
            Code.EXPECTED_ARRAY,
            f"output {quote(output.name)}: {compared} have shapes {list(got.shape)} and {list(expected.shape)}",
        )
    values, mapped = expected.astype(np.float64), map_codes(output.map, got)
    wrong = differing_values(output, expected, got)
    return _of_values(output.name, values, mapped, wrong if same is None else wrong & ~same, compared, first_row)


def differing_values(output: GraphOutput, expected: NDArray[np.generic], got: Codes) -> NDArray[np.bool_]:
    """Where `compare_values` finds a difference."""
    assert output.map is not None
    values = expected.astype(np.float64)
    noise = _noise(output, values, single=expected.dtype.itemsize < 8)
    return ~(np.abs(values - map_codes(output.map, got)) <= noise)  # NaN is wrong, too


def nearest_is(output: GraphOutput, expected: NDArray[np.generic], got: Codes) -> NDArray[np.bool_]:
    """Where the code is the one whose value is nearest to the array's."""
    assert output.map is not None
    steps = np.abs(_broadcast(output.map.scale, got.ndim))
    return np.asarray(np.abs(expected.astype(np.float64) - map_codes(output.map, got)) * 2 < steps, dtype=np.bool_)


def compare_results(
    output: GraphOutput, expected: NDArray[np.generic], got: Codes, compared: str, first_row: int = 0
) -> Comparison:
    """What the host makes of integers, with an array of the same: indices exactly, the values of a function within the
    rounding of the array's own type, which is said.
    """
    assert output.function is not None
    found = apply_output_map(output, got)
    if expected.shape != found.shape:
        raise CompileError(
            Code.EXPECTED_ARRAY,
            f"output {quote(output.name)}: {compared} have shapes {list(found.shape)} and {list(expected.shape)}",
        )
    if output.function.makes_values:
        compared += f", {output.function.kind.value} within {function_noise(expected):g}"
    wrong = differing_results(output, expected, got)
    return _of_values(output.name, expected.astype(np.float64), found, wrong, compared, first_row)


def differing_results(output: GraphOutput, expected: NDArray[np.generic], got: Codes) -> NDArray[np.bool_]:
    """Where `compare_results` finds a difference."""
    assert output.function is not None
    wanted, noise = expected.astype(np.float64), 0.0
    if output.function.makes_values:
        noise = function_noise(expected)
    return ~(np.abs(wanted - apply_output_map(output, got)) <= noise * np.maximum(np.abs(wanted), 1))


def function_noise(expected: NDArray[np.generic]) -> float:
    """By how much a softmax of the array's own type may be off, relative to the output where it is larger than 1."""
    return _FUNCTION_NOISE[expected.dtype.itemsize < 8]


def _of_values(
    output: str, wanted: Floats, found: Floats, wrong: NDArray[np.bool_], compared: str, first_row: int
) -> Comparison:
    """Of values of which some are wrong."""
    places = np.argwhere(wrong)
    first = ""
    if len(places):
        index = tuple(int(i) for i in places[0])
        want, have = float(wanted[index]), float(found[index])
        first = f"{index_text(index, first_row)}: {have:.9g} instead of {want:.9g}, off by {abs(have - want):.3g}"
    return Comparison(output, compared, found.size, len(places), first)


def _noise(output: GraphOutput, values: Floats, *, single: bool) -> Floats:
    """By how much each value may be off although its code is right."""
    assert output.map is not None
    codes = output.value.type.codes
    exact = _is_exact_in_float64(output.map, codes.low, codes.high)
    if exact and not single:
        return np.zeros_like(values)
    offset = np.abs(_broadcast(output.map.offset, values.ndim))
    unit = _UNITS * float(np.finfo(np.float32 if single else np.float64).eps)
    noise = unit * (np.abs(values) + offset)
    return noise if exact else np.maximum(noise, _VALUE_NOISE * np.maximum(np.abs(values), 1))


def _is_exact_in_float64(output_map: OutputMap, low: int, high: int) -> bool:
    """Whether every value of the map, and every product in it, is a float64: dyadic, and below 2^53 steps."""
    largest = max(abs(low), abs(high))
    for scale, offset in zip(output_map.scale, output_map.offset, strict=True):
        denominator = max(scale.denominator, offset.denominator)
        if any(n.denominator & (n.denominator - 1) for n in (scale, offset)):
            return False
        if (abs(scale) * largest + abs(offset)) * denominator >= _EXACT_STEPS:
            return False
    return True


def _broadcast(numbers: tuple[Fraction, ...], rank: int) -> Floats:
    """Per-channel numbers against a tensor whose channels lie on axis 1."""
    return np.array([float(n) for n in numbers]).reshape((1, -1) + (1,) * (rank - 2) if rank > 1 else (-1,))
