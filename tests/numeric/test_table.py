"""Which quantizers have a table."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from pefslc.numeric.expression import Call, Function, X
from pefslc.numeric.format import Quantization
from pefslc.numeric.preimage import HalfLines
from pefslc.numeric.quantizer import Quantizer
from pefslc.numeric.scale import Scale
from pefslc.numeric.stages import FunctionStage
from pefslc.numeric.table import table_of

F = Fraction
SILU = (FunctionStage(Call(Function.MUL, (X, Call(Function.SIGMOID, (X,))))),)


def quantizer(bits: int) -> Quantizer:
    return Quantizer(Quantization(bits=bits, signed=True, scale=Scale((F(1, 16),))))


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
