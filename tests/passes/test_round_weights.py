"""Weights whose rounding errors add up to nothing."""

from __future__ import annotations

import numpy as np
import pytest

from pefslc.passes.round_weights import round_weights

STEP = 2.0**-4


@pytest.mark.parametrize("shape", [(8, 5, 3, 3), (6, 7, 1, 1), (9, 40), (4, 1, 5, 5)])
@pytest.mark.parametrize("seed", range(5))
def test_no_kernel_and_no_channel_is_off_by_more_than_its_share(shape: tuple[int, ...], seed: int) -> None:
    weights = np.random.default_rng(seed).normal(0, 0.5, shape)
    rounded = round_weights(weights, np.array(STEP), -128, 127)
    errors = (rounded - weights) / STEP
    assert np.array_equal(rounded / STEP, np.rint(rounded / STEP))
    assert np.abs(errors).max() < 1
    assert np.abs(errors.reshape(len(weights), -1).sum(1)).max() <= 0.5 + 1e-9
    if np.prod(shape[2:]) > 1:  # a kernel gives at most one of its weights for the channel's sum
        assert np.abs(errors.reshape(*shape[:2], -1).sum(2)).max() <= 1 + 1e-9
    nearest = np.abs(np.rint(weights / STEP) - weights / STEP)
    assert (nearest.reshape(len(weights), -1).sum(1) + 1e-9 < np.abs(errors).reshape(len(weights), -1).sum(1)).any()


@pytest.mark.parametrize("shape", [(8, 5, 3, 3), (6, 7, 1, 1), (9, 40)])
def test_no_weight_at_an_end_of_the_range_or_beyond_moves_for_the_sake_of_a_sum(shape: tuple[int, ...]) -> None:
    weights = np.random.default_rng(0).normal(0, STEP, shape)
    codes, nearest = round_weights(weights, np.array(STEP), -2, 1) / STEP, np.rint(weights / STEP)
    inside = (nearest > -2) & (nearest < 1)
    assert np.array_equal(codes[~inside], nearest[~inside])
    assert (codes[inside] != nearest[inside]).any()
    assert ((codes[inside] >= -2) & (codes[inside] <= 1)).all()


def test_weights_on_the_grid_and_beyond_it_stay() -> None:
    weights = np.array([[[0.0, 0.25, -0.5, 100.0, -100.0]]])
    assert np.array_equal(round_weights(weights, np.array(STEP), -16, 15), weights)


def test_steps_may_differ_per_channel() -> None:
    weights = np.random.default_rng(3).normal(0, 1, (2, 3, 3, 3))
    steps = np.array([0.25, 0.5]).reshape(2, 1, 1, 1)
    rounded = round_weights(weights, steps, -128, 127)
    alone = [round_weights(weights[i : i + 1], steps[i : i + 1], -128, 127) for i in range(2)]
    assert np.array_equal(rounded, np.concatenate(alone))
