"""Weights of EASY, brain-train and PEFSL: our backbone computes with them what plain torch functions do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("brevitas")

from fewshot.network_support import tiny  # noqa: E402
from torch.nn import functional  # noqa: E402

from pefslc.diagnostics.errors import CompileError  # noqa: E402
from pefslc.fewshot.networks import Activation, Backbone, Description  # noqa: E402
from pefslc.fewshot.networks.foreign_weights import load_weights  # noqa: E402

pytestmark = [pytest.mark.train, pytest.mark.filterwarnings("ignore")]

MAPS = {9: (4, 10, 20), 12: (4, 10, 20, 40)}
# (block from 0, convolution 1 to 3 or "sc") -> the names of its weight and of its BatchNorm
WRITERS: dict[str, Any] = {
    "brain-train": lambda b, c: (
        f"block{b + 1}.{c if c == 'sc' else f'conv{c}'}.conv",
        f"block{b + 1}.{c if c == 'sc' else f'conv{c}'}.bn",
    ),
    "EASY": lambda b, c: (
        (f"layers.{b}.shortcut.0", f"layers.{b}.shortcut.1")
        if c == "sc"
        else (f"layers.{b}.conv{c}", f"layers.{b}.bn{c}")
    ),
}


def written(writer: str, depth: int) -> dict[str, Any]:
    """A state dict with that writer's names, and the classifiers that such files hold."""
    draw = torch.Generator().manual_seed(depth)
    weights: dict[str, Any] = {}
    inputs = 3
    for b, outputs in enumerate(MAPS[depth]):
        for c in (1, 2, 3, "sc"):
            conv, norm = WRITERS[writer](b, c)
            fan_in = outputs if c in (2, 3) else inputs
            size = 1 if c == "sc" else 3
            weights[f"{conv}.weight"] = torch.randn(outputs, fan_in, size, size, generator=draw) / fan_in**0.5
            for part in ("weight", "bias", "running_mean", "running_var"):
                weights[f"{norm}.{part}"] = torch.rand(outputs, generator=draw) + 0.5 * (part != "bias")
            weights[f"{norm}.num_batches_tracked"] = torch.tensor(7)
        inputs = outputs
    if writer == "EASY":
        weights |= {"linear.weight": torch.ones(5, inputs), "linear_rot.bias": torch.ones(4)}
    return weights


def features(weights: dict[str, Any], writer: str, depth: int, x: Any, *, strided: bool, slope: float) -> Any:
    """The network by plain functions of torch."""

    def layer(x: Any, b: int, c: Any, stride: int) -> Any:
        conv, norm = WRITERS[writer](b, c)
        y = functional.conv2d(x, weights[f"{conv}.weight"], stride=stride, padding=0 if c == "sc" else 1)
        mean, variance, gamma, beta = (
            weights[f"{norm}.{part}"].view(1, -1, 1, 1) for part in ("running_mean", "running_var", "weight", "bias")
        )
        return (y - mean) / torch.sqrt(variance + 1e-5) * gamma + beta

    stride = 2 if strided else 1
    for b in range(len(MAPS[depth])):
        y = functional.leaky_relu(layer(x, b, 1, 1), slope)
        y = functional.leaky_relu(layer(y, b, 2, 1), slope)
        x = functional.leaky_relu(layer(y, b, 3, stride) + layer(x, b, "sc", stride), slope)
        x = x if strided else functional.max_pool2d(x, 2)
    return x.mean((2, 3))


@pytest.mark.parametrize("strided", [True, False])
@pytest.mark.parametrize("depth", [9, 12])
@pytest.mark.parametrize("writer", WRITERS)
def test_weights_compute_what_their_network_did(tmp_path: Path, writer: str, depth: int, strided: bool) -> None:
    weights = written(writer, depth)
    torch.save(weights, tmp_path / "x.pt")
    for activation, slope in ((Activation.LEAKY_RELU, 0.1), (Activation.RELU, 0.0)):
        net = load_weights(
            tmp_path / "x.pt", Description(maps=MAPS[depth], size=16, strided=strided, activation=activation)
        )
        x = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            expected = features(weights, writer, depth, x, strided=strided, slope=slope)
            assert torch.allclose(net(x), expected, rtol=1e-4, atol=1e-4)
    assert expected.std() > 0.1
    assert not net.training


def test_the_maps_are_read_from_the_file(tmp_path: Path) -> None:
    torch.save({f"module.{name}": t for name, t in written("EASY", 12).items()}, tmp_path / "x.pt")
    net = load_weights(tmp_path / "x.pt")
    assert net.description == Description(maps=MAPS[12], activation=Activation.LEAKY_RELU)


def test_our_own_weights_come_back(tmp_path: Path) -> None:
    net = Backbone(tiny(inner=(3, 5, 7)), seed=3)
    torch.save({"state_dict": net.state_dict(), "epoch": 3}, tmp_path / "x.pt")
    back = load_weights(tmp_path / "x.pt", tiny(inner=(3, 5, 7))).state_dict()
    assert all(torch.equal(back[name], tensor) for name, tensor in net.state_dict().items())
    assert load_weights(tmp_path / "x.pt").description.inner == (3, 5, 7)


def test_each_layer_that_does_not_fit_is_named(tmp_path: Path) -> None:
    weights = written("brain-train", 9)
    del weights["block2.conv1.bn.running_var"]
    weights["block3.sc.conv.weight"] = torch.zeros(20, 11, 1, 1)
    weights["block1.conv2.bn.bias"][0] = float("nan")
    weights["block4.conv1.conv.weight"] = torch.zeros(2, 2, 3, 3)
    weights["embed.conv.weight"] = torch.zeros(4)
    torch.save(weights, tmp_path / "x.pt")
    with pytest.raises(CompileError) as refused:
        load_weights(tmp_path / "x.pt", tiny(maps=MAPS[9]))
    assert [p.message for p in refused.value.problems] == [
        "'blocks.0.norm2.bias' holds NaN or infinity",
        "the file has nothing for 'blocks.1.norm1.running_var', [10]",
        "'blocks.2.shortcut.weight' is [20, 11, 1, 1] in the file and [20, 10, 1, 1] in the backbone",
        "the backbone has no 'blocks.3.conv1.weight', [2, 2, 3, 3]",
        "the backbone has no 'embed.conv.weight', [4]",
    ]
    assert "written by brain-train or PEFSL; the backbone is a ResNet-9 of 4, 10, 20 maps" in str(refused.value)


def test_a_resnet12_is_no_resnet9(tmp_path: Path) -> None:
    torch.save(written("EASY", 12), tmp_path / "x.pt")
    with pytest.raises(CompileError, match=r"the backbone has no 'blocks.3.conv1.weight'") as refused:
        load_weights(tmp_path / "x.pt", tiny(maps=MAPS[9]))
    assert len(refused.value.problems) == 13, "twelve, and how many others"


class _Runs:
    """What would run code if it were unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("executed"),))


@pytest.mark.parametrize("content", [b"", b"weights", {"conv.weight": 3}, [1, 2], {}, _Runs()])
def test_other_files_are_refused_and_nothing_is_executed(
    tmp_path: Path, content: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "x.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(CompileError, match="does not hold tensors by the names of layers"):
        load_weights(path)
    assert not (tmp_path / "executed").exists()


def test_weights_of_other_networks_are_refused(tmp_path: Path) -> None:
    torch.save({"features.0.weight": torch.zeros(3)}, tmp_path / "x.pt")
    with pytest.raises(CompileError, match=r"holds no weights of a ResNet-9 or ResNet-12: .*'features.0.weight'"):
        load_weights(tmp_path / "x.pt")


def test_no_file_and_a_folder_are_said(tmp_path: Path) -> None:
    for path, said in ((tmp_path / "none.pt", "no such file"), (tmp_path, "cannot read")):
        with pytest.raises(CompileError, match=said):
            load_weights(path)
