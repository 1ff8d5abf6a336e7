"""Decoders: QuantConvTranspose trained, its BatchNorm folded, exported and compiled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("brevitas")

import brevitas.nn as qnn  # noqa: E402
from brevitas import quant  # noqa: E402
from torch import nn  # noqa: E402
from train_support import Q, calibrated, images, outputs_of  # noqa: E402

import pefslc  # noqa: E402
from pefslc.train import export, fold_batchnorm  # noqa: E402

pytestmark = [pytest.mark.train, pytest.mark.filterwarnings("ignore")]


def autoencoder(norm: Any = nn.BatchNorm2d, groups: int = 1, **options: Any) -> Any:
    """[N, 1, 8, 8] to [N, 2, 16, 16]."""
    torch.manual_seed(0)
    layer = {"weight_quant": Q.weight, "bias_quant": Q.bias, "bias": True} | options
    return nn.Sequential(
        qnn.QuantIdentity(act_quant=Q.input),
        qnn.QuantConv2d(1, 4, 3, padding=1, stride=2, **layer),
        norm(4),
        qnn.QuantReLU(act_quant=Q.relu),
        qnn.QuantConvTranspose2d(4, 6, 4, stride=2, padding=1, groups=groups, **layer),
        norm(6),
        qnn.QuantReLU(act_quant=Q.relu),
        qnn.QuantConvTranspose2d(6, 2, 3, stride=2, padding=1, output_padding=1, **layer),
    )


def check(net: Any, folder: Path, target: str, x: Any) -> None:
    export(net, x, folder / "net.onnx")
    program = pefslc.compile(folder / "net.onnx", target=target)
    (expected,) = outputs_of(net, x)
    (found,) = program.run(x.numpy()).values()
    np.testing.assert_array_equal(found, expected)
    assert program.verify(x.numpy()).equal
    assert len(np.unique(found)) > 5, "a network whose output says nothing"


@pytest.mark.parametrize("target", ["c", "tensil"])
@pytest.mark.parametrize("groups", [1, 2])
def test_a_folded_autoencoder_runs_as_trained(groups: int, target: str, tmp_path: Path) -> None:
    net = fold_batchnorm(calibrated(autoencoder(groups=groups)))
    assert not [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    check(net, tmp_path, target, images(3))


def test_a_kept_batch_norm_and_a_scale_per_output_channel(tmp_path: Path) -> None:
    net = calibrated(autoencoder(weight_quant=quant.Int8WeightPerChannelFloat))
    export(net, images(), tmp_path / "net.onnx")
    program = pefslc.compile(tmp_path / "net.onnx", target="c")
    x = images(5)
    (expected,), (found,) = outputs_of(net, x), program.run(x.numpy()).values()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-7)  # torch's float scales, not ours
    assert program.verify(x.numpy()).equal
    assert all(row.exact for row in program.layers)


def test_sequences(tmp_path: Path) -> None:
    torch.manual_seed(0)
    layer = {"weight_quant": Q.weight, "bias_quant": Q.bias}
    net = nn.Sequential(
        qnn.QuantIdentity(act_quant=Q.input),
        qnn.QuantConvTranspose1d(3, 4, 5, stride=3, padding=2, dilation=2, output_padding=1, **layer),
        nn.BatchNorm1d(4),
        qnn.QuantReLU(act_quant=Q.relu),
    )
    x = torch.rand(4, 3, 7) * 4 - 2
    net.train()
    net(x)
    check(fold_batchnorm(net.eval()), tmp_path, "c", x)


def test_weights_that_are_one_initializer_with_others(tmp_path: Path) -> None:
    """The exporter writes equal initializers once, and Identity for the others."""
    net = autoencoder().eval()  # the means of both BatchNorms are zeros
    export(net, images(), tmp_path / "net.onnx")
    assert pefslc.compile(tmp_path / "net.onnx", target="c").verify(images().numpy()).equal


@pytest.mark.parametrize("target", ["c", "tensil"])
@pytest.mark.parametrize(
    "upsample", [nn.Upsample(scale_factor=2), qnn.QuantUpsample(scale_factor=(3, 1), mode="nearest")], ids=["nn", "qnn"]
)
def test_nearest_neighbours(upsample: Any, target: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    layer = {"weight_quant": Q.weight, "bias_quant": Q.bias, "bias": True}
    net = nn.Sequential(
        qnn.QuantIdentity(act_quant=Q.input),
        qnn.QuantConv2d(1, 4, 3, padding=1, **layer),
        qnn.QuantReLU(act_quant=Q.relu, return_quant_tensor=isinstance(upsample, qnn.QuantUpsample)),
        upsample,
        qnn.QuantConv2d(4, 2, 3, padding=1, **layer),
    )
    check(net.eval(), tmp_path, target, images(3))


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_folding_changes_nothing_in_eval_mode(rank: int, groups: int) -> None:
    kinds = (
        (nn.ConvTranspose1d, nn.BatchNorm1d),
        (nn.ConvTranspose2d, nn.BatchNorm2d),
        (nn.ConvTranspose3d, nn.BatchNorm3d),
    )
    transposed, norm = kinds[rank - 1]
    torch.manual_seed(rank)
    net = nn.Sequential(transposed(4, 8, 3, stride=2, groups=groups), norm(8))
    x = torch.rand(3, 4, *[4] * rank) * 4 - 2
    net.train()
    net(x)
    net.eval().double()
    folded = fold_batchnorm(net)
    assert isinstance(folded[1], nn.Identity)
    assert folded[0].weight.shape == net[0].weight.shape
    torch.testing.assert_close(folded(x.double()), net(x.double()), rtol=0, atol=1e-12)
