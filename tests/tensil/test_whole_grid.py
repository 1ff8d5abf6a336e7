"""Requantization per channel on a grid that fills the word: every word, by exact rationals."""

from __future__ import annotations

import numpy as np
import pytest
from tensil_support import by_rationals, line

from pefslc.numeric.deviation import deviations_of
from pefslc.numeric.staircase import Staircase
from pefslc.targets.tensil.machine.architecture import DataType
from pefslc.targets.tensil.matrix.channel_plan import channel_plan
from pefslc.targets.tensil.matrix.matrix_steps import ChannelDiagonal, Diagonal
from pefslc.targets.tensil.words.channel_fits import ChannelFits
from pefslc.targets.tensil.words.channel_requantize import (
    ChannelRequantization,
    computed_by,
    fit_channels,
    fit_whole_grid,
)
from pefslc.targets.tensil.words.steps import ChannelAdd, Minimum, RawStep

FP16, FP8 = DataType["FP16BP8"], DataType["FP8BP4"]
Room = tuple[np.ndarray, np.ndarray]


def ends(staircase: Staircase) -> tuple[np.ndarray, np.ndarray]:
    return np.full(staircase.channels, staircase.domain_low), np.full(staircase.channels, staircase.domain_high)


def room_of(staircase: Staircase, exponent: int, data_type: DataType) -> Room:
    """What keeps all accumulators words."""
    low, high = (end << exponent for end in ends(staircase))
    return data_type.min_code - np.minimum(low, 0), data_type.max_code - np.maximum(high, 0)


def biased(found: ChannelRequantization) -> tuple[RawStep, ...]:
    assert found.bias is not None
    return ChannelAdd(tuple(found.bias.tolist())), *found.steps


def random_line(seed: int, codes: tuple[int, int], reach: int) -> Staircase:
    """Six channels, of which some rise, some fall, one stays, and one has few codes in the domain."""
    r = np.random.default_rng(seed)
    span = codes[1] - codes[0]
    slopes = r.uniform(0.3, 1.2, 6) * span / (2 * reach) * r.choice([1, -1], 6)
    slopes[0], slopes[1] = 0.0, 1.5 / (2 * reach)
    return line(-reach, reach, codes, slopes.tolist(), r.uniform(codes[0], codes[1], 6).tolist())


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize(
    ("data_type", "codes"), [(FP16, (0, 255)), (FP16, (-128, 127)), (FP16, (-1, 130)), (FP8, (0, 15))]
)
def test_every_word_is_computed_as_reported(seed: int, data_type: DataType, codes: tuple[int, int]) -> None:
    """Also in what no step of the steps saturates but the last codes: SIMD's product, and the array's sum."""
    exponent, reach = seed % 2, 400 if data_type is FP16 else 30
    staircase, (low, high) = random_line(seed, codes, reach), (np.full(6, -reach), np.full(6, reach))
    room = room_of(staircase, exponent, data_type)
    found = fit_whole_grid(staircase, low, high, exponent, data_type, room)
    assert found is not None
    assert found.bias is not None
    assert (room[0] <= found.bias).all()
    assert (found.bias <= room[1]).all()
    addends = [word for step in found.steps[:2] if isinstance(step, ChannelAdd) for word in step.words]
    assert all(word % 2 == 0 for word in addends)
    codes_in = np.arange(-reach, reach + 1)
    predicted = found.computed(np.tile(codes_in, (6, 1)))
    for c in range(6):
        words = [by_rationals(biased(found), c, int(a) << exponent, data_type) for a in codes_in]
        assert min(words) >= codes[0]  # no lower clip is needed
        assert np.array_equal(np.minimum(words, codes[1]), predicted[c])
    moved = np.count_nonzero(found.computed.thresholds != staircase.thresholds)
    assert moved <= found.missed  # of a step that is not taken inside of the domain none is moved
    assert deviations_of(staircase, found.computed, low, high).largest <= 1


def test_fewer_codes_differ_than_on_grids_of_positive_words_in_fewer_steps() -> None:
    staircase = line(-13000, 13000, (0, 255), [0.0213, 0.0171, -0.0307, 0.05671], [3.3, 100.7, 60.1, -20.9])
    low, high = ends(staircase)
    room = room_of(staircase, 0, FP16)
    whole, others = fit_whole_grid(staircase, low, high, 0, FP16, room), fit_channels(staircase, low, high, 0, FP16)
    assert whole is not None
    assert others is not None
    assert whole.missed < others.missed
    assert whole.bias is not None
    sums = tuple((low + whole.bias).tolist()), tuple((high + whole.bias).tolist())
    plan = channel_plan((*whole.steps, Minimum(255)), *sums, FP16)
    assert plan is not None
    kinds = [type(step) for step in plan.steps]
    assert kinds[:2] == [ChannelDiagonal, Diagonal]  # the second one is loaded once for all blocks
    assert len(kinds) == 3
    first = plan.steps[0]
    assert isinstance(first, ChannelDiagonal)
    assert (first.words[-1], first.biases[-1]) == (0, FP16.min_code)  # lanes without a channel are led to 0


def test_without_room_for_a_bias_no_channel_is_served() -> None:
    """A grid that begins at the lowest word begins at sums far from 0; and with none at all, all steps are missed."""
    staircase = line(-13000, 13000, (0, 255), [0.02], [0.0])
    low, high = ends(staircase)
    none = np.zeros(1, dtype=np.int64)
    found = fit_whole_grid(staircase, low, high, 0, FP16, (none, none))
    assert found is not None
    assert found.missed == 256
    fits = ChannelFits(FP16)
    kept = fits.fit_biased(staircase, low, high, 0, (none, none))
    assert kept is not None
    assert kept.bias is None
    taken = fits.fit_biased(staircase, low, high, 0, room_of(staircase, 0, FP16))
    assert taken is not None
    assert taken.bias is not None


@pytest.mark.parametrize("codes", [(0, 127), (0, 256), (-100, 20)])
def test_codes_that_do_not_fill_a_word_are_left_to_others(codes: tuple[int, int]) -> None:
    staircase = line(-1000, 1000, codes, [0.1], [0.0])
    assert fit_whole_grid(staircase, *ends(staircase), 0, FP16, room_of(staircase, 0, FP16)) is None


def test_words_whose_products_are_too_long_are_left_to_others() -> None:
    data_type = DataType["FP32BP16"]
    staircase = line(-100, 100, (0, 1 << 15), [400.0], [0.0])
    assert fit_whole_grid(staircase, *ends(staircase), 0, data_type, room_of(staircase, 0, data_type)) is None


def test_what_is_off_by_more_than_one_is_left_to_others() -> None:
    """A kink: no line is near both halves."""
    thresholds = np.concatenate([np.arange(-1280, 0, 10), np.arange(0, 127 * 3, 3)])[None]
    staircase = Staircase(-2000, 2000, 0, thresholds, np.array([1]))
    low, high = ends(staircase)
    room = room_of(staircase, 0, FP16)
    whole = fit_whole_grid(staircase, low, high, 0, FP16, room)
    assert whole is not None
    assert deviations_of(staircase, whole.computed, low, high).largest > 1
    found = ChannelFits(FP16).fit_biased(staircase, low, high, 0, room)
    assert found is None or found.bias is None


def test_a_line_that_the_grid_holds_is_exact() -> None:
    staircase = line(-13000, 13000, (0, 255), [1 / 16, -1 / 32], [0.2, 77.26])
    low, high = ends(staircase)
    found = fit_whole_grid(staircase, low, high, 0, FP16, room_of(staircase, 0, FP16))
    assert found is not None
    assert found.missed == 0
    assert computed_by(biased(found), staircase, low, high, 0, FP16) == staircase == found.computed
