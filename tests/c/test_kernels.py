"""The table of kernels."""

from __future__ import annotations

from dataclasses import replace
from importlib.resources import files
from typing import Any

import pytest

from pefslc.targets.c.certificates import UNPROVEN, Certificate
from pefslc.targets.c.ctype import INT32, WEIGHT, CType
from pefslc.targets.c.kernel_tasks import DepthwiseLine, Dot
from pefslc.targets.c.kernels import KERNELS, Kernel, kernels_for
from pefslc.targets.c.weight_orders import QUADS, ROWS, TAPS


def test_a_form_that_nothing_asks_for_is_refused() -> None:
    with pytest.raises(ValueError, match=r"kernel tortoise/dot_row: the form must be one of depthwise, .*dot_rows"):
        Kernel("tortoise", "dot_row", "defined(__TORTOISE__)")


def test_each_kernel_has_its_file_and_each_form_one_for_every_compiler() -> None:
    folder = files("pefslc.targets.c")
    assert [each for each in KERNELS if not folder.joinpath(each.template).is_file()] == []
    last = {each.form: each for each in KERNELS}
    assert {each.guard for each in last.values()} == {""}


def test_what_a_function_depends_on_is_in_its_name() -> None:
    byte, word, wide = CType(8, True), CType(16, True), CType(64, True)
    dot = Dot(byte, byte, INT32, INT32, ROWS, False, UNPROVEN, pixels=4, blocks=4)
    others: list[dict[str, Any]] = [
        {"taps": CType(8, False)}, {"weights": WEIGHT}, {"weights": word}, {"sums": wide},
        {"products": word}, {"biased": True}, {"certificate": Certificate(chained=2)},
        {"certificate": Certificate(paired=2)}, {"certificate": Certificate(halved=2)}, {"pixels": 2}, {"blocks": 2},
        {"order": QUADS}, {"columns": 3, "apart": 4},
    ]  # fmt: skip
    assert len({dot.name, *(replace(dot, **other).name for other in others)}) == len(others) + 1


@pytest.mark.parametrize("signed", [True, False])
def test_a_kernel_of_signed_bytes_is_not_asked_for_others(signed: bool) -> None:
    """NEON's kernel extends their sign."""
    taps, byte = CType(8, signed=signed), CType(8, signed=True)
    line = DepthwiseLine(taps, byte, INT32, INT32, TAPS, False, (3, 3), 1, 1, 1)
    assert ("neon" in [kernel.folder for kernel in kernels_for(line)]) == signed
