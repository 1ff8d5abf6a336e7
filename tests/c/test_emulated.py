"""C laid out for ARM and RISC-V runs under QEMU: its kernels equal the interpreter, at -O2 and -Os.

Where a compiler or an emulator is not installed, the test says so, and does not run.
"""

from __future__ import annotations

import subprocess

import numpy as np
import pytest
from emulators import EMULATED, STRING
from kernel_graphs import kernels_graph
from numpy.typing import NDArray

from integer_graphs import GraphBuilder, random_inputs
from pefslc.ir.graph import Graph
from pefslc.ir.interpret import run_codes
from pefslc.targets.c.certificates import most_chained
from pefslc.targets.c.cpus import CPUS, cpu_named
from pefslc.targets.c.kernels import KERNELS
from pefslc.targets.c.taps import TapView
from pefslc.targets.c.target import CTarget
from pefslc.targets.protocol import TargetOptions

CASES = [pytest.param(row, level, id=f"{row.name} {level}") for row in EMULATED for level in ("-O2", "-Os")]
RUNS = 2


def _c_array(name: str, kind: str, values: NDArray[np.int64]) -> str:
    numbers = ", ".join(map(str, values.reshape(-1).tolist()))
    return f"static const {kind} {name}[] = {{{numbers.replace('-2147483648', '-2147483647 - 1')}}};"


def _main(models: list[tuple[object, dict[str, object]]], seed: int) -> str:
    """A program whose status is the number of the first model that computes other codes than the interpreter."""
    lines, body = ["#include <string.h>"], []
    for i, (graph, details) in enumerate(models):
        given = random_inputs(graph, RUNS, seed + i)  # type: ignore[arg-type]
        expected = run_codes(graph, given)  # type: ignore[arg-type]
        lines.append(f'#include "{details["header"]}"')
        for run in range(RUNS):
            names, checks = [], []
            for k, a in enumerate(details["arguments"]):  # type: ignore[arg-type,var-annotated]
                name, count, images = f"m{i}r{run}a{k}", int(np.prod(a["shape"])), a["shape"][0]
                if a["direction"] == "input":
                    part = given[a["onnx_name"]][run * images : (run + 1) * images]
                    lines.append(_c_array(name, a["type"], part))
                else:
                    value = next(o.value.name for o in graph.outputs if o.name == a["onnx_name"])  # type: ignore[attr-defined]
                    part = expected[value][run * images : (run + 1) * images]
                    lines += [_c_array(f"{name}e", a["type"], part), f"static {a['type']} {name}[{count}];"]
                    differs = f"if ({name}[k] != {name}e[k]) {{ return {i + 1}; }}"
                    checks.append(f"for (k = 0; k < {count}; k++) {{ {differs} }}")
                names.append(name)
            body += [f"{details['function']}({', '.join(names)});", *checks]
    return "\n".join([*lines, "int main(void)", "{", "int k;", *body, "return 0;", "}", ""])


@pytest.mark.parametrize(("row", "level"), CASES)
def test_kernels_equal_the_interpreter(row, level, bench, warning_flags):  # type: ignore[no-untyped-def]
    if row.missing:
        pytest.skip(f"{' and '.join(row.missing)} not installed: the kernels for {row.name} did not run")
    first = 100 * EMULATED.index(row) + 50 * (level == "-Os")
    others = [cpu.name for cpu in CPUS if cpu.name != row.cpu]  # whose C is right on each processor
    other = others[(2 * EMULATED.index(row) + (level == "-Os") + 7) % len(others)]  # of x86 on NEON, and all in all
    for i, cpu in enumerate((row.cpu, other) if level == "-Os" else (row.cpu, row.cpu, other)):
        bench.add(kernels_graph(f"kernels{i}", first + i), CTarget(cpu=cpu))
    main = bench.folder / "main.c"
    main.write_text(_main(bench.models, first))
    sources = [str(bench.folder / source) for _, details in bench.models for source in details["sources"]]
    assert row.run(bench.folder, [*sources, str(main)], (*warning_flags, level)) == 0


def _any_processor_graph() -> Graph:
    """Few taps of 16 outputs and one less, short and long rows, few channels in depthwise layers; 8 and 9 bits."""
    rng = np.random.default_rng(8)
    b = GraphBuilder("any")
    outputs = []
    for bits in (8, 9):
        x = b.input((1, 8, 3, 8), bits, signed=False)
        outputs += [b.conv(x, rng.choice([-128, 127], (count, 8, 1, 1)), np.arange(count)) for count in (16, 15, 10)]
        outputs.append(b.conv(x, rng.choice([-128, 127], (6, 8, 3, 3)), pads=(1, 1, 1, 1)))
        for strides in ((1, 1), (1, 2)):
            weight = rng.choice([-128, 127], (8, 1, 3, 3))
            outputs.append(b.conv(x, weight, np.arange(8), 8, pads=(1, 1, 1, 1), strides=strides))
    deep = b.input((1, 64, 3, 8), 8, signed=False)
    outputs.append(b.conv(deep, rng.choice([-128, 127], (3, 64, 3, 3)), pads=(1, 1, 1, 1)))
    return b.graph(*outputs)


@pytest.mark.parametrize("row", EMULATED, ids=lambda row: row.name)
def test_c_for_any_processor_equals_the_interpreter(row, bench, warning_flags):  # type: ignore[no-untyped-def]
    """Kernels of the processor may take some of its forms: each must know the types that come."""
    if row.missing:
        pytest.skip(f"{' and '.join(row.missing)} not installed: generic did not run on {row.name}")
    bench.add(_any_processor_graph(), CTarget())
    main = bench.folder / "main.c"
    main.write_text(_main(bench.models, 5))
    sources = [str(bench.folder / source) for _, details in bench.models for source in details["sources"]]
    assert row.run(bench.folder, [*sources, str(main)], (*warning_flags, "-O2")) == 0


def _halves_graph() -> Graph:
    """Sums of 16 bits in the halves of a register: of windows, of a row of each, of dense layers; negative taps."""
    rng = np.random.default_rng(4)
    b = GraphBuilder("halves")
    outputs = []
    for signed, bits in ((False, 5), (True, 4)):
        x = b.input((1, 8, 4, 8), bits, signed=signed)
        for kernel, count, high, more in (
            ((3, 3), 6, 8, {}),
            ((3, 3), 4, 64, {}),
            ((3, 3), 5, 16, {"strides": (2, 2)}),
            ((1, 1), 8, 100, {}),
        ):
            weight = rng.integers(-high, high, (count, 8 if kernel == (3, 3) else 16, *kernel))
            source = x if kernel == (3, 3) else b.concat((x, x), 1)
            outputs.append(b.conv(source, weight, rng.integers(-9999, 9999, count), pads=(kernel[0] // 2,) * 4, **more))
        outputs.append(b.dense(b.reshape(x, (1, 256)), rng.integers(-4, 4, (9, 256))))
    return b.graph(*outputs)


def _wider_graph() -> Graph:
    """Small sums of taps, of weights and with a bias that take more than a byte: kernels of bytes cannot read them."""
    b = GraphBuilder("wider")
    few = np.arange(16).reshape(1, 16, 1, 1) % 2 * np.ones((2, 1, 1, 1), dtype=np.int64)
    large = few.copy()
    large[1, 3] = 200
    byte = b.input((1, 16, 1, 2), 4, signed=False)
    wide = b.input((1, 16, 1, 2), 12, signed=False)
    return b.graph(b.conv(wide, few), b.conv(byte, large), b.conv(byte, few, np.array([1 << 33, -(1 << 33)])))


@pytest.mark.parametrize(
    ("cpu", "forms"),
    [
        ("rv32", ("u8_s8_s32_s32_halved3_biased_strip3x8_4x1", "s8_s32_s32_halved1_biased_strip3x8_4x1", "biased_1x1")),
        ("cortex-m0", ("u8_s8_s32_s32_halved3_4x2", "s8_s8_s32_s32_halved1_4x2")),
    ],
)
def test_halves_of_a_register_are_sums_of_their_own(cpu, forms, bench, warning_flags):  # type: ignore[no-untyped-def]
    row = next(row for row in EMULATED if row.cpu == cpu)
    if row.missing:
        pytest.skip(f"{' and '.join(row.missing)} not installed")
    bench.add(_halves_graph(), CTarget(cpu=row.cpu))
    bench.add(_wider_graph(), CTarget(cpu=row.cpu))
    text = (bench.folder / "halves.c").read_text()
    assert all(form in text for form in forms)
    main = bench.folder / "main.c"
    main.write_text(_main(bench.models, 3))
    sources = [str(bench.folder / source) for _, details in bench.models for source in details["sources"]]
    assert row.run(bench.folder, [*sources, str(main)], (*warning_flags, "-O2")) == 0


ARMV7 = ("-march=armv7-a", "-mthumb", "-mfloat-abi=soft")  # of a Cortex-A: with SMLAD, r7 is its frame pointer
OF_ASSEMBLER = [
    pytest.param(EMULATED[0], EMULATED[0].machine, "r9", id="Cortex-M4"),
    pytest.param(EMULATED[0], ARMV7, "r9", id="Armv7-A in Thumb"),
    pytest.param(EMULATED[2], EMULATED[2].machine, "r9", id="Cortex-M0+"),
    pytest.param(EMULATED[-1], EMULATED[-1].machine, "s11", id="RV32IMC"),
]


@pytest.mark.parametrize(("row", "machine", "register"), OF_ASSEMBLER)
def test_kernels_of_assembler_leave_registers_to_other_options(row, machine, register, bench, warning_flags):  # type: ignore[no-untyped-def]
    if row.missing:
        pytest.skip(f"{' and '.join(row.missing)} not installed")
    bench.add(kernels_graph("kernels", 7), CTarget(cpu=row.cpu))
    (bench.folder / "string.h").write_text(STRING)
    for flags in (("-O0", "-fPIC"), ("-O2", "-fPIC", "-fno-omit-frame-pointer", f"-ffixed-{register}")):
        command = [row.compiler, *machine, *warning_flags, "-ffreestanding", f"-I{bench.folder}", *flags]
        done = subprocess.run(
            [*command, "-c", "kernels.c", "-o", "kernels.o"],
            cwd=bench.folder, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[:3000]


@pytest.mark.parametrize("row", EMULATED, ids=lambda row: row.name)
def test_clang_takes_the_kernels_without_a_warning(row, bench, clang, warning_flags):  # type: ignore[no-untyped-def]
    bench.add(kernels_graph("kernels", 7), CTarget(cpu=row.cpu))
    (bench.folder / "string.h").write_text(STRING)
    flags = (*warning_flags, f"--target={row.triple}", *row.machine, "-ffreestanding", f"-I{bench.folder}", "-O1", "-S")
    done = subprocess.run(
        [clang, *flags, "kernels.c", "-o", "kernels.s"], cwd=bench.folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[:3000]


@pytest.mark.parametrize("row", EMULATED, ids=lambda row: row.name)
def test_an_emulated_program_tells_that_codes_differ(row, tmp_path):  # type: ignore[no-untyped-def]
    if row.missing:
        pytest.skip(f"{' and '.join(row.missing)} not installed")
    (tmp_path / "main.c").write_text("int main(void) { return 3; }\n")
    assert row.run(tmp_path, [str(tmp_path / "main.c")], ()) != 0


def test_each_guarded_kernel_has_a_processor_that_runs_it() -> None:
    """By the names of folders: one that is added wants a row of EMULATED, or of the levels of x86-64."""
    tested = {
        "dsp",
        "helium",
        "neon",
        "neon_dot",
        "riscv",
        "riscv_halves",
        "riscv_strip",
        "thumb1",
        "thumb1_halves",
        "few_registers",
    }
    for kernel in KERNELS:
        is_of_x86 = "__AVX" in kernel.guard or "__SSE" in kernel.guard or "__AMX" in kernel.guard
        assert not kernel.guard or is_of_x86 or kernel.folder in tested, kernel
    assert {row.cpu for row in EMULATED} <= {cpu.name for cpu in CPUS}


def _view(taps: int, segments: int = 1) -> TapView:
    return TapView(pixel=taps * segments, segments=segments, segment=taps, taps=taps)


def test_products_are_chained_only_where_16_bits_hold_them() -> None:
    row = np.zeros(32, dtype=np.int64)
    row[[3, 11]] = -128  # two products of one lane
    assert most_chained(row, _view(32), -128, 127) == 1, "2 * 128 * 128 is beyond int16_t"
    assert most_chained(row, _view(32), -127, 127) == 4
    row[11] = -127
    assert most_chained(row, _view(32), -128, 127) == 4, "(128 + 127) * 128 is not"
    row[19] = 2
    assert most_chained(row, _view(32), -128, 127) == 2, "the third product of the lane is beyond"
    assert most_chained(row, _view(16, 2), -128, 127) == 4, "it is of another segment"
    assert most_chained(np.full(64, 63), _view(32), -128, 127) == 4
    assert most_chained(np.full(64, 127), _view(32), -128, 127) == 2
    assert most_chained(np.full(64, 300), _view(32), -128, 127) == 0
    assert most_chained(row[:24], _view(24), -128, 127) == 0, "no whole registers"


def test_the_bound_of_chained_products_is_reached() -> None:
    """The most negative and most positive sums on the way, by brute force over the ends of the taps."""
    rng = np.random.default_rng(3)
    for _ in range(300):
        weights = rng.integers(-128, 128, 32) >> int(rng.integers(0, 3))
        low, high = sorted(rng.integers(-128, 128, 2).tolist())
        low, high = min(low, 0), max(high, 0)
        chained = most_chained(weights, _view(32), low, high)
        for count in (1, 2, 4):
            ends = []
            for lane in range(8):
                for first in range(lane, 32, 8 * count):
                    sums = np.zeros(1, dtype=np.int64)
                    for k in range(count):
                        sums = np.concatenate([sums + weights[first + 8 * k] * end for end in (low, high)])
                        ends += [int(sums.min()), int(sums.max())]
            fits = min(ends) >= -(2**15) and max(ends) < 2**15
            assert fits == (count <= chained) or (not fits and count > chained), (weights, low, high, count)


def test_a_layer_whose_products_do_not_fit_is_chained_less(build_graph) -> None:  # type: ignore[no-untyped-def]
    for value, expected in ((-128, 1), (127, 2), (40, 4)):
        b = build_graph("layer")
        x = b.input((1, 16, 4, 4), 8, signed=True)
        graph = b.graph(b.conv(x, np.full((2, 16, 3, 3), value)))
        text = CTarget(cpu="cortex-a9").lower(graph, TargetOptions()).files["layer.c"].decode()
        assert f"_chained{expected}_" in text, (value, cpu_named("cortex-a9"))
