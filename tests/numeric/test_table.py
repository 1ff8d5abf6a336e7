"""Which domains and quantizers have a table, or two staircases instead of one."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from pefslc.numeric import table as table_module
from pefslc.numeric.enclosure import FunctionValue
from pefslc.numeric.expression import Call, Function, X
from pefslc.numeric.format import Quantization
from pefslc.numeric.preimage import HalfLines
from pefslc.numeric.quantizer import Quantizer, chain_value
from pefslc.numeric.scale import Scale
from pefslc.numeric.stages import FunctionStage, Root, Stage
from pefslc.numeric.table import table_of, turning_staircases

F = Fraction
SILU = (FunctionStage(Call(Function.MUL, (X, Call(Function.SIGMOID, (X,))))),)


def quantizer(bits: int) -> Quantizer:
    return Quantizer(Quantization(bits=bits, signed=True, scale=Scale((F(1, 16),))))


@pytest.mark.parametrize("size", [1, 2, 3, 511, 512, 513, 1025])
@pytest.mark.parametrize("low", [-300, 7])
def test_domains_of_any_size_are_two_staircases(low: int, size: int) -> None:
    """Of one code, of as many as are looked at first, and of one more."""
    arguments = Scale((F(1, 9),)), SILU, quantizer(6), low, low + size - 1, 1
    parts = turning_staircases(*arguments)
    assert parts is not None
    codes = np.arange(low, low + size)
    assert (parts[0](codes) + parts[1](codes)).tolist() == table_of(*arguments)[0].tolist()


@pytest.mark.parametrize("size", [101, 1201])
def test_only_ties_are_decided_by_digits_and_each_once(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of |a| / 2 those are the odd codes, as far as the quantizer does not saturate."""
    decided: list[Fraction] = []

    def value(stages: tuple[Stage, ...], x: Fraction, channel: int) -> Root | FunctionValue:
        decided.append(x)
        return chain_value(stages, x, channel)

    monkeypatch.setattr(table_module, "chain_value", value)
    stages, last = (FunctionStage(Call(Function.ABS, (X,))),), size // 2
    assert turning_staircases(Scale((F(1, 32),)), stages, quantizer(6), -last, last, 1) is not None
    assert sorted(decided) == [F(a, 32) for a in range(-last, last + 1) if a % 2 and abs(a) < 62]


def test_a_quantizer_of_24_bits_has_a_table_and_one_of_25_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bounds of 2^24 codes would follow, for which a test has no time."""

    class ListedError(Exception):
        pass

    def bounds(_: Quantizer, codes: np.ndarray, channel: int) -> HalfLines:
        del channel
        raise ListedError(len(codes))

    monkeypatch.setattr(Quantizer, "bounds", bounds)
    with pytest.raises(ListedError, match=str(2**24 - 1)):
        table_of(Scale((F(1, 9),)), SILU, quantizer(24), 0, 1, 1)
    with pytest.raises(OverflowError, match="25 bits"):
        table_of(Scale((F(1, 9),)), SILU, quantizer(25), 0, 1, 1)
