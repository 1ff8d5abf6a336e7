"""Weights of `generic`: as wide as the compiler's target multiplies them, and in no program of two widths."""

from __future__ import annotations

import platform
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pefslc.targets.c.cpus import CPUS, Cpu, cpu_named
from pefslc.targets.c.ctype import CType
from pefslc.targets.c.target import CTarget
from pefslc.targets.c.tiles import tile
from pefslc.targets.c.weight_orders import BLOCKS, PAIRS, ROWS, TAPS, WeightOrder
from pefslc.targets.protocol import TargetOptions

_WIDTHS = (("", "_of_16"), ("-mavx512vnni -mavx512f", "_of_8"))


def _saved(folder: Path, build_graph, **options: object) -> None:  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(2)
    b = build_graph("net")
    x = b.input((1, 5, 6, 6), 8)
    graph = b.graph(b.conv(x, rng.integers(-127, 128, (6, 5, 3, 3)), rng.integers(-99, 99, 6)))
    for name, content in CTarget(**options).lower(graph, TargetOptions()).files.items():  # type: ignore[arg-type]
        (folder / name).write_bytes(content)


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="weights of 16 bits are for x86-64")
def test_files_compiled_for_two_widths_do_not_link(build_graph, cc: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    _saved(tmp_path, build_graph, emit_main=True)
    for source in ("net", "net_weights", "main"):
        for flags, width in _WIDTHS:
            command = [cc, "-std=c99", *flags.split(), "-c", f"{source}.c", "-o", f"{source}{width}.o"]
            subprocess.run(command, cwd=tmp_path, check=True)
    for _, code in _WIDTHS:
        for _, weights in _WIDTHS:
            objects = [f"net{code}.o", f"net_weights{weights}.o", "main_of_16.o"]
            done = subprocess.run([cc, *objects, "-o", "net"], cwd=tmp_path, capture_output=True, check=False)
            assert (done.returncode == 0) == (code == weights)


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="weights of 16 bits are for x86-64")
def test_the_header_tells_what_the_constants_take_in_both_widths(build_graph, cc: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    _saved(tmp_path, build_graph)
    header = (tmp_path / "net.h").read_text()
    told = re.search(r" (\d+) bytes of constants", header), re.search(r"the constants take up to (\d+) bytes", header)
    arrays = re.findall(r"(net_\w+)\[", (tmp_path / "net_weights.h").read_text())
    total = " + ".join(f"sizeof({name})" for name in arrays)
    for (flags, _), found in zip(_WIDTHS, reversed(told), strict=True):
        assert found is not None
        (tmp_path / "total.c").write_text(
            f'#include "net_weights.h"\ntypedef char as_told[{total} == {found[1]} ? 1 : -1];\n'
        )
        subprocess.run([cc, "-std=c99", *flags.split(), "-c", "total.c"], cwd=tmp_path, check=True)


@pytest.mark.parametrize("options", [{"weights": "binary"}, {"dispatch": True}, {"pack": True}, {"cpu": "cortex-m0"}])
def test_what_has_one_width_stays_so(options, build_graph, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    _saved(tmp_path, build_graph, **options)
    assert "pefslc_weight" not in (tmp_path / "net.c").read_text() + (tmp_path / "net_weights.h").read_text()
    assert "int16_t on x86" not in (tmp_path / "net.h").read_text() + (tmp_path / "net_weights.h").read_text()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"order": BLOCKS, "outputs": 8}, "outputs must be"),
        ({"outputs": 0}, "outputs must be"),
        ({"order": BLOCKS, "outputs": 32, "blocks": 3}, "blocks must be"),
        ({"pixels": 0}, "at least 1"),
        ({"latency": 0}, "at least 1"),
        ({"per_block": 0}, "at least 1"),
        ({"registers": 6}, "registers must hold"),
        ({"multiplies": 0}, "multiplies must be"),
        ({"depthwise": PAIRS}, "depthwise must be"),
        ({"taps": CType(32, True)}, "taps must have"),
        ({"order": PAIRS, "outputs": 2, "widens": True}, "widens no weights"),
        ({"order": WeightOrder("row", outputs=1, taps=1)}, "no kernel"),
    ],
)
def test_a_wrong_row_is_told_what_is_wrong(changes: dict[str, object], message: str) -> None:
    right: dict[str, object] = {"name": "tortoise", "summary": "slow", "order": ROWS, "depthwise": TAPS}
    Cpu(**right)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=f"processor tortoise: .*{message}"):
        Cpu(**{**right, **changes})  # type: ignore[arg-type]


def test_one_output_more_is_refused_in_each_row_of_blocks() -> None:
    for cpu in CPUS:
        if cpu.order.outputs > 1:
            with pytest.raises(ValueError, match="outputs must be a multiple"):
                replace(cpu_named(cpu.name), outputs=cpu.outputs + 1)


@pytest.mark.parametrize("cpu", [cpu for row in CPUS for cpu in (row, row.narrow) if cpu is not None and cpu.registers])
def test_no_kernel_needs_more_registers_than_there_are(cpu: Cpu) -> None:
    for pixels in range(1, 20):
        for blocks in range(1, 12):
            together, outputs = tile(cpu, pixels, blocks, weights=288)
            of_weights = outputs * cpu.per_block
            sums, operands, product = together * of_weights, min(together, of_weights) + 1, 1
            assert sums + operands + product <= cpu.registers
