"""`NAME_values.h`: numbers to codes and back in C, against exact rationals; and the macros of scales."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

import pefslc
from builders import ModelBuilder, normal
from oracle import round_by_name

ROUNDINGS = ("ROUND", "HALF_UP", "HALF_DOWN", "FLOOR", "CEIL", "DOWN", "UP")
FRACTION_BITS = (-1000, -40, -3, 0, 1, 2, 5, 8, 15, 31, 35, 60, 150, 1000)

SHIM = """
#define PEFSLC_FLOATS
#include "model_values.h"
void codes(const int32_t *x, int count, int fraction_bits, int32_t *to);
void codes_of_floats(const float *x, int count, int32_t *to);
void values(const int32_t *x, int count, int channel, int fraction_bits, int32_t *to);
void floats(const int32_t *x, int count, int channel, float *to);
void codes(const int32_t *x, int count, int fraction_bits, int32_t *to)
{
    int i;
    for (i = 0; i < count; i++) { to[i] = model_x_quantize(x[i], fraction_bits); }
}
void codes_of_floats(const float *x, int count, int32_t *to)
{
    int i;
    for (i = 0; i < count; i++) { to[i] = model_x_quantize_float(x[i]); }
}
void values(const int32_t *x, int count, int channel, int fraction_bits, int32_t *to)
{
    int i;
    (void)channel;
    for (i = 0; i < count; i++) { to[i] = model_y_value((OUTPUT)x[i] CHANNEL, fraction_bits); }
}
void floats(const int32_t *x, int count, int channel, float *to)
{
    int i;
    (void)channel;
    for (i = 0; i < count; i++) { to[i] = model_y_value_float((OUTPUT)x[i] CHANNEL); }
}
"""


@dataclass
class Helpers:
    """The functions of a model's header, compiled."""

    program: pefslc.Program
    library: ctypes.CDLL

    def _call(self, name: str, x: np.ndarray, *more: int, result: type = np.int32) -> np.ndarray:
        to = np.empty(len(x), dtype=result)
        self.library[name](
            ctypes.c_void_p(x.ctypes.data), len(x), *map(ctypes.c_int, more), ctypes.c_void_p(to.ctypes.data)
        )
        return to

    def codes(self, x: list[int], fraction_bits: int) -> list[int]:
        return self._call("codes", np.array(x, dtype=np.int32), fraction_bits).tolist()  # type: ignore[no-any-return]

    def codes_of_floats(self, x: np.ndarray) -> list[int]:
        return self._call("codes_of_floats", x).tolist()  # type: ignore[no-any-return]

    def values(self, x: np.ndarray, channel: int, fraction_bits: int) -> list[int]:
        return self._call("values", x, channel, fraction_bits).tolist()  # type: ignore[no-any-return]

    def floats(self, x: np.ndarray, channel: int) -> np.ndarray:
        return self._call("floats", x, channel, result=np.float32)


@pytest.fixture
def helpers_of(cc: str, tmp_path: Path, warning_flags: tuple[str, ...]) -> Callable[[ModelBuilder], Helpers]:
    """helpers_of(model): of a model with one input x and one output y, compiled without a warning."""

    def made(m: ModelBuilder) -> Helpers:
        program = pefslc.compile(m.save(tmp_path), target="c")
        program.save(tmp_path)
        output = next(a for a in program.sidecar.details["arguments"] if a["direction"] == "output")  # type: ignore
        by_channel = "int32_t channel" in (tmp_path / "model_values.h").read_text()
        text = SHIM.replace("OUTPUT", output["type"]).replace(" CHANNEL", ", channel" if by_channel else "")
        (tmp_path / "shim.c").write_text(text)
        traps = ("-fsanitize=undefined", "-fsanitize-undefined-trap-on-error")  # no overflow, no wrong shift
        command = [cc, *warning_flags, *traps, "-O1", "-shared", "-fPIC", "shim.c", "-o", "shim.so"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[:3000]
        return Helpers(program, ctypes.CDLL(str(tmp_path / "shim.so")))

    return made


def model_of_input(make: Callable[[ModelBuilder, str], str]) -> ModelBuilder:
    m = ModelBuilder()
    m.output(m.node("MatMul", make(m, m.input([1, 4], "x")), m.weight(normal((4, 3), 0.5), 0.25, 4), output="y"))
    return m


def numbers_around(scale: Fraction, low: int, high: int, fraction_bits: int) -> list[int]:
    """Integers next to each multiple of scale / 2, the ends of int32_t, and some others."""
    edges = [Fraction(k, 2) * scale for k in range(2 * low - 5, 2 * high + 6)]
    near = {int(e * Fraction(2) ** fraction_bits) + d for e in edges for d in (-1, 0, 1)}
    some = np.random.default_rng(5).integers(-(2**31), 2**31, 50).tolist()
    return [n for n in (*sorted(near), *some, -(2**31), 2**31 - 1, 0, 1, -1) if -(2**31) <= n < 2**31]


def code(x: Fraction, scale: Fraction, zero_point: int, low: int, high: int, rounding: str, *, last: bool) -> int:
    """QONNX's Quant adds the zero point before it rounds, ONNX's QuantizeLinear after that."""
    rounded = (
        round_by_name(x / scale, rounding) + zero_point if last else round_by_name(x / scale + zero_point, rounding)
    )
    return min(max(rounded, low), high)


def check_codes(
    helpers: Helpers, scale: Fraction, zero_point: int, bits: int, signed: bool, rounding: str, last: bool
) -> None:
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    for f in FRACTION_BITS:
        x = numbers_around(scale, low - zero_point, high - zero_point, f)
        wanted = [code(n / Fraction(2) ** f, scale, zero_point, low, high, rounding, last=last) for n in x]
        assert helpers.codes(x, f) == wanted, f
    rng = np.random.default_rng(9)
    some = rng.integers(0, 2**32, 500, dtype=np.uint32).view(np.float32)
    edges = np.array([float(Fraction(k, 2) * scale) for k in range(-2 * 2**bits, 2 * 2**bits)], dtype=np.float32)
    floats = np.concatenate(
        [some[np.isfinite(some)], edges, np.nextafter(edges, np.float32(9e9)), np.float32([0, 1e-45])]
    )
    assert helpers.codes_of_floats(floats) == [
        code(Fraction(float(x)), scale, zero_point, low, high, rounding, last=last) for x in floats
    ]
    assert helpers.codes_of_floats(np.float32([np.inf, -np.inf])) == [high, low]


@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_every_rounding_gives_the_code_of_the_exact_number(rounding, helpers_of):  # type: ignore[no-untyped-def]
    helpers = helpers_of(model_of_input(lambda m, x: m.quant(x, 0.375, 4, zero_point=3, rounding=rounding)))
    check_codes(helpers, Fraction(3, 8), 3, 4, True, rounding, last=False)


@pytest.mark.parametrize("scale", [2.0**-3, 0.1, 1e-6, 2.0**20, 3.0, 0.9999999, 1.5e-30])
@pytest.mark.parametrize("signed", [True, False])
def test_every_scale_gives_the_code_of_the_exact_number(scale, signed, helpers_of):  # type: ignore[no-untyped-def]
    scale = float(np.float32(scale))
    helpers = helpers_of(model_of_input(lambda m, x: m.quant(x, scale, 6, signed=int(signed))))
    check_codes(helpers, Fraction(scale), 0, 6, signed, "ROUND", last=False)


@pytest.mark.parametrize("zero_point", [0, 127, 255])
def test_the_zero_point_of_quantize_linear_is_added_after_rounding(zero_point, helpers_of):  # type: ignore[no-untyped-def]
    def linear(m: ModelBuilder, x: str) -> str:
        more = (m.constant(0.01873), m.constant(zero_point, dtype=np.uint8))
        return m.node("DequantizeLinear", m.node("QuantizeLinear", x, *more), *more)

    helpers = helpers_of(model_of_input(linear))
    check_codes(helpers, Fraction(float(np.float32(0.01873))), zero_point, 8, False, "ROUND", last=True)


@pytest.mark.parametrize(("op", "by", "scale"), [("Div", 255.0, Fraction(255, 256)), ("Mul", 3.0, Fraction(1, 768))])
def test_a_multiplication_before_the_quantizer_is_part_of_the_scale(op, by, scale, helpers_of):  # type: ignore[no-untyped-def]
    m = ModelBuilder()
    x = m.node(op, m.input([1, 4], "x"), m.constant(by))
    m.output(m.node("MatMul", m.quant(x, 2.0**-8, 8, signed=0), m.weight(normal((4, 3), 0.5), 0.25, 4), output="y"))
    helpers = helpers_of(m)
    check_codes(helpers, scale, 0, 8, False, "ROUND", last=False)
    header = helpers.program.emission.files["model.h"].decode()
    assert f"#define model_X_SCALE {float(scale)!r}\n" in header
    assert "model_X_EXPONENT" not in header


def nearest(value: Fraction, fraction_bits: int) -> int:
    """Round half to even, saturated to int32_t."""
    return min(max(round(value * Fraction(2) ** fraction_bits), -(2**31)), 2**31 - 1)


@pytest.mark.parametrize("bias", [None, [0.25, -3.5, 0.0625], [0.1, -0.7, 1e-20]], ids=["none", "dyadic", "float"])
@pytest.mark.parametrize("scales", [0.25, [[0.25, 0.5, 1.0]], [[0.21, 0.37, 0.3]], 1e-9])
def test_values_are_the_nearest_to_what_the_codes_are_worth(scales, bias, helpers_of):  # type: ignore[no-untyped-def]
    m = ModelBuilder()
    y = m.quant(m.input([1, 4], "x"), 0.125, 5)
    weight = m.weight(normal((4, 3), 0.5), np.array(scales, dtype=np.float32), 4)
    y = m.node("MatMul", y, weight, output=None if bias else "y")
    m.output(m.node("Add", y, m.constant(bias), output="y") if bias else y)
    helpers = helpers_of(m)
    (output,) = helpers.program.graph.outputs
    codes = output.value.type.codes
    every = np.unique(np.linspace(codes.low, codes.high, 301).astype(np.int32))
    text = helpers.program.emission.files["model_values.h"].decode()
    is_exact = "the exact value" in text
    assert is_exact == (bias is None or bias[1] == -3.5), "1e-20 has too many digits beside others"
    error = Fraction(0) if is_exact else Fraction(re.search(r"within (\S+),", text)[1])  # type: ignore[index]
    assert error < max(map(abs, (*output.map.scale, *output.map.offset))) * Fraction(1, 2**30)
    for channel in range(3):
        scale, offset = (part[channel % len(part)] for part in (output.map.scale, output.map.offset))
        exact = [scale * int(c) + offset for c in every]
        for f in FRACTION_BITS:
            found = helpers.values(every, channel, f)
            if is_exact:
                assert found == [nearest(v, f) for v in exact], f
            else:
                lowest, highest = ([nearest(v + e, f) for v in exact] for e in (-2 * error, 2 * error))
                assert all(a <= n <= b for a, n, b in zip(lowest, found, highest, strict=True)), f
        np.testing.assert_allclose(
            helpers.floats(every, channel), [float(v) for v in exact], rtol=2**-22, atol=float(error)
        )


def test_what_no_function_does_is_said(tmp_path: Path) -> None:
    m = ModelBuilder()
    x = m.node("Sub", m.input([1, 3, 2, 2], "x"), m.constant(np.float32([0.4, 0.5, 0.6]).reshape(1, 3, 1, 1)))
    m.output(m.node("Conv", m.quant(x, 0.125, 5), m.weight(normal((2, 3, 1, 1), 0.5), 0.25, 4), output="y"))
    program = pefslc.compile(m.save(tmp_path), target="c")
    text = program.emission.files["model_values.h"].decode()
    assert "no function, as the model does more than a multiplication before its quantizer" in text
    assert "model_x_quantize(" not in text
    assert "model_X_SCALE" not in program.emission.files["model.h"].decode()


def test_the_macros_are_those_of_the_formats(tmp_path: Path) -> None:
    m = ModelBuilder()
    x = m.input([1, 3], "x")
    m.output(m.quant(m.node("Relu", m.quant(x, 0.25, 5, zero_point=2)), 0.1, 8, signed=0, zero_point=0, output="y"))
    header = pefslc.compile(m.save(tmp_path), target="c").emission.files["model.h"].decode()
    found = dict(re.findall(r"#define model_(\w+) (.*)", header))
    assert found == {
        "X_SIZE": "3", "X_MIN": "(-16)", "X_MAX": "15", "X_ZERO_POINT": "2", "X_SCALE": "0.25", "X_EXPONENT": "(-2)",
        "Y_SIZE": "3", "Y_MIN": "0", "Y_MAX": found["Y_MAX"], "Y_ZERO_POINT": "0",
        "Y_SCALE": repr(float(np.float32(0.1))),
    }  # fmt: skip


def test_two_headers_are_c_and_cplusplus_in_one_file_and_nothing_unused_is_told(  # type: ignore[no-untyped-def]
    clang_is_silent, tmp_path: Path
) -> None:
    for name in ("first", "second"):
        model = model_of_input(lambda m, x: m.quant(x, 0.125, 5)).save(tmp_path, f"{name}.onnx")
        pefslc.compile(model, target="c").save(tmp_path)
    both = '#include "first_values.h"\n#include "second_values.h"\n#include "first_values.h"\n'
    (tmp_path / "two.c").write_text(f"{both}typedef int nothing;\n")
    (tmp_path / "floats.c").write_text(f"#define PEFSLC_FLOATS\n{both}typedef int nothing;\n")
    clang_is_silent(tmp_path)
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("no C++ compiler")
    (tmp_path / "two.cpp").write_text(f"#define PEFSLC_FLOATS\n{both}int main() {{ return first_x_quantize(3, 1); }}\n")
    subprocess.run([compiler, "-Wall", "-Wextra", "-Werror", "-c", "two.cpp"], cwd=tmp_path, check=True)
