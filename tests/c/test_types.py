"""The C types of products, thresholds and constants: what they must hold, at their ends, compiled with sanitizers."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace

import numpy as np
import pytest

from pefslc.analysis.verify import verify
from pefslc.numeric.staircase import Staircase
from pefslc.targets.c.dots import product_type
from pefslc.targets.c.stages import literal
from pefslc.targets.c.storage import INT32, INT64, Buffer, CType, Layout, Place, Tensor, narrowest
from pefslc.targets.c.table_stages import TableStage

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


ENDS = sorted(
    {sign * 2**bits + near for bits in (7, 8, 15, 16, 30, 31, 62, 63) for sign in (1, -1) for near in (-1, 0, 1)}
)


def test_codes_are_stored_in_the_narrowest_type_that_holds_them() -> None:
    """Of the types of <stdint.h>, unsigned ones of 8 and 16 bits only, and before the signed ones."""
    types = [(bits, signed) for bits in (8, 16, 32, 64) for signed in (False, True) if signed or bits < 32]
    ends = {kind: np.iinfo(f"{'' if kind[1] else 'u'}int{kind[0]}") for kind in types}
    for low, high in itertools.combinations_with_replacement([e for e in ENDS if -(2**63) <= e < 2**63], 2):
        wanted = next(kind for kind in types if ends[kind].min <= low and high <= ends[kind].max)
        assert narrowest(low, high) == CType(*wanted)


@pytest.mark.parametrize("kind", [INT32, INT64])
def test_a_literal_is_its_number_and_negates_none_that_its_type_does_not_hold(kind: CType) -> None:
    for value in (v for v in ENDS if kind.holds(v, v)):
        text = literal(value, kind)
        if text == f"INT{kind.bits}_MIN":
            assert value == -(2 ** (kind.bits - 1))
        else:
            digits = re.fullmatch(r"(?:INT(32|64)_C\()?(-?\d+)\)?", text)
            assert digits is not None
            assert int(digits[2]) == value
            assert abs(value) < 2 ** (kind.bits - 1)


def test_constants_at_the_ends_of_their_types_are_what_they_were(build_graph, bench) -> None:  # type: ignore[no-untyped-def]
    b = build_graph("constants")
    x = b.input((1, 3), 3)
    for bits in (8, 16, 32):
        ends = [v for v in ENDS if -(2 ** (bits - 1)) <= v < 2 ** (bits - 1)]
        b.dense(x, np.resize(np.array(ends, dtype=np.int64), (len(ends), 3)))
    bench.add(b.graph(*(op.result for op in b.ops)))
    bench.check(("-O1",))


@pytest.mark.parametrize("bounds", [(20, 30), (-30, -20), (-5, 30), (-30, 3), (-4, 2), (16, 16)])
def test_a_clamp_is_what_it_says_where_its_type_declares_more(bounds, build_graph, bench) -> None:  # type: ignore[no-untyped-def]
    """All codes may be below the lower bound, or above the upper one."""
    b = build_graph("clamp")
    graph = b.graph(b.clamp(b.input((1, 64), 5), *bounds))
    (clamp,) = graph.ops
    wide = replace(clamp.result.type.codes, low=-100, high=100)
    result = replace(clamp.result, type=replace(clamp.result.type, element=wide))
    (output,) = graph.outputs
    graph = replace(graph, ops=(replace(clamp, result=result),), outputs=(replace(output, value=result),))
    assert verify(graph) == []
    bench.add(graph)
    bench.check(("-O1",))
