"""Backbones: PEFSL's structure, weights that are a function of the seed, a description that can be written down."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("brevitas")

from fewshot.network_support import SIZE, drawn, tiny  # noqa: E402

from pefslc.diagnostics.errors import CompileError  # noqa: E402
from pefslc.fewshot.networks import Activation, Backbone, Description  # noqa: E402

pytestmark = [pytest.mark.train, pytest.mark.filterwarnings("ignore")]


@pytest.mark.parametrize(("depth", "maps"), [(9, (16, 40, 80)), (12, (16, 40, 80, 160))])
def test_the_widths_are_those_of_pefsl(depth: int, maps: tuple[int, ...]) -> None:
    description = Description.of_depth(depth, 16)
    assert description.maps == maps == description.inner
    assert description.name == f"ResNet-{depth}"
    convolutions = [m for m in Backbone(description).modules() if isinstance(m, torch.nn.Conv2d)]
    assert sum(c.kernel_size == (3, 3) for c in convolutions) == depth


@pytest.mark.parametrize("strided", [True, False])
@pytest.mark.parametrize(("size", "last"), [(16, 2), (32, 4), (84, 11)])
def test_each_block_halves_the_picture(size: int, last: int, strided: bool) -> None:
    net = Backbone(tiny(size=size, strided=strided)).eval()
    x = torch.zeros(2, 3, size, size)
    assert net.blocks(x).shape == (2, 8, *([last if strided else size // 8] * 2))
    assert net(x).shape == (2, 8)


def test_weights_are_a_function_of_the_seed() -> None:
    torch.manual_seed(1)
    first = Backbone(tiny(), seed=5).state_dict()
    torch.manual_seed(2)
    again, other = Backbone(tiny(), seed=5).state_dict(), Backbone(tiny(), seed=6).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    convolutions = [name for name in first if first[name].ndim == 4]
    assert not any(torch.equal(first[name], other[name]) for name in convolutions)
    assert len({first[name].flatten()[0].item() for name in convolutions}) == len(convolutions)


def test_the_first_weights_have_the_variance_of_their_fan_out() -> None:
    weight = Backbone(Description()).blocks[2].conv2.weight.detach()
    assert float(weight.var()) == pytest.approx(2 / (80 * 9), rel=0.02)
    assert float(weight.abs().max()) <= (6 / (80 * 9)) ** 0.5


def test_normalization_is_of_pixels_over_255() -> None:
    images = drawn().images
    description = tiny(mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3))
    expected = (images / 255 - [0.4, 0.5, 0.6]) / [0.2, 0.25, 0.3]
    got = description.normalized(images).numpy()
    assert got.dtype == np.float32
    assert np.abs(got - expected.transpose(0, 3, 1, 2)).max() < 1e-6


def test_a_description_reads_back_as_it_was_written() -> None:
    description = tiny(activation=Activation.LEAKY_RELU, strided=False, inner=(2, 3, 4), mean=(0.1, 0.2, 0.3))
    assert Description.from_json(description.to_json()) == description
    for text in ("", "[]", "{}", description.to_json().replace("leaky_relu", "selu")):
        with pytest.raises(CompileError, match="cannot be read"):
            Description.from_json(text)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"maps": (16, 40)}, r"maps is '\(16, 40\)', not 3 or 4 numbers"),
        ({"maps": (16, 40, 0)}, "maps is"),
        ({"maps": (16, 40, 80.0)}, "maps is"),
        ({"inner": (16, 40)}, r"inner is '\(16, 40\)', not 3 numbers"),
        ({"size": 7}, "size is '7', not a number of pixels from 8 to 256"),
        ({"size": True}, "size is 'True'"),
        ({"strided": 1}, "strided is '1'"),
        ({"activation": "relu"}, "activation is 'relu'"),
        ({"mean": (0.5, 0.5)}, "mean is"),
        ({"std": (0.5, 0.5, float("nan"))}, "std is"),
        ({"std": (0.5, 0.0, 0.5)}, "std is .* above 0"),
    ],
)
def test_what_is_no_backbone_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(CompileError, match=message):
        Description(**changes)


@pytest.mark.parametrize(("depth", "width"), [(18, 16), (9, 0), (9, 2.5)])
def test_other_depths_and_widths_are_refused(depth: int, width: Any) -> None:
    with pytest.raises(CompileError, match=r"depth is|width is"):
        Description.of_depth(depth, width)


def test_a_leaky_network_lets_negative_values_through() -> None:
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 3, SIZE, SIZE))).float()
    leaky, plain = (Backbone(tiny(activation=a)).eval() for a in (Activation.LEAKY_RELU, Activation.RELU))
    with torch.no_grad():
        assert float(leaky.blocks(x).min()) < 0 <= float(plain.blocks(x).min())
