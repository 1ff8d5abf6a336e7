"""Native arithmetic: float models in the TCU's own fixed-point numbers, bounded by half a unit a product."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import pefslc
from builders import ModelBuilder
from pefslc.diagnostics import CompileError
from pefslc.numeric.format import FixedPoint
from pefslc.targets.tensil.architecture import DataType, load_architecture
from pefslc.targets.tensil.driver import run_tmodel
from pefslc.targets.tensil.means import split_means
from pefslc.targets.tensil.native import place_natively
from pefslc.targets.tensil.native_words import extra_bits, native_format
from pefslc.targets.tensil.selection import select

Floats = NDArray[np.float64]
FP16 = DataType["FP16BP8"]
UNIT = 2.0**-8
ROOT = Path(__file__).resolve().parents[2]
MODELS = ROOT.parent / "shared" / "tcu" / "models"


# --- a network with its error bound, evaluated here ------------------------------------------------------------------


@dataclass
class Bounded:
    """Values of a network whose weights, bias and input lie on the grid, and how far native arithmetic may be off."""

    values: Floats
    bound: Floats


def on_grid(x: Floats, step: float = UNIT) -> Floats:
    return np.rint(x / step) * step


def convolved(x: Floats, weight: Floats, stride: int) -> Floats:
    pad = weight.shape[2] // 2
    padded = np.pad(x, ((0, 0), (pad, pad), (pad, pad)))
    size = (x.shape[1] - 1) // stride + 1
    result = np.zeros((len(weight), size, size))
    for ky, kx in np.ndindex(*weight.shape[2:]):
        end = (size - 1) * stride + 1
        part = padded[:, ky : ky + end : stride, kx : kx + end : stride]
        result += np.tensordot(weight[:, :, ky, kx], part, axes=1)
    return result


class Network:
    """A float model under construction, evaluated with its bound as it grows.

    step  of weights and of the input: that of the data type's own format
    unit  of sums and tensors
    """

    def __init__(self, seed: int, channels: int, size: int, unit: float = UNIT, step: float = UNIT) -> None:
        self.unit, self.step = unit, step
        self.rng = np.random.default_rng(seed)
        self.m = ModelBuilder()
        self.x = self.rng.uniform(-1, 1, (1, channels, size, size))
        self.known = {
            self.m.input([1, channels, size, size], "x"): Bounded(on_grid(self.x[0], step), np.zeros_like(self.x[0]))
        }

    def conv(self, name: str, outputs: int, kernel: int, stride: int = 1) -> str:
        x = self.known[name]
        weight = self.rng.normal(0, 1 / np.sqrt(len(x.values) * kernel**2), (outputs, len(x.values), kernel, kernel))
        bias = self.rng.normal(0, 0.3, outputs)
        if self.unit < self.step:  # the rounding of weights must not hide that of products
            weight, bias = on_grid(weight, self.step), on_grid(bias, self.step)
        pad = kernel // 2
        made = self.m.node(
            "Conv", name, self.m.constant(weight), self.m.constant(bias), kernel_shape=[kernel] * 2,
            strides=[stride] * 2, pads=[pad] * 4,
        )  # fmt: skip
        weight, bias = (on_grid(a.astype(np.float32), self.step) for a in (weight, bias))
        products = convolved(np.ones_like(x.values), np.abs(weight) > 0, stride)
        self.known[made] = Bounded(
            convolved(x.values, weight, stride) + bias[:, None, None],
            convolved(x.bound, np.abs(weight), stride) + (products + 1) * self.unit / 2,
        )
        return made

    def activation(self, name: str, op: str, alpha: float = 0.0) -> str:
        x = self.known[name]
        made = self.m.node(op, name, **({"alpha": alpha} if op == "LeakyRelu" else {}))
        values = np.where(x.values > 0, x.values, alpha * x.values)
        slope = self.step / 2 * (np.abs(x.values) + x.bound) if op == "LeakyRelu" else 0
        self.known[made] = Bounded(values, x.bound + slope + self.unit / 2)
        return made

    def add(self, a: str, b: str, op: str = "Add") -> str:
        made = self.m.node(op, a, b)
        x, y = self.known[a], self.known[b]
        self.known[made] = Bounded(x.values + y.values * (1 if op == "Add" else -1), x.bound + y.bound)
        return made

    def mean(self, name: str) -> str:
        x = self.known[name]
        made = self.m.node("GlobalAveragePool", name)
        # Every step over f pixels rounds f products, a factor that is no power of two as well, and averages.
        steps = 4 * np.log2(max(x.values[0].size, 2)) * (self.unit + np.abs(x.values).max() * self.step)
        self.known[made] = Bounded(x.values.mean((1, 2)), x.bound.mean((1, 2)) + steps)
        return made

    def check(self, output: str, folder: Path, architecture: str, fmt: str = "Q8.8") -> pefslc.Program:
        values = self.known[output]
        shape = [1, *values.values.shape, *[1] * (4 - 1 - values.values.ndim)]
        self.m.output(output, shape)
        data = {"x": self.rng.uniform(-1, 1, (8, *self.x.shape[1:]))} if self.unit < self.step else None
        program = pefslc.compile(self.m.save(folder), target="tensil", fmt=fmt, arch=architecture, calibrate=data)
        assert program.emission.native is not None
        assert 2.0**-program.emission.native.fraction_bits <= self.unit
        found = program.run({"x": self.x})[output].reshape(values.values.shape)
        assert (np.abs(found - values.values) <= values.bound).all()
        layers = program.verify({"x": self.x}).layers
        assert layers
        assert not any(layer.outside or layer.saturated for layer in layers)
        return program


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
    selection, placed = place_natively(program.graph, split_means(select(program.graph)), FP16)
    assert len(placed.groups) == len(selection.groups) == 5
    assert len(placed.groups[-1].terms) == 2


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


@pytest.mark.parametrize("data_type", ["FP8BP4", "FP16BP8", "FP18BP10", "FP32BP16"])
def test_words_are_as_fine_as_twice_the_largest_value_allows(data_type: str) -> None:
    """Every largest value that is a word, and quarters between, against saturation of the doubled value itself."""
    kind = DataType[data_type]
    every = (
        range(4 * kind.max_code)
        if data_type == "FP8BP4"
        else range(0, 4 * kind.max_code, 997 * max(kind.one >> 8, 1) ** 2)
    )
    for quarters in every:
        largest = Fraction(quarters, 4 * kind.one)
        d = extra_bits(largest, kind)
        assert 0 <= d <= kind.binary_point
        words = [2 * largest * 2 ** (kind.binary_point + e) for e in (d, d + 1)]
        assert words[0] <= kind.max_code or d == 0
        assert words[1] > kind.max_code or d == kind.binary_point
        assert native_format(kind, d).bits == kind.width_bits
        assert native_format(kind, d).fraction_bits == kind.binary_point + d


def one_layer(m: ModelBuilder, kind: str) -> str:
    """A network with an output of 8 times its input; the input is read by a convolution, a maximum, or an addition."""
    x = m.input([1, 2, 4, 4], "x")
    eight = m.constant(8 * np.eye(2)[:, :, None, None])
    match kind:
        case "conv":
            return m.node("Conv", x, eight)
        case "maximum":
            return m.node("Conv", m.node("MaxPool", x, kernel_shape=[1, 1]), eight)
        case _:
            seven = m.constant(7 * np.eye(2)[:, :, None, None])
            return m.node("Add", m.node("Conv", x, seven), x)


@pytest.mark.parametrize("kind", ["conv", "maximum", "add"])
def test_beyond_the_calibrated_range_words_saturate(kind: str, tmp_path: Path) -> None:
    """They do not wrap: neither sums, nor an input that lies in words that are finer than its format."""
    m = ModelBuilder()
    output = one_layer(m, kind)
    m.output(output, [1, 2, 4, 4])
    largest = np.full((3, 2, 4, 4), 0.25)  # 8 times that is 2: with headroom 4, and no word is 4
    program = pefslc.compile(
        m.save(tmp_path),
        target="tensil",
        fmt="Q8.8",
        arch="pynqz1",
        calibrate={"x": largest * [[[[1]]], [[[-1]]], [[[0]]]]},
    )
    assert program.emission.native == FixedPoint(4, 12)
    for value in (0.25, 0.75, 1.5, 15.0, 127.0):
        for sign in (1, -1):
            found = program.run({"x": sign * largest[:1] * value * 4})[output]
            assert np.abs(found - np.clip(sign * 8 * value, -8, 8)).max() < 0.01


@pytest.mark.parametrize("kind", ["conv", "maximum", "add"])
def test_the_host_module_places_inputs_as_the_runner_does(kind: str, tmp_path: Path) -> None:
    m = ModelBuilder()
    output = one_layer(m, kind)
    m.output(m.node("Relu", output), [1, 2, 4, 4])
    x = np.random.default_rng(0).uniform(-1, 1, (5, 2, 4, 4))
    program = pefslc.compile(m.save(tmp_path), target="tensil", fmt="Q8.8", arch="pynqz1", calibrate={"x": x / 4})
    program.save(tmp_path / "build")
    module: dict[str, Any] = {}
    exec(next((tmp_path / "build").glob("*_io.py")).read_text(), module)
    (path,) = (tmp_path / "build").glob("*.tmodel")
    for row in 40 * x:
        given = {name: array[None] for name, array in module["to_driver"]({"x": row[None]}).items()}
        values = module["from_driver"]({name: array[0] for name, array in run_tmodel(path, given).items()})
        assert all(np.array_equal(values[name], found) for name, found in program.run({"x": row[None]}).items())


def test_of_small_values_words_are_as_fine_as_products(tmp_path: Path) -> None:
    """Next to no input: p bits more, with which no product is rounded, and the biases still are words."""
    m = ModelBuilder()
    weight = m.constant(np.full((1, 1, 1, 1), 3 / 256))
    m.output(m.node("Conv", m.input([1, 1, 2, 2], "x"), weight, m.constant(np.array([0.125]))), [1, 1, 2, 2])
    program = pefslc.compile(
        m.save(tmp_path), target="tensil", fmt="Q8.8", arch="pynqz1", calibrate={"x": np.full((1, 1, 2, 2), 2**-8)}
    )
    assert program.emission.native == FixedPoint(0, 16)
    x = np.arange(4).reshape(1, 1, 2, 2) / 256
    (found,) = program.run({"x": x}).values()
    assert np.array_equal(found, x * 3 / 256 + 0.125)


def test_calibration_leaves_cycles_and_divides_the_error(tmp_path: Path) -> None:
    n = Network(4, 3, 16, UNIT / 8)
    output = n.conv(n.activation(n.conv(n.activation(n.conv("x", 20, 3), "Relu"), 12, 3), "Relu"), 10, 3, 2)
    n.m.output(output, [1, *n.known[output].values.shape])
    model = n.m.save(tmp_path)
    data = {"x": np.random.default_rng(9).uniform(-1, 1, (16, *n.x.shape[1:]))}
    plain = pefslc.compile(model, target="tensil", fmt="Q8.8", arch="custom_perf")
    finer = pefslc.compile(model, target="tensil", fmt="Q8.8", arch="custom_perf", calibrate=data)
    assert plain.emission.cycles == finer.emission.cycles
    words = finer.emission.native
    assert words is not None
    assert 2.0**-words.fraction_bits <= n.unit
    rms = [np.sqrt(np.square(p.run({"x": n.x})[output][0] - n.known[output].values).mean()) for p in (plain, finer)]
    assert rms[1] < rms[0] / 4
    assert finer.sidecar.details["native_arithmetic"] == "Q8.8"
    assert finer.sidecar.details["native_words"] == str(words)
    assert any(f"words of {words}: on 16 calibration inputs" in note for note in finer.emission.notes)


@pytest.mark.skipif(not MODELS.is_dir(), reason="optional reference data (../shared) is not there")
@pytest.mark.parametrize(
    ("network", "architecture", "theirs"), [("tiny_conv", "custom_perf", 0.0077), ("maxpool_net", "pynqz1", 0.0180)]
)
def test_the_error_is_below_that_of_tensils_program(network: str, architecture: str, theirs: float) -> None:
    """On the inputs on which Tensil's was measured, calibrated on others."""
    model = pefslc.load(MODELS / f"{network}.onnx")
    shape = model.inputs[0].value.type.shape[1:]
    x = np.random.default_rng(7).uniform(-1, 1, (2, *shape)).astype(np.float32).astype(np.float64)
    program = pefslc.compile(
        MODELS / f"{network}.onnx", target="tensil", fmt="Q8.8", arch=architecture,
        calibrate={"x": np.random.default_rng(1234).uniform(-1, 1, (16, *shape))},
    )  # fmt: skip
    (wanted,), (found,) = model.run(x).values(), program.run(x).values()
    assert np.abs(found - wanted).max() < theirs / 4


# --- when, and what is said ------------------------------------------------------------------------------------------


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
