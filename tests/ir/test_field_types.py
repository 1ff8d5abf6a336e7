"""The types of an operation's fields: checked where it is built."""

from __future__ import annotations

from dataclasses import fields, replace
from fractions import Fraction
from typing import get_args

import numpy as np
import pytest

from pefslc.diagnostics.errors import Origin
from pefslc.geometry.shapes import Window
from pefslc.ir import field_types
from pefslc.ir.integer import Clamp, Conv2d, IntegerOp, Rescale, Sum
from pefslc.ir.quantized import Clip, Conv, Quantize, QuantizedOp
from pefslc.ir.structural import Concat, Transpose
from pefslc.ir.value import IntArray, Op, Real, RealArray, TensorType, Value
from pefslc.numeric.stages import LeakyReluStage

X = Value("x", TensorType((1, 1, 2, 2), Real()), Origin("n", "Op"))
CONV = Conv2d(
    result=X,
    input=X,
    weight=IntArray(np.ones((1, 1, 1, 1), np.int64)),
    bias=None,
    window=Window(kernel=(1, 1)),
    groups=1,
)

CLIP = Clip(result=X, input=X, low=None, high=None)
CONCAT = Concat(result=X, inputs=(X,), axis=1)
TRANSPOSE = Transpose(result=X, input=X, permutation=(0,))
QUANTIZE = Quantize(result=X, input=X)


@pytest.mark.parametrize(
    ("op", "field", "given", "message"),
    [
        (CONV, "weight", np.ones(2), "a numpy array of float64, not IntArray: IntArray(array)"),
        (CONV, "bias", np.ones(2, np.int64), "a numpy array of int64, not IntArray or None: IntArray(array)"),
        (CONV, "weight", RealArray(np.ones(2)), "RealArray <RealArray [2]>, not IntArray"),
        (CONV, "input", "x", "str 'x', not Value"),
        (CONV, "groups", np.int64(1), "int64 1, not int: int(number)"),
        (CONV, "window", (3, 3), "a tuple of int, not Window"),
        (CONV, "result", None, "None, not Value"),
        (CLIP, "low", 0, "int 0, not Fraction or None: Fraction(number)"),
        (Clamp(result=X, input=X, low=0, high=1), "high", 1.5, "float 1.5, not int"),
        (Rescale(result=X, input=X, factor=2), "factor", Fraction(2), "Fraction Fraction(2, 1), not int"),
        (CONCAT, "inputs", [X], "a list of Value, not a tuple of Value: tuple(list)"),
        (CONCAT, "inputs", (X, 3), "a tuple of Value, int, not a tuple of Value"),
        (TRANSPOSE, "permutation", (0.0,), "a tuple of float, not a tuple of int"),
        (QUANTIZE, "rounding", "half_even", "str 'half_even', not RoundingMode"),
        (QUANTIZE, "stages", LeakyReluStage(), "LeakyReluStage LeakyReluStage("),
        (Sum(result=X, lhs=X, rhs=X), "rhs", CONV, "Conv2d Conv2d("),
    ],
)
def test_a_field_of_another_type_is_named_with_what_is_wanted_and_given(
    op: Op, field: str, given: object, message: str
) -> None:
    with pytest.raises(TypeError) as caught:
        replace(op, **{field: given})  # type: ignore[arg-type]
    whole = f"{type(op).__name__}.{field} is {message}"
    assert str(caught.value) == whole or (message[-1] in " (" and str(caught.value).startswith(whole))


class Stranger:
    """Fits no field."""


@pytest.mark.parametrize("kind", sorted({*get_args(QuantizedOp), *get_args(IntegerOp)}, key=lambda k: k.__name__))
def test_every_field_of_every_operation_is_checked(kind: type[Op]) -> None:
    checks = {name: is_sound for name, _, is_sound in field_types._checks(kind)}
    assert list(checks) == [f.name for f in fields(kind)]
    assert not any(is_sound(Stranger()) for is_sound in checks.values())


@pytest.mark.parametrize("data", [np.ones(2), np.ones(2, np.int32), np.ones(2, bool)], ids=lambda d: str(d.dtype))
def test_an_array_of_another_element_type_is_refused_where_it_is_made(data: np.ndarray) -> None:  # type: ignore[type-arg]
    with pytest.raises(
        TypeError, match=rf"IntArray holds int64, not {data.dtype}: IntArray\(array.astype\(np.int64\)\)"
    ):
        IntArray(data)
    if data.dtype != np.float64:
        with pytest.raises(TypeError, match=f"RealArray holds float64, not {data.dtype}"):
            RealArray(data)


def test_a_list_is_no_array() -> None:
    with pytest.raises(TypeError, match=r"IntArray holds an array, not a list of int: IntArray\(np.array\("):
        IntArray([1, 2])  # type: ignore[arg-type]


def test_the_advice_works() -> None:
    weight = np.ones((1, 1, 1, 1))
    assert replace(CONV, weight=IntArray(weight.astype(np.int64))) == CONV
    assert replace(CONV, groups=int(np.int64(1))) == CONV
    clip = Clip(result=X, input=X, low=Fraction(0), high=None)
    assert clip.low == 0
    assert Conv(result=X, input=X, weight=X, bias=None, window=Window(kernel=(1, 1)), groups=1).bias is None
