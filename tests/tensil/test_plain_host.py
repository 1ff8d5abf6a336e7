"""`--host plain`: Tensil's own driver code, which knows nothing of a program, feeds it and reads it."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from ends import host_module_of
from plain_support import board, compiled, convolution, driven, on_grid, padded
from stock_board import Hardware, StockDriver

import pefslc
from builders import ModelBuilder, normal, random_network
from oracle import quantize_value
from pefslc.diagnostics.errors import CompileError
from pefslc.targets.tensil.word_rewrites import sums_in_packing


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


@pytest.mark.parametrize("host", ["plain", "dense"])
def test_a_sum_of_words_is_refused_at_an_output(host: str, tmp_path: Path) -> None:
    m = ModelBuilder()
    x = m.quant(m.input([1, 64], "input"), 2.0**-7, 8)
    weight = m.weight(np.random.default_rng(0).uniform(-1, 1, (4, 64)), 2.0**-7, 8)
    m.output(m.node("Gemm", x, weight, transB=1))
    with pytest.raises(CompileError, match=r"is a sum of \d words: no number that Tensil's driver returns") as caught:
        compiled(m.save(tmp_path), board(8), host)
    assert f"or leave out --host {host}:" in str(caught.value)
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


@pytest.mark.parametrize(("scale", "bits"), [(2.0**-9, 5), (2.0**-11, 5), (1e-4, 5), (2.0**-14, 6), (0.0027, 6)])
def test_a_driver_coarser_than_the_model_says_by_how_many_codes(scale: float, bits: int, tmp_path: Path) -> None:
    """Steps of less than a word. As advised, with finer words: the next code at most, and seldom."""
    m = ModelBuilder()
    m.output(m.quant(m.input([1, 4], "input"), scale, bits))
    path = m.save(tmp_path)
    program, step = compiled(path, board(4)), float(np.float32(scale))
    x = np.random.default_rng(0).uniform(-step * 2 ** (bits - 1), step * (2 ** (bits - 1) - 1), 200_000)

    def codes(x: np.ndarray) -> np.ndarray:
        return np.clip(np.rint(x / step), -(2 ** (bits - 1)), 2 ** (bits - 1) - 1)

    record = program.emission.details["inputs"][0]  # type: ignore[index,call-overload]
    share, by = float(record["rounded_twice"]), int(record.get("rounded_twice_by", 1))  # type: ignore[index,union-attr,call-overload,arg-type]
    off = np.abs(codes(np.rint(x * 256) / 256) - codes(x))
    assert 0.75 * by <= off.max() <= by
    assert np.mean(off > 0) <= share + 0.005 <= 1
    (note,) = (note for note in program.emission.notes if "rounded twice" in note)
    assert (
        f"up to {100 * share:.{3 if share > 0.99 else 2}g} % get "
        + (f"another code, by up to {by}:" if by > 1 else "the next code:")
        in note
    )
    advised = note.partition("--input-fmt ")[2].partition(",")[0]
    finer = compiled(path, board(4), input_fmt=advised).emission.details["inputs"][0]  # type: ignore[index,call-overload]
    assert float(finer["rounded_twice"]) <= 0.25  # type: ignore[index,call-overload,arg-type]
    assert "rounded_twice_by" not in finer  # type: ignore[operator]


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
    if array_size == 12:  # on 8 lanes a second row in a vector of pixels serves as well
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
