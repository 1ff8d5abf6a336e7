"""What --emit-main, --cmake and --arduino write: programs that print PASS, here and on an emulated Cortex-M."""

from __future__ import annotations

import re
import shutil
import subprocess
import zipfile
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from emulators import STRING

import pefslc
from builders import ModelBuilder, normal
from pefslc.diagnostics.errors import CompileError
from pefslc.ir.interpret import run_codes
from pefslc.targets.c.target import CTarget

ROOT = Path(__file__).parents[2]
CNN = ROOT / "examples" / "cnn_bnfold_q2_3.onnx"
NAME = "cnn_bnfold_q2_3"
MACHINES = (
    *(f"CPU=cortex-{core}" for core in ("m0", "m0plus", "m3", "m4", "m7", "m33", "m55")),
    "CPU=cortex-m0 MACHINE=microbit FLASH_SIZE=256K RAM_SIZE=16K",  # as it is documented
    "CPU=cortex-m4 MACHINE=netduinoplus2 FLASH=0x08000000 FLASH_SIZE=1M RAM_SIZE=128K",  # of an STM32F4
)
PASS = f"PASS: 10 output codes of {NAME} are as expected\n"

# What a sketch includes without saying so, and what calls its functions.
ARDUINO = """
#include <cstdint>
#include <cstdio>
#include <cstdlib>
enum { OUTPUT, LOW, HIGH, LED_BUILTIN };
struct Port {
    void begin(long) {}
    void print(const char *text) { fputs(text, stdout); }
    void print(unsigned long) { fputs("some", stdout); }
    void println(const char *text) { puts(text); }
};
static Port Serial;
static void pinMode(int, int) {}
static void digitalWrite(int, int) {}
static unsigned long micros() { return 0; }
static void delay(unsigned long milliseconds) { exit(milliseconds == 500 ? 0 : 1); }
"""


def save(folder: Path, model: Path = CNN, **options: bool | str) -> pefslc.Program:
    program = pefslc.compile(model, target="c", **options)
    program.save(folder)
    return program


def run(command: Sequence[str], folder: Path, status: int = 0) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == status, f"{command}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout


def refusal(command: Sequence[str], folder: Path) -> str:
    """What make says as it stops."""
    command = [*command, "--no-print-directory"]  # which it does where another make runs the tests
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    return done.stderr


def required(command: str) -> None:
    if shutil.which(command) is None:
        pytest.skip(f"{command} is not installed: what needs it was not run")


def array(header: str, name: str) -> list[int]:
    """The numbers of an array in a golden header."""
    found = re.search(rf"_golden_{name}\[(\d+)\] = {{(.*?)}};", header, re.DOTALL)
    assert found is not None
    numbers = [int(n) for n in found[2].split(",")]
    assert len(numbers) == int(found[1])
    return numbers


@pytest.fixture
def make(cc: str) -> str:
    del cc
    required("make")
    return "make"


@pytest.mark.parametrize("options", [{}, {"caller_arena": True}, {"weights": "binary"}], ids=str)
def test_make_builds_a_test_that_passes_without_a_warning(
    options: dict[str, bool | str], make: str, tmp_path: Path, warning_flags: tuple[str, ...]
) -> None:
    save(tmp_path, emit_main=True, **options)
    run([make, f"CFLAGS={' '.join(warning_flags)}"], tmp_path)
    assert run([f"./{NAME}_test"], tmp_path) == PASS


def test_a_code_that_differs_fails_and_is_named(make: str, tmp_path: Path) -> None:
    save(tmp_path, emit_main=True)
    header = tmp_path / f"{NAME}_golden.h"
    text = header.read_text()
    codes = array(text, "output")
    header.write_text(text.replace(f" {codes[7]},", f" {codes[7] + 1},"))
    run([make], tmp_path)
    printed = run([f"./{NAME}_test"], tmp_path, status=1)
    assert printed == f"output[7] is {codes[7]}, not {codes[7] + 1}\nFAIL: 1 of 10 output codes of {NAME} differ\n"


def test_the_golden_vector_is_what_the_interpreter_computes(tmp_path: Path) -> None:
    program = save(tmp_path, emit_main=True)
    header = (tmp_path / f"{NAME}_golden.h").read_text()
    (x,), (y,) = program.graph.inputs, program.graph.outputs
    given = np.array(array(header, "input"))
    assert (given.min(), given.max()) == (-16, 15), "the whole range of Q2.3"
    expected = run_codes(program.graph, {x.name: given.reshape(x.value.type.shape)})[y.value.name]
    assert array(header, "output") == expected.reshape(-1).tolist()
    assert len(set(array(header, "output"))) > 1


def test_the_index_of_an_arg_max_is_tested_too(make: str, tmp_path: Path) -> None:
    m = ModelBuilder()
    y = m.node("MatMul", m.quant(m.input([1, 6], "x"), 0.125, 5), m.weight(normal((6, 5), 0.5), 0.25, 4))
    m.output(m.node("ArgMax", y, axis=1))
    save(tmp_path, m.save(tmp_path, "classes.onnx"), emit_main=True)
    run([make], tmp_path)
    assert "PASS" in run(["./classes_test"], tmp_path)
    assert "ARG_MAX[1]" in (tmp_path / "classes_golden.h").read_text()


def test_an_output_may_be_named_as_the_arg_max_of_another(make: str, tmp_path: Path) -> None:
    m = ModelBuilder()
    y = m.node("MatMul", m.quant(m.input([1, 6], "x"), 0.125, 5), m.weight(normal((6, 5), 0.5), 0.25, 4))
    m.output(m.node("ArgMax", y, axis=1, output="y"))
    m.output(m.quant(y, 0.5, 4, output="y_arg_max"))
    save(tmp_path, m.save(tmp_path, "classes.onnx"), emit_main=True)
    run([make], tmp_path)
    assert "PASS" in run(["./classes_test"], tmp_path)


@pytest.mark.parametrize("variables", MACHINES)
def test_an_emulated_cortex_m_passes(variables: str, make: str, tmp_path: Path) -> None:
    required("arm-none-eabi-gcc")
    required("qemu-system-arm")
    specs = run(["arm-none-eabi-gcc", "-print-file-name=rdimon.specs"], tmp_path).strip()
    if not Path(specs).exists():
        pytest.skip("newlib of arm-none-eabi-gcc is not installed: Cortex-M was not run")
    save(tmp_path, emit_main=True, weights="binary" if "m7" in variables else "text")
    flags = "ARM_CFLAGS=-Os -Wall -Wextra -Wconversion -Werror"
    assert run([make, "-s", "qemu", flags, *variables.split()], tmp_path) == PASS


def test_a_processor_without_a_machine_is_told_before_anything_is_compiled(make: str, tmp_path: Path) -> None:
    save(tmp_path, emit_main=True)
    named = ", ".join(f"cortex-{core}" for core in ("m0", "m0plus", "m3", "m4", "m7", "m33")) + " or cortex-m55"
    told = refusal([make, "qemu", "CPU=cortex-m0+", "ARM_CC=false"], tmp_path)
    assert f"CPU=cortex-m0+ has no machine here: take {named}, or give MACHINE=... of QEMU, too" in told
    assert run([make, "-n", "qemu", "CPU=cortex-m23", "MACHINE=mps2-an505"], tmp_path)
    assert run([make, "-n", "arm", "CPU=cortex-m23"], tmp_path), "what is not emulated needs no machine"


@pytest.mark.parametrize("goal", ["dispatch", "test-dispatch"])
def test_a_library_of_paths_that_was_not_asked_for_is_told(goal: str, make: str, tmp_path: Path) -> None:
    save(tmp_path, emit_main=True)
    told = refusal([make, goal], tmp_path)
    assert f"{NAME}_dispatch.c is not here: compile the network again, with --dispatch" in told


def test_cmake_builds_the_library_and_its_test(cc: str, tmp_path: Path) -> None:
    del cc
    required("cmake")
    save(tmp_path / "network", cmake=True, emit_main=True, weights="binary")
    run(["cmake", "-S", "network", "-B", "alone"], tmp_path)
    run(["cmake", "--build", "alone"], tmp_path)
    assert "100% tests passed" in run(["ctest", "--test-dir", "alone"], tmp_path)


def test_cmake_takes_the_network_into_another_project(cc: str, tmp_path: Path) -> None:
    del cc
    required("cmake")
    save(tmp_path / "network", cmake=True)
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.13)\nproject(mine C)\nadd_subdirectory(network)\n"
        "add_executable(mine mine.c)\n"
        f"target_link_libraries(mine PRIVATE pefslc::{NAME})\n"
    )
    (tmp_path / "mine.c").write_text(
        f'#include "{NAME}.h"\nstatic int8_t x[{NAME}_INPUT_SIZE];\nstatic int16_t y[{NAME}_OUTPUT_SIZE];\n'
        f"int main(void) {{ {NAME}_run(x, y); return y[0] == 0; }}\n"
    )
    run(["cmake", "-S", ".", "-B", "out"], tmp_path)
    run(["cmake", "--build", "out"], tmp_path)
    run(["out/mine"], tmp_path)


@pytest.mark.parametrize("caller_arena", [False, True])
def test_the_arduino_library_compiles_and_its_sketch_passes(cc: str, tmp_path: Path, caller_arena: bool) -> None:
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("no C++ compiler: the sketch was not compiled")
    program = save(tmp_path, arduino=True, caller_arena=caller_arena)
    with zipfile.ZipFile(BytesIO(program.emission.files[f"{NAME}_arduino.zip"])) as archive:
        archive.extractall(tmp_path)
    library = tmp_path / NAME
    properties = dict(line.split("=", 1) for line in (library / "library.properties").read_text().splitlines())
    assert properties["name"] == NAME
    assert properties["includes"] == f"{NAME}.h"
    (tmp_path / "Arduino.h").write_text(ARDUINO)
    (tmp_path / "program.cpp").write_text("int main() { setup(); for (;;) { loop(); } }\n")
    run([cc, "-c", *map(str, sorted((library / "src").glob("*.c")))], tmp_path)
    sketch = library / "examples" / f"{NAME}_test" / f"{NAME}_test.ino"
    both = "#include <Arduino.h>\n" + sketch.read_text() + (tmp_path / "program.cpp").read_text()
    (sketch.parent / "sketch.cpp").write_text(both)
    objects = [str(path) for path in sorted(tmp_path.glob("*.o"))]
    folders = ["-I", str(library / "src"), "-I", str(tmp_path)]
    run([compiler, *folders, str(sketch.parent / "sketch.cpp"), *objects, "-o", "sketch"], tmp_path)
    assert run(["./sketch"], tmp_path) == f"PASS: {NAME}, some us\n"


def test_an_arduino_library_with_weights_in_a_file_is_refused() -> None:
    with pytest.raises(CompileError, match="an Arduino library has its weights in C"):
        CTarget(arduino=True, weights="binary")


def test_all_options_that_contradict_each_other_are_told() -> None:
    with pytest.raises(CompileError) as refused:
        CTarget(arduino=True, weights="binary", dispatch=True, steps=5, threads=2)
    assert len(refused.value.problems) == 3


def test_the_same_network_gives_the_same_bytes_and_the_networks_files_are_those_without_options() -> None:
    options = {"emit_main": True, "cmake": True, "arduino": True}
    first, second, plain = (pefslc.compile(CNN, target="c", **o).emission.files for o in (options, options, {}))
    assert first == second
    assert all(first[name] == content for name, content in plain.items())
    assert {*first} - {*plain} == {
        "main.c", "Makefile", "CMakeLists.txt", f"{NAME}_golden.h", f"{NAME}_cortex_m.c", f"{NAME}_cortex_m.ld",
        f"{NAME}_arduino.zip",
    }  # fmt: skip


def test_the_program_of_the_documentation_compiles_without_a_warning_and_sees_what_the_host_sees(
    make: str, tmp_path: Path, warning_flags: tuple[str, ...]
) -> None:
    program, table, _, _ = _programs_of_the_page()
    data = np.load(ROOT / "examples" / "cnn_float.npz")["x"]
    options = {"fmt": "auto:8", "calibrate": ROOT / "examples" / "cnn_float.npz", "emit_main": True}
    compiled = pefslc.compile(ROOT / "examples" / "cnn_float.onnx", target="c", **options)
    compiled.save(tmp_path / "build")
    pixels = np.clip(np.rint(data * 128 + 128), 0, 255).astype(int)
    classes = compiled.run(pixels / 128 - 1)["output"].argmax(axis=1)
    assert {*classes.tolist()} > {6}, "the light is on for some and off for others"
    rows = ",".join("{" + ",".join(map(str, picture.ravel())) + "}" for picture in pixels)
    board = f"""
#include <stdlib.h>
#include <stdio.h>
static const uint8_t pictures[{len(pixels)}][256] = {{{rows}}};
static int at = 0;
void camera_read(uint8_t *to) {{ int i; for (i = 0; i < 256; i++) {{ to[i] = pictures[at][i]; }} at++; }}
void led_set(int on) {{ putchar(on ? '1' : '0'); if (at == {len(pixels)}) {{ exit(0); }} }}
"""
    (tmp_path / "app.c").write_text(program + board)
    folder = tmp_path / "build"
    (tmp_path / "pixels.c").write_text(table)
    run([make, "MAIN=../app.c ../pixels.c", f"CFLAGS={' '.join(warning_flags)}"], folder)
    assert run(["./cnn_float_test"], folder) == "".join("1" if c == 6 else "0" for c in classes)


def test_the_risc_v_compiler_takes_the_files_as_the_documentation_says(tmp_path: Path) -> None:
    command = re.search(r"^riscv64-.*$", (ROOT / "docs" / "microcontrollers.md").read_text(), re.MULTILINE)
    assert command is not None
    words = command[0].replace("NAME", NAME).split()
    required(words[0])
    save(tmp_path, cpu="rv32")
    if not Path(run([words[0], "-print-file-name=picolibc.specs"], tmp_path).strip()).exists():
        words.remove("--specs=picolibc.specs")
        (tmp_path / "string.h").write_text(STRING)
        words += ["-ffreestanding", "-I."]
    run([*words, "-Wall", "-Wextra", "-Werror"], tmp_path)
    assert {path.name for path in tmp_path.glob("*.o")} == {f"{NAME}.o", f"{NAME}_weights.o"}
    assert "riscv" in (tmp_path / f"{NAME}.c").read_text()


def test_the_loop_and_the_clock_of_the_documentation_do_what_it_says(
    make: str, tmp_path: Path, warning_flags: tuple[str, ...]
) -> None:
    _, _, loop, layers = _programs_of_the_page()
    options = {"fmt": "auto:8", "calibrate": ROOT / "examples" / "cnn_float.npz", "emit_main": True, "steps": 20_000}
    compiled = pefslc.compile(ROOT / "examples" / "cnn_float.onnx", target="c", **options)
    compiled.save(tmp_path / "build")
    polled = "int main(void) { classify(); return 0; }\nvoid poll_the_sensors(void) { putchar('.'); }\n"
    (tmp_path / "loop.c").write_text(f"{loop}\n#include <stdio.h>\n{polled}")
    (tmp_path / "layers.c").write_text(layers)
    folder = tmp_path / "build"
    flags = f"CFLAGS={' '.join(warning_flags)}"
    run([make, "MAIN=../loop.c", flags], folder)
    steps = re.search(r"_STEPS (\d+)", (folder / "cnn_float.h").read_text())
    assert steps is not None
    assert run(["./cnn_float_test"], folder) == "." * int(steps[1])

    pefslc.compile(ROOT / "examples" / "cnn_float.onnx", target="c", **{**options, "steps": None}).save(folder)
    run([make, "MAIN=main.c ../layers.c", f"{flags} -DPEFSLC_LAYER_DONE=layer_done"], folder)
    *seen, last = run(["./cnn_float_test"], folder).splitlines()
    assert last.startswith("PASS")
    assert [int(line.split()[0]) for line in seen] == list(range(len(seen)))
    assert len(seen) > 3


def _programs_of_the_page() -> list[str]:
    page = (ROOT / "docs" / "microcontrollers.md").read_text()
    return re.findall(r"```c\n(.*?)```", page, re.DOTALL)
