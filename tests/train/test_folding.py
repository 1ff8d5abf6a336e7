"""fold_batchnorm: the same function in eval mode, without a BatchNorm; or the name of the one that stays."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("brevitas")

import brevitas.nn as qnn  # noqa: E402
from brevitas import quant  # noqa: E402
from torch import nn  # noqa: E402

import pefslc  # noqa: E402
from pefslc.train import fold_batchnorm  # noqa: E402

pytestmark = [pytest.mark.train, pytest.mark.filterwarnings("ignore")]


def conv(channels: int, outputs: int, **options: Any) -> Any:
    return qnn.QuantConv2d(channels, outputs, 3, padding=1, **{"bias": False, "weight_quant": None} | options)


class Block(nn.Module):
    """A residual block as PEFSL's: three convolutions, a shortcut, the sum."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.body = nn.Sequential(conv(inputs, outputs), nn.BatchNorm2d(outputs), nn.ReLU(), conv(outputs, outputs))
        self.norm = nn.BatchNorm2d(outputs)
        self.shortcut, self.shortcut_norm = nn.Conv2d(inputs, outputs, 1), nn.BatchNorm2d(outputs, affine=False)

    def forward(self, x: Any) -> Any:
        return torch.relu(self.norm(self.body(x)) + self.shortcut_norm(self.shortcut(x)))


class Gate(nn.Module):
    """No layer of interest in it: what it does need not be followed."""

    def forward(self, x: Any) -> Any:
        return x if x.mean() > 0 else -x


def residual() -> Any:
    head = nn.Sequential(nn.Flatten(1), nn.Linear(4 * 36, 7), nn.BatchNorm1d(7))
    return nn.Sequential(Block(2, 3), Gate(), Block(3, 4), nn.Identity(), head)


def trained(net: Any) -> Any:
    """BatchNorms that are not the identity."""
    torch.manual_seed(1)
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.running_mean.normal_()
            module.running_var.uniform_(0.2, 3)
            if module.affine:
                module.weight.data.normal_()
                module.bias.data.normal_()
    return net.eval()


def norms(net: Any) -> int:
    return sum(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in net.modules())


def test_a_residual_network_computes_the_same() -> None:
    net, x = trained(residual()).double(), torch.randn(5, 2, 6, 6).double()
    before = {name: t.clone() for name, t in net.state_dict().items()}
    folded = fold_batchnorm(net)
    assert norms(net) == 7
    assert norms(folded) == 0
    with torch.no_grad():
        assert torch.allclose(folded(x), net(x), rtol=1e-12, atol=1e-12)
    assert all(torch.equal(t, before[name]) for name, t in net.state_dict().items()), "the original is as it was"


def test_the_folded_state_fits_a_network_made_without_batchnorm() -> None:
    net = trained(nn.Sequential(conv(2, 3), nn.BatchNorm2d(3), qnn.QuantReLU(act_quant=None)))
    quantized = nn.Sequential(conv(2, 3, bias=True), nn.Identity(), qnn.QuantReLU(act_quant=None))
    quantized.load_state_dict(fold_batchnorm(net).state_dict())
    x = torch.randn(2, 2, 5, 5)
    assert torch.allclose(quantized(x), net(x), atol=1e-5)


def test_scales_that_come_from_the_weights_follow_them() -> None:
    net = trained(nn.Sequential(conv(2, 3, weight_quant=quant.Int8WeightPerTensorFloat), nn.BatchNorm2d(3)))
    folded = fold_batchnorm(net)
    largest = folded[0].weight.abs().max()
    assert torch.isclose(folded[0].quant_weight().scale, largest / 127)


def test_a_layer_that_shares_its_weight_gets_its_own() -> None:
    net = nn.Sequential(conv(2, 2), nn.BatchNorm2d(2), conv(2, 2))
    net[2].weight = net[0].weight
    trained(net)
    x = torch.randn(1, 2, 5, 5)
    assert torch.allclose(fold_batchnorm(net)(x), net(x), atol=1e-5)


def test_a_network_without_batchnorm_stays() -> None:
    net = nn.Sequential(conv(2, 3), nn.ReLU())
    assert torch.equal(fold_batchnorm(net)[0].weight, net[0].weight)
    assert fold_batchnorm(nn.Linear(2, 3)).in_features == 2


class Wrong(nn.Module):
    """Every obstacle."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.BatchNorm2d(2)
        self.conv, self.norm = conv(2, 2), nn.BatchNorm2d(2)
        self.twice, self.norm_of_twice = conv(2, 2), nn.BatchNorm2d(2)
        self.plain, self.no_statistics = conv(2, 2), nn.BatchNorm2d(2, track_running_stats=False)
        self.quantized = conv(2, 2, output_quant=quant.Int8ActPerTensorFixedPoint)
        self.norm_of_quantized = nn.BatchNorm2d(2)
        self.tail = nn.Sequential(conv(2, 2), nn.ReLU(), nn.BatchNorm2d(2))
        self.unused = nn.BatchNorm2d(2)

    def forward(self, x: Any) -> Any:
        x = self.conv(self.first(x))
        x = self.norm(x) + x
        x = self.norm_of_twice(self.twice(self.twice(x)))
        x = self.norm_of_quantized(self.quantized(self.no_statistics(self.plain(x))))
        return self.tail(x)


def test_every_batchnorm_that_cannot_be_folded_is_named() -> None:
    with pytest.raises(pefslc.CompileError) as raised:
        fold_batchnorm(Wrong())
    messages = sorted(p.message for p in raised.value.problems)
    assert messages == [
        "BatchNorm 'first' cannot be folded: it follows 'x', which is no convolution or linear layer",
        "BatchNorm 'no_statistics' cannot be folded: it keeps no running statistics",
        "BatchNorm 'norm' cannot be folded: the result of layer 'conv' is used elsewhere, too",
        "BatchNorm 'norm_of_quantized' cannot be folded: layer 'quantized' quantizes its result before it",
        "BatchNorm 'norm_of_twice' cannot be folded: layer 'twice' is used more than once",
        "BatchNorm 'tail.2' cannot be folded: it follows 'tail.1', which is no convolution or linear layer",
        "BatchNorm 'unused' cannot be folded: forward does not call it",
    ]


class Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = conv(2, 2), nn.BatchNorm2d(2)

    def forward(self, x: Any) -> Any:
        return self.norm(self.conv(x)) if x.sum() > 0 else x


def test_a_forward_that_cannot_be_followed_is_named() -> None:
    with pytest.raises(pefslc.CompileError, match=r"forward of 'inner\.0' cannot be followed") as raised:
        fold_batchnorm(Outer())
    assert "a module of its own" in str(raised.value)


class Outer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(Branching())

    def forward(self, x: Any) -> Any:
        return self.inner(x)


@pytest.mark.parametrize("given", [None, "net.onnx", nn.Conv2d, torch.zeros(1)])
def test_what_is_no_network_is_said(given: Any) -> None:
    with pytest.raises(pefslc.CompileError, match="is not a torch network") as raised:
        fold_batchnorm(given)
    assert raised.value.problems[0].code is pefslc.Code.NOT_A_MODEL
