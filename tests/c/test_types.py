"""The C types of products and thresholds, at the ends of int32: what they must hold, and compiled with sanitizers."""

from __future__ import annotations

import numpy as np
import pytest

from pefslc.numeric.staircase import Staircase
from pefslc.targets.c.dots import product_type
from pefslc.targets.c.stages import TableStage
from pefslc.targets.c.storage import INT32, INT64, Buffer, Layout, Place, Tensor

TOP = 2**31


def source(low: int, high: int) -> Tensor:
    return Tensor(Buffer("x", Place.ARENA, INT32, 1), (1, 1), next(iter(Layout)), low, high)


@pytest.mark.parametrize("x", [(-65536, 3), (-3, 65535), (-65536, 65535), (0, 65535), (-2, 2)])
@pytest.mark.parametrize("weights", [(-32767, 5), (-32768, 32767), (3, 32767), (0, 32768), (0, 0)])
def test_a_product_is_int32_only_where_every_one_fits(x: tuple[int, int], weights: tuple[int, int]) -> None:
    """Its negation, too: the dot products may subtract."""
    products = [a * w for a in x for w in weights]
    fits = max(abs(p) for p in products) < TOP
    assert (product_type(source(*x), np.array([weights]), INT64) == INT32) == fits
    assert product_type(source(*x), np.array([weights]), INT32) == INT32


def test_products_of_negative_codes_are_computed_in_their_width(build_graph, bench):  # type: ignore[no-untyped-def]
    b = build_graph("products")
    x = b.clamp(b.input((1, 8), 17), -65536, 3)
    b_low = b.clamp(b.input((1, 8), 17), -3, 65535)
    weight = np.array([[60_000, -60_000] * 4, [50_000] * 8], dtype=np.int64)
    bench.add(b.graph(b.dense(x, weight), b.dense(b_low, weight)))
    bench.check(("-O1",))


@pytest.mark.parametrize("direction", [1, -1])
@pytest.mark.parametrize("low", [-TOP, -TOP + 1, -TOP + 2, -9])
@pytest.mark.parametrize("high", [TOP - 1, TOP - 2, TOP - 3, 9])
def test_thresholds_are_int32_only_where_those_beyond_the_domain_fit(low: int, high: int, direction: int) -> None:
    """A step that no code of the domain takes lies one code beyond it; a falling channel is searched in the mirror."""
    beyond = (low, high + 1) if direction > 0 else (high, low - 1)
    staircase = Staircase(low, high, 0, np.array([[*beyond], [0, 0]]), np.array([direction, 1]))
    kind = TableStage((low, high), (0, 2), staircase).kind
    for row, d in zip(staircase.thresholds, staircase.direction, strict=True):
        held = [int(n) for n in (*(row * d), low * int(d), high * int(d))]
        assert kind.holds(min(held), max(held))
    assert kind == INT64 or -TOP < low <= high < TOP - 1
    assert kind == INT32 or low - 1 < -TOP + 1 or high + 1 > TOP - 1


@pytest.mark.parametrize("direction", [1, -1])
def test_a_step_beyond_the_highest_int32_is_never_taken(direction: int, build_graph, bench) -> None:  # type: ignore[no-untyped-def]
    """Two channels: what one takes, the other, at the end of int32, does not."""
    b = build_graph("edge")
    x = b.input((1, 2, 1, 3), 32)
    ends = [[-TOP, TOP - 1, TOP], [-5, 0, TOP]] if direction > 0 else [[TOP - 1, -TOP, -TOP - 1], [5, 0, -TOP - 1]]
    bench.add(b.graph(b.steps(x, Staircase(-TOP, TOP - 1, 0, np.array(ends), np.array([direction] * 2)))))
    bench.check(("-O1",))
