"""Inputs of a plain host: factors, formats, integers, channels that come last, and pixels without gaps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ends import host_module_of
from onnx import TensorProto
from plain_support import board, compiled, convolution, dense, driven, on_grid, padded

import pefslc
from builders import ModelBuilder, normal
from pefslc.diagnostics.errors import CompileError


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


@pytest.mark.parametrize("exponent", [8, 9, 10, 14])
def test_steps_of_any_power_of_two_are_shifted_away_exactly(exponent: int, tmp_path: Path) -> None:
    """The words have so little fraction, or none, that a step is one of the driver's numbers."""
    m, step = ModelBuilder(), 2.0**exponent
    x = m.quant(m.input([1, 3, 6, 6], "input"), step, 5)
    m.output(m.quant(m.node("Conv", x, m.weight(normal((4, 3, 3, 3), 0.4), 0.25, 4)), 2 * step, 6))
    path, architecture = m.save(tmp_path), board(8)
    program = compiled(path, architecture, require_exact=True)
    assert program.emission.details["inputs"][0]["factor"] == 1 / step  # type: ignore[index,call-overload]
    given = np.rint(np.random.default_rng(0).uniform(-20, 20, (2, 3, 6, 6)) * 256) * step / 256
    (wanted,) = pefslc.load(path).run({"input": given}).values()
    (found,) = driven(program, tmp_path, architecture, {"input": given}).values()
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
