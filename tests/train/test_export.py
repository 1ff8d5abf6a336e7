"""The exported file computes what torch computes, or the export says which layer does not."""

from __future__ import annotations

from copy import deepcopy
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("brevitas")

import brevitas.nn as qnn  # noqa: E402
from brevitas import quant  # noqa: E402
from train_support import (  # noqa: E402
    Linears,
    Q,
    Residual,
    TwoInputs,
    calibrated,
    cnn,
    float_scales,
    images,
    outputs_of,
    rounded,
)

import pefslc  # noqa: E402
from pefslc.train import export, fixed_point  # noqa: E402

# torch and brevitas announce changes of their own; none of them is about us.
pytestmark = [pytest.mark.train, pytest.mark.filterwarnings("ignore")]

DYADIC = {
    "cnn": cnn,
    "wider": lambda: cnn(fixed_point("Q4.6")),
    "weights rounded down": lambda: cnn(weight=rounded(Q.weight, "FLOOR")),
    "weights rounded up": lambda: cnn(weight=rounded(Q.weight, "CEIL")),
    "weights rounded to zero": lambda: cnn(weight=rounded(Q.weight, "ROUND_TO_ZERO")),
    "biases rounded down": lambda: cnn(bias=rounded(Q.bias, "FLOOR")),
    "activations rounded down": lambda: cnn(relu=rounded(Q.relu, "FLOOR")),
    "signed after relu": lambda: cnn(relu=Q.activation),
    "float bias": lambda: cnn(bias=None),
    "depthwise": lambda: cnn(groups=4),
    "batch norm": lambda: calibrated(cnn(norm=torch.nn.BatchNorm2d)),
    "residual": Residual,
}


@pytest.mark.parametrize("name", DYADIC)
def test_the_file_computes_what_torch_does(tmp_path: Path, name: str) -> None:
    net, x = DYADIC[name](), images()
    export(net, x, tmp_path / "net.onnx")
    got = pefslc.load(tmp_path / "net.onnx").run(x.numpy())["output"]
    (expected,) = outputs_of(net, x)
    assert expected.std() > 0.1, "the network computes something"
    if name in ("batch norm", "float bias"):  # sums that float64 rounds
        assert np.abs(got - expected).max() < 1e-9
    else:
        assert np.array_equal(got, expected)


@pytest.mark.parametrize("shared", ["weight", "quantizer", "numbers"])
def test_layers_may_share(tmp_path: Path, shared: str) -> None:
    """Equal arrays become one in the file, although their quantizers make two of them."""
    net, x = Linears(shared), torch.randn(5, 6)
    export(net, x, tmp_path / "net.onnx")
    (expected,) = outputs_of(net, x)
    assert np.array_equal(pefslc.load(tmp_path / "net.onnx").run(x.numpy())["output"], expected)


A2Q = quant.Int8AccumulatorAwareWeightQuant.let(bit_width=6, accumulator_bit_width=12)
FLOAT = {
    "per channel": float_scales,
    "per tensor, rounded down": lambda: float_scales(weight=rounded(quant.Int8WeightPerTensorFloat, "FLOOR")),
    "accumulator-aware": lambda: float_scales(weight=A2Q, bias=None),
}


@pytest.mark.parametrize("name", FLOAT)
def test_float_scales_are_exported_with_their_weights_as_quantized(tmp_path: Path, name: str) -> None:
    net, x = FLOAT[name](), images()
    proto = export(net, x, tmp_path / "net.onnx")
    arrays = {t.name: onnx.numpy_helper.to_array(t) for t in proto.graph.initializer}
    weights = [n for n in proto.graph.node if n.op_type == "Quant" and n.input[0].endswith(".weight")]
    assert [n.input[0] for n in weights] == ["1.weight", "5.weight", "9.weight"]
    with torch.no_grad():
        for node in weights:
            index = int(node.input[0][0])
            expected = net[index].quant_weight(net[:index](x))  # accumulator-aware quantizers look at the input
            codes = np.rint(arrays[node.input[0]].astype(np.float64) / arrays[node.input[1]])
            assert np.array_equal(arrays[node.input[0]], expected.value.numpy())
            assert np.array_equal(codes, expected.int().numpy())
    (expected,) = outputs_of(net, x)
    got = pefslc.load(tmp_path / "net.onnx").run(x.numpy())["output"]
    # Scales computed in float64 differ in the last bit, which may carry a code over a rounding boundary.
    assert np.abs(got - expected).max() < np.abs(expected).max() / 50


def test_inputs_and_outputs_keep_their_order_and_get_names(tmp_path: Path) -> None:
    net, left, right = TwoInputs(), torch.randn(3, 6), torch.randn(3, 3)
    export(net, (left, right), tmp_path / "net.onnx")
    graph = pefslc.load(tmp_path / "net.onnx")
    assert [i.name for i in graph.inputs] == ["left", "right"]
    got = graph.run({"left": left.numpy(), "right": right.numpy()})
    assert list(got) == ["output_0", "output_1"]
    for mine, expected in zip(got.values(), outputs_of(net, left, right), strict=True):
        assert np.array_equal(mine, expected)
    export(net, (left, right), tmp_path / "net.onnx", input_names=["a", "b"], output_names=["c", "d"])
    named = pefslc.load(tmp_path / "net.onnx")
    assert [i.name for i in named.inputs] + [o.name for o in named.outputs] == ["a", "b", "c", "d"]


def test_the_file_is_of_one_row_self_contained_and_reproducible(tmp_path: Path) -> None:
    net = cnn()
    before = {name: t.clone() for name, t in net.state_dict().items()}
    net.train()
    proto = export(net, images(19), tmp_path / "a.onnx")
    export(net, images(2).numpy(), tmp_path / "b.onnx")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.onnx", "b.onnx"]
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
    assert [d.dim_value for d in proto.graph.input[0].type.tensor_type.shape.dim] == [1, 1, 8, 8]
    assert [i.name for i in proto.graph.input] == ["input"], "weights are no inputs"
    assert not any(n.doc_string or n.metadata_props for n in proto.graph.node)
    assert str(Path(__file__).parent).encode() not in (tmp_path / "a.onnx").read_bytes()
    assert net.training, "the network is not touched"
    assert all(torch.equal(t, before[name]) for name, t in net.state_dict().items())


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_a_file_of_raw_weights_is_refused_with_the_layer(depth: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What Brevitas itself writes for FLOOR weights: the check finds it."""
    net = cnn(weight=rounded(Q.weight, "FLOOR")).eval()
    for _ in range(depth):
        net = torch.nn.Sequential(torch.nn.Identity(), net)
    module = import_module("pefslc.train.export")
    brevitas_export = module.export_qonnx
    monkeypatch.setattr(module, "export_qonnx", lambda _, **options: brevitas_export(deepcopy(net), **options))
    with pytest.raises(pefslc.CompileError, match="does not compute what the network does") as raised:
        export(net, images())
    assert f"layer '{'1.' * depth}3'" in str(raised.value)


class Branching(torch.nn.Module):
    """A forward that looks at its data: tracing keeps one branch."""

    def __init__(self) -> None:
        super().__init__()
        self.block = torch.nn.Sequential(qnn.QuantIdentity(act_quant=Q.input), qnn.QuantReLU(act_quant=Q.relu))
        self.last = qnn.QuantIdentity(act_quant=Q.activation)

    def forward(self, x: Any) -> Any:
        y = self.block(x)
        return self.last(y if x[0, 0] > 0 else -y)


def test_a_forward_that_branches_on_its_data_is_refused() -> None:
    with pytest.raises(pefslc.CompileError, match="does not compute what the network does") as raised:
        export(Branching(), torch.full((1, 3), 0.5))
    assert "layer 'last'" in str(raised.value)
    assert "branch" in str(raised.value)


class Random(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = cnn()

    def forward(self, x: Any) -> Any:
        return self.inner(x + torch.rand_like(x))


class Keeping(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = cnn()
        self.last = self.inner(images())  # with its graph

    def forward(self, x: Any) -> Any:
        return self.inner(x)


class Ignoring(TwoInputs):
    def forward(self, left: Any, right: Any) -> Any:  # noqa: ARG002
        return self.act(self.first(left))


def diverged() -> Any:
    net = cnn()
    net[1].weight.data[0] = float("nan")
    return net


class Text(torch.nn.Module):
    def forward(self, x: Any) -> Any:
        return str(x)


def shared_at_two_scales() -> Any:
    """One layer called twice, its bias at the scale of what comes in, which is another one the second time."""
    acts = [qnn.QuantIdentity(act_quant=quant.Int8ActPerTensorFloat, return_quant_tensor=True) for _ in range(2)]
    linear = qnn.QuantLinear(10, 10, bias=True, weight_quant=quant.Int8WeightPerTensorFloat, bias_quant=quant.Int8Bias)
    return calibrated(torch.nn.Sequential(float_scales(), acts[0], linear, acts[1], linear))


@pytest.mark.parametrize(
    ("make", "example", "message"),
    [
        (lambda: cnn(first=quant.Int8ActPerTensorFloat), images(), "not calibrated"),
        (lambda: cnn().double(), images(), "the parameters are torch.float64, not float32"),
        (cnn, torch.zeros(2, 3, 8, 8), "does not run on the example"),
        (cnn, torch.zeros(0, 1, 8, 8), "the example has shapes"),
        (cnn, (), "the example has shapes"),
        (cnn, ["text"], "the example is no tensor"),
        (cnn, None, "the example is no tensor: 'NoneType' object is not iterable"),
        (cnn, cnn(), "the example is no tensor: Could not infer dtype of QuantIdentity"),
        (cnn, images() * float("nan"), "the example holds NaN or infinity"),
        (cnn, (images() / 0).numpy(), "the example holds NaN or infinity"),
        (cnn, images() * 1j, "the example holds complex numbers"),
        (images, cnn(), "is not a torch network"),
        (lambda: torch.nn.ReLU, images(), "is not a torch network"),
        (TwoInputs, (torch.zeros(2, 6), torch.zeros(3, 3)), "the example has shapes"),
        (Random, images(), "with the scales of this run held constant"),
        (shared_at_two_scales, images(), "with the scales of this run held constant"),
        (Keeping, images(), "the network cannot be copied"),
        (diverged, images(), "the network computes NaN or infinity on the example"),
        (Ignoring, (torch.ones(2, 6), torch.ones(2, 6)), "input 'right'"),
        (Text, images(), "forward returns str, not tensors"),
        (lambda: torch.nn.LSTM(6, 6), torch.zeros(2, 3, 6), "is not supported"),
    ],
)
def test_what_cannot_be_exported_is_said(make: Any, example: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(pefslc.CompileError) as raised:
        export(make(), example, tmp_path / "net.onnx")
    assert message in str(raised.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["mine.txt", "mine", "folder.onnx", "link.onnx"])
def test_an_export_replaces_an_onnx_file_and_no_other(tmp_path: Path, name: str) -> None:
    net, x = cnn(), images()
    export(net, x, tmp_path / "net.onnx")
    export(net, x, tmp_path / "net.onnx")
    path = tmp_path / name
    match name:
        case "folder.onnx":
            path.mkdir()
        case "link.onnx":
            path.symlink_to(tmp_path / "net.onnx")
        case _:
            path.write_text("a thesis")
    before = (tmp_path / "net.onnx").read_bytes()
    with pytest.raises(pefslc.CompileError) as raised:
        export(net, x, path)
    assert raised.value.problems[0].code is pefslc.Code.IN_THE_WAY
    assert (tmp_path / "net.onnx").read_bytes() == before
    assert path.suffix == ".onnx" or path.read_text() == "a thesis"
    assert {p.name for p in tmp_path.iterdir()} == {"net.onnx", name}


@pytest.mark.parametrize("path", [3, b"net.onnx", "a\0b", "\ud800"])
def test_what_is_no_path_is_said(path: Any) -> None:
    with pytest.raises(pefslc.CompileError, match="is not the path of a file") as raised:
        export(cnn(), images(), path)
    assert raised.value.problems[0].code is pefslc.Code.CANNOT_WRITE


@pytest.mark.parametrize("names", ["x", 3, [], ["a", "b"], [3], [""], ["a\0b"], [None]])
@pytest.mark.parametrize("what", ["input_names", "output_names"])
def test_names_of_another_number_are_refused(what: str, names: Any) -> None:
    with pytest.raises(pefslc.CompileError, match=f"{what} is .*, not a list of one name"):
        export(cnn(), images(), **{what: names})


def test_an_input_and_an_output_of_one_name_are_refused() -> None:
    with pytest.raises(pefslc.CompileError, match="an input and an output are named 'output'"):
        export(cnn(), images(), input_names=["output"])
    with pytest.raises(pefslc.CompileError, match=r"input_names is .*, not a list of 2 different names"):
        export(TwoInputs(), (torch.ones(2, 6), torch.ones(2, 3)), input_names=["a", "a"])


def test_brevitas_compiled_by_torchscript_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("brevitas.config.JIT_ENABLED", True)
    with pytest.raises(pefslc.CompileError, match="unset BREVITAS_JIT"):
        export(cnn(), images())


def test_a_reloaded_network_counts_as_calibrated(tmp_path: Path) -> None:
    net, again = float_scales(), float_scales(calibrate=False)
    again.load_state_dict(net.state_dict())
    export(net, images(), tmp_path / "a.onnx")
    export(again, images(), tmp_path / "b.onnx")
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
