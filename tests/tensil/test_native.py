"""Native arithmetic: float models in the TCU's own fixed-point numbers, bounded by half a unit a product."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from tensil_support import group_program

import pefslc
from builders import ModelBuilder
from native_network import UNIT, Bounded, Network, on_grid
from pefslc.diagnostics.errors import CompileError, Origin
from pefslc.geometry.shapes import Window
from pefslc.numeric.format import FixedPoint
from pefslc.targets.tensil.group_rewrites.fusion import FuseSums
from pefslc.targets.tensil.group_rewrites.means import SplitMeans
from pefslc.targets.tensil.groups.group import AddTensor, Group, LinearHead, Term
from pefslc.targets.tensil.groups.layout import Layout
from pefslc.targets.tensil.groups.selection import select
from pefslc.targets.tensil.machine.architecture import DataType, load_architecture
from pefslc.targets.tensil.native.exponents import Exponents
from pefslc.targets.tensil.native.native_placement import place_natively
from pefslc.targets.tensil.native.native_scales import NativeScales
from pefslc.targets.tensil.native.native_words import native_format
from pefslc.targets.tensil.rewriting.rewrite import Context

Floats = NDArray[np.float64]
FP16 = DataType["FP16BP8"]
CONTEXT = Context(load_architecture("custom_perf"))
ROOT = Path(__file__).resolve().parents[2]
MODELS = ROOT.parent / "shared" / "tcu" / "models"


@pytest.mark.parametrize("unit", [UNIT, UNIT / 4])
@pytest.mark.parametrize("seed", range(12))
def test_no_output_is_further_off_than_its_products_allow(seed: int, unit: float, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    n = Network(seed, int(rng.integers(1, 5)), int(rng.integers(4, 10)), unit)
    n.check(residual_blocks(n, rng), tmp_path, str(rng.choice(["pynqz1", "custom_perf", "zcu104"])))


def residual_blocks(n: Network, rng: np.random.Generator) -> str:
    """Two of them and a mean."""
    current = "x"
    for _ in range(2):
        channels, stride = int(rng.integers(3, 20)), int(rng.integers(1, 3))
        body = n.activation(n.conv(current, channels, 3, stride), *(("Relu",), ("LeakyRelu", 0.1))[rng.integers(2)])
        body = n.conv(body, channels, int(rng.choice([1, 3])))
        same = n.known[current].values.shape == n.known[body].values.shape
        shortcut = current if same else n.conv(current, channels, 1, stride)
        current = n.activation(n.add(body, shortcut), *(("Relu",), ("LeakyRelu", 0.25))[rng.integers(2)])
    return n.mean(current)


@pytest.mark.parametrize("finer", [0, 3])
@pytest.mark.parametrize(("data_type", "seed"), [("FP18BP10", 1), ("FP32BP16", 2), ("FP32BP16", 3), ("FP32BP16", 4)])
def test_on_wider_data_types_the_bound_is_that_of_their_unit(
    data_type: str, seed: int, finer: int, tmp_path: Path
) -> None:
    fmt, step = native_format(DataType[data_type]), 2.0 ** -DataType[data_type].binary_point
    n = Network(seed, 3, 8, step / 2**finer, step)
    architecture = board_with(data_type, tmp_path)
    n.check(residual_blocks(n, np.random.default_rng(seed)), tmp_path, str(architecture), str(fmt))


def board_with(data_type: str, folder: Path) -> Path:
    path = folder / f"{data_type}.tarch"
    architecture = replace(load_architecture("pynqz1"), data_type=DataType[data_type])
    path.write_text(json.dumps(architecture.to_json_dict()))
    return path


def test_convolutions_of_one_streamed_tensor_need_room_for_the_largest_window(tmp_path: Path) -> None:
    """Of two that read a tensor from DRAM0, the second's window is the smaller one."""
    n = Network(3, 2, 16)
    board = replace(load_architecture("custom_perf"), array_size=4, local_depth=150)
    (tmp_path / "small.tarch").write_text(json.dumps(board.to_json_dict()))
    n.check(n.add(n.conv("x", 2, 5), n.conv("x", 2, 1)), tmp_path, str(tmp_path / "small.tarch"))


def test_a_difference_of_a_sum_and_of_what_is_stored(tmp_path: Path) -> None:
    n = Network(3, 4, 8)
    first = n.activation(n.conv("x", 6, 3), "Relu")
    n.check(n.activation(n.add(n.conv(first, 6, 3), first, "Sub"), "Relu"), tmp_path, "custom_perf")
    n = Network(4, 4, 8)
    first = n.activation(n.conv("x", 6, 3), "Relu")
    n.check(n.activation(n.add(first, n.conv(first, 6, 3), "Sub"), "Relu"), tmp_path, "custom_perf")


@pytest.mark.parametrize("channels", [2, 5])
def test_an_input_that_the_host_packs_is_not_added_where_it_lies(channels: int, tmp_path: Path) -> None:
    """Its vectors hold other pixels, too, and not the pixel itself first."""
    n = Network(3, channels, 8)
    n.check(n.conv(n.activation(n.add(n.conv("x", channels, 3), "x"), "Relu"), 3, 3), tmp_path, "custom_perf")


def test_a_shuffled_shortcut_is_not_added_where_it_lies(tmp_path: Path) -> None:
    n = Network(3, 6, 8)
    x = n.activation(n.conv("x", 6, 3), "Relu")
    split = n.m.node("Reshape", x, n.m.constant([1, 2, 3, 8, 8], dtype=np.int64))
    turned = n.m.node("Transpose", split, perm=[0, 2, 1, 3, 4])
    shuffled = n.m.node("Reshape", turned, n.m.constant([1, 6, 8, 8], dtype=np.int64))
    order = np.arange(6).reshape(2, 3).T.reshape(-1)
    n.known[shuffled] = Bounded(n.known[x].values[order], n.known[x].bound[order])
    n.check(n.activation(n.add(n.conv(x, 6, 3), shuffled), "Relu"), tmp_path, "custom_perf")


def test_a_shortcut_is_added_where_it_lies(tmp_path: Path) -> None:
    """The Add of a residual block makes no group of its own: neither with a convolution nor without."""
    n = Network(3, 12, 8)
    first = n.activation(n.conv("x", 12, 3), "Relu")
    plain = n.activation(n.add(n.conv(n.activation(n.conv(first, 12, 3), "Relu"), 12, 3), first), "Relu")
    down = n.add(n.conv(n.activation(n.conv(plain, 12, 3, 2), "Relu"), 12, 3), n.conv(plain, 12, 1, 2))
    program = n.check(n.activation(down, "Relu"), tmp_path, "custom_perf")
    groups = SplitMeans().run(select(program.graph), CONTEXT)
    fused = FuseSums.of(program.graph, groups).run(groups, CONTEXT)
    scales = NativeScales.of(program.graph, groups)
    words = place_natively(fused, scales, FP16, Exponents.none(fused), measured=False).words
    assert len(words.groups) == len(fused.groups) == 5
    assert len(words.groups[-1].terms) == 2


@pytest.mark.parametrize("ops", [("double",), ()])
def test_a_convolution_that_happens_to_scale_is_no_rescale(ops: tuple[str, ...]) -> None:
    """Whether it computes an operation of the network or helps with one: its products are summed with the others."""
    image, point = Layout(4, 3, 3), Window(kernel=(1, 1))
    none = np.zeros(4, dtype=np.int64)
    weights = np.eye(4, dtype=np.int64)[:, :, None, None] * 2, np.ones((4, 4, 1, 1), dtype=np.int64)
    doubled, summed = (LinearHead((Term("x", weight, point),), none) for weight in weights)
    first = Group("a", image, doubled, (), ops, Origin("a", "Conv"))
    second = Group("b", image, summed, (AddTensor("a"),), ("conv", "add"), Origin("b", "Conv"))
    program = group_program([first, second], {"x": image}, "b", dict.fromkeys("xab", (-8, 7)))
    (fused,) = FuseSums({"other": "x"}).run(program, CONTEXT).groups
    assert isinstance(fused.head, LinearHead)
    assert [term.weight.tolist() for term in fused.head.terms] == [weight.tolist() for weight in weights]
    assert fused.ops == (*ops, "conv", "add")


@pytest.mark.parametrize(("height", "width"), [(8, 8), (16, 16), (7, 7), (6, 5), (1, 12), (13, 1)])
def test_means_lose_little(height: int, width: int, tmp_path: Path) -> None:
    m = ModelBuilder()
    pooled = m.node(
        "GlobalAveragePool",
        m.node("Conv", m.input([1, 3, height, width], "x"), m.constant(np.eye(3)[:, :, None, None])),
    )
    m.output(pooled, [1, 3, 1, 1])
    program = pefslc.compile(m.save(tmp_path), target="tensil", fmt="Q8.8", arch="custom_perf")
    x = on_grid(np.random.default_rng(1).uniform(-4, 4, (20, 3, height, width)))
    errors = program.run({"x": x})[pooled] - x.mean((2, 3), keepdims=True)
    assert np.sqrt((errors**2).mean()) < 1.6 * UNIT  # by weights of 1/256, 16 x 16 pixels would be 4.6 units off


def test_a_mean_of_the_largest_words_does_not_saturate(tmp_path: Path) -> None:
    m = ModelBuilder()
    pooled = m.node("GlobalAveragePool", m.node("Conv", m.input([1, 1, 7, 7], "x"), m.constant(np.ones((1, 1, 1, 1)))))
    m.output(pooled, [1, 1, 1, 1])
    program = pefslc.compile(m.save(tmp_path), target="tensil", fmt="Q8.8", arch="pynqz1")
    for value in (127.0, -127.0):
        assert abs(program.run({"x": np.full((1, 1, 7, 7), value)})[pooled].item() - value) < 0.5


# --- words finer than the data type's --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data_type", "fmt"), [("FP8BP4", "Q4.4"), ("FP16BP8", "Q8.8"), ("FP18BP10", "Q8.10"), ("FP32BP16", "Q16.16")]
)
def test_every_data_type_has_its_own_format(data_type: str, fmt: str, tmp_path: Path) -> None:
    assert str(native_format(DataType[data_type])) == fmt
    path = board_with(data_type, tmp_path)
    program = pefslc.compile(ROOT / "examples" / "cnn_float.onnx", target="tensil", fmt=fmt, arch=path)
    assert program.emission.native == FixedPoint.parse(fmt)


def test_a_quantized_network_of_the_same_format_stays_refused(tmp_path: Path) -> None:
    """Who trained with quantizers means them: native arithmetic is for float models only."""
    m = ModelBuilder()
    x = m.quant(m.input([1, 8, 6, 6], "x"), UNIT, 16)
    weight = m.weight(np.random.default_rng(0).normal(0, 0.3, (8, 8, 3, 3)), UNIT, 16)
    m.output(m.quant(m.node("Conv", x, weight), UNIT, 16), [1, 8, 4, 4])
    with pytest.raises(CompileError, match="the accumulator needs"):
        pefslc.compile(m.save(tmp_path), target="tensil", fmt="Q8.8", arch="custom_perf")


def test_a_wide_quantizer_of_another_model_is_refused(tmp_path: Path) -> None:
    """What native arithmetic takes as a line, no exact program computes."""
    m = ModelBuilder()
    x = m.quant(m.input([1, 8, 6, 6], "x"), 2.0**-8, 22)
    m.output(m.quant(m.node("Conv", x, m.weight(np.eye(8)[:, :, None, None], 2.0**-1, 4)), 2.0**-8, 23), [1, 8, 6, 6])
    with pytest.raises(CompileError, match="codes of 22 bits are not supported on the TCU"):
        pefslc.compile(m.save(tmp_path), target="tensil", arch=board_with("FP32BP16", tmp_path))


def test_verification_measures_what_is_bounded() -> None:
    program = pefslc.compile(ROOT / "examples" / "cnn_float.onnx", target="tensil", fmt="Q8.8", arch="custom_perf")
    shape = program.graph.inputs[0].value.type.shape
    x = np.random.default_rng(5).normal(0, 1, (3, *shape[1:]))
    model = pefslc.load(ROOT / "examples" / "cnn_float.onnx")
    (name,) = (o.name for o in model.outputs)
    wanted, found = model.run(x)[name], program.run(x)[name]
    verified = program.verify({"x": x, "y_ref64": wanted})
    assert verified.equal
    assert all("interpreter" in c.compared for c in verified.comparisons)
    by_name = {d.compared: d for d in verified.errors}
    ours = by_name["tensil and the float model"]
    assert ours.largest == np.abs(found - wanted).max() > 0
    assert ours.rms == pytest.approx(float(np.sqrt(((found - wanted) ** 2).mean())))
    assert by_name["tensil and 'y_ref64'"].largest == ours.largest
    exact = program.lowered.reference.run(x)[name]
    assert by_name["interpreter and the float model"].largest == np.abs(exact - wanted).max()
    assert all(row.exact == (row.op == "MaxPool") for row in program.layers)  # a maximum rounds nothing
    assert not program.exact
    assert program.sidecar.details["native_arithmetic"] == "Q8.8"


def test_the_c_target_computes_the_quantized_model_exactly() -> None:
    program = pefslc.compile(ROOT / "examples" / "cnn_float.onnx", target="c", fmt="Q8.8")
    assert program.emission.native is None
    assert all(row.exact for row in program.layers)


def test_a_mean_of_codes_that_a_word_would_not_hold_stays_a_mean(tmp_path: Path) -> None:
    """A ReLU that proves to reach 8.3: 16 codes of Q8.8 are one bit too much for exact sums, and nothing here, where
    words saturate. The codes must not be moved around 0 for room: the ReLU would be no ReLU.
    """
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(4, 4, 1, 1)).clip(-1, 1)
    weight[0, 0, 0, 0] = 7.5
    dense = rng.normal(size=(3, 4)) * 0.3
    m = ModelBuilder()
    conv = m.node("Conv", m.input([1, 4, 4, 4], "x"), m.constant(weight.astype(np.float32)))
    mean = m.node("Flatten", m.node("GlobalAveragePool", m.node("Relu", conv)))
    m.output(m.node("Gemm", mean, m.constant(dense.astype(np.float32)), transB=1), [1, 3])
    program = pefslc.compile(m.save(tmp_path, "m.onnx"), target="tensil", arch="pynqz1", fmt="Q8.8", input_fmt="Q1.7")
    x = rng.integers(-128, 128, (8, 4, 4, 4)) / 128
    x[0] = 127 / 128 * np.sign(weight[0, :, 0, 0])[:, None, None]  # reaches the most
    exact = np.maximum(np.einsum("oi,nihw->nohw", weight[:, :, 0, 0], x), 0).mean(axis=(2, 3)) @ dense.T
    (found,) = program.run(x).values()
    assert np.abs(found - exact).max() < 0.05
    assert np.abs(exact).max() > 1
