"""What a program takes of a chip: one number of RAM everywhere, its parts, and what a compiler made of the code."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

import pefslc
from pefslc.artifacts.footprint import CompiledSize, Footprint
from pefslc.console.cli import run
from pefslc.targets.c.compiled_size import compiled_size, most_stack
from pefslc.targets.c.cpus import GENERIC

CNN = Path(__file__).parents[2] / "examples" / "cnn_bnfold_q2_3.onnx"
NAME = "cnn_bnfold_q2_3"

GRAPH = r"""graph: { title: "x.c"
node: { title: "x.c:leaf" label: "leaf\nx.c:1:1\n8 bytes (static)" }
node: { title: "x.c:wide" label: "wide\nx.c:5:1\n200 bytes (dynamic,bounded)" }
edge: { sourcename: "x.c:wide" targetname: "x.c:leaf" }
node: { title: "x.c:narrow" label: "narrow\nx.c:9:1\n16 bytes (static)" }
edge: { sourcename: "x.c:narrow" targetname: "x.c:wide" label: "x.c:10:2" }
edge: { sourcename: "x.c:narrow" targetname: "other" label: "x.c:11:2" }
node: { title: "other" label: "other\n<built-in>" shape : ellipse }
node: { title: "run" label: "run\nx.c:20:1\n40 bytes (static)" }
edge: { sourcename: "run" targetname: "x.c:leaf" }
}
"""


def test_the_stack_is_the_largest_sum_along_calls() -> None:
    assert most_stack([GRAPH]) == 16 + 200 + 8
    other = r'node: { title: "other" label: "other\ny.c:1:1\n500 bytes (static)" }'
    assert most_stack([GRAPH, f'graph: {{ title: "y.c"\n{other}\n}}\n']) == 16 + 500
    assert most_stack([]) == 0


def test_the_parts_of_the_ram_are_the_sizes_of_the_arrays(cc: str, tmp_path: Path) -> None:
    program = pefslc.compile(CNN, target="c", caller_arena=True)
    program.save(tmp_path)
    found = program.costs
    assert found is not None
    assert found.footprint is not None
    ram = found.footprint.ram
    (tmp_path / "sizes.c").write_text(
        f'#include <stdio.h>\n#include "{NAME}.h"\nint main(void) {{\n'
        f"    static int8_t x[{NAME}_INPUT_SIZE];\n    static int16_t y[{NAME}_OUTPUT_SIZE];\n"
        f'    printf("%zu %zu %zu", sizeof({NAME}_arena), sizeof x, sizeof y);\n    return 0;\n}}\n'
    )
    subprocess.run([cc, "-std=c99", "sizes.c", "-o", "sizes"], cwd=tmp_path, check=True)
    printed = subprocess.run(["./sizes"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    arena, _, outputs = map(int, printed.split())
    assert ram == {"arena": arena, "outputs": outputs}  # the arena has room for the input


@pytest.mark.usefixtures("cc")
def test_the_summary_the_costs_and_the_json_have_one_number_of_ram(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([str(CNN), "--target", "c", "-o", str(tmp_path), "--costs"]) == 0
    printed = capsys.readouterr().out
    found = pefslc.compile(CNN, target="c").costs
    assert found is not None
    assert found.footprint is not None
    record = found.to_json()["footprint"]
    number = record["ram_bytes_without_stack"]  # type: ignore[index,call-overload]
    assert number == found.footprint.ram_bytes == sum(found.footprint.ram.values())
    assert re.findall(r"([\d,]+) bytes of RAM and the stack", printed) == [f"{number:,}"] * 2
    assert all(line in printed for line in found.footprint.lines())


def test_code_and_stack_are_those_of_the_cortex_m4_where_its_compiler_is_there(tmp_path: Path) -> None:
    if shutil.which("arm-none-eabi-gcc") is None:
        pytest.skip("arm-none-eabi-gcc is not installed: code for Cortex-M was not measured")
    program = pefslc.compile(CNN, target="c")
    program.save(tmp_path)
    found = compiled_size(program.emission.files, [f"{NAME}.c"], GENERIC.compiler)
    assert found is not None
    if not found.command.startswith("arm-none-eabi-gcc -mcpu=cortex-m4"):
        pytest.skip("newlib of arm-none-eabi-gcc is not installed")
    command = [*found.command.split(), "-c", "-fstack-usage", f"{NAME}.c", "-o", "x.o"]
    subprocess.run(command, cwd=tmp_path, check=True)
    symbols = subprocess.run(
        ["arm-none-eabi-nm", "-S", "x.o"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    functions = [
        int(line.split()[1], 16)
        for line in symbols.stdout.splitlines()
        if len(line.split()) == 4 and line.split()[2] in "tT"
    ]
    assert sum(functions) <= found.code_bytes < sum(functions) + 64, "the functions, and strings or padding at most"
    stacks = [int(line.split("\t")[1]) for line in next(tmp_path.glob("*.su")).read_text().splitlines()]
    assert found.stack_bytes is not None
    assert max(stacks) <= found.stack_bytes <= sum(stacks)


@pytest.mark.parametrize(
    ("cpu", "compiler"),
    [("cortex-m0", "arm-none-eabi-gcc -mcpu=cortex-m0plus"), ("cortex-a53", "aarch64-linux-gnu-gcc"), ("x86-64", "cc")],
)
def test_each_processor_is_measured_by_its_own_compiler(
    cpu: str, compiler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", "cc")
    if shutil.which(compiler.split()[0]) is None:
        pytest.skip(f"{compiler} is not installed")
    found = pefslc.compile(CNN, target="c", cpu=cpu).costs
    assert found is not None
    assert found.footprint is not None
    assert found.footprint.compiled is not None
    assert found.footprint.compiled.command.startswith(compiler)


def test_code_of_weights_in_a_file_has_what_takes_them(cc: str) -> None:
    del cc
    in_text, in_file = (pefslc.compile(CNN, target="c", weights=form).costs for form in ("text", "binary"))
    assert in_text is not None
    assert in_file is not None
    sizes = [c.footprint.compiled.code_bytes for c in (in_text, in_file)]  # type: ignore[union-attr]
    assert sizes[0] < sizes[1]


def test_without_a_compiler_the_ram_is_known_and_the_rest_is_said_to_be_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CC", raising=False)
    found = pefslc.compile(CNN, target="c").costs
    assert found is not None
    assert found.footprint is not None
    assert found.footprint.compiled is None
    assert found.footprint.lines()[1] == "no C compiler is there to measure code and stack"
    assert found.footprint.to_json()["compiled"] is None


def test_a_compiler_that_does_not_tell_the_stack_is_named() -> None:
    footprint = Footprint({"arena": 100, "inputs": 20}, 1000, CompiledSize("clang -Os", 500, None))
    assert footprint.lines() == (
        "120 bytes of RAM and the stack: arena 100, inputs 20",
        "500 bytes of code, 1,500 of flash with the constants; the compiler does not tell the stack",
        "by clang -Os",
    )


def test_clang_is_measured_too(monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which("clang") is None:
        pytest.skip("clang is not installed")
    monkeypatch.setenv("CC", "clang")
    program = pefslc.compile(CNN, target="c")
    found = compiled_size(program.emission.files, [f"{NAME}.c"], ("no-such-gcc",))
    assert found is not None
    assert found.command == "clang -std=c99 -Os"
    assert found.code_bytes > 500
    assert found.stack_bytes is None


def test_a_compiler_that_cannot_compile_c_is_passed_over(cc: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As arm-none-eabi-gcc where its C library is missing."""
    monkeypatch.setenv("CC", cc)
    found = compiled_size(pefslc.compile(CNN, target="c").emission.files, [f"{NAME}.c"], ("false",))
    assert found is not None
    assert found.command == f"{Path(cc).name} -std=c99 -Os"


# Marks the memory below its own stack, runs the network, and looks how far down the marks are gone.
USED_STACK = """
#include <stdio.h>
#include "resnet8_q3_5.h"
#include "resnet8_q3_5_golden.h"
static int32_t y[resnet8_q3_5_OUTPUT_SIZE];
int main(void)
{
    volatile uint32_t *below;
    int i;
    __asm__ volatile("mov %0, sp" : "=r"(below));
    for (i = 1; i <= 1000; i++) { below[-i] = 0xa5a5a5a5u; }
    resnet8_q3_5_run(resnet8_q3_5_golden_input, (void *)y);
    for (i = 1000; i > 0 && below[-i] == 0xa5a5a5a5u; i--) { }
    printf("%d", 4 * i);
    return 0;
}
"""
MOST_OF_LIBRARY = 40  # bytes: memset and memcpy of newlib push some registers


def test_an_emulated_cortex_m4_needs_the_stack_that_is_told(tmp_path: Path) -> None:
    for command in ("arm-none-eabi-gcc", "qemu-system-arm", "make"):
        if shutil.which(command) is None:
            pytest.skip(f"{command} is not installed: the stack was not measured")
    model = Path(__file__).parents[1] / "data" / "models" / "resnet8_q3_5.onnx"
    program = pefslc.compile(model, target="c", emit_main=True)
    program.save(tmp_path)
    found = compiled_size(program.emission.files, ["resnet8_q3_5.c"], GENERIC.compiler)
    if found is None or not found.command.startswith("arm-none-eabi-gcc"):
        pytest.skip("newlib of arm-none-eabi-gcc is not installed")
    assert found.stack_bytes is not None
    (tmp_path / "used.c").write_text(USED_STACK)
    done = subprocess.run(
        ["make", "-s", "qemu", "MAIN=used.c"], cwd=tmp_path, capture_output=True, text=True, timeout=100, check=True
    )
    used = int(done.stdout)
    assert found.stack_bytes - 16 <= used <= found.stack_bytes + MOST_OF_LIBRARY, (
        "a frame ends with words that are not written"
    )
