"""Pruning takes whole channels, those that matter least, and leaves what blocks hand on."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("brevitas")

from fewshot.network_support import drawn, tiny  # noqa: E402

from pefslc.diagnostics.errors import CompileError  # noqa: E402
from pefslc.fewshot.networks import Backbone, Recipe, fit, pruned, quantized, with_classifier  # noqa: E402
from pefslc.fewshot.networks.pruning import prune, pruned_widths  # noqa: E402
from pefslc.fewshot.sweep.cells import Prune  # noqa: E402
from pefslc.fewshot.sweep.methods import pruned_network  # noqa: E402

pytestmark = [pytest.mark.train, pytest.mark.filterwarnings("ignore")]


def trained() -> Any:
    """A backbone whose BatchNorms have seen something, and differ from channel to channel."""
    net = Backbone(tiny(maps=(6, 8, 10)))
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                for tensor in (module.weight, module.bias, module.running_mean, module.running_var):
                    tensor.copy_(torch.rand(tensor.shape, generator=draw) + 0.5)
    return net.eval()


def images() -> Any:
    return tiny().normalized(drawn(count=2).images)


def test_channels_that_do_nothing_go_first_and_nothing_changes() -> None:
    net = trained()
    dead = {0: (1, 4), 1: (0, 7), 2: (3, 5)}
    with torch.no_grad():
        for b, channels in dead.items():
            for conv in (net.blocks[b].conv2, net.blocks[b].conv3):
                conv.weight[:, list(channels)] = 0  # nobody reads them
    smaller = prune(net, (4, 6, 8))
    assert smaller.description.inner == (4, 6, 8)
    assert smaller.description.maps == (6, 8, 10)
    with torch.no_grad():
        assert torch.allclose(smaller(images()), net(images()), rtol=1e-5, atol=1e-5)
    assert not smaller.training


def test_a_channel_counts_by_what_makes_it_and_by_what_reads_it() -> None:
    net = trained()
    block = net.blocks[0]
    with torch.no_grad():
        for conv in (block.conv1, block.conv2, block.conv3):
            conv.weight.fill_(1.0)
        for norm in (block.norm1, block.norm2):
            norm.weight.fill_(1.0)
            norm.running_var.fill_(1.0)
        block.norm1.weight[2] = 0.5
        block.norm2.running_var[3] = 9.0
        block.conv2.weight[:, 5] = 0.1
        block.conv3.weight[:, 0] = 0.1
        block.norm1.bias.copy_(torch.arange(6.0))
        block.norm2.bias.copy_(torch.arange(6.0))
    smaller = prune(net, (4, 8, 10)).blocks[0]
    assert smaller.norm1.bias.tolist() == [0, 1, 3, 4]
    assert smaller.norm2.bias.tolist() == [1, 2, 4, 5]


def test_keeping_all_keeps_all() -> None:
    net = trained()
    smaller = prune(net, net.description.inner)
    assert all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), smaller.state_dict().values(), strict=True))


@pytest.mark.parametrize("inner", [(4, 6), (0, 6, 8), (7, 6, 8), (4, 6, 8, 10)])
def test_impossible_widths_are_refused(inner: tuple[int, ...]) -> None:
    with pytest.raises(CompileError, match=r"channels cannot be kept of \[6, 8, 10\]"):
        prune(trained(), inner)


@pytest.mark.parametrize(
    ("share", "array", "widths"),
    [
        (0.6, 12, (12, 24, 48)),
        (1.0, 12, (16, 40, 80)),
        (0.9, 12, (12, 36, 72)),
        (0.01, 12, (12, 12, 12)),
        (0.5, 8, (8, 16, 40)),
        (1.0, 1, (16, 40, 80)),
        (0.5, 100, (16, 40, 80)),
    ],
)
def test_widths_are_multiples_of_the_array(share: float, array: int, widths: tuple[int, ...]) -> None:
    assert pruned_widths((16, 40, 80), share, array) == widths


@pytest.mark.parametrize(("share", "array"), [(0.0, 12), (1.1, 12), (0.5, 0), (float("nan"), 12)])
def test_impossible_shares_are_refused(share: float, array: int) -> None:
    with pytest.raises(CompileError, match="share"):
        pruned_widths((16, 40, 80), share, array)


def test_a_pruned_network_is_trained_on_and_quantized() -> None:
    data = drawn(count=4)
    start = with_classifier(trained(), data, Recipe())
    smaller = pruned(start, 0.5, 4)
    assert smaller.description.inner == (4, 4, 4)
    ends = fit(smaller, data, Recipe(epochs=1, batch=8), teacher=start.teacher)
    assert ends.network.description.inner == (4, 4, 4)
    with pytest.raises(CompileError, match="the network is quantized already"):
        pruned(quantized(ends, "Q2.3", data.images), 0.5, 4)


def test_what_was_pruned_is_tuned_at_a_higher_rate_than_new_formats(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the rate that is best for formats a pruned ResNet-9 stayed three points below its float network."""
    data = drawn(count=4)
    start = with_classifier(trained(), data, Recipe())
    rates: list[float] = []

    def watched(network: Any, _: Any, recipe: Recipe, **__: object) -> Any:
        rates.append(recipe.rate)
        return network

    monkeypatch.setattr("pefslc.fewshot.sweep.methods.fit", watched)
    pruned_network(start, Prune(0.5, 4), data, Recipe.fine_tuning(rate=0.001))
    assert rates == [0.006]
    assert Recipe(rate=5.0).after_pruning().rate == 10
