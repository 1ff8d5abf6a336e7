"""Staircases against every code in exact rationals, and those without a list of thresholds against those with one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, replace
from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray

from oracle import quantize_value
from oracle_functions import square_root
from pefslc.numeric import chain as chain_module
from pefslc.numeric import staircase as staircase_module
from pefslc.numeric.deviation import deviations_of
from pefslc.numeric.quantizer import Quantizer
from pefslc.numeric.rounding import RoundingMode
from pefslc.numeric.scale import Scale
from pefslc.numeric.stages import Affine, ClipStage, LeakyReluStage, Stage
from pefslc.numeric.staircase import Staircase, agrees_in_blocks, staircase_of
from pefslc.numeric.steps import corner_steps
from quantizers import QONNX_NAME

MODES = [mode for mode in RoundingMode if mode is not RoundingMode.SIGN]  # SIGN reaches two integers only


def chain_value(stages: Sequence[Stage], x: Fraction, channel: int) -> Fraction:
    """The chain as its docstrings say, with the oracle's square root."""
    for stage in stages:
        match stage:
            case Affine():
                factor, addend, radicand, offset = (
                    part[channel if stage.channels > 1 else 0]
                    for part in (stage.factor, stage.addend, stage.radicand, stage.offset)
                )
                x = (factor * x + addend) / square_root(radicand) + offset
            case LeakyReluStage():
                x = x if x >= 0 else stage.alpha(channel) * x
            case ClipStage():
                x = x if stage.low is None else max(x, stage.low)
                x = x if stage.high is None else min(x, stage.high)
    return x


def expected_codes(
    scale: Scale, stages: Sequence[Stage], quantizer: Quantizer, low: int, high: int, channels: int
) -> np.ndarray:
    q = quantizer.quantization
    assert not q.zero_point
    return np.array([
        [
            quantize_value(
                chain_value(stages, a * scale.channel(c), c), q.scale.channel(c), q.bits, q.signed, q.narrow,
                QONNX_NAME[quantizer.rounding],
            )
            for a in range(low, high + 1)
        ]
        for c in range(channels)
    ])  # fmt: skip


def check(
    scale: Scale, stages: Sequence[Stage], quantizer: Quantizer, low: int, high: int, channels: int = 1
) -> Staircase:
    """The staircase, after comparing every code of its domain, the closed form, the filter and the exact search."""
    staircase = staircase_of(scale, stages, quantizer, low, high, channels)
    assert staircase.is_listed
    domain = np.tile(np.arange(low, high + 1), (channels, 1))
    expected = expected_codes(scale, stages, quantizer, low, high, channels)
    np.testing.assert_array_equal(staircase(domain), expected)
    assert (staircase.low, staircase.high) == (expected.min(), expected.max()), "no code that never occurs"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chain_module, "_FEW", 0)
        assert staircase_of(scale, stages, quantizer, low, high, channels) == staircase
        patch.setattr(chain_module.Chain, "closed_thresholds", lambda *_: None)
        assert staircase_of(scale, stages, quantizer, low, high, channels) == staircase
        patch.setattr(chain_module.Chains, "_certain", nothing_is_certain)
        assert staircase_of(scale, stages, quantizer, low, high, channels) == staircase
    check_unlisted(staircase, scale, stages, quantizer)
    return staircase


def nothing_is_certain(
    _: chain_module.Chains, x: NDArray[np.float64], error: NDArray[np.float64], falls: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    del error, falls
    return np.zeros(x.shape, dtype=np.int64), np.ones(x.shape, dtype=np.bool_)


def check_unlisted(listed: Staircase, scale: Scale, stages: Sequence[Stage], quantizer: Quantizer) -> None:
    """Whatever is asked of a staircase whose thresholds are not listed is what the list says."""
    if listed.channels == 1:
        return
    low, high = listed.domain_low, listed.domain_high
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(staircase_module, "_MOST_LISTED", 0)
        unlisted = staircase_of(scale, stages, quantizer, low, high, listed.channels)
        if not listed.steps:
            return
        assert not unlisted.is_listed
        assert (unlisted.low, unlisted.high, unlisted.steps) == (listed.low, listed.high, listed.steps)
        domain = np.tile(np.arange(low, high + 1), (listed.channels, 1))
        np.testing.assert_array_equal(unlisted(domain), listed(domain))
        np.testing.assert_array_equal(unlisted.rows(1, 2), listed.thresholds[1:2])
        assert unlisted.of_channels(1, 2) == listed.of_channels(1, 2)
        narrower = low + (high - low) // 3, high - (high - low) // 4
        smaller = unlisted.lowered(3).restricted(*narrower)
        assert unlisted.restricted(low, high).is_listed == unlisted.is_listed is False
        assert unlisted.between(0, 1, 7).steps == 1
        assert smaller == listed.lowered(3).restricted(*narrower)
        assert unlisted.between(0, 1, 7) == listed.between(0, 1, 7)
        check_moved(unlisted, listed)
        assert not unlisted.is_listed
        check_looked_at_in_blocks(unlisted, listed)
        assert unlisted == listed
        assert hash(unlisted) == hash(listed)
        assert not unlisted.is_listed
        assert np.array_equal(unlisted.thresholds, listed.thresholds)
        assert unlisted.is_listed


def check_moved(unlisted: Staircase, listed: Staircase) -> None:
    """Accumulators that are less by 5 have the codes of those that they were."""
    domain = np.tile(np.arange(listed.domain_low, listed.domain_high + 1), (listed.channels, 1))
    for staircase in (listed, unlisted):
        moved = staircase.moved(5)
        assert moved.is_listed == staircase.is_listed
        assert (moved.domain_low, moved.domain_high) == (listed.domain_low - 5, listed.domain_high - 5)
        np.testing.assert_array_equal(moved(domain - 5), listed(domain))
        assert moved.chains is not None
        np.testing.assert_array_equal(moved.chains.thresholds(0, moved.channels), moved.rows(0, moved.channels))


def check_looked_at_in_blocks(unlisted: Staircase, listed: Staircase) -> None:
    """The steps that bound lines, the certificate and the differences: none needs the list."""
    for ours, theirs in zip(astuple(corner_steps(unlisted)), astuple(corner_steps(listed)), strict=True):
        assert np.array_equal(ours, theirs)
    assert agrees_in_blocks(unlisted, listed)
    moved = replace(listed, thresholds=np.zeros_like(listed.thresholds))
    low, high = (np.full(listed.channels, end) for end in (listed.domain_low, listed.domain_high))
    assert deviations_of(unlisted, moved, low, high) == deviations_of(listed, moved, low, high)
    assert agrees_in_blocks(unlisted, moved) == agrees_in_blocks(listed, moved)
