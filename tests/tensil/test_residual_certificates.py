"""Certificates of corrections: against every sum, in words of 8 bits; and seen refusing."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

from pefslc.targets.tensil.machine.architecture import DataType
from pefslc.targets.tensil.wide.certificate import Certificate, Lower
from pefslc.targets.tensil.wide.estimate import estimated
from pefslc.targets.tensil.wide.residual import Demands, Residual
from pefslc.targets.tensil.wide.shares import divided, shares
from pefslc.targets.tensil.words.channel_requantize import computed_by
from pefslc.targets.tensil.words.steps import ChannelMultiply

Array = np.ndarray
FP8BP4 = DataType.FP8BP4


@dataclass(frozen=True)
class TwoWords:
    """A line of steps of one channel, and the words that a residual is made of."""

    demands: Demands
    residual: Residual
    certificate: Certificate
    lower: Lower

    @property
    def is_certified(self) -> bool:
        return self.certificate.of_two_words(self.demands, self.residual, self.lower)

    @property
    def is_right(self) -> bool:
        """Every sum in every way that it is two words: summed as the machine does."""
        own, lower = self.certificate, self.lower
        low = np.arange(lower.ends[0], lower.ends[1] + 1)[:, None]
        for k, j in enumerate(own.codes.tolist()):
            sums = np.arange(self.demands.first[0, k], self.demands.last[0, k] + 1)
            high, rest = np.divmod(sums - low, 1 << lower.up)
            occurs = (rest == 0) & (high >= -128) & (high <= 127)
            for factor, offset in own.parts:
                high = np.clip(high + np.clip(offset - factor * j, -128, 127), -128, 127)
            words = np.clip(np.clip(high << lower.up, -128, 127) + lower.offset - lower.factor * j, -128, 127)
            words = np.clip(np.clip(words + low, -128, 127) + own.left[0, k], -128, 127)
            if k and (occurs & ((words < 0) != (sums < self.demands.own[0, k]))).any():  # the first is never too many
                return False
        return True


def two_words(seed: int) -> TwoWords | None:
    """None where multiples of the codes are no words."""
    rng = np.random.default_rng(seed)
    up, slope, steps = int(rng.integers(1, 5)), int(rng.integers(1, 80)), int(rng.integers(2, 9))
    start, first = int(rng.integers(-500, 300)), int(rng.integers(-3, 2))
    line, codes = start + slope * np.arange(steps)[None], first + np.arange(steps + 1)
    left = np.full((1, len(codes)), rng.choice([0, 30, -30, 90, -90]))
    residual = Residual(np.array([slope]), slope * (first + 1) - start - left[:, 0])
    factor, offset = divided(residual.factor, up), divided(residual.offset, up)
    moved = int(rng.integers(-4, 5))
    parts = shares(factor[0], offset[0] - moved, int(codes[0]), int(codes[-1]), FP8BP4)
    if parts is None:
        return None
    reach = int(rng.choice([0, 1 << up - 1, 1 << up, 20, 60]))
    return TwoWords(
        Demands.of(line, line - slope // 2, (-128 << up, 127 << up)),
        residual,
        Certificate(codes, parts, left, FP8BP4),
        Lower(up, factor[1], offset[1] + (moved << up), (-reach, reach)),
    )


def test_the_sign_of_two_words_is_certified_only_where_it_is_that_of_the_residual() -> None:
    cases = [case for case in map(two_words, range(120)) if case is not None]
    certified = [case for case in cases if case.is_certified]
    wrong = [case for case in cases if not case.is_right]
    assert all(case.is_right for case in certified)
    assert len(certified) > 80
    assert len(wrong) > 10
    # It refuses hardly more than it must.
    assert len(cases) - len(certified) < len(wrong) + 8


def test_steps_of_two_words_that_are_one_off_are_refused() -> None:
    cases = (case for case in map(two_words, range(120)) if case is not None and case.is_certified)
    case = next(case for case in cases if case.lower.ends[1] >> case.lower.up and case.residual.factor[0] > 2)
    for by in (-1, 1):
        offset = case.residual.offset + by
        moved = replace(case, residual=replace(case.residual, offset=offset))
        assert not moved.is_certified
        beside = replace(case, lower=replace(case.lower, offset=case.lower.offset + by))
        assert not beside.is_right


@pytest.mark.parametrize("seed", range(3))
def test_the_first_of_three_products_is_a_word_and_an_estimate_where_it_is_none_is_refused(seed: int) -> None:
    """Steps of 10-bit codes over all words: two multiplications are too coarse for them."""
    rng, data_type = np.random.default_rng(seed), DataType.FP16BP8
    slope = rng.uniform(60.0, 63.9, 24)
    start = rng.uniform(-32768, 32767 - 1023 * slope)
    rows = np.ceil(start[:, None] + slope[:, None] * np.arange(1023)).astype(np.int64)
    ends, inner = (-32768, 32767), np.ones(rows.shape, dtype=np.bool_)
    found = estimated(rows, (-512, 511), ends, data_type, inner, np.zeros(len(rows), dtype=np.int64))
    assert found is not None
    first, second = found.steps[:2]
    assert isinstance(first, ChannelMultiply)
    assert isinstance(second, ChannelMultiply)
    words, between = np.array(first.words), np.array(second.words)
    assert (words * np.abs(rows).max(axis=1) >> 8 <= 32767).all()
    assert _is_close(found.computed.rows(0, len(rows)), rows, ends)
    # The same product of both, where the first is no word.
    twice = np.where(between & 1, 1, 2)
    assert (twice * words * np.abs(rows).max(axis=1) >> 8 > 32767).any()
    other = (
        ChannelMultiply(tuple((twice * words).tolist())),
        ChannelMultiply(tuple((between // twice).tolist())),
        *found.steps[2:],
    )
    low, high = (np.full(len(rows), end) for end in ends)
    assert not _is_close(computed_by(other, found.computed, low, high, 0, data_type).rows(0, len(rows)), rows, ends)


def _is_close(starts: Array, rows: Array, ends: tuple[int, int]) -> bool:
    return Demands.of(rows, starts, ends).close
