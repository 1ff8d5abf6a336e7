"""Reshapes of tensors whose channels are told apart, by what a code of each is worth."""

from __future__ import annotations

import numpy as np
import pytest

from ir_text import X, body
from pefslc.analysis.verify import verify
from pefslc.diagnostics.errors import CompileError
from pefslc.ir.interpret import run
from pefslc.ir.parse import parse_graph
from pefslc.passes.lower_to_integer import LowerToInteger

CHANNELS_APART = """
    %p: real[1,2,2,2] = bias_add %q stage=affine({1, 1}, {0, 0}, {1, 1}, {2^-2, 3})  // (Add)
"""


@pytest.mark.parametrize("shape", ["1,2,4", "1,2,4,1", "1,2,1,2,2", "1,8"])
def test_a_reshape_that_keeps_channels_together_carries_what_they_are_worth(shape: str) -> None:
    graph = parse_graph(X + body(CHANNELS_APART + f'%y: real[{shape}] = reshape %p  // (Reshape)\noutput "y" = %y'))
    lowered = LowerToInteger().run(graph)
    assert verify(lowered) == []
    x = np.random.default_rng(0).uniform(-4, 4, (5, 2, 2, 2))
    np.testing.assert_array_equal(run(lowered, x)["y"], run(graph, x)["y"])


@pytest.mark.parametrize("shape", ["8", "1,4,2", "1,1,2,4", "1,8,1"])
def test_a_reshape_that_mixes_channels_of_different_worth_is_refused(shape: str) -> None:
    graph = parse_graph(X + body(CHANNELS_APART + f'%y: real[{shape}] = reshape %p  // (Reshape)\noutput "y" = %y'))
    with pytest.raises(CompileError, match="Reshape mixes channels of different scales"):
        LowerToInteger().run(graph)
