"""Rows in batches: any number of rows through what takes whole batches."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil

import numpy as np
import pytest
from numpy.typing import NDArray

from pefslc.ir.row_batches import batches_of, row_count, rows_between, run_whole_batches

Codes = NDArray[np.int64]


@pytest.mark.parametrize("batch", range(1, 6))
@pytest.mark.parametrize("rows", range(1, 14))
def test_whole_batches_compute_every_row_and_no_other(rows: int, batch: int) -> None:
    """A second input has two rows, and an output three, for each of the first."""

    def run(given: Mapping[str, Codes]) -> dict[str, Codes]:
        assert len(given["x"]) % batch == 0
        assert len(given["x"]) - rows < batch
        assert len(given["y"]) == 2 * len(given["x"])
        return {"sum": np.repeat(given["x"], 3) + np.repeat(given["y"].reshape(-1, 2).sum(axis=1), 3)}

    x, y = np.arange(rows), 100 * np.arange(2 * rows)
    found = run_whole_batches(run, {"x": x, "y": y}, {"x": batch, "y": 2 * batch}, {"sum": 3 * batch})
    assert found["sum"].tolist() == [i + 100 * (4 * i + 1) for i in range(rows) for _ in range(3)]


@pytest.mark.parametrize("batch", range(1, 6))
@pytest.mark.parametrize("rows", range(1, 14))
def test_the_parts_of_rows_are_the_rows(rows: int, batch: int) -> None:
    batches, x = batches_of(rows, batch), np.arange(rows)
    parts = [rows_between(x, batch, i, i + 1) for i in range(ceil(batches))]
    assert np.concatenate(parts).tolist() == x.tolist()
    assert all(len(part) == batch for part in parts[:-1])
    assert 0 < len(parts[-1]) <= batch
    assert row_count(batches, batch) == rows
