"""Weights of convolutions that are no dense ones, as such: [C_out, C_in, KH, KW]."""

from __future__ import annotations

import numpy as np

from pefslc.targets.tensil.groups.group import Weights

__all__ = ["dense_weight", "diagonal"]


def dense_weight(weight: Weights, groups: int) -> Weights:
    """[C_out, C_in, KH, KW] with zeros between the groups; the scheduler skips tiles that are all zero."""
    if groups == 1:
        return weight
    outputs, per_group = weight.shape[:2]
    dense = np.zeros((outputs, per_group * groups, *weight.shape[2:]), dtype=np.int64)
    for g in range(groups):
        rows = slice(g * outputs // groups, (g + 1) * outputs // groups)
        dense[rows, g * per_group : (g + 1) * per_group] = weight[rows]
    return dense


def diagonal(channels: int, kernel: tuple[int, int]) -> Weights:
    """One matrix for all taps: it is stored once, for there may be as many taps as pixels."""
    return np.broadcast_to(np.eye(channels, dtype=np.int64)[:, :, None, None], (channels, channels, *kernel))


def is_diagonal(weight: Weights) -> bool:
    """Whether each tap multiplies every channel by one number: a mean, an identity."""
    outputs, inputs = weight.shape[:2]
    if outputs != inputs or np.count_nonzero(weight[:, :, 0, 0]) > outputs:
        return False
    same = (weight[np.arange(outputs), np.arange(outputs)] == weight[0, 0]).all()  # [C, KH, KW]
    return bool(same and np.count_nonzero(weight) == outputs * np.count_nonzero(weight[0, 0]))
