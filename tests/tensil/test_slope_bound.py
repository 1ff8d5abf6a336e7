"""What says, before or after a look at a few channels, that no multiplication per channel comes near a staircase."""

from __future__ import annotations

import numpy as np
import pytest
from tensil_support import line

from pefslc.numeric.deviation import deviations_of
from pefslc.numeric.staircase import Staircase
from pefslc.numeric.steps import Steps
from pefslc.targets.tensil.machine.architecture import DataType
from pefslc.targets.tensil.words.channel_requantize import LARGEST_DEVIATION, fit_channels
from pefslc.targets.tensil.words.search_effort import Effort
from pefslc.targets.tensil.words.short_look import Channels
from pefslc.targets.tensil.words.slope_bound import has_near_slope
from pefslc.targets.tensil.words.steps import ChannelAdd, ChannelMultiply, Multiply, apply_steps


def least_deviation(staircase: Staircase, data_type: DataType) -> int:
    """The largest deviation of the best words, by all of them: every multiplier, addend and power of two."""
    codes = np.arange(staircase.domain_low, staircase.domain_high + 1)
    wanted, best = staircase(codes[None])[0], staircase.high - staircase.low
    multipliers = np.arange(data_type.max_code + 1)
    products = apply_steps(
        [ChannelMultiply(tuple(multipliers.tolist()))], np.tile(codes, (len(multipliers), 1)), data_type
    )
    for addend in range(data_type.min_code, data_type.max_code + 1):
        sums = apply_steps([ChannelAdd((addend,) * len(multipliers))], products, data_type)
        for shift in range(data_type.binary_point + 1):
            made = apply_steps([Multiply(data_type.one >> shift)], sums, data_type)
            off = np.abs(np.clip(made, staircase.low, staircase.high) - wanted).max(axis=1)
            best = min(best, int(off.min()))
    return best


def test_where_it_says_no_every_word_is_further_off() -> None:
    """Words of eight bits, all of them tried."""
    rng, data_type, denied = np.random.default_rng(0), DataType.FP8BP4, 0
    for _ in range(150):
        low, steps = -int(rng.integers(100, 128)), int(rng.integers(30, 62))
        slope = steps / -low / 2 * float(rng.uniform(0.9, 1.1))
        staircase = line(low, -low, (0, steps), [slope], [steps / 2 + float(rng.uniform(-4, 4))])
        if not has_near_slope(Steps.of(staircase), 0, data_type, LARGEST_DEVIATION):
            denied += 1
            assert least_deviation(staircase, data_type) > LARGEST_DEVIATION
    assert denied >= 2


def test_it_says_no_to_many_codes_behind_a_slope_between_two_multipliers() -> None:
    """1,000 codes over all words: the multiplier is about 128, and half of one is two codes at either end."""
    data_type = DataType.FP16BP8
    steps = Steps.of(line(-32768, 32767, (0, 1000), [1000 / 65536 * 128.5 / 128], [500.0]))
    assert not has_near_slope(steps, 0, data_type, LARGEST_DEVIATION)
    near = Steps.of(line(-32768, 32767, (0, 1000), [126 / 256 / 32], [500.0]))
    assert has_near_slope(near, 0, data_type, LARGEST_DEVIATION)


@pytest.mark.parametrize("seed", range(6))
def test_a_look_at_a_few_channels_denies_nothing_that_the_search_finds(seed: int) -> None:
    rng, data_type, channels = np.random.default_rng(seed), DataType.FP16BP8, 6
    codes, high = int(rng.choice([60, 255, 500, 900])), int(rng.choice([3000, 20000, 32767]))
    slopes = (codes / high / 2 * rng.uniform(0.7, 1.0, channels)).tolist()
    staircase = line(-high, high, (0, codes), slopes, (codes / 2 + rng.uniform(-3, 3, channels)).tolist())
    low, top = np.full(channels, -high), np.full(channels, high)
    close = Channels(staircase, low, top, 0, data_type).may_be_close(Effort.of(channels))
    found = fit_channels(staircase, low, top, 0, data_type)
    largest = codes if found is None else deviations_of(staircase, found.computed, low, top).largest
    assert close or largest > LARGEST_DEVIATION


def test_a_look_at_a_few_channels_refuses_codes_of_ten_bits() -> None:
    slopes = [1000 / 65536 * f for f in (0.871, 0.913, 0.952, 0.987)]
    staircase = line(-32768, 32767, (0, 1000), slopes, [500.0] * 4)
    low, high = np.full(4, -32768), np.full(4, 32767)
    assert not Channels(staircase, low, high, 0, DataType.FP16BP8).may_be_close(Effort.of(4))
