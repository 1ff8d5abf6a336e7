"""Sums of 16 bits are used where they are proven to fit, and only there."""

from __future__ import annotations

import numpy as np
import pytest

from integer_graphs import GraphBuilder
from pefslc.targets.c.certificates import most_halved, most_paired
from pefslc.targets.c.cpus import cpu_named
from pefslc.targets.c.dots import packed_weights
from pefslc.targets.c.plan import plan_program
from pefslc.targets.c.steps import DotStep
from pefslc.targets.c.storage import CType
from pefslc.targets.c.taps import TapView
from pefslc.targets.c.target import CTarget
from pefslc.targets.c.weight_orders import BLOCKS, QUADS, ROWS, WORDS, WeightOrder

S8 = CType(8, signed=True)


def paired(weight: list[int], low: int, high: int) -> int:
    """Of one output."""
    view = TapView(pixel=len(weight), segments=1, segment=len(weight), taps=len(weight))
    return most_paired(packed_weights(np.array([weight]), 1, 16, view, BLOCKS, S8), view, low, high)


@pytest.mark.parametrize(
    ("weight", "high", "expected"),
    [
        ([64, 64, 0, 0] * 4, 255, 1),
        ([64, 65, 0, 0] * 4, 255, 0),
        ([-64, -64, 0, 0] * 4, 255, 1),
        ([-64, -65, 0, 0] * 4, 255, 0),
        ([0, 64, 65, 0] * 4, 255, 1),  # those two are no pair
        ([127, -127, 127, -127] * 4, 255, 1),  # a sum may stop where only one of both is there
        ([127, -127, 127, -127] * 8, 64, 4),
        ([32, 32, 0, 0] * 2 + [0, 0, 32, 32] * 2, 255, 32),
        ([32, 32, 0, 0] * 4, 255, 2),
        ([1] * 8, 31, 32),
    ],
)
def test_pairs_of_products_fit_into_16_bits_or_are_refused(weight, high, expected):  # type: ignore[no-untyped-def]
    assert paired(weight, 0, high) == expected


def test_the_bound_is_that_of_the_worst_codes() -> None:
    """Every sum of so many pairs, at the worst codes, is one of 16 bits; with twice as many one of them is not."""
    rng = np.random.default_rng(3)
    for _ in range(200):
        weight = rng.integers(
            -(1 << int(rng.integers(1, 8))), 1 << int(rng.integers(1, 8)), 4 * int(rng.integers(1, 40))
        )
        high = int(rng.choice([1, 7, 31, 63, 255]))
        found = paired([int(w) for w in np.clip(weight, -128, 127)], 0, high)
        lanes = np.clip(weight, -128, 127).reshape(-1, 2, 2)

        def fits(count: int, lanes: np.ndarray = lanes, high: int = high) -> bool:
            return all(
                high * int(np.maximum(lanes[i : i + count, lane], 0).sum()) < 2**15
                and high * int(np.minimum(lanes[i : i + count, lane], 0).sum()) >= -(2**15)
                for lane in (0, 1)
                for i in range(0, len(lanes), count)
            )

        assert fits(found) if found else not fits(1)
        assert found == 32 or not fits(2 * found or 1)


@pytest.mark.parametrize(("weight", "order"), [(64, BLOCKS), (65, WORDS), (-64, BLOCKS), (-65, WORDS)])
def test_pairs_of_bytes_are_multiplied_only_where_they_fit(weight, order, bench, sanitizer_flags):  # type: ignore[no-untyped-def]
    """At the last weight that fits, and at the first that does not, with codes at their ends."""
    b = GraphBuilder("edge")
    x = b.input((1, 8, 3, 3), 8, signed=False)
    graph = b.graph(b.conv(x, np.full((5, 8, 2, 2), weight)))
    (step,) = (s for s in plan_program(graph, cpu_named("x86-64-v3")).steps if isinstance(s, DotStep))
    assert step.order == order
    bench.add(graph, CTarget(cpu="x86-64-v3"))
    bench.check(sanitizer_flags)


def test_sums_that_need_more_than_32_bits_have_no_kernel() -> None:
    b = GraphBuilder("wide")
    x = b.input((1, 8, 3, 3), 16)
    graph = b.graph(b.conv(x, np.full((5, 8, 2, 2), 32767)))
    for name in ("x86-64", "x86-64-v3", "x86-64-v4"):
        (step,) = (s for s in plan_program(graph, cpu_named(name)).steps if isinstance(s, DotStep))
        assert (step.order.name, step.sums.bits) == ("rows", 64)


def halved(weight: np.ndarray, segments: int, low: int, high: int, order: WeightOrder = QUADS) -> int:
    """weight: [outputs, taps], of so many segments."""
    outputs, taps = weight.shape
    view = TapView(pixel=taps, segments=segments, segment=taps // segments, taps=taps // segments)
    return most_halved(packed_weights(weight, 1, -(-outputs // 4) * 4, view, order, S8), view, order, low, high)


@pytest.mark.parametrize(
    ("last", "low", "high", "expected"),
    [
        (8, 0, 127, 3),  # (127 + 123 + 8) * 127 = 2^15 - 2
        (9, 0, 127, 1),
        (9, 0, 126, 3),
        (-128, 0, 127, 3),  # a sum of positive products alone reaches the end
        (-128, -7, 127, 3),
        (-128, -8, 127, 1),  # which a product of two negative ones passes
    ],
)
def test_halves_of_a_register_hold_whole_sums_or_are_refused(last, low, high, expected):  # type: ignore[no-untyped-def]
    weight = np.zeros((4, 48), dtype=np.int64)
    weight[2, [0, 17, 30]] = 127, 123, last
    assert halved(weight, 3, low, high) == expected


def test_of_halves_the_worst_output_decides_and_few_taps_are_left_alone() -> None:
    weight = np.full((5, 48), 31, dtype=np.int64)
    assert halved(weight, 3, 0, 15) == 3
    assert halved(weight, 3, 0, 31) == 1, "48 * 31 * 31 is beyond int16_t, 16 * 31 * 31 is not"
    weight[4, 16:32] = 127
    assert halved(weight, 3, 0, 31) == 0
    assert halved(weight[:4], 1, 0, 15) == 1
    assert halved(weight[:, :12], 1, 0, 1) == 0, "to take the halves out costs more"


def test_the_bound_of_halves_is_that_of_the_worst_codes() -> None:
    rng = np.random.default_rng(8)
    for _ in range(200):
        bits, segments = int(rng.integers(2, 9)), int(rng.choice([1, 3]))
        weight = rng.integers(-(1 << (bits - 1)), 1 << (bits - 1), (int(rng.integers(1, 7)), 48 * segments))
        low, high = -int(rng.integers(0, 129)), int(rng.integers(1, 256))
        found = halved(weight, segments, low, high)
        assert halved(weight, segments, low, high, ROWS) == found
        fits = {}
        for count in (1, segments):
            runs = weight.reshape(len(weight), -1, count * 48)
            worst = [np.where(runs > 0, up, down) for up, down in ((high, low), (low, high))]
            sums = [(runs * x).sum(axis=2) for x in worst]
            fits[count] = int(sums[0].max()) < 2**15 and int(sums[1].min()) >= -(2**15)
        assert found == (segments if fits[segments] else int(fits[1]))
