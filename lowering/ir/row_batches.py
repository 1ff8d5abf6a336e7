"""Rows in batches: a run takes whole batches, and whoever gives rows may give a part of the last one.

Inputs and outputs of one network may have batches of different sizes: what they share is the number of batches. It is a
fraction where rows of the last one are missing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from math import ceil
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

__all__ = ["batches_of", "row_count", "rows_between", "run_whole_batches"]

Codes = NDArray[np.int64]
_Number = TypeVar("_Number", bound=np.generic)


def batches_of(rows: int, batch_rows: int) -> Fraction:
    """How many batches so many rows are, exactly. `math.ceil` of it is how many must be run."""
    return Fraction(rows, batch_rows)


def row_count(batches: Fraction, batch_rows: int) -> int:
    """How many rows so many batches are, of what has `batch_rows` in each."""
    return int(batches * batch_rows)


def rows_between(array: NDArray[_Number], batch_rows: int, start: int, stop: int) -> NDArray[_Number]:
    """The rows of the batches from `start` to before `stop`: of the last batch, those that there are."""
    return array[start * batch_rows : stop * batch_rows]


def run_whole_batches(
    run: Callable[[Mapping[str, Codes]], Mapping[str, Codes]],
    inputs: Mapping[str, Codes],
    input_rows: Mapping[str, int],
    output_rows: Mapping[str, int],
) -> dict[str, Codes]:
    """What `run`, which takes whole batches, computes of any number of rows.

    input_rows, output_rows  by name, the rows of a batch

    The last row of each input is repeated to fill the last batch; what is computed of that is dropped.
    """
    name = next(iter(input_rows))
    given = batches_of(len(inputs[name]), input_rows[name])
    missing = ceil(given) - given
    filled = {
        name: np.concatenate([inputs[name], np.repeat(inputs[name][-1:], row_count(missing, size), axis=0)])
        for name, size in input_rows.items()
    }
    return {name: codes[: row_count(given, output_rows[name])] for name, codes in run(filled).items()}
