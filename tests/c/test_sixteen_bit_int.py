"""On a processor whose int has 16 bits: an emulated AVR computes the golden codes; what its compiler cannot is said."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from cpu_rows import LAYOUTS

import pefslc
from architectures import Net
from pefslc.ir.graph import Graph
from pefslc.numeric.staircase import Staircase
from pefslc.targets.c.target import CTarget
from pefslc.targets.protocol import Emission, TargetOptions

_CHIP = "atmega1284p"  # 16 KB of RAM: the largest that simavr knows
_MAIN = """
#include <avr/interrupt.h>
#include <avr/io.h>
#include <avr/sleep.h>
#include "small.h"
#include "small_golden.h"

static int16_t found[small_Y_SIZE];

static void put(char c) { while (!(UCSR0A & (1 << UDRE0))) { } UDR0 = (uint8_t)c; }

int main(void)
{
    int32_t i;
    uint8_t same = 1;
    const char *text;
    UCSR0B = 1 << TXEN0;
    small_run(small_golden_X, found);
    for (i = 0; i < small_Y_SIZE; i++) { same &= found[i] == small_golden_Y[i]; }
    for (text = same ? "PASS\\n" : "FAIL\\n"; *text; text++) { put(*text); }
    cli();
    sleep_mode();
    return 0;
}
"""


def _compiler() -> str:
    found = shutil.which("avr-gcc")
    if found is None:
        pytest.skip("avr-gcc is not installed: no int of 16 bits was tried")
    return found


def _small(build_graph) -> Graph:  # type: ignore[no-untyped-def]
    """A convolution whose sums need more than 16 bits, a depthwise one, a pool, a dense layer; tables of every kind."""
    rng = np.random.default_rng(8)
    b = build_graph("small")
    x = b.input((1, 3, 8, 8), 8)
    y = b.clamp(
        b.conv(x, rng.integers(-127, 128, (8, 3, 3, 3)), rng.integers(-9999, 9999, 8), pads=(1, 1, 1, 1)), 0, 255
    )
    y = b.clamp(b.conv(y, rng.integers(-127, 128, (8, 1, 3, 3)), None, 8), -40000, 40000)
    rises = np.sort(rng.integers(-30000, 30000, (8, 9)), axis=1)
    y = b.steps(y, Staircase(-40000, 40000, -4, rises, np.ones(8, dtype=np.int64)))
    y = b.pool(y, False, factors=rng.integers(1, 9, 9), kernel=(2, 2), strides=(2, 2))
    y = b.lookup(b.clamp(y, -20, 20), rng.integers(-128, 128, (8, 41)))
    return b.graph(b.clamp(b.dense(b.reshape(y, (1, 72)), rng.integers(-127, 128, (6, 72))), -32768, 32767))


PORTABLE = ("-DPEFSLC_PORTABLE",)
CASES = [*((cpu, "gnu99", ()) for cpu in LAYOUTS), ("generic", "c99", ()), ("generic", "gnu99", PORTABLE)]


@pytest.mark.parametrize(("cpu", "standard", "more"), CASES)
def test_an_emulated_avr_computes_the_golden_codes(  # type: ignore[no-untyped-def]
    cpu, standard, more, build_graph, tmp_path: Path
):
    program = _run(
        CTarget(cpu=cpu, emit_main=True).lower(_small(build_graph), TargetOptions()), standard, more, tmp_path
    )
    assert (_in_ram(program, "small_[0-9]") == 0) == (standard == "gnu99"), "GNU's C has __flash"


@pytest.mark.parametrize(("signed", "zero_point"), [(0, 11247), (1, -24417)])
def test_codes_of_16_bits_minus_their_zero_point_have_more(signed: int, zero_point: int, tmp_path: Path) -> None:
    m = Net()
    x = m.quant(m.input((1, 3, 8, 8), "x"), 0.001, 16, signed=signed, zero_point=zero_point)
    m.output(m.quant(m.conv(x, 2, 3, (3, 3)), 0.5, 16))
    model = m.build()
    model.graph.name = "small"
    onnx.save(model, tmp_path / "small.onnx")
    _run(pefslc.compile(tmp_path / "small.onnx", target=CTarget(emit_main=True)).emission, "gnu99", (), tmp_path)


def _run(emission: Emission, standard: str, more: Sequence[str], folder: Path) -> Path:
    """The program of a graph named small, of one input and one output of 16 bits; it printed PASS."""
    compiler = _compiler()
    if shutil.which("simavr") is None:
        pytest.skip("simavr is not installed: the AVR's program was not run")
    for name, content in emission.files.items():
        (folder / name).write_bytes(content)
    sizes = re.findall(r"#define small_(\w+)_SIZE", emission.files["small.h"].decode())
    text = _MAIN
    for short, name in zip("XY", sizes, strict=True):
        text = text.replace(f"small_{short}_SIZE", f"small_{name}_SIZE").replace(
            f"golden_{short}", f"golden_{name.lower()}"
        )
    (folder / "avr.c").write_text(text)
    flags = [f"-mmcu={_CHIP}", f"-std={standard}", "-Os", "-Wall", "-Wextra", "-Werror", *more]
    flags += ["-Waddr-space-convert"] if standard == "gnu99" else []  # flash is not read as RAM
    program = folder / "small.elf"
    subprocess.run([compiler, *flags, "avr.c", "small.c", "small_weights.c", "-o", program], cwd=folder, check=True)
    command = ["simavr", "-m", _CHIP, "-f", "16000000", program]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert "PASS" in done.stdout + done.stderr
    return program


def _in_ram(program: Path, names: str) -> int:
    """How many arrays of such names lie in RAM."""
    done = subprocess.run(["avr-nm", program], capture_output=True, text=True, check=True)
    return len(re.findall(rf"^[0-9a-f]* [dDbB] {names}", done.stdout, re.MULTILINE))


def test_more_constants_than_its_compiler_reads_from_flash_are_refused(build_graph, tmp_path: Path):  # type: ignore[no-untyped-def]
    compiler = _compiler()
    b = build_graph("large")
    x = b.input((1, 200), 4, signed=False)
    layers = [b.dense(x, np.ones((120, 200), dtype=np.int64)) for _ in range(3)]
    for name, content in CTarget().lower(b.graph(*layers), TargetOptions()).files.items():
        (tmp_path / name).write_bytes(content)
    for standard, refused in (("gnu99", True), ("c99", False)):
        command = [compiler, f"-mmcu={_CHIP}", f"-std={standard}", "-fsyntax-only", "large_weights.c"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert (done.returncode != 0) == refused
        assert ("the constants have 72000 bytes, more than __flash reads" in done.stderr) == refused


@pytest.mark.parametrize(
    ("options", "instead"),
    [({}, "--memory small, a processor"), ({"memory": "small", "caller_arena": True}, "a processor")],
    ids=str,
)
def test_working_memory_that_its_compiler_does_not_take_is_refused_with_the_reason(  # type: ignore[no-untyped-def]
    options, instead, build_graph, tmp_path: Path
):
    compiler = _compiler()
    b = build_graph("large")
    image = b.clamp(b.conv(b.input((1, 2, 140, 140), 4), np.ones((2, 2, 3, 3), dtype=np.int64)), 0, 15)
    graph = b.graph(b.clamp(b.conv(image, np.ones((2, 2, 3, 3), dtype=np.int64)), 0, 15))
    for name, content in CTarget(**options).lower(graph, TargetOptions()).files.items():
        (tmp_path / name).write_bytes(content)
    command = [compiler, f"-mmcu={_CHIP}", "-std=c99", "-c", "large.c"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    wanted = (
        rf"the working memory has \d+ bytes, and this compiler takes 32767: use {instead} with pointers of 32 bits, or"
    )
    assert re.search(wanted, done.stderr)


def test_an_array_that_its_compiler_does_not_take_is_refused_with_the_reason(build_graph, tmp_path: Path):  # type: ignore[no-untyped-def]
    compiler = _compiler()
    b = build_graph("large")
    x = b.input((1, 300), 4, signed=False)
    for name, content in (
        CTarget().lower(b.graph(b.dense(x, np.ones((120, 300), dtype=np.int64))), TargetOptions()).files.items()
    ):
        (tmp_path / name).write_bytes(content)
    done = subprocess.run(
        [compiler, f"-mmcu={_CHIP}", "-std=c99", "-c", "large.c"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "has 36000 bytes, and this compiler takes 32767" in done.stderr
