"""The search of words per channel ends, by counted work, and says so; what it leaves out changes no certificate."""

from __future__ import annotations

from fractions import Fraction
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from tensil_support import by_rationals, line

import pefslc.numeric.staircase as staircase_module
from builders import ModelBuilder
from pefslc import compile as compile_model
from pefslc.numeric.chain import Chain
from pefslc.numeric.deviation import deviations_of
from pefslc.numeric.staircase import Staircase
from pefslc.numeric.steps import Steps, corner_steps
from pefslc.targets.tensil.machine.architecture import DataType
from pefslc.targets.tensil.words import channel_search
from pefslc.targets.tensil.words.channel_requantize import computed_by, fit_channels, may_be_straight
from pefslc.targets.tensil.words.channel_search import ChannelSearch
from pefslc.targets.tensil.words.most_served import most_served
from pefslc.targets.tensil.words.search_effort import Effort
from pefslc.targets.tensil.words.steps import ChannelAdd, ChannelMultiply, Multiply

FP16, FP32 = DataType["FP16BP8"], DataType["FP32BP16"]


def domain(staircase: Staircase) -> tuple[np.ndarray, np.ndarray]:
    low, high = (np.full(staircase.channels, end) for end in (staircase.domain_low, staircase.domain_high))
    return low, high


def domain_of(low: int, high: int) -> tuple[np.ndarray, np.ndarray]:
    return np.array([low]), np.array([high])


def many_codes(channels: int = 3) -> Staircase:
    r = np.random.default_rng(5)
    slopes = (r.uniform(0.1, 0.3, channels) * r.choice([1, -1], channels)).tolist()
    return line(-1500, 1500, (-200, 200), slopes, r.uniform(-30, 30, channels).tolist())


def test_the_same_words_whether_or_not_the_tight_steps_are_tried_first(monkeypatch: pytest.MonkeyPatch) -> None:
    staircase = many_codes()
    found = fit_channels(staircase, *domain(staircase), 0, FP16)
    monkeypatch.setattr(channel_search, "_TIGHT", 1000)  # more than there are: all steps are compared at once
    plain = fit_channels(staircase, *domain(staircase), 0, FP16)
    assert found is not None
    assert plain is not None
    assert found.steps == plain.steps


def test_the_same_words_whether_or_not_the_pairs_of_steps_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    staircase = many_codes()
    found = fit_channels(staircase, *domain(staircase), 0, FP16)
    monkeypatch.setattr(channel_search, "_KEPT_PAIRS", 0)
    again = fit_channels(staircase, *domain(staircase), 0, FP16)
    assert found is not None
    assert again is not None
    assert found.steps == again.steps


@pytest.mark.parametrize("seed", range(8))
def test_the_slopes_are_bounded_by_every_pair_of_steps(seed: int) -> None:
    """A line takes step i at `reached` or before and step j there or after: the least and the greatest rise a code."""
    r = np.random.default_rng(seed)
    staircase = line(-900, 900, (0, 30), (r.uniform(0.01, 0.03, 3)).tolist(), r.uniform(10, 20, 3).tolist())
    steps = Steps.of(staircase)
    search = ChannelSearch(steps, 0, FP16, Effort.of(3))
    targets = np.cumsum(r.integers(1, 40, 30))
    low, high = search._slopes(np.arange(3), targets)
    for c in range(3):
        inner = np.flatnonzero(steps.is_inner[c])
        least, most = [Fraction(0)], [Fraction(float(search._widest(np.array([c]))[0]))]
        for i, j in combinations(inner.tolist(), 2):
            rise, run = int(targets[j] - targets[i]), int(steps.reached[c, j] - steps.reached[c, i])
            least.append(Fraction(rise - 1, run + 1))
            most += [Fraction(rise + 1, run - 1)] if run > 1 else []
        assert (low[c], high[c]) == (float(max(least)), float(min(most)))


@pytest.mark.parametrize("seed", range(20))
def test_the_number_in_most_intervals_is_that_of_a_count_at_every_number(seed: int) -> None:
    r = np.random.default_rng(seed)
    least, most = (r.integers(-20, 20, (4, 9)) for _ in range(2))
    least[0], most[0] = 5, -5  # every interval is empty
    wrong = least.max(axis=1) > most.min(axis=1)
    least, most = least[wrong], most[wrong]
    numbers = np.arange(-30, 30)
    outside = (least[:, :, None] > numbers).sum(axis=1) + (most[:, :, None] < numbers).sum(axis=1)
    assert len(least)
    number, missed = most_served(least, most)
    assert (missed == outside.min(axis=1)).all()
    for one, beginnings in enumerate(np.sort(least, axis=1)):
        assert number[one] == beginnings[outside[one, beginnings + 30].argmin()]  # the lowest of them


def test_a_search_compares_no_more_steps_than_its_budget_and_says_what_it_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What it keeps is still compared with the model's at every code: the list is whole."""
    compared = []
    plain = ChannelSearch._addends_at

    def counted(self, rows, first, targets, steps):  # type: ignore[no-untyped-def]
        compared.append(len(rows) * (self.count if steps is None else steps.shape[1]))
        return plain(self, rows, first, targets, steps)

    monkeypatch.setattr(ChannelSearch, "_addends_at", counted)
    staircase, budget = many_codes(), 4000
    first = staircase.channels * staircase.thresholds.shape[1]
    effort = Effort(np.full(staircase.channels, budget), *np.zeros((2, staircase.channels), dtype=np.int64))
    found = fit_channels(staircase, *domain(staircase), 0, FP16, effort)
    assert found is not None
    assert found.searched is not None
    tried, candidates = found.searched
    assert 0 < tried < candidates
    assert sum(compared) <= staircase.channels * budget + 2 * first  # what is adopted is compared once more
    codes = np.arange(staircase.domain_low, staircase.domain_high + 1)
    predicted = found.computed(np.tile(codes, (staircase.channels, 1)))
    for c in range(staircase.channels):
        words = [by_rationals(found.steps, c, int(a), FP16) for a in codes]
        assert np.array_equal(np.clip(words, staircase.low, staircase.high), predicted[c])


def test_a_channel_without_budget_gets_its_first_words() -> None:
    staircase = many_codes()
    effort = Effort(*np.zeros((3, staircase.channels), dtype=np.int64))
    found = fit_channels(staircase, *domain(staircase), 0, FP16, effort)
    assert found is not None
    assert deviations_of(staircase, found.computed, *domain(staircase)).largest <= 1
    assert found.searched is not None


def test_the_slope_of_few_steps_among_many_is_bounded_by_their_own() -> None:
    """Ten steps of one channel among a thousand: samples of all steps would hold none of them."""
    staircase = line(-90000, 90000, (-500, 500), [0.01, 0.0001], [0.3, 4.2])
    found = fit_channels(staircase, *domain(staircase), 0, FP32)
    assert found is not None
    assert deviations_of(staircase, found.computed, *domain(staircase)).largest <= 1


def test_corners_alone_give_words_whose_every_difference_is_known() -> None:
    staircase = many_codes()
    corners = corner_steps(staircase, *domain(staircase))
    assert corners.reached.shape[1] < staircase.thresholds.shape[1] // 2
    found = fit_channels(staircase, *domain(staircase), 0, FP32, corners=corners)
    assert found is not None
    codes = np.arange(staircase.domain_low, staircase.domain_high + 1)
    predicted = found.computed(np.tile(codes, (staircase.channels, 1)))
    for c in range(staircase.channels):
        words = [by_rationals(found.steps, c, int(a), FP32) for a in codes]
        assert np.array_equal(np.clip(words, staircase.low, staircase.high), predicted[c])
    assert found.computed == staircase


@pytest.mark.parametrize("seed", range(30))
def test_no_staircase_that_steps_compute_is_called_bent(seed: int) -> None:
    """Any words, and the staircase that they compute, moved by 1 at places: a deviation that is allowed."""
    r = np.random.default_rng(seed)
    steps = (
        ChannelMultiply((int(r.integers(1, 2000)),)),
        ChannelAdd((int(r.integers(-3000, 3000)),)),
        Multiply(int(r.integers(1, 257))),
    )
    codes = np.arange(-400, 401)
    values = np.array([by_rationals(steps, 0, int(a), FP16) for a in codes])
    values = np.clip(np.maximum.accumulate(values + r.integers(-1, 2, len(values))), -100, 100)
    levels = np.arange(values.min() + 1, values.max() + 1)
    thresholds = codes[np.searchsorted(values, levels)][None, :]
    staircase = Staircase(-400, 400, int(values.min()), thresholds, np.array([1]))
    computed = computed_by(steps, staircase, *domain(staircase), 0, FP16)
    assert deviations_of(staircase, computed, *domain(staircase)).largest <= 2
    if deviations_of(staircase, computed, *domain(staircase)).largest <= 1:
        assert may_be_straight(staircase, *domain(staircase), FP16)


def test_a_bend_is_refused_without_a_search() -> None:
    rising = np.concatenate([np.arange(-300, 0, 10), np.arange(1, 31)])[None, :]
    staircase = Staircase(-400, 400, -30, rising, np.array([1]))
    assert not may_be_straight(staircase, *domain(staircase), FP16)


@pytest.mark.parametrize("jump", [6, 7, 50])
def test_a_jump_before_a_slow_rise_is_refused_without_a_search(jump: int) -> None:
    """So many codes at one accumulator; a line that is so steep there leaves the steps behind it."""
    rising = np.array([[0] * jump + [5 * i for i in range(1, 6)]])
    assert not may_be_straight(Staircase(-400, 400, 0, rising, np.array([1])), *domain_of(-400, 400), FP16)
    assert may_be_straight(Staircase(-400, 400, 0, rising[:, jump - 1 :], np.array([1])), *domain_of(-400, 400), FP16)


@pytest.mark.parametrize("low", [-(2**31) - 7, -(2**31), -(2**31) + 1])
@pytest.mark.parametrize("high", [2**31 - 2, 2**31 - 1, 2**31 + 7])
@pytest.mark.parametrize("many", [True, False])
def test_what_never_happens_stays_outside_of_any_domain(
    low: int, high: int, many: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step beyond the last code, and one before the first: 32 bits hold those of some domains."""
    if many:
        monkeypatch.setattr(staircase_module, "_MOST_LISTED", 0)
    never = Staircase(low, high, 0, np.array([[high + 1], [low - 1]]), np.array([1, -1]))
    zero = np.zeros(2, dtype=np.int64)
    found = computed_by((ChannelMultiply((0, 0)),), never, zero, zero, 0, FP32)
    assert found.thresholds.tolist() == [[high + 1], [low - 1]]
    assert (found.thresholds.dtype == np.int32) == (many and low > -(2**31) and high < 2**31 - 1)


@pytest.mark.parametrize("seed", range(20))
def test_what_steps_compute_is_known_at_every_code(seed: int) -> None:
    """Steps that have little to do with what was wanted: some levels come late, early, at the last code, or never."""
    r = np.random.default_rng(seed)
    sign = np.array([1, -1])
    steps = (
        ChannelMultiply(tuple((r.integers(1, 60, 2) * sign).tolist())),
        ChannelAdd(tuple(r.integers(-9, 10, 2).tolist())),
        Multiply(int(r.integers(100, 400))),
    )
    wanted = np.sort(r.integers(-39, 40, (2, 16)), axis=1) * sign[:, None]
    found = computed_by(steps, Staircase(-40, 40, -8, wanted, sign), np.array([-40] * 2), np.array([40] * 2), 0, FP16)
    codes = np.arange(-40, 41)
    for c in range(2):
        words = [by_rationals(steps, c, int(a), FP16) for a in codes]
        assert found(np.tile(codes, (2, 1)))[c].tolist() == np.clip(words, -8, 8).tolist()
    assert (found.thresholds * sign[:, None]).min() >= -40
    assert (found.thresholds * sign[:, None]).max() <= 41


def test_one_step_is_found() -> None:
    """Two codes: there are no two steps that a slope could be taken from."""
    staircase = Staircase(-90, 90, 0, np.array([[-7], [33]]), np.array([1, -1]))
    found = fit_channels(staircase, *domain(staircase), 0, FP16)
    assert found is not None
    assert found.computed == staircase


@pytest.mark.parametrize("target", ["c", "tensil"])
def test_a_channel_without_slope_of_a_16_bit_quantizer_is_decided_once(
    target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """gamma 0: the same value for all accumulators. Each of the 32,767 levels asked for an exact search before."""
    asked = []
    plain = Chain.at_least
    monkeypatch.setattr(Chain, "at_least", lambda self, *args: asked.append(1) or plain(self, *args))
    m = ModelBuilder()
    x = m.quant(m.input([1, 2, 3, 3], "input"), 0.125, 6)
    x = m.node("Conv", x, m.weight(np.arange(-2, 4).reshape(3, 2, 1, 1) / 8))
    parameters = ([0.0, 1.5, -0.75], [0.2, -0.1, 0.3], [0.1, 0.2, 0.3], [1.1, 0.9, 1.3])
    x = m.node("BatchNormalization", x, *(m.constant(p) for p in parameters))
    m.output(m.quant(m.node("Relu", x), 2.0**-10, 16))
    program = compile_model(m.save(tmp_path), target=target, arch=None if target == "c" else "zcu104")
    assert len(asked) < 100
    inputs = np.random.default_rng(3).normal(0, 1, (4, 2, 3, 3))
    program.verify(inputs).require()
