"""Zero points on the way to codes: carried where an operation lets them, taken out where codes are summed."""

from __future__ import annotations

import numpy as np
import pytest

from ir_text import X, body
from pefslc.analysis.verify import verify
from pefslc.ir.integer import Requantize
from pefslc.ir.interpret import run
from pefslc.ir.parse import parse_graph
from pefslc.passes.lower_to_integer import LowerToInteger

SHIFTED = X.replace("%q: Q3.1", "%q: i4+3*(2^-1)")


@pytest.mark.parametrize(
    "operations",
    [
        "%y: real[1,2,2,2] = relu %q  // (Relu)",
        "%y: real[1,2,2,2] = clip %q low=-1 high=none  // (Clip)",
        "%y: real[1,2,1,1] = max_pool %q window(2x2)  // (MaxPool)",
        "%y: real[1,2,2,2] = max_pool %q window(2x2, pads=1,0,0,1)  // (MaxPool)",
        "%y: real[1,8] = reshape %q  // (Flatten)",
        "%y: real[1,2,2,2] = batch_norm %q stage=affine({1, -1}, {0, 2^-1}, {4, 3}, {0, 1})  // (BatchNormalization)",
        "%y: Q2.1[1,2,2,2] = quantize %q  // (Quant)",
        "%y: Q2.1[1,2,2,2] = quantize %q stages=(affine({1, -1}, {0, 2^-1}, {4, 9}, {0, 1}), relu)  // (Quant)",
        "%y: i3+2*(2^-1)[1,2,2,2] = quantize %q  // (Quant)",
    ],
)
def test_zero_points_are_carried(operations: str) -> None:
    graph = parse_graph(SHIFTED + body(f'{operations}\noutput "y" = %y'))
    lowered = LowerToInteger().run(graph)
    assert verify(lowered) == []
    for x in np.random.default_rng(0).uniform(-8, 5, (20, 1, 2, 2, 2)):
        np.testing.assert_allclose(run(lowered, x)["y"], run(graph, x)["y"], rtol=1e-14)


ZERO_POINT_WEIGHT = "%w: i4+1*(2^-1)[1,2,1,1] = quantized_constant codes=[1,2,1,1]{1, -2}  // (Quant)\n"
WEIGHT = ZERO_POINT_WEIGHT.replace("+1", "")
CONV = "%y: real[1,1,2,2] = conv %q %w bias=none window(1x1) groups=1  // (Conv)"


@pytest.mark.parametrize(
    ("head", "operations"),
    [
        (SHIFTED, WEIGHT + CONV),
        (SHIFTED, WEIGHT + CONV.replace("1x1", "1x1, pads=1,0,0,2").replace("[1,1,2,2]", "[1,1,3,4]")),
        (SHIFTED, "%y: real[1,2,1,1] = average_pool %q window(2x2)  // (Pool)"),
        (SHIFTED, "%y: real[1,2,2,2] = average_pool %q window(2x2, pads=1,0,0,1)  // (Pool)"),
        (SHIFTED, "%y: real[1,2,2,2] = add %q %q  // (Add)"),
        (SHIFTED, "%y: real[1,4,2,2] = concat inputs=(%q, %q) axis=1  // (C)"),
        (SHIFTED, "%y: i4+3*(2^-1)[1,2,3,3] = pad %q before=(0, 0, 1, 0) after=(0, 0, 0, 1)  // (Pad)"),
        (X, ZERO_POINT_WEIGHT + CONV),
        (SHIFTED, ZERO_POINT_WEIGHT + CONV),
    ],
)
def test_sums_are_of_codes_without_zero_points(head: str, operations: str) -> None:
    graph = parse_graph(head + body(f'{operations}\noutput "y" = %y'))
    lowered = LowerToInteger().run(graph)
    assert verify(lowered) == []
    for x in np.random.default_rng(0).uniform(-8, 5, (20, 1, 2, 2, 2)):
        np.testing.assert_allclose(run(lowered, x)["y"], run(graph, x)["y"], rtol=1e-14)


def test_the_centred_codes_of_an_input_are_made_once() -> None:
    graph = parse_graph(SHIFTED + body('''
        %s: real[1,2,2,2] = add %q %q  // (Add)
        %y: real[1,4,2,2] = concat inputs=(%q, %s) axis=1  // (C)
        output "y" = %y'''))  # fmt: skip
    assert sum(isinstance(op, Requantize) for op in LowerToInteger().run(graph).ops) == 1
