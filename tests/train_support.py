"""Networks for the tests that need the extra `train`; only they import this."""

from __future__ import annotations

import warnings
from copy import deepcopy
from typing import Any

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # brevitas imports deprecated modules, its own among them
    import brevitas.nn as qnn
    import torch
    from brevitas import quant

from pefslc.train import Quantizers, fixed_point

Q = fixed_point("Q2.3")


def cnn(
    q: Quantizers = Q,
    *,
    weight: Any = None,
    bias: Any = Q.bias,
    relu: Any = None,
    first: Any = None,
    groups: int = 1,
    norm: Any = torch.nn.Identity,
    quant_tensors: bool = False,
) -> Any:
    """Two convolutions and a linear layer on [N, 1, 8, 8], ten outputs; random weights of a fixed seed."""
    torch.manual_seed(0)
    # By identity: an injector of Brevitas is neither true nor false in a way that one could rely on.
    weight, relu, first = (
        mine if given is None else given for given, mine in ((weight, q.weight), (relu, q.relu), (first, q.input))
    )
    layer = {"bias": True, "weight_quant": weight, "bias_quant": bias}
    act = {"act_quant": relu, "return_quant_tensor": quant_tensors}
    net = torch.nn.Sequential(
        qnn.QuantIdentity(act_quant=first, return_quant_tensor=quant_tensors),
        qnn.QuantConv2d(1, 4, 3, padding=1, **layer),
        norm(4),
        qnn.QuantReLU(**act),
        torch.nn.MaxPool2d(2),
        qnn.QuantConv2d(4, 8, 3, padding=1, groups=groups, **layer),
        norm(8),
        qnn.QuantReLU(**act),
        torch.nn.Flatten(1),
        qnn.QuantLinear(8 * 4 * 4, 10, **layer),
    )
    with torch.no_grad():
        for module in (net[1], net[5], net[9]):
            module.weight *= 3  # as made, most of them round to zero
    return net


def float_scales(*, calibrate: bool = True, **changes: Any) -> Any:
    """The same with scales that are no powers of two; biases at the accumulators' scale."""
    options: dict[str, Any] = {
        "weight": quant.Int8WeightPerChannelFloat,
        "relu": quant.Uint8ActPerTensorFloat,
        "first": quant.Int8ActPerTensorFloat,
        "bias": quant.Int16Bias,
        "quant_tensors": True,
    }
    net = cnn(**(options | changes))
    return calibrated(net) if calibrate else net


def calibrated(net: Any, batches: int = 5) -> Any:
    """`net` after some batches in training mode: BatchNorm and activation quantizers have seen data."""
    net.train()
    for _ in range(batches):
        net(images(8))
    return net.eval()


def rounded(quantizer: Any, mode: str) -> Any:
    """The quantizer with another rounding, by Brevitas' name of it."""
    return quantizer.let(float_to_int_impl_type=mode)


def outputs_of(net: Any, *inputs: Any) -> list[Any]:
    """What torch computes in float64 with the network as it is."""
    with torch.no_grad():
        result = deepcopy(net).eval().double()(*[x.double() for x in inputs])
    parts = list(result.values()) if isinstance(result, dict) else [result]
    return [getattr(p, "value", p).numpy() for p in parts]


def images(rows: int = 4) -> Any:
    """Random [rows, 1, 8, 8] beyond the range of Q2.3."""
    return torch.rand(rows, 1, 8, 8) * 5 - 2.5


class Residual(torch.nn.Module):
    """A depthwise and a pointwise branch, one quantizer for both before their sum, the mean of it."""

    def __init__(self, q: Quantizers = Q) -> None:
        super().__init__()
        torch.manual_seed(0)
        layer = {"bias": True, "weight_quant": q.weight, "bias_quant": q.bias}
        self.first = qnn.QuantIdentity(act_quant=q.input)
        self.stem = qnn.QuantConv2d(1, 4, 3, padding=1, **layer)
        self.branches = torch.nn.ModuleList(
            [qnn.QuantConv2d(4, 4, 3, padding=1, groups=4, **layer), qnn.QuantConv2d(4, 4, 1, **layer)]
        )
        self.shared = qnn.QuantIdentity(act_quant=q.activation)
        self.act = torch.nn.Sequential(qnn.QuantReLU(act_quant=q.relu))

    def forward(self, image: Any) -> Any:
        x = self.act(self.stem(self.first(image)))
        return self.act(self.shared(self.branches[0](x)) + self.shared(self.branches[1](x))).mean([2, 3])


class TwoInputs(torch.nn.Module):
    """Two inputs, two outputs, and an input quantizer for both."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = qnn.QuantIdentity(act_quant=Q.input)
        self.one = qnn.QuantLinear(6, 4, bias=True, weight_quant=Q.weight, bias_quant=Q.bias)
        self.two = qnn.QuantLinear(3, 4, bias=False, weight_quant=Q.weight)
        self.act = qnn.QuantReLU(act_quant=Q.relu)
        self.shared = qnn.QuantIdentity(act_quant=Q.activation)

    def forward(self, left: Any, right: Any) -> Any:
        one, two = self.one(self.first(left)), self.two(self.first(right))
        return {"act": self.act(one), "sum": self.shared(one) + self.shared(two)}


class Linears(torch.nn.Module):
    """Two linear layers that share a "weight" or its "quantizer", or whose weights are the same "numbers"."""

    def __init__(self, shared: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        floor = Q.weight.let(float_to_int_impl_type="FLOOR")
        self.first = qnn.QuantIdentity(act_quant=Q.input)
        self.one = qnn.QuantLinear(6, 6, bias=True, weight_quant=floor, bias_quant=Q.bias)
        self.two = qnn.QuantLinear(
            6,
            6,
            bias=True,
            weight_quant=self.one.weight_quant if shared == "quantizer" else Q.weight,
            bias_quant=Q.bias,
        )
        self.act = qnn.QuantReLU(act_quant=Q.relu)
        if shared == "weight":
            self.two.weight = self.one.weight
        elif shared == "numbers":
            self.two.weight = torch.nn.Parameter(self.one.weight.detach().clone())

    def forward(self, x: Any) -> Any:
        return self.two(self.act(self.one(self.first(x))))
