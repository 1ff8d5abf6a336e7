"""Formats from the compiler become Brevitas quantizers of the same network: it computes what the program does."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("brevitas")

from torch import nn  # noqa: E402

import pefslc  # noqa: E402
from pefslc.diagnostics.errors import CompileError  # noqa: E402
from pefslc.numeric.format import FixedPoint  # noqa: E402
from pefslc.train import TensorFormats, export, formats_of, uniform_formats, with_quantizers  # noqa: E402
from pefslc.train.tensor_formats import _paths  # noqa: E402

pytestmark = [pytest.mark.train, pytest.mark.filterwarnings("ignore")]


class Branches(nn.Module):
    """A residual sum, layers in lists and sequences of sequences, a stored sum, a linear layer at the end.

    relu  the last activation: a module, or a method of the tensor, which has no name to put a quantizer at
    """

    def __init__(self, relu: Any) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Sequential(nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU()), nn.MaxPool2d(2))
        self.sides = nn.ModuleList([nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.Conv2d(4, 4, 1)])
        self.act = nn.LeakyReLU(0.25)
        self.narrow = nn.Conv2d(4, 2, 1)  # read twice without an activation: its sum is stored
        self.heads = nn.ModuleList([nn.Conv2d(2, 4, 1), nn.Conv2d(2, 4, 3, padding=1)])
        self.relu = relu
        self.last = nn.Linear(4 * 16, 5)

    def forward(self, image: Any) -> Any:
        x = self.stem(image)
        x = self.narrow(self.act(self.sides[0](x) + self.sides[1](x)))
        return self.last(self.relu(self.heads[0](x) + self.heads[1](x)).flatten(1))


def network() -> Any:
    return Branches(nn.ReLU()).eval()


def images(rows: int = 24) -> Any:
    return torch.randn(rows, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def compiled(net: Any, fmt: str) -> pefslc.Program:
    return pefslc.compile(net, target="c", fmt=fmt, example=images(4), calibrate=images().numpy())


@pytest.mark.parametrize("bits", [3, 5, 8])
def test_the_quantized_network_computes_what_the_program_does(bits: int) -> None:
    """Formats from data come with weights at their nearest code, which is what a Brevitas quantizer does."""
    net = network()
    program = compiled(net, f"auto:{bits}")
    quantized = with_quantizers(net, formats_of(net, program.lowered.reference))
    again = pefslc.compile(quantized, target="c", example=images(4))
    x = images().numpy()
    assert np.array_equal(program.run(x)["output"], again.run(x)["output"])
    assert program.run(x)["output"].std() > 0.05


def test_formats_have_the_names_of_modules() -> None:
    net = network()
    formats = formats_of(net, compiled(net, "auto:6").lowered.reference)
    layers = {"stem.0.0", "sides.0", "sides.1", "narrow", "heads.0", "heads.1", "last"}
    assert set(formats.weights) == layers
    assert set(formats.biases) == layers - {"sides.0"}
    assert set(formats.results) == {"stem.0.1", "act", "narrow", "relu"}
    assert {f.bits for f in (formats.input, *formats.weights.values(), *formats.results.values())} == {6}
    assert {name for name, f in formats.results.items() if not f.signed} == {"stem.0.1", "relu"}
    reads = {"stem.0.0": formats.input, "narrow": formats.results["act"], "last": formats.results["relu"]}
    for layer, read in reads.items():
        assert formats.biases[layer].fraction_bits == formats.weights[layer].fraction_bits + read.fraction_bits
        q = formats.biases[layer].quantization
        largest = float(net.get_submodule(layer).bias.abs().max())
        assert q.high * float(q.scale.step) > 2 * largest - 1e-6


def test_training_changes_what_the_program_computes_as_torch_does() -> None:
    net = network()
    quantized = with_quantizers(net, formats_of(net, compiled(net, "auto:5").lowered.reference)).train()
    x = images()
    optimizer = torch.optim.SGD(quantized.parameters(), 0.05)
    for _ in range(5):
        optimizer.zero_grad()
        quantized(x).square().sum().backward()
        optimizer.step()
    quantized.eval()
    program = pefslc.compile(quantized, target="c", example=x[:4])
    with torch.no_grad():
        assert np.array_equal(program.run(x.numpy())["output"], quantized(x).double().numpy())


def test_uniform_formats_are_those_of_fixed_point() -> None:
    formats = uniform_formats(network(), "Q2.3")
    assert str(formats.input) == "Q2.3"
    assert {str(f) for f in formats.weights.values()} == {"Q2.3"}
    assert {str(f) for f in formats.biases.values()} == {"Q4.6"}
    assert {name: str(f) for name, f in formats.results.items()} == {
        "stem.0.1": "UQ2.3", "act": "Q2.3", "relu": "UQ2.3",
    }  # fmt: skip


def test_formats_read_back_as_they_were_written() -> None:
    formats = uniform_formats(network(), "Q-1.5")
    assert TensorFormats.from_json(formats.to_json()) == formats
    for wrong in ({}, {**formats.to_json(), "weights": 3}, {**formats.to_json(), "input": "Q2"}):
        with pytest.raises(CompileError, match="the formats of tensors cannot be read"):
            TensorFormats.from_json(wrong)


def test_a_sum_that_no_module_hands_on_is_named() -> None:
    net = Branches(torch.relu).eval()
    with pytest.raises(CompileError, match="belongs to no module of the network") as refused:
        formats_of(net, compiled(net, "auto:4").lowered.reference)
    assert "/Relu (Relu)" in str(refused.value)


def test_every_format_without_a_layer_and_every_layer_without_one_is_named() -> None:
    net, formats = network(), uniform_formats(network(), "Q2.3")
    wrong = replace(
        formats,
        weights={**{n: f for n, f in formats.weights.items() if n != "last"}, "none": formats.input},
        biases={n: f for n, f in formats.biases.items() if n != "narrow"},
        results={**formats.results, "nothing": formats.input},
    )
    with pytest.raises(CompileError) as refused:
        with_quantizers(net, wrong)
    assert [p.message for p in refused.value.problems] == [
        "the bias of 'narrow' has no format",
        "the weights of 'last' have no format",
        "there is a format for the layer 'none', and no such layer",
        "there is a format for 'nothing', and no such module",
    ]


def test_layers_that_are_not_torchs_own_are_refused() -> None:
    net = nn.Sequential(nn.ConvTranspose2d(1, 1, 2), nn.ReLU())
    formats = TensorFormats(FixedPoint(2, 3), {"0": FixedPoint(2, 3)}, {"0": FixedPoint(4, 6)}, {})
    with pytest.raises(CompileError, match="'0' is a ConvTranspose2d, not a layer of torch that can be quantized"):
        with_quantizers(net, formats)


def test_the_network_that_was_given_stays_as_it_is() -> None:
    net = network()
    before = {name: t.clone() for name, t in net.state_dict().items()}
    quantized = with_quantizers(net, uniform_formats(net, "Q2.3"))
    assert type(net.last) is nn.Linear
    assert not quantized.training
    assert {f"network.{name}" for name in before} == set(quantized.state_dict())
    assert all(torch.equal(before[name], t) for name, t in net.state_dict().items())
    export(quantized, images(4))


@pytest.mark.parametrize(
    ("scopes", "paths"),
    [
        (["conv"], ["conv"]),
        (["blocks", "blocks.0", "conv"], ["blocks.0.conv", "blocks.blocks.0.conv"]),
        (["sides.0"], ["sides.0"]),
        (["a", "a.0", "a.0.1"], ["a.0.1", "a.a.0.1", "a.0.a.0.1", "a.a.0.a.0.1"]),
        ([], []),
    ],
)
def test_scopes_of_torch_become_paths_of_modules(scopes: list[str], paths: list[str]) -> None:
    assert list(_paths(scopes)) == paths
