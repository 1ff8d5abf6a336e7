"""Weights onto their grid so that what they are off by adds up to nothing.

Rounded to the nearest, each weight is off by at most half a step, but the errors of a kernel add up wherever its inputs
are alike: neighbouring pixels are, and activations after a ReLU have one sign. So a few weights of each kernel, those
that are nearly halfway, go to their other neighbour, until the errors of each kernel sum up to at most half a step (in
float64); then the same for each output channel. No data is needed. (The idea of SQuant, Guo et al., ICLR 2022.)
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pefslc.numeric.quantize import round_floats
from pefslc.numeric.rounding import RoundingMode

__all__ = ["round_weights"]

Floats = NDArray[np.float64]


def round_weights(weights: Floats, steps: Floats, low: int, high: int) -> Floats:
    """Values on the grid for weights [C_out, C_in, ...], each one of its two neighbours.

    steps      of the grid, of a shape that broadcasts against the weights
    low, high  the codes of the grid's ends; at them and beyond it is the nearest, which the quantizer saturates
    """
    outputs, inputs = weights.shape[:2]
    scaled = weights / steps
    codes = round_floats(scaled, RoundingMode.HALF_EVEN).reshape(outputs, inputs, -1)
    errors = codes - scaled.reshape(codes.shape)
    # At the ends there is no other neighbour, and what saturates is off by more than rounding can mend.
    fixed = (codes <= low) | (codes >= high)
    errors[fixed] = 0
    moved = _excess(errors.sum(axis=2), errors)
    codes, errors = codes - moved, errors - moved
    _move_channels(codes, errors)
    return np.asarray(codes.reshape(weights.shape) * steps, dtype=np.float64)


def _excess(sums: Floats, order: Floats) -> Floats:
    """1 or -1 for the elements of the last axis that change sides, so that `sums` of the errors come to rest at 0:
    as many as there are whole steps in each sum, first of all those that are highest in `order`, in its direction.

    Each of them is off in that direction: a sum that rounds to k steps has k terms or more, of half a step at most.
    """
    direction = np.sign(sums)[..., None]
    ranks = np.argsort(np.argsort(-direction * order, axis=-1, kind="stable"), axis=-1, kind="stable")
    moves = ranks < np.rint(np.abs(sums))[..., None]
    return np.asarray(moves * direction, dtype=np.float64)


def _move_channels(codes: Floats, errors: Floats) -> None:
    """The same for each output channel, in place: at most one weight in each kernel, where the kernel's sum gains."""
    kernels = errors.sum(axis=2)
    sums = kernels.sum(axis=1)
    direction = np.sign(sums)[:, None, None]
    candidates = np.argmax(direction * errors, axis=2)[..., None]
    furthest = np.take_along_axis(errors, candidates, axis=2)
    moved = _excess(sums, kernels + furthest[..., 0])[..., None]
    np.put_along_axis(codes, candidates, np.take_along_axis(codes, candidates, axis=2) - moved, axis=2)
