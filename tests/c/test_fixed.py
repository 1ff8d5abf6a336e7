"""fixed.h against the numeric core: every small argument, and the ends of the types."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest

import pefslc.targets.c
from pefslc.numeric.format import saturate
from pefslc.numeric.rounding import RoundingMode, round_shift

_FIXED = Path(pefslc.targets.c.__file__).parent / "fixed.h"
_SMALL = 600
_LARGEST_SMALL_SHIFT = 10

_HARNESS = r"""
#include <stdio.h>
#include "fixed.h"
#include "fixed.h"

static void put(int64_t x)
{
    if (fwrite(&x, sizeof(x), 1, stdout) != 1) { fputs("short write\n", stderr); }
}

int main(void)
{
    static const int32_t edges32[]
        = { INT32_MIN, INT32_MIN + 1, INT32_MIN / 2, -1, 0, 1, INT32_MAX / 2, INT32_MAX / 2 + 1 };
    static const int64_t edges64[]
        = { INT64_MIN, INT64_MIN + 1, INT64_MIN / 2, -1, 0, 1, INT64_MAX / 2, INT64_MAX / 2 + 1 };
    static const int32_t thresholds32[] = { -7, -7, -2, 0, 3, 3, 3, 9 };
    static const int64_t thresholds64[] = { -7, -7, -2, 0, 3, 3, 3, 9 };
    int x, s;
    for (x = -600; x <= 600; x++) {
        for (s = 0; s <= 10; s++) {
            put(pefslc_floor_shift_32(x, s));
            put(pefslc_floor_shift_64(x, s));
            put(pefslc_half_even_shift_32(x, s));
            put(pefslc_half_even_shift_64(x, s));
        }
        put(pefslc_clamp_32(x, -16, 15));
        put(pefslc_clamp_64(x, -16, 15));
        for (s = 0; s <= 8; s++) {
            put(pefslc_steps_32(x, thresholds32, s));
            put(pefslc_steps_64(x, thresholds64, s));
        }
    }
    for (x = 0; x < 8; x++) {
        for (s = 0; s <= 30; s++) {
            put(pefslc_floor_shift_32(edges32[x], s));
            put(pefslc_half_even_shift_32(edges32[x], s));
        }
        for (s = 0; s <= 61; s++) {
            put(pefslc_floor_shift_64(edges64[x], s));
            put(pefslc_half_even_shift_64(edges64[x], s));
        }
    }
    return 0;
}
"""


def _expected() -> list[int]:
    found: list[int] = []
    thresholds = [-7, -7, -2, 0, 3, 3, 3, 9]
    for x in range(-_SMALL, _SMALL + 1):
        for s in range(_LARGEST_SMALL_SHIFT + 1):
            floor, even = round_shift(x, s, RoundingMode.FLOOR), round_shift(x, s, RoundingMode.HALF_EVEN)
            found += [floor, floor, even, even]
        found += [saturate(x, -16, 15)] * 2
        for count in range(9):
            found += [int(np.searchsorted(thresholds[:count], x, side="right"))] * 2
    edges = {bits: _edges(bits) for bits in (32, 64)}
    for i in range(8):
        for bits, shifts in ((32, 31), (64, 62)):
            for s in range(shifts):
                x = edges[bits][i]
                found += [round_shift(x, s, RoundingMode.FLOOR), round_shift(x, s, RoundingMode.HALF_EVEN)]
    return found


def _edges(bits: int) -> list[int]:
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    return [low, low + 1, low // 2, -1, 0, 1, high // 2, high // 2 + 1]


@pytest.mark.parametrize("optimization", ["-O1", "-O3"])
def test_every_function_equals_the_numeric_core(  # type: ignore[no-untyped-def]
    optimization, tmp_path, cc, warning_flags, sanitizer_flags
):
    (tmp_path / "harness.c").write_text(_HARNESS)
    program = tmp_path / "harness"
    flags = [*warning_flags, optimization, *(sanitizer_flags if optimization == "-O1" else ())]
    command = [cc, *flags, f"-I{_FIXED.parent}", str(tmp_path / "harness.c"), "-o", str(program)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    output = subprocess.run([str(program)], capture_output=True, check=True).stdout
    assert np.frombuffer(output, np.int64).tolist() == _expected()
