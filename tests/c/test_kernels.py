"""The table of kernels."""

from __future__ import annotations

from importlib.resources import files

import pytest

from pefslc.targets.c.cpus import TAPS
from pefslc.targets.c.ctype import INT32, CType
from pefslc.targets.c.kernel_tasks import DepthwiseLine
from pefslc.targets.c.kernels import KERNELS, Kernel, kernels_for


def test_a_form_that_nothing_asks_for_is_refused() -> None:
    with pytest.raises(ValueError, match=r"kernel tortoise/dot_row: the form must be one of depthwise, .*dot_rows"):
        Kernel("tortoise", "dot_row", "defined(__TORTOISE__)")


def test_each_kernel_has_its_file_and_each_form_one_for_every_compiler() -> None:
    folder = files("pefslc.targets.c")
    assert [each for each in KERNELS if not folder.joinpath(each.template).is_file()] == []
    last = {each.form: each for each in KERNELS}
    assert {each.guard for each in last.values()} == {""}


@pytest.mark.parametrize("signed", [True, False])
def test_a_kernel_of_signed_bytes_is_not_asked_for_others(signed: bool) -> None:
    """NEON's kernel extends their sign."""
    taps, byte = CType(8, signed=signed), CType(8, signed=True)
    line = DepthwiseLine(TAPS, taps, byte, INT32, INT32, False, (3, 3), 1, 1, 1)
    assert ("neon" in [kernel.folder for kernel in kernels_for(line)]) == signed
