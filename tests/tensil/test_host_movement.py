"""Movement at the model's ends is the host's, blocks of pixels that become channels a convolution: exact, both."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ends import host_module_of
from onnx import TensorProto

import pefslc
from builders import ModelBuilder, normal
from pefslc.targets.tensil.groups.arrangement import Arrangement
from pefslc.targets.tensil.groups.layout import Layout
from pefslc.targets.tensil.simulate.driver import run_tmodel

Build = Callable[[ModelBuilder], list[str]]


def start(m: ModelBuilder, *shape: int) -> str:
    return m.quant(m.input([1, *shape], "x"), 0.25, 4)


def conv(m: ModelBuilder, x: str, outputs: int, inputs: int, seed: int = 0, **attrs: object) -> str:
    weight = m.weight(normal((outputs, inputs, 3, 3), 0.4, seed), 0.25, 4)
    return m.quant(m.node("Conv", x, weight, pads=[1] * 4, **attrs), 0.5, 4)


def shape(m: ModelBuilder, x: str, *sizes: int) -> str:
    return m.node("Reshape", x, m.constant([1, *sizes], dtype=np.int64))


def dense(m: ModelBuilder, x: str, features: int) -> str:
    return m.node("MatMul", m.node("Flatten", x), m.weight(normal((features, 3), 0.4), 0.25, 3))


def both_ends(m: ModelBuilder) -> list[str]:
    x = m.node("Transpose", start(m, 4, 6, 3), perm=[0, 3, 1, 2])
    return [m.node("Transpose", conv(m, x, 5, 3), perm=[0, 2, 3, 1])]


def parts_of_channels_last(m: ModelBuilder) -> list[str]:
    x = m.node("Transpose", start(m, 4, 5, 3), perm=[0, 3, 1, 2])
    first, rest = m.split(x, [1, 2], 2)
    return [conv(m, first, 2, 1), conv(m, rest, 2, 2)]


def as_it_is_and_moved(m: ModelBuilder) -> list[str]:
    """A dense layer reads the input as it is, a convolution moved, an output moved otherwise."""
    x = start(m, 4, 5, 3)
    image = m.node("Transpose", x, perm=[0, 3, 1, 2])
    return [dense(m, x, 60), conv(m, image, 2, 3), m.node("MaxPool", image, kernel_shape=[2, 2])]


def rows_of_features(m: ModelBuilder) -> list[str]:
    x = m.quant(m.node("Relu", m.node("MatMul", start(m, 5, 8), m.weight(normal((8, 6), 0.4), 0.25, 4))), 0.25, 4)
    return [m.node("MatMul", x, m.weight(normal((6, 4), 0.4), 0.25, 4))]


def shuffled_pixels(m: ModelBuilder) -> list[str]:
    """Six axes in between."""
    x = shape(m, start(m, 2, 4, 6), 2, 2, 2, 3, 2)
    x = shape(m, m.node("Transpose", x, perm=[0, 1, 3, 5, 2, 4]), 8, 2, 3)
    return [conv(m, x, 3, 8)]


ENDS: dict[str, Build] = {
    "channels last, in and out": both_ends,
    "one image of one channel": lambda m: [conv(m, shape(m, start(m, 5, 6), 1, 5, 6), 4, 1)],
    "turned over": lambda m: [conv(m, m.node("Transpose", start(m, 3, 4, 6), perm=[0, 1, 3, 2]), 2, 3)],
    "five axes": lambda m: [conv(m, shape(m, start(m, 1, 3, 4, 4), 3, 4, 4), 2, 3)],
    "flat": lambda m: [conv(m, shape(m, start(m, 48), 3, 4, 4), 2, 3)],
    "parts of what has its channels last": parts_of_channels_last,
    "two readers": as_it_is_and_moved,
    "dense layers over the last axis": rows_of_features,
    "pixels to channels by six axes": shuffled_pixels,
    "to two outputs": lambda m: (
        lambda y: [m.node("Transpose", y, perm=[0, 2, 3, 1]), m.node("Transpose", y, perm=[0, 1, 3, 2])]
    )(conv(m, start(m, 2, 4, 5), 4, 2)),
    "a flattened transposition": lambda m: [
        m.node("Flatten", m.node("Transpose", conv(m, start(m, 2, 4, 5), 4, 2), perm=[0, 2, 3, 1]))
    ],
    "an output of some channels": lambda m: [
        m.node("Transpose", m.split(conv(m, start(m, 2, 4, 5), 4, 2), [1, 3], 2)[1], perm=[0, 2, 3, 1])
    ],
    "an output of an input that another reads moved": lambda m: (
        lambda x: [m.node("Identity", x), conv(m, shape(m, x, 1, 3, 3), 2, 1)]
    )(start(m, 9)),
    "two outputs of the input, moved": lambda m: (
        lambda x: [m.node("Transpose", x, perm=[0, 2, 3, 1]), m.node("Transpose", x, perm=[0, 1, 3, 2])]
    )(start(m, 3, 4, 5)),
    "one number of one axis": lambda m: [
        m.node("Reshape", m.node("MaxPool", start(m, 1, 2, 2), kernel_shape=[2, 2]), m.constant([1], dtype=np.int64))
    ],
    "an input that is the output": lambda m: [m.node("Transpose", start(m, 3, 4, 5), perm=[0, 2, 3, 1])],
}  # fmt: skip


def to_space(m: ModelBuilder, mode: str, x: str) -> str:
    return m.node("DepthToSpace", x, blocksize=2, mode=mode)


def of_two_readers(m: ModelBuilder) -> list[str]:
    """The first reader must not take the copy's place, which the second one reads, too."""
    y = to_space(m, "CRD", conv(m, start(m, 2, 3, 4), 8, 2))
    return [m.quant(y, 1.0, 3), m.node("MaxPool", y, kernel_shape=[2, 2]), conv(m, y, 2, 2)]


def of_shuffled_channels(m: ModelBuilder) -> list[str]:
    """The same of channels that changed places."""
    y = shape(m, conv(m, start(m, 2, 3, 4), 8, 2), 2, 4, 3, 4)
    y = shape(m, m.node("Transpose", y, perm=[0, 2, 1, 3, 4]), 8, 3, 4)
    return [m.node("MaxPool", y, kernel_shape=[2, 2]), m.quant(y, 1.0, 3)]


BLOCKS: dict[str, Build] = {
    "DepthToSpace, columns first": lambda m: [conv(m, to_space(m, "DCR", conv(m, start(m, 2, 3, 4), 8, 2)), 2, 2)],
    "DepthToSpace, channels first": lambda m: [conv(m, to_space(m, "CRD", conv(m, start(m, 2, 3, 4), 8, 2)), 2, 2)],
    "by three": lambda m: [conv(m, m.node("DepthToSpace", start(m, 18, 2, 3), blocksize=3), 2, 2)],
    "SpaceToDepth": lambda m: [conv(m, m.node("SpaceToDepth", conv(m, start(m, 2, 4, 6), 3, 2), blocksize=2), 2, 12)],
    "and back": lambda m: [
        conv(m, to_space(m, "DCR", m.node("SpaceToDepth", conv(m, start(m, 2, 4, 6), 3, 2), blocksize=2)), 2, 3)
    ],
    "a pool": lambda m: [m.node("GlobalAveragePool", to_space(m, "CRD", conv(m, start(m, 2, 3, 4), 8, 2)))],
    "an addition": lambda m: (
        lambda y: [m.quant(m.node("Add", to_space(m, "DCR", y), to_space(m, "CRD", y)), 0.5, 4)]
    )(conv(m, start(m, 2, 3, 4), 8, 2)),
    "a concatenation": lambda m: (
        lambda y: [conv(m, m.node("Concat", to_space(m, "DCR", y), to_space(m, "CRD", y), axis=1), 2, 4)]
    )(conv(m, start(m, 2, 3, 4), 8, 2)),
    "a dense layer": lambda m: [dense(m, to_space(m, "CRD", conv(m, start(m, 2, 3, 4), 8, 2)), 96)],
    "three readers": of_two_readers,
    "two readers of shuffled channels": of_shuffled_channels,
    "the output": lambda m: [to_space(m, "CRD", conv(m, start(m, 2, 3, 4), 8, 2))],
}  # fmt: skip


@pytest.mark.parametrize("name", [*ENDS, *BLOCKS])
def test_movement_is_exact(name: str, tmp_path: Path) -> None:
    """By the simulated files, and by the module that the host of a board runs."""
    m = ModelBuilder()
    for output in ({**ENDS, **BLOCKS}[name])(m):
        m.output(output)
    path = m.save(tmp_path)
    program = pefslc.compile(path, target="tensil", require_exact=True)
    wanted_shape = program.graph.inputs[0].value.type.shape
    x = np.random.default_rng(1).integers(-8, 8, (3, *wanted_shape[1:])) / 4
    wanted, found = pefslc.load(path).run(x), program.run(x)
    assert all((found[name] == wanted[name]).all() for name in wanted)
    assert all(len(np.unique(y)) > 1 for y in wanted.values())
    io = host_module_of(program)
    words = {i["name"]: io["to_driver"]({"x": x[:1]})[i["name"]] for i in io["INPUTS"]}
    results = _simulated(program, tmp_path, words)
    from_board = io["from_driver"](results)
    assert all((from_board[name] == y[:1]).all() for name, y in wanted.items())


def _simulated(program: pefslc.Program, folder: Path, words: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What the driver returns for flat arrays."""
    program.save(folder / "build")
    (tmodel,) = (folder / "build").glob("*.tmodel")
    return {name: y[0] for name, y in run_tmodel(tmodel, words).items()}


@pytest.mark.parametrize("shape", [(3,), (1, 1, 1, 3)])
@pytest.mark.parametrize("quantized_first", [False, True])
@pytest.mark.parametrize("target", ["c", "tensil"])
def test_a_picture_of_bytes_with_its_channels_last(
    target: str, quantized_first: bool, shape: tuple[int, ...], tmp_path: Path
) -> None:
    """/ 255, mean and deviation along the last axis, the quantizer before or behind the Transpose: all the host's.

    No number lies near a tie of the quantizer: float64 decides.
    """
    mean, deviation = (np.float32(v) for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    m = ModelBuilder()
    y = m.node("Cast", m.input([1, 4, 6, 3], "x", TensorProto.UINT8), to=TensorProto.FLOAT)
    y = m.node("Sub", m.node("Div", y, m.constant(255)), m.constant(mean.reshape(shape)))
    y = m.node("Div", y, m.constant(deviation.reshape(shape)))
    y = m.quant(y, 0.125, 5) if quantized_first else y
    y = m.node("Transpose", y, perm=[0, 3, 1, 2])
    kernel = np.rint(normal((4, 3, 3, 3), 2))
    m.output(m.node("Conv", y if quantized_first else m.quant(y, 0.125, 5), m.weight(kernel, 1.0, 4)))
    program = pefslc.compile(m.save(tmp_path), target=target, require_exact=True)
    x = np.resize(np.arange(256), (16, 4, 6, 3)).astype(np.uint8)
    codes = np.clip(np.rint((x / 255 - mean.astype(float)) / deviation.astype(float) * 8), -16, 15)
    windows = np.lib.stride_tricks.sliding_window_view(codes.transpose(0, 3, 1, 2), (3, 3), (2, 3))
    wanted = np.einsum("nchwij,ocij->nohw", windows, np.clip(kernel, -8, 7)) / 8
    (found,) = program.run(x).values()
    assert np.array_equal(found, wanted)
    if target == "tensil":
        io = host_module_of(program)
        (words,) = io["to_driver"](x[:1]).values()
        assert np.array_equal(words, io["codes_to_driver"]({"x": codes[:1].astype(np.int64)})["x"])


def test_movement_inside_is_refused_with_advice_that_works(tmp_path: Path) -> None:
    def network(*, inside: bool) -> Path:
        m = ModelBuilder()
        x = start(m, 3, 4, 6)
        if inside:
            x = conv(m, x, 3, 3)
        m.output(conv(m, m.node("Transpose", x, perm=[0, 1, 3, 2]), 2, 3))
        return m.save(tmp_path)

    with pytest.raises(pefslc.CompileError, match="inside of a network that do more than") as caught:
        pefslc.compile(network(inside=True), target="tensil")
    assert caught.value.problems[0].hint is not None
    assert "at an output and before a dense layer any Reshape and Transpose is" in caught.value.problems[0].hint
    assert pefslc.compile(network(inside=False), target="tensil").exact
    assert pefslc.compile(network(inside=True), target="c").exact


def test_an_input_that_is_read_in_two_orders_is_refused(tmp_path: Path) -> None:
    m = ModelBuilder()
    x = start(m, 4, 6, 4)
    m.output(m.node("MaxPool", x, kernel_shape=[2, 2]))
    m.output(conv(m, m.node("Transpose", x, perm=[0, 3, 1, 2]), 2, 4))
    with pytest.raises(pefslc.CompileError, match="inside of a network that do more than") as caught:
        pefslc.compile(m.save(tmp_path), target="tensil")
    assert "the same for all that read it" in (caught.value.problems[0].hint or "")


def test_an_input_that_everybody_can_read_stays_as_it_is(tmp_path: Path) -> None:
    """A dense layer's weights take the input's order: nothing is left for the host."""
    m = ModelBuilder()
    m.output(dense(m, m.node("Transpose", start(m, 3, 4, 5), perm=[0, 2, 3, 1]), 60))
    program = pefslc.compile(m.save(tmp_path), target="tensil")
    assert "moves" not in host_module_of(program)["INPUTS"][0]


def test_blocks_are_told_from_other_movements() -> None:
    stored = Arrangement.of(Layout(4, 2, 3), (1, 4, 2, 3))
    split = stored.reshaped((1, 2, 2, 2, 3))
    pairs = split.transposed((0, 1, 3, 4, 2)).reshaped((1, 2, 2, 6))  # two columns to each
    assert pairs.as_convolution is not None
    assert stored.transposed((0, 1, 3, 2)).as_convolution is None
    assert stored.transposed((0, 2, 3, 1)).as_convolution is None
    assert split.transposed((0, 1, 3, 2, 4)).reshaped((1, 2, 2, 6)).as_convolution is None  # columns, one after another
    assert stored.reshaped((1, 24)).as_convolution is None
    assert stored.sliced((slice(None), slice(None), slice(None), slice(2))).as_convolution is None


def test_native_arithmetic_reads_channels_that_come_last(tmp_path: Path) -> None:
    """A float model, on the machine's own numbers; calibrated, too, which runs the groups on the moved input."""
    m = ModelBuilder()
    x = m.node("Transpose", m.input([1, 4, 6, 3], "x"), perm=[0, 3, 1, 2])
    y = m.node("Relu", m.node("Conv", x, m.constant(normal((5, 3, 3, 3), 0.3)), pads=[1] * 4))
    m.output(m.node("Transpose", m.node("Conv", y, m.constant(normal((2, 5, 1, 1), 0.3))), perm=[0, 2, 3, 1]))
    path = m.save(tmp_path)
    data = {"x": np.random.default_rng(5).normal(0, 0.5, (8, 4, 6, 3))}
    for calibrate in (None, data):
        program = pefslc.compile(path, target="tensil", fmt="Q8.8", calibrate=calibrate)
        verification = program.verify(data)
        verification.require()
        assert verification.distance is not None
        assert verification.distance.worst.relative < 0.05
        assert program.run(data)[program.graph.outputs[0].name].shape == (8, 4, 6, 2)


def test_a_number_without_axes_is_refused_and_nothing_else_is_tried_of_it(tmp_path: Path) -> None:
    m = ModelBuilder()
    m.output(m.quant(m.input([], "x"), 0.25, 4))
    with pytest.raises(pefslc.CompileError, match="is a single number, without a batch axis"):
        pefslc.compile(m.save(tmp_path), target="tensil")
