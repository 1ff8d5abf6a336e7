"""Taps of another type than the codes: for every processor the sums are exact, at the pads, too."""

from __future__ import annotations

import numpy as np
import pytest
from cpu_rows import LAYOUTS

from integer_graphs import GraphBuilder
from pefslc.ir.graph import Graph
from pefslc.targets.c.ctype import CType
from pefslc.targets.c.dots import tap_offset
from pefslc.targets.c.storage import Buffer, Layout, Place, Tensor
from pefslc.targets.c.target import CTarget


def _of_codes(low: int, high: int, name: str) -> Graph:
    """Padded convolutions, one of them depthwise, of all codes from `low` to `high`."""
    rng = np.random.default_rng(abs(low) + high)
    b = GraphBuilder(name)
    x = b.clamp(b.input((1, 5, 6, 7), 17), low, high)
    dots = b.conv(x, rng.integers(-127, 128, (18, 5, 3, 3)), rng.integers(-999, 999, 18), pads=(1, 1, 1, 1))
    return b.graph(dots, b.conv(x, rng.integers(-127, 128, (5, 1, 3, 3)), None, 5, pads=(2, 1, 0, 1)))


@pytest.mark.parametrize("cpu", LAYOUTS)
def test_sums_of_codes_that_do_not_hold_zero_or_need_more_than_a_byte_are_exact(cpu, bench, sanitizer_flags):  # type: ignore[no-untyped-def]
    ranges = ((0, 32867), (-32868, 0), (-200, -1), (128, 383), (-128, 127), (-256, -128), (1, 256), (-130, 120))
    for i, (low, high) in enumerate(ranges):
        bench.add(_of_codes(low, high, f"codes{i}"), CTarget(cpu=cpu))
    bench.check(sanitizer_flags)


@pytest.mark.parametrize("kind", [CType(8, signed=False), CType(8, signed=True), CType(16, signed=True)])
def test_an_offset_makes_every_code_and_the_pad_a_tap(kind: CType) -> None:
    """All ranges of a few ends; brute force over what the type holds."""
    ends = [
        -32868,
        -32768,
        -300,
        -257,
        -256,
        -255,
        -129,
        -128,
        -127,
        -1,
        0,
        1,
        127,
        128,
        129,
        255,
        256,
        383,
        32767,
        32868,
    ]
    refused = 0
    for low in ends:
        for high in (end for end in ends if end >= low):
            source = Tensor(Buffer("x", Place.ARENA, CType(32, signed=True), 1), (1,), Layout.ROWS, low, high)
            offset = tap_offset(source, kind)
            if offset is None:
                refused += 1
                continue
            assert all(kind.holds(code + offset, code + offset) for code in (low, high, 0))
            assert offset == 0 or kind.bits == 8
    assert refused > 20
