"""`--host plain`: Tensil's own driver code, which knows nothing of a program, feeds it and reads it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from ends import host_module_of
from numpy.typing import NDArray
from onnx import TensorProto
from stock_board import Hardware, StockDriver

import pefslc
from builders import ModelBuilder, normal, random_network
from oracle import quantize_value
from pefslc.diagnostics.errors import CompileError
from pefslc.targets.tensil.machine.architecture import Architecture, load_architecture
from pefslc.targets.tensil.word_rewrites import sums_in_packing

Floats = NDArray[np.float64]


def board(array_size: int, name: str = "custom_perf") -> Architecture:
    """A small one: memories that a test copies quickly."""
    return replace(load_architecture(name), array_size=array_size, dram0_depth=1 << 13, dram1_depth=1 << 13)


def compiled(path: Path, architecture: Architecture, host: str = "plain", **options: object) -> pefslc.Program:
    tarch = path.parent / "board.tarch"
    tarch.write_text(json.dumps(architecture.to_json_dict()))
    return pefslc.compile(path, target="tensil", arch=tarch, host=host, **options)  # type: ignore[arg-type]


def padded(x: Floats, array_size: int) -> Floats:
    """[C, ...] as the description of Tensil's layout says: vector pixel * Cv + c / A, lane c % A; 0 in lanes left."""
    channels, pixels = x.shape[0], x.reshape(x.shape[0], -1)
    blocks = -(-channels // array_size)
    flat = np.zeros(pixels.shape[1] * blocks * array_size)
    for c in range(channels):
        for pixel in range(pixels.shape[1]):
            flat[(pixel * blocks + c // array_size) * array_size + c % array_size] = pixels[c, pixel]
    return flat


def unpadded(flat: Floats, shape: tuple[int, ...], array_size: int) -> Floats:
    """The inverse of `padded`."""
    channels, pixels = shape[0], int(np.prod(shape[1:]))
    rows = flat.reshape(pixels, -1)
    assert rows.shape[1] == -(-channels // array_size) * array_size
    return rows[:, :channels].T.reshape(shape)


def dense(x: Floats, array_size: int) -> Floats:
    """The numbers of each pixel behind those of the one before, in the order of rows and columns."""
    assert x.size % array_size == 0
    return x.transpose(1, 2, 0).reshape(-1)


def driven(
    program: pefslc.Program,
    folder: Path,
    architecture: Architecture,
    x: dict[str, Floats],
    layout: Callable[[Floats, int], Floats] = padded,
) -> dict[str, Floats]:
    """What host code makes of it that has the model's shapes and the sidecar's factors, row after row."""
    program.save(folder)
    driver = StockDriver(architecture, Hardware(architecture))
    driver.load_model(str(folder / str(program.sidecar.details["tmodel"])))
    details, a = program.emission.details, architecture.array_size
    records = {str(r["name"]): r for end in ("inputs", "outputs") for r in details[end]}  # type: ignore[union-attr]
    found: dict[str, list[Floats]] = {}
    for row in range(len(next(iter(x.values())))):
        results = driver.run({n: layout(v[row] * records[n]["factor"], a) for n, v in x.items()})
        for output in program.graph.outputs:
            shape = output.value.type.shape[1:]
            y = unpadded(results[output.name], shape, a)
            column = (-1, *[1] * (len(shape) - 1))
            factor, offset = (np.reshape(records[output.name][k], column) for k in ("factor", "offset"))
            found.setdefault(output.name, []).append(y * factor + offset)
    return {name: np.stack(rows) for name, rows in found.items()}


def on_grid(shape: tuple[int, ...], seed: int, reach: float = 3.0, rows: int = 2) -> Floats:
    """Multiples of 1/256, some of them ties of coarser grids."""
    r = np.random.default_rng(seed)
    x = r.normal(0, reach / 2, (rows, *shape[1:]))
    fine = np.rint(x * 256) / 256
    return np.where(r.random(x.shape) < 0.3, np.rint(x * 16) / 16, fine)


def convolution(folder: Path, channels: int, outputs: int, size: tuple[int, int], *, act: bool = False) -> Path:
    """input -> Q2.3 -> 3 x 3 convolution (-> ReLU -> UQ2.3): some channels in, some out."""
    m = ModelBuilder()
    x = m.quant(m.input([1, channels, *size], "input"), 0.125, 5)
    y = m.node("Conv", x, m.weight(normal((outputs, channels, 3, 3), 0.4), 0.125, 5), pads=[1, 1, 1, 1])
    m.output(m.quant(m.node("Relu", y), 0.125, 5, signed=0) if act else y)
    return m.save(folder)


@pytest.mark.parametrize(
    ("channels", "outputs", "size", "array_size"),
    [
        (3, 7, (9, 8), 8),
        (3, 12, (16, 16), 12),  # packed while it is quantized
        (1, 4, (12, 12), 12),
        (3, 5, (7, 6), 3),
        (6, 9, (5, 4), 4),  # two blocks in, three out
        (17, 13, (3, 5), 8),
        (9, 2, (4, 4), 2),  # five blocks
    ],
)
def test_the_drivers_numbers_are_the_models(
    channels: int, outputs: int, size: tuple[int, int], array_size: int, tmp_path: Path
) -> None:
    path = convolution(tmp_path, channels, outputs, size, act=outputs % 2 == 1)
    architecture = board(array_size)
    program = compiled(path, architecture, require_exact=True)
    x = on_grid((1, channels, *size), channels)
    wanted = pefslc.load(path).run({"input": x})
    found = driven(program, tmp_path, architecture, {"input": x})
    (name,) = wanted
    assert np.array_equal(found[name], wanted[name])
    assert np.array_equal(program.run(x)[name], wanted[name])
    io = host_module_of(program)  # which knows the layout, too
    given = io["to_driver"](x[0])["input"]
    assert np.array_equal(given, padded(x[0], array_size))
    program.verify({"input": x, name: wanted[name]}).require()


@pytest.mark.parametrize("rounding", ["ROUND", "FLOOR", "ROUND_TO_ZERO"])
@pytest.mark.parametrize(
    ("scale", "bits", "signed"),
    [(0.125, 5, True), (2.0**-8, 6, False), (0.3, 4, True), (16.0, 3, True), (2.0**-9, 8, True)],
)
def test_the_quantizer_is_the_models_on_every_word(
    scale: float, bits: int, signed: bool, rounding: str, tmp_path: Path
) -> None:
    """All 65,536 words, 64 in a vector: codes by exact rationals; where the program says that it is bounded, off by one
    on as many words as it lists.
    """
    m = ModelBuilder()
    x = m.quant(m.input([1, 64, 32, 32], "input"), scale, bits, signed=int(signed), rounding=rounding)
    m.output(m.node("Conv", x, m.weight(np.ones((64, 1, 1, 1)), 1.0, 2), group=64))
    architecture = board(64)
    program = compiled(m.save(tmp_path), architecture)
    words = np.arange(-(1 << 15), 1 << 15)
    found = driven(program, tmp_path, architecture, {"input": words.reshape(1, 64, 32, 32) / 256.0})
    step = Fraction(float(np.float32(scale)))
    reach = int((1 << bits) * step * 256) + 256  # all words beyond saturate like this one
    near = range(-min(reach, 1 << 15), min(reach, (1 << 15) - 1) + 1)
    codes = np.array([quantize_value(Fraction(w, 256), step, bits, signed, False, rounding) for w in near])
    wanted = codes[np.clip(words, near[0], near[-1]) - near[0]] * float(step)
    off = np.rint((next(iter(found.values())).reshape(-1) - wanted) / float(step))
    listed = sum(d.differing for layer in program.layers for d in layer.deviations) // 64  # the same for each channel
    assert (np.count_nonzero(off), np.abs(off).max()) == (listed, min(listed, 1))
    assert not listed or scale in (0.3, 16.0) or rounding == "ROUND_TO_ZERO"  # 16: a shift by more than 8 bits


@pytest.mark.parametrize("seed", range(12))
def test_random_networks_run_from_the_drivers_numbers(seed: int, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(random_network(seed).SerializeToString())
    architecture = board((3, 4, 8, 12, 6)[seed % 5])
    try:
        program = compiled(path, architecture)
    except CompileError as error:
        if "Tensil's driver returns" not in str(error):  # a sum of words at an output; all else is refused of any host
            with pytest.raises(CompileError):
                pefslc.compile(path, target="tensil", arch=path.parent / "board.tarch")
        return
    x = {i.name: on_grid(i.value.type.shape, seed) for i in program.graph.inputs}
    wanted, found = program.run(x), driven(program, tmp_path, architecture, x)
    assert all(np.array_equal(found[name], wanted[name]) for name in wanted)


@pytest.mark.parametrize(("bits", "factor"), [(8, 0.5), (5, 0.125)])
def test_an_input_beyond_the_drivers_numbers_is_scaled_by_the_host(bits: int, factor: float, tmp_path: Path) -> None:
    """Pictures of 0 to 255: the driver would wrap 128 to -128. So halves go in, and the words have 7 bits of fraction;
    or eighths, where a step of 8 would be more of such words than one multiplication shifts away.
    """
    m = ModelBuilder()
    x = m.node("Mul", m.input([1, 3, 6, 6], "input"), m.constant(1 / 256))
    x = m.quant(x, 2.0**-bits, bits, signed=0)
    m.output(m.node("Conv", x, m.weight(normal((4, 3, 3, 3), 0.4), 0.125, 5)))
    path, architecture = m.save(tmp_path), board(8)
    program = compiled(path, architecture, require_exact=True)
    assert program.emission.details["inputs"][0]["factor"] == factor  # type: ignore[index,call-overload]
    assert f"plain host: gives input 'input' times {factor}," in "\n".join(program.emission.notes)
    picture = np.random.default_rng(0).integers(0, 256, (2, 3, 6, 6)).astype(np.float64)
    (wanted,) = pefslc.load(path).run({"input": picture}).values()
    (found,) = driven(program, tmp_path, architecture, {"input": picture}).values()
    assert np.array_equal(found, wanted)


def test_a_format_of_whole_words_is_the_hosts(tmp_path: Path) -> None:
    """8 fraction bits are few for 8-bit inputs: who says Q5.11 hands over numbers 8 times as large."""
    path, architecture = convolution(tmp_path, 3, 4, (5, 5)), board(8)
    program = compiled(path, architecture, input_fmt="Q5.11", require_exact=True)
    assert program.emission.details["inputs"][0]["factor"] == 8.0  # type: ignore[index,call-overload]
    x = np.rint(np.random.default_rng(1).uniform(-3, 3, (2, 3, 5, 5)) * (1 << 11)) / (1 << 11)
    (wanted,) = pefslc.load(path).run({"input": x}).values()
    (found,) = driven(program, tmp_path, architecture, {"input": x}).values()
    assert np.array_equal(found, wanted)


@pytest.mark.parametrize(("kind", "factor"), [("uint8", 1 / 256), ("int8", 1 / 256)])
@pytest.mark.parametrize("reader", ["DequantizeLinear", "Cast"])
def test_integers_of_the_file_are_the_words(kind: str, factor: float, reader: str, tmp_path: Path) -> None:
    """Nothing is rounded: the driver is given integer / 256."""
    m = ModelBuilder(opset=21)
    image = m.input([1, 3, 6, 6], "image", {"uint8": TensorProto.UINT8, "int8": TensorProto.INT8}[kind])
    if reader == "Cast":
        x = m.node("Mul", m.node("Cast", image, to=TensorProto.FLOAT), m.constant(1 / 256))
        x = m.quant(x, 2.0**-5, 5, signed=int(kind == "int8"))
    else:
        x = m.node("DequantizeLinear", image, m.constant(2.0**-5), m.constant(0, dtype=np.dtype(kind).type))
    m.output(m.node("Conv", x, m.weight(normal((4, 3, 3, 3), 0.4), 0.125, 3)))
    path, architecture = m.save(tmp_path), board(8)
    program = compiled(path, architecture, require_exact=True)
    record = program.emission.details["inputs"][0]  # type: ignore[index]
    assert record["factor"] in (factor, factor * 2 ** record["exponent"])  # type: ignore[index,call-overload]
    assert "rounded_twice" not in record  # type: ignore[operator]
    limits = np.iinfo(kind)
    x = np.random.default_rng(0).integers(limits.min, limits.max + 1, (2, 3, 6, 6)).astype(kind)
    (wanted,) = program.run(x).values()
    assert np.array_equal(wanted, next(iter(pefslc.load(path).run({"image": x.astype(float)}).values())))
    (found,) = driven(program, tmp_path, architecture, {"image": x}).values()
    assert np.array_equal(found, wanted)


def test_channels_that_come_last_go_in_as_they_are(tmp_path: Path) -> None:
    """As Tensil's compiler takes [N, H, W, C] where a Transpose reads it."""
    m = ModelBuilder()
    x = m.node("Transpose", m.input([1, 5, 6, 3], "input"), perm=[0, 3, 1, 2])
    x = m.quant(x, 0.125, 5)
    m.output(m.node("Conv", x, m.weight(normal((4, 3, 3, 3), 0.4), 0.125, 5)))
    path, architecture = m.save(tmp_path), board(8)
    program = compiled(path, architecture, require_exact=True)
    assert not any("transpose" in note for note in program.emission.notes)
    x = on_grid((1, 5, 6, 3), 3)
    (wanted,) = pefslc.load(path).run({"input": x}).values()
    (found,) = driven(program, tmp_path, architecture, {"input": x.transpose(0, 3, 1, 2)}).values()
    assert np.array_equal(found, wanted)


def test_what_else_the_host_moves_is_said(tmp_path: Path) -> None:
    m = ModelBuilder()
    x = m.quant(m.node("Transpose", m.input([1, 6, 3, 5], "input"), perm=[0, 2, 3, 1]), 0.125, 5)
    m.output(m.node("Conv", x, m.weight(normal((4, 3, 3, 3), 0.4), 0.125, 5)))
    program = compiled(m.save(tmp_path), board(8))
    assert "zeros in the lanes left; before that transpose [0, 2, 3, 1]" in "\n".join(program.emission.notes)


def test_two_inputs_and_two_outputs(tmp_path: Path) -> None:
    m = ModelBuilder()
    first = m.quant(m.input([1, 3, 6, 6], "left eye"), 0.125, 5)
    second = m.quant(m.input([1, 3, 6, 6], "right eye"), 0.25, 4)
    both = m.quant(m.node("Concat", first, second, axis=1), 0.25, 5)
    for seed in (0, 1):
        m.output(m.node("Conv", both, m.weight(normal((9, 6, 3, 3), 0.4, seed), 0.25, 4)))
    path, architecture = m.save(tmp_path), board(4)
    program = compiled(path, architecture, require_exact=True)
    x = {"left eye": on_grid((1, 3, 6, 6), 1), "right eye": on_grid((1, 3, 6, 6), 2)}
    wanted, found = pefslc.load(path).run(x), driven(program, tmp_path, architecture, x)
    assert len(wanted) == 2
    assert all(np.array_equal(found[name], wanted[name]) for name in wanted)


def test_outputs_of_one_tensor_and_of_the_input(tmp_path: Path) -> None:
    m = ModelBuilder()
    x = m.quant(m.input([1, 6, 3, 4], "input"), 0.125, 5)
    y = m.node("Conv", x, m.weight(normal((9, 6, 3, 3), 0.4), 0.125, 5), pads=[1, 1, 1, 1])
    for end in (y, m.node("Identity", y), x, m.node("Identity", y)):
        m.output(end)
    path, architecture = m.save(tmp_path), board(4)
    program = compiled(path, architecture, require_exact=True)
    given = {"input": on_grid((1, 6, 3, 4), 5)}
    wanted, found = pefslc.load(path).run(given), driven(program, tmp_path, architecture, given)
    assert len(wanted) == 4
    assert all(np.array_equal(found[name], wanted[name]) for name in wanted)


@pytest.mark.parametrize("channels", [3, 6])
def test_native_arithmetic_is_plain_too(channels: int, tmp_path: Path) -> None:
    """A float model at Q8.8: six channels on four lanes are two blocks in and out."""
    m = ModelBuilder()
    x = m.input([1, channels, 6, 6], "input")
    y = m.node("Relu", m.node("Conv", x, m.constant(normal((6, channels, 3, 3), 0.3)), pads=[1, 1, 1, 1]))
    m.output(m.node("Conv", y, m.constant(normal((5, 6, 3, 3), 0.3, 1)), pads=[1, 1, 1, 1]))
    path, architecture = m.save(tmp_path), board(4)
    program = compiled(path, architecture, fmt="Q8.8")
    x = on_grid((1, channels, 6, 6), 0)
    program.save(tmp_path)
    (found,) = driven(program, tmp_path, architecture, {"input": x}).values()
    (wanted,) = pefslc.load(path).run({"input": x}).values()
    assert np.abs(found - wanted).max() < 0.1  # it rounds each product
    io = host_module_of(program)
    driver = StockDriver(architecture, Hardware(architecture))
    driver.load_model(str(tmp_path / "model.tmodel"))
    values = io["from_driver"](driver.run(io["to_driver"](x[0])))
    assert np.array_equal(next(iter(values.values())), found[:1])


def test_a_sum_of_words_is_refused_at_an_output(tmp_path: Path) -> None:
    m = ModelBuilder()
    x = m.quant(m.input([1, 64], "input"), 2.0**-7, 8)
    weight = m.weight(np.random.default_rng(0).uniform(-1, 1, (4, 64)), 2.0**-7, 8)
    m.output(m.node("Gemm", x, weight, transB=1))
    with pytest.raises(CompileError, match=r"is a sum of \d words: no number that Tensil's driver returns"):
        compiled(m.save(tmp_path), board(8))
    pefslc.compile(tmp_path / "model.onnx", target="tensil", arch=tmp_path / "board.tarch")  # as the message says


def test_the_share_that_is_rounded_twice_is_a_bound(tmp_path: Path) -> None:
    """Numbers spread evenly, off the grid: no more of them get another code than the compile says, about as many."""
    for scale, bits in ((0.125, 5), (2.0**-7, 6), (0.3, 4)):
        m = ModelBuilder()
        m.output(m.quant(m.input([1, 4], "input"), scale, bits))
        program = compiled(m.save(tmp_path), board(4))
        share = float(program.emission.details["inputs"][0]["rounded_twice"])  # type: ignore[index,call-overload,arg-type]
        top = (1 << (bits - 1)) - 1
        x = np.random.default_rng(0).uniform(-top * float(np.float32(scale)), top * float(np.float32(scale)), 200_000)
        step = float(np.float32(scale))
        once, twice = np.rint(x / step), np.rint(np.rint(x * 256) / 256 / step)
        differing = float(np.mean(once != twice))
        assert np.abs(once - twice).max() == 1
        assert 0.3 * share < differing < 1.1 * share, (scale, share, differing)


def test_another_host_is_refused() -> None:
    with pytest.raises(CompileError, match=r"host .--host. is 'pynq', not module, plain or dense"):
        pefslc.TensilTarget(host="pynq")


@pytest.mark.parametrize("array_size", [8, 12])
def test_packing_while_quantizing_costs_less_and_changes_no_code(array_size: int, tmp_path: Path) -> None:
    path, architecture = convolution(tmp_path, 3, 16, (16, 16), act=True), board(array_size)
    cycles = {}
    x = on_grid((1, 3, 16, 16), 1)
    wanted = pefslc.load(path).run({"input": x})
    for left_out in (None, "requantize-while-packing", "pack-leftovers"):
        program = compiled(path, architecture, leave_out=left_out, require_exact=True)
        found = driven(program, tmp_path, architecture, {"input": x})
        assert all(np.array_equal(found[name], wanted[name]) for name in wanted), left_out
        cycles[left_out] = program.emission.cycles or 0
    assert cycles[None] < cycles["requantize-while-packing"]
    assert cycles[None] < cycles["pack-leftovers"]


def test_a_chain_that_does_not_certify_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, architecture = convolution(tmp_path, 3, 16, (16, 16), act=True), board(12)
    taken = compiled(path, architecture).emission
    monkeypatch.setattr(sums_in_packing, "is_certified_chain", lambda *_: False)
    program = compiled(path, architecture, require_exact=True)
    assert program.emission.files["model.tprog"] != taken.files["model.tprog"]
    x = on_grid((1, 3, 16, 16), 2)
    wanted, found = pefslc.load(path).run({"input": x}), driven(program, tmp_path, architecture, {"input": x})
    assert all(np.array_equal(found[name], wanted[name]) for name in wanted)


@pytest.mark.parametrize(
    ("channels", "outputs", "size", "array_size"),
    [
        (3, 16, (12, 12), 12),  # four pixels a vector, packed while it is quantized
        (3, 7, (5, 8), 8),  # eight pixels in three vectors
        (3, 7, (12, 16), 8),
        (1, 4, (3, 12), 12),
        (6, 3, (4, 4), 4),  # two pixels in three vectors
        (9, 5, (3, 8), 12),
        (8, 3, (3, 5), 4),  # nothing is left over: as a plain host's
        (5, 3, (4, 6), 2),
    ],
)
@pytest.mark.parametrize("fmt", [None, "Q8.8"])
def test_a_dense_host_leaves_no_gaps(
    channels: int, outputs: int, size: tuple[int, int], array_size: int, fmt: str | None, tmp_path: Path
) -> None:
    architecture = board(array_size)
    x = on_grid((1, channels, *size), channels)
    if fmt is None:
        path = convolution(tmp_path, channels, outputs, size)
        wanted = pefslc.load(path).run({"input": x})
        program = compiled(path, architecture, "dense", require_exact=True)
    else:
        m = ModelBuilder()
        weight = m.constant(np.rint(normal((outputs, channels, 3, 3), 3)))  # of integers: nothing rounds
        m.output(m.node("Conv", m.input([1, channels, *size], "input"), weight, pads=[1, 1, 1, 1]))
        path = m.save(tmp_path)
        x = np.clip(x, -1, 1) / 8
        x = np.rint(x * 256) / 256
        wanted = pefslc.load(path).run({"input": x})
        program = compiled(path, architecture, "dense", fmt=fmt)
    layout = padded if channels % array_size == 0 else dense
    found = driven(program, tmp_path, architecture, {"input": x}, layout)
    assert all(np.array_equal(found[name], wanted[name]) for name in wanted)
    assert np.array_equal(host_module_of(program)["to_driver"](x[0])["input"], layout(x[0], array_size))
    program.verify({"input": x, **wanted}).require()


def test_rows_that_do_not_fill_vectors_are_refused(tmp_path: Path) -> None:
    path = convolution(tmp_path, 3, 4, (8, 10))
    with pytest.raises(CompileError, match="rows of 10 pixels of 3 channels do not fill vectors of 8 lanes: 8 pixels"):
        compiled(path, board(8), "dense")
    compiled(path, board(8))  # as the message says


@pytest.mark.parametrize("given", [{"fmt": "Q2.3"}, {"input_fmt": "UQ1.4"}, {"input_fmt": "UQ0.8", "fmt": "Q2.3"}])
def test_a_format_of_fewer_bits_is_the_tcus_to_round_to(given: dict[str, str], tmp_path: Path) -> None:
    """The driver clips nothing and rounds to 1/256: what the user says of the input then happens on the TCU."""
    m = ModelBuilder()
    x = m.input([1, 3, 5, 5], "input")
    if "fmt" not in given:
        x = m.quant(x, 0.25, 5)
    m.output(m.node("Conv", x, m.weight(normal((4, 3, 3, 3), 0.4), 0.125, 5)))
    path, architecture = m.save(tmp_path), board(8)
    program = compiled(path, architecture, require_exact=True, **given)
    assert program.emission.details["inputs"][0]["factor"] == 1.0  # type: ignore[index,call-overload]
    x = on_grid((1, 3, 5, 5), 4, reach=8)
    wanted = pefslc.compile(path, target="c", **given).run(x)  # its host quantizes
    found = driven(program, tmp_path, architecture, {"input": x})
    assert all(np.array_equal(found[name], wanted[name]) for name in wanted)
