"""From training to C: a small Brevitas network, exported as docs/formats.md says, compiled, equal to torch."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import pefslc

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # brevitas imports deprecated modules, its own among them
    torch = pytest.importorskip("torch")
    qnn = pytest.importorskip("brevitas.nn")
    quant = pytest.importorskip("brevitas.quant")
    fixed_point = pytest.importorskip("brevitas.quant.fixed_point")
    export_qonnx = pytest.importorskip("brevitas.export").export_qonnx

pytestmark = [
    pytest.mark.train,
    # torch and brevitas announce changes of their own; none of them is about us.
    pytest.mark.filterwarnings("ignore"),
]


def fixed(base: Any, integer_bits: int, fraction_bits: int) -> Any:
    """The quantizer `base` in Qm.n: constant scale 2^-n, two's complement, half to even, saturating."""
    return base.let(
        bit_width=integer_bits + fraction_bits,
        scaling_impl_type="const",
        scaling_init=2.0 ** (integer_bits - 1),
        narrow_range=False,
    )


def network(integer_bits: int, fraction_bits: int) -> Any:
    weight = fixed(quant.Int8WeightPerTensorFixedPoint, integer_bits, fraction_bits)
    act = fixed(quant.Int8ActPerTensorFixedPoint, integer_bits, fraction_bits)
    bias = fixed(fixed_point.Int8BiasPerTensorFixedPointInternalScaling, 4, 8)
    options = {"bias": True, "weight_quant": weight, "bias_quant": bias}
    return torch.nn.Sequential(
        qnn.QuantIdentity(act_quant=act),
        qnn.QuantConv2d(1, 4, 3, padding=1, **options),
        qnn.QuantReLU(act_quant=act),
        torch.nn.MaxPool2d(2),
        qnn.QuantConv2d(4, 8, 3, padding=1, stride=2, **options),
        qnn.QuantReLU(act_quant=act),
        torch.nn.Flatten(1),
        qnn.QuantLinear(8 * 2 * 2, 10, **options),
    )


def train(net: Any, steps: int = 20) -> None:
    torch.manual_seed(0)
    optimizer = torch.optim.Adam(net.parameters(), 2e-3)
    for _ in range(steps):
        x = torch.rand(32, 1, 8, 8) * 2 - 1
        labels = (x.mean((1, 2, 3)) * 100).long().abs() % 10
        loss = torch.nn.functional.cross_entropy(net(x), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    net.eval()


def export(net: Any, path: Path) -> None:
    """QONNX with the weights as they were quantized: Brevitas stores raw ones and always says ROUND."""
    model = export_qonnx(
        copy.deepcopy(net),
        args=torch.zeros(1, 1, 8, 8),
        dynamo=False,
        opset_version=13,
        keep_initializers_as_inputs=False,
        input_names=["input"],
        output_names=["output"],
    )
    initializers = {t.name: t for t in model.graph.initializer}
    for name, layer in net.named_modules():
        if f"{name}.weight" in initializers and hasattr(layer, "quant_weight"):
            weight = layer.quant_weight().value.detach().numpy()
            initializers[f"{name}.weight"].CopyFrom(numpy_helper.from_array(weight, f"{name}.weight"))
    onnx.save(model, str(path))


@pytest.mark.parametrize(("integer_bits", "fraction_bits"), [(2, 3), (3, 4)])
@pytest.mark.parametrize("target", ["c", "tensil"])
def test_a_trained_network_computes_what_torch_does(
    tmp_path: Path, integer_bits: int, fraction_bits: int, target: str
) -> None:
    net = network(integer_bits, fraction_bits)
    train(net)
    export(net, tmp_path / "net.onnx")
    x = torch.rand(16, 1, 8, 8) * 4 - 2
    with torch.no_grad():
        expected = net(x)
    expected = getattr(expected, "value", expected).double().numpy()
    program = pefslc.compile(tmp_path / "net.onnx", target=target, fmt=f"Q{integer_bits}.{fraction_bits}")
    got = program.run(x.numpy())["output"]
    assert np.array_equal(got, expected)
    assert program.verify({"x": x.numpy(), "output": expected}).equal
