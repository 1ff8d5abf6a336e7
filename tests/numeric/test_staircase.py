"""What staircases promise, however they were made: their codes, restriction, comparison, identity."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pefslc.numeric import chain as chain_module
from pefslc.numeric.staircase import Staircase, agrees_everywhere, agrees_in_blocks


@st.composite
def staircases(draw: st.DrawFn) -> Staircase:
    low = draw(st.integers(-30, 30))
    high = low + draw(st.integers(0, 25))
    channels, levels = draw(st.integers(1, 3)), draw(st.integers(0, 5))
    direction = np.array(draw(st.lists(st.sampled_from([1, -1]), min_size=channels, max_size=channels)))
    rows = []
    for d in direction:
        first, last = (low, high + 1) if d > 0 else (low - 1, high)
        row = draw(st.lists(st.integers(first, last), min_size=levels, max_size=levels))
        rows.append(sorted(row, reverse=bool(d < 0)))
    thresholds = np.array(rows, dtype=np.int64).reshape(channels, levels)
    return Staircase(low, high, draw(st.integers(-8, 8)), thresholds, direction, draw(st.sampled_from([1, 2])))


def by_definition(s: Staircase, channel: int, code: int) -> int:
    taken = [code >= t if s.direction[channel] > 0 else code <= t for t in s.thresholds[channel].tolist()]
    return s.low + s.step * sum(taken)


@given(staircases())
def test_calling_is_counting_steps(s: Staircase) -> None:
    domain = np.arange(s.domain_low, s.domain_high + 1)
    got = s(np.tile(domain, (s.channels, 1)))
    assert got.tolist() == [[by_definition(s, c, int(a)) for a in domain] for c in range(s.channels)]


@given(staircases(), st.data())
def test_the_range_of_an_interval_is_that_of_its_codes(s: Staircase, data: st.DataObject) -> None:
    low = data.draw(st.integers(s.domain_low, s.domain_high))
    high = data.draw(st.integers(low, s.domain_high))
    codes = [by_definition(s, c, code) for c in range(s.channels) for code in (low, high)]
    assert s.range_on(low, high) == (min(codes), max(codes))


def test_the_channel_axis_is_where_it_is_said_to_be() -> None:
    s = Staircase(-4, 4, 0, np.array([[0], [2]]), np.array([1, -1]))
    x = np.arange(-4, 4).reshape(1, 2, 2, 2)
    assert s(x, channel_axis=1).tolist() == [[[[0, 0], [0, 0]], [[1, 1], [1, 0]]]]


@given(staircases(), st.data())
def test_restricting_changes_no_code_and_leaves_no_step_outside(s: Staircase, data: st.DataObject) -> None:
    low = data.draw(st.integers(s.domain_low, s.domain_high))
    high = data.draw(st.integers(low, s.domain_high))
    small = s.restricted(low, high)
    assert (small.domain_low, small.domain_high) == (low, high)
    domain = np.tile(np.arange(low, high + 1), (s.channels, 1))
    assert (small(domain) == s(domain)).all()
    assert (small.low, small.high) == (s(domain).min(), s(domain).max())
    assert small.restricted(low, high) == small


@pytest.mark.parametrize(("thresholds", "direction"), [
    ([[-1, 2]], [1]), ([[1, -2]], [-1]), ([[-2, 3], [0, 2]], [1, 1]), ([[2, -3], [0, -2]], [-1, -1]),
])  # fmt: skip
def test_restricting_copies_no_threshold_of_the_domain(thresholds: list[list[int]], direction: list[int]) -> None:
    """Up to one code beyond its end, where a step is never taken."""
    s = Staircase(-5, 5, 0, np.array(thresholds), np.array(direction))
    small = s.restricted(-2, 2)
    assert np.shares_memory(small.thresholds, s.thresholds)
    assert small.thresholds.tolist() == thresholds


@given(staircases())
def test_every_wrong_threshold_is_caught(s: Staircase) -> None:
    """A threshold moved by one that changes any code of the domain changes a critical code, in any of the blocks."""
    assert agrees_everywhere(s, s)
    assert agrees_in_blocks(s, s)
    domain = np.tile(np.arange(s.domain_low, s.domain_high + 1), (s.channels, 1))
    for index in np.ndindex(s.thresholds.shape):
        for by in (-1, 1):
            thresholds = s.thresholds.copy()
            thresholds[index] += by
            if (np.diff(thresholds * s.direction[:, None], axis=1) < 0).any():
                continue
            wrong = Staircase(s.domain_low, s.domain_high, s.low, thresholds, s.direction.copy(), s.step)
            equal = bool((wrong(domain) == s(domain)).all())
            assert agrees_everywhere(s, wrong) == equal
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(chain_module, "_BLOCK", 1)  # a channel at a time
                assert agrees_in_blocks(s, wrong) == equal


@given(staircases(), st.data())
def test_agreeing_on_critical_codes_is_agreeing_everywhere(s: Staircase, data: st.DataObject) -> None:
    """For any monotone implementation of the same directions, here an arbitrary table."""
    size = s.domain_high - s.domain_low + 1
    domain = np.tile(np.arange(s.domain_low, s.domain_high + 1), (s.channels, 1))
    table = s(domain)
    for c in range(s.channels):
        changes = data.draw(st.lists(st.sampled_from([0, 0, 0, 0, 1]), min_size=size, max_size=size))
        changed = table[c] + data.draw(st.sampled_from([-1, 0, 1])) * np.array(changes)
        table[c] = np.sort(changed)[:: int(s.direction[c])]
    agrees = agrees_everywhere(s, lambda a: np.take_along_axis(table, a - s.domain_low, axis=1))
    assert agrees == bool((table == s(domain)).all())


@given(staircases())
def test_the_identity_is_recognized(s: Staircase) -> None:
    domain = np.arange(s.domain_low, s.domain_high + 1)
    expected = bool((s(np.tile(domain, (s.channels, 1))) == domain).all())
    small = s.restricted(s.domain_low, s.domain_high)
    if small.channels == 1 and small.step == 1 and small.direction[0] == 1:
        assert small.is_identity == expected
    elif small.is_identity:
        assert expected
    line = Staircase(-3, 2, -3, np.arange(-2, 3)[None], np.array([1]))
    assert line.is_identity


def test_a_huge_domain_without_its_steps_is_no_identity() -> None:
    """Decided from the shapes: a table of this domain fits no memory."""
    assert not Staircase(-(2**61), 2**61, -(2**61), np.array([[1]]), np.array([1])).is_identity


def test_bipolar_codes_are_one_step_of_two() -> None:
    sign = Staircase(-5, 5, -1, np.array([[0], [-2]]), np.array([1, -1]), step=2)
    assert sign.high == 1
    codes = np.tile(np.array([-5, -2, -1, 0, 5]), (2, 1))
    assert sign(codes).tolist() == [[-1, -1, -1, 1, 1], [1, 1, -1, -1, -1]]


def test_staircases_compare_by_content() -> None:
    a = Staircase(-2, 2, 0, np.array([[0, 1]]), np.array([1]))
    assert a == Staircase(-2, 2, 0, np.array([[0, 1]]), np.array([1]))
    assert hash(a) == hash(Staircase(-2, 2, 0, np.array([[0, 1]]), np.array([1])))
    assert a != Staircase(-2, 2, 0, np.array([[0, 2]]), np.array([1]))
    assert a != Staircase(-2, 3, 0, np.array([[0, 1]]), np.array([1]))
    assert a != "a"


def test_hashes_tell_thresholds_apart() -> None:
    """And there is one where there are no thresholds."""
    none = Staircase(-2, 2, 0, np.empty((1, 0), dtype=np.int64), np.array([1]))
    moved = [Staircase(-2, 2, 0, np.array([[t]]), np.array([1])) for t in range(-2, 3)]
    assert len({hash(s) for s in (none, *moved)}) == 6
