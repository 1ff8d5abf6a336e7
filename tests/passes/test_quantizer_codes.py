"""What a quantizer does to codes: staircases, tables, and which of them, on every code of a small format."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

import pefslc.passes.quantizer_codes
from ir_text import X, body
from pefslc.diagnostics.errors import CompileError
from pefslc.ir.graph import Graph
from pefslc.ir.integer import Lookup
from pefslc.ir.interpret import run
from pefslc.ir.parse import parse_graph
from pefslc.numeric.rounding import round_fraction
from pefslc.passes.lower_to_integer import LowerToInteger

CODES = range(-8, 8)  # of Q3.1


def lowered(stages: str, before: str = "", fmt: str = "Q4.1") -> Graph:
    """Q3.1 codes, what stands `before` the quantizer, and its stages, to `fmt`."""
    source = "%b" if before else "%q"
    return LowerToInteger().run(
        parse_graph(
            X
            + body(f"""{before}
            %y: {fmt}[1,2,2,2] = quantize {source} stages=({stages})  // (Quant) y
            output "y" = %y
            """)
        )
    )


def values(graph: Graph) -> list[list[float]]:
    """What each channel makes of every code."""
    x = np.array(CODES).reshape(4, 1, 2, 2).repeat(2, axis=1) / 2
    return [run(graph, x)["y"][:, c].reshape(-1).tolist() for c in range(2)]


def nearest(value: Fraction, step: Fraction = Fraction(1, 2)) -> Fraction:
    return round_fraction(value / step) * step


def zigzag(value: Fraction, slope: Fraction) -> Fraction:
    """|x| - 2, then below 0 by `slope`: W where it is negative."""
    height = abs(value) - 2
    return height if height >= 0 else slope * height


@pytest.mark.parametrize(
    ("alphas", "slopes", "entries"), [("-1", (-1, -1), 16), ("{-1, -3*2^-2}", (-1, Fraction(-3, 4)), 32)]
)
def test_a_function_that_turns_thrice_is_a_table_of_the_size_allowed(
    alphas: str, slopes: tuple[Fraction, Fraction], entries: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two stages of three turn; the one between them does not."""
    stages = f"leaky_relu(-1), affine(1, 0, 1, -2), leaky_relu({alphas})"
    monkeypatch.setattr(pefslc.passes.quantizer_codes, "_LARGEST_TABLE", entries)
    graph = lowered(stages)
    assert len(list(graph.of_type(Lookup))) == 1
    assert values(graph) == [[nearest(zigzag(Fraction(k, 2), slope)) for k in CODES] for slope in map(Fraction, slopes)]
    monkeypatch.setattr(pefslc.passes.quantizer_codes, "_LARGEST_TABLE", entries - 1)
    with pytest.raises(CompileError, match=f"a function that neither rises nor falls, on {entries} codes"):
        lowered(stages)


def test_each_channel_turns_or_does_not_where_a_table_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pefslc.passes.quantizer_codes, "_LARGEST_TABLE", 1)
    assert values(lowered("leaky_relu({-1, 1})")) == [[abs(k / 2) for k in CODES], [k / 2 for k in CODES]]


def test_a_function_that_rises_is_one_staircase_however_many_codes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pefslc.passes.quantizer_codes, "_LARGEST_TABLE", 1)
    graph = lowered("function(sigmoid(x))")
    assert [op.mnemonic for op in graph.ops] == ["requantize"]
    wanted = [nearest(Fraction(1 / (1 + math.exp(-k / 2)))) for k in CODES]
    assert values(graph) == [wanted, wanted]


SNAPPED = [Fraction(1, 4), Fraction(1, 2), Fraction(3, 4), Fraction(1), Fraction(3, 2)]


@pytest.mark.parametrize("step", SNAPPED)
@pytest.mark.parametrize("bias", [None, (Fraction(0), Fraction(1, 4))])
def test_a_snap_moves_what_is_not_on_its_grid_and_only_that(
    step: Fraction, bias: tuple[Fraction, Fraction] | None
) -> None:
    """Codes of 2^-1 are on the grid of 2^-2 and 2^-1; with a bias of 2^-2 behind them, of 2^-2 alone."""
    before = "%b: real[1,2,2,2] = bias_add %q stage=affine({1, 1}, {0, 0}, {1, 1}, {0, 2^-2})  // (Add)" if bias else ""
    found = values(lowered(snap(step), before, "Q4.2"))
    for channel, offset in enumerate(bias or (Fraction(0), Fraction(0))):
        snapped = [nearest(Fraction(k, 2) + offset, step) for k in CODES]
        assert found[channel] == [nearest(v, Fraction(1, 4)) for v in snapped]


@pytest.mark.parametrize("step", SNAPPED)
def test_a_snap_of_channels_with_different_steps(step: Fraction) -> None:
    before = "%b: i5*({2^-1, 3*2^-2})[1,2,2,2] = quantize %q  // (Quant) b"
    found = values(lowered(snap(step), before, "Q4.2"))
    for channel, own in enumerate((Fraction(1, 2), Fraction(3, 4))):
        snapped = [nearest(nearest(Fraction(k, 2), own), step) for k in CODES]
        assert found[channel] == [nearest(v, Fraction(1, 4)) for v in snapped]


def test_a_snap_that_moves_nothing_leaves_a_line_a_line() -> None:
    """30 bits are too many steps for a staircase; a line takes no snap."""
    graph = lowered("snap(2^-1, 0)", fmt="Q4.26")
    assert [op.mnemonic for op in graph.ops] == ["round"]
    assert values(graph) == [[k / 2 for k in CODES]] * 2
    with pytest.raises(CompileError, match="a quantizer of 30 bits on an activation is not supported"):
        lowered("snap(1, 0)", fmt="Q4.26")


def snap(step: Fraction) -> str:
    return f"snap({step.numerator}*2^{1 - step.denominator.bit_length()}, 0)"
