"""fixed_point: the Brevitas quantizers are the Qm.n of `numeric.format`, over whole ranges of codes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("brevitas")

import brevitas.nn as qnn  # noqa: E402
from train_support import Q  # noqa: E402

import pefslc  # noqa: E402
from pefslc.numeric.format import FixedPoint  # noqa: E402
from pefslc.train import fixed_point  # noqa: E402

pytestmark = [pytest.mark.train, pytest.mark.filterwarnings("ignore")]


def expected_values(fmt: FixedPoint, x: Any) -> Any:
    """`x` in the format, by the definition."""
    q = fmt.quantization
    step = float(q.scale.step)
    return np.clip(np.rint(x / step), q.low, q.high) * step


def probes(fmt: FixedPoint) -> Any:
    """Every quarter step across the range of the format and beyond both of its ends, at most some thousands."""
    q = fmt.quantization
    codes = np.linspace(q.low - 3, q.high + 3, min(4 * (q.high - q.low + 6) + 1, 4001))
    return (codes * float(q.scale.step)).astype(np.float32).astype(np.float64)


@pytest.mark.parametrize("text", ["Q2.3", "Q1.2", "Q2.0", "Q3.5", "Q8.8", "Q12.-4", "Q-2.8", "Q0.4", "Q9.15"])
def test_quantizers_are_of_the_format(text: str) -> None:
    q = fixed_point(text)
    fmt = FixedPoint.parse(text)
    unsigned = FixedPoint(fmt.integer_bits, fmt.fraction_bits, signed=False)
    for wanted, layer in (
        (fmt, qnn.QuantIdentity(act_quant=q.input)),
        (fmt, qnn.QuantIdentity(act_quant=q.activation)),
        (unsigned, qnn.QuantReLU(act_quant=q.relu)),
    ):
        x = probes(wanted)
        with torch.no_grad():
            got = layer.eval()(torch.from_numpy(x).float()).double().numpy()
        assert np.array_equal(got, expected_values(wanted, x))


@pytest.mark.parametrize(
    ("text", "bias"), [("Q2.3", "Q4.6"), ("Q3.5", "Q5.10"), ("Q8.8", "Q10.14"), ("Q12.-4", "Q14.-8")]
)
def test_weights_and_biases_are_of_the_format(text: str, bias: str) -> None:
    q = fixed_point(text)
    assert (str(q.format), str(q.bias_format)) == (text, bias)
    layer = qnn.QuantLinear(5, 400, bias=True, weight_quant=q.weight, bias_quant=q.bias)
    for wanted, parameter, quantized in (
        (q.format, layer.weight, layer.quant_weight),
        (q.bias_format, layer.bias, layer.quant_bias),
    ):
        x = np.resize(probes(wanted), tuple(parameter.shape))
        parameter.data = torch.from_numpy(x).float()
        assert np.array_equal(quantized().value.detach().double().numpy(), expected_values(wanted, x))


def test_the_bias_may_have_a_format_of_its_own() -> None:
    assert str(fixed_point(FixedPoint(2, 3), bias="Q4.8").bias_format) == "Q4.8"


def test_training_reaches_the_weights() -> None:
    """The gradient goes through the rounding, and stops where a value saturates."""
    layer = qnn.QuantLinear(3, 2, bias=False, weight_quant=Q.weight)
    layer(torch.ones(1, 3)).sum().backward()
    assert bool((layer.weight.grad == 1).all())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("2.3", "'2.3' is not a format"),
        (23, "'23' is not a format"),
        ("UQ2.3", "UQ2.3 is unsigned, and weights are not\n  help: fixed_point('Q2.3').relu is UQ2.3"),
        ("Q1.0", "Q1.0 has 1 bits: training in float32 takes 2 to 24"),
        ("Q16.16", "Q16.16 has 32 bits: training in float32 takes 2 to 24"),
    ],
)
def test_other_formats_are_refused(text: Any, message: str) -> None:
    for arguments in ({"fmt": text}, {"fmt": "Q2.3", "bias": text}):
        with pytest.raises(pefslc.CompileError) as raised:
            fixed_point(**arguments)
        assert message in str(raised.value)
