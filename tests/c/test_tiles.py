"""AMX: how segments are divided, and programs that use tiles where the system lets them, and only there.

The programs say what they used: Linux tells whether a program asked for tiles and got them.
"""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from integer_graphs import GraphBuilder, random_inputs
from pefslc.diagnostics.errors import CompileError
from pefslc.ir.graph import Graph
from pefslc.ir.interpret import run_codes
from pefslc.targets.c.cpus import cpu_named
from pefslc.targets.c.plan import plan_program
from pefslc.targets.c.steps import DotStep
from pefslc.targets.c.target import CTarget
from pefslc.targets.c.weight_orders import BLOCKS, TILES
from pefslc.targets.protocol import TargetOptions

FLAGS = ("-march=x86-64-v4", "-mavx512vnni", "-mamx-tile", "-mamx-int8")
_FLAGS_OF_CPU = Path("/proc/cpuinfo")
_HAS_TILES = _FLAGS_OF_CPU.is_file() and {"amx_int8", "amx_tile", "avx512_vnni"} <= set(
    _FLAGS_OF_CPU.read_text().split()
)
needs_tiles = pytest.mark.skipif(not _HAS_TILES, reason="this machine has no AMX")


def test_a_segment_is_divided_into_equal_shares_of_whole_fours() -> None:
    for count in range(1, 1000):
        filled = TILES.filled(count, 4)
        share = filled // TILES.shares(filled)
        assert TILES.shares(filled) == TILES.shares(count)
        assert share * TILES.shares(filled) == filled >= count
        assert share <= 64
        assert share % 4 == 0
        assert filled - count < 4 * TILES.shares(count)  # with one four less in each share, some taps have no place


def _layers(width: int, channels: int) -> Graph:
    """Convolutions of `channels` on lines of `width` pixels: 3 x 3 and 1 x 1, at the ends of codes and weights."""
    rng = np.random.default_rng(width + channels)
    b = GraphBuilder("tiles")
    x = b.input((1, channels, 3, width), 8, signed=bool(width % 2))
    found = []
    for outputs, kernel in ((1, 3), (17, 1), (40, 3), (80, 1), (96, 3)):
        weight = rng.choice([-128, 127], (outputs, channels, kernel, kernel))
        bias = rng.integers(-(2**20), 2**20, outputs) if outputs != 80 else None
        pad = (kernel // 2,) * 4
        found.append(b.conv(x, weight, bias, pads=pad))
    y = b.clamp(found[1], 0, 255)
    found.append(b.conv(y, rng.integers(-128, 128, (16, 17, 1, 3)), strides=(1, 2)))
    return b.graph(*found)


@pytest.mark.parametrize(
    ("pixels", "channels", "order"),
    [(4, 64, TILES), (3, 64, BLOCKS), (16, 7, TILES), (16, 6, BLOCKS), (40, 60, BLOCKS), (40, 200, TILES)],
)
def test_layers_with_enough_pixels_and_taps_have_tiles(pixels, channels, order):  # type: ignore[no-untyped-def]
    """Few channels: 3 x 3, whose three segments of 21 or 18 taps are filled up to 24 or 20."""
    kernel = 1 if channels > 32 else 3
    b = GraphBuilder("one")
    x = b.input((1, channels, kernel, pixels + kernel - 1), 8, signed=False)
    graph = b.graph(b.conv(x, np.ones((5, channels, kernel, kernel), dtype=np.int64)))
    (step,) = (s for s in plan_program(graph, cpu_named("x86-64-amx")).steps if isinstance(s, DotStep))
    assert step.order == order


@pytest.mark.parametrize("wrong", [{"pixels": 17}, {"blocks": 6}])
def test_a_row_with_more_than_the_tiles_of_a_processor_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at most 16 pixels and 5 blocks"):
        replace(cpu_named("x86-64-amx"), **wrong)  # type: ignore[arg-type]


@needs_tiles
@pytest.mark.parametrize(("width", "channels"), [(4, 22), (5, 64), (8, 65), (16, 43), (19, 21), (33, 130)])
def test_layers_of_every_size_equal_the_interpreter(width, channels, bench):  # type: ignore[no-untyped-def]
    bench.add(_layers(width, channels), CTarget(cpu="x86-64-amx"))
    bench.check(("-O1", *FLAGS))


@needs_tiles
@pytest.mark.parametrize("target", [CTarget(cpu="x86-64-amx", threads=3), CTarget(cpu="x86-64-amx", steps=5000)])
def test_each_thread_and_each_call_has_the_tiles_of_its_layer(target, bench, monkeypatch):  # type: ignore[no-untyped-def]
    monkeypatch.setattr("pefslc.targets.c.calls._WORTH_THREADS", 1)
    bench.add(_layers(16, 43), target)
    bench.check(("-O1", "-fopenmp", *FLAGS))


@needs_tiles
def test_small_memory_and_packed_weights_have_tiles_too(bench):  # type: ignore[no-untyped-def]
    b = GraphBuilder("packed")
    x = b.input((1, 30, 9, 9), 5)
    rng = np.random.default_rng(1)
    graph = b.graph(b.clamp(b.conv(x, rng.integers(-16, 16, (20, 30, 3, 3)), pads=(1, 1, 1, 1)), -16, 15))
    bench.add(graph, CTarget(cpu="x86-64-amx", memory="small", pack=True))
    bench.check(("-O1", *FLAGS))


_MAIN = """
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "tiles.h"

static uint8_t small[4096];
%(arrays)s

int main(int count, char **words)
{
    static uint8_t before[64] = { [0] = 1, [16] = 8, [48] = 2 }, after[64]; /* one tile of 2 rows of 8 bytes */
    const int is_refused = strchr(words[1], 'r') != NULL, has_own = strchr(words[1], 'o') != NULL;
    const long ask = 0x1023, tell = 0x1022, tiles = 18;
    uint64_t permitted = 0;
    (void)count;
    if (is_refused) { /* a stack for signals that has no room for tiles */
        const stack_t stack = { .ss_sp = small, .ss_size = sizeof small };
        if (sigaltstack(&stack, NULL) != 0) { return 2; }
    }
    if (has_own) {
        if (syscall(SYS_arch_prctl, ask, tiles) != 0) { return 3; }
        __asm__ volatile("ldtilecfg %%0" : : "m"(before));
    }
    %(read)s
    tiles_run(%(handed)s);
    if (has_own) {
        __asm__ volatile("sttilecfg %%0" : "=m"(after));
        if (memcmp(before, after, 64) != 0) { return 4; }
    }
    if (syscall(SYS_arch_prctl, tell, &permitted) != 0) { return 5; }
    if ((permitted >> tiles & 1) != !is_refused) { return 6; }
    %(write)s
    return 0;
}
"""


@needs_tiles
@pytest.mark.parametrize("words", ["-", "r", "o"], ids=["permitted", "refused", "the caller's own"])
@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_tiles_are_used_where_the_system_permits_them_and_given_back(compiler, words, tmp_path: Path, request):  # type: ignore[no-untyped-def]
    cc = request.getfixturevalue(compiler)
    graph = _layers(16, 43)
    emission = CTarget(cpu="x86-64-amx").lower(graph, TargetOptions())
    for name, content in emission.files.items():
        (tmp_path / name).write_bytes(content)
    arguments: list[dict[str, object]] = emission.details["arguments"]  # type: ignore[assignment]
    names = [str(a["name"]) for a in arguments]
    x = next(a for a in arguments if a["direction"] == "input")
    outputs = [a for a in arguments if a["direction"] == "output"]
    parts = {
        "arrays": "\n".join(f"static {a['type']} {a['name']}[{np.prod(a['shape'])}];" for a in arguments),  # type: ignore[call-overload]
        "read": f"if (fread({x['name']}, sizeof {x['name']}, 1, stdin) != 1) {{ return 7; }}",
        "handed": ", ".join(names),
        "write": "\n    ".join(f"fwrite({a['name']}, sizeof {a['name']}, 1, stdout);" for a in outputs),
    }
    (tmp_path / "main.c").write_text(_MAIN % parts)
    sources = ["tiles.c", "tiles_weights.c", "main.c"]
    subprocess.run([cc, "-std=gnu99", "-O2", *FLAGS, *sources, "-o", "program"], cwd=tmp_path, check=True)
    given = random_inputs(graph, 1, 3)
    data = given[graph.inputs[0].name].astype(str(x["type"])[:-2]).tobytes()
    done = subprocess.run(["./program", words], cwd=tmp_path, input=data, capture_output=True, check=False)
    assert done.returncode == 0
    expected = run_codes(graph, given)
    at = 0
    for a, output in zip(outputs, graph.outputs, strict=True):
        wanted = expected[output.value.name]
        found = np.frombuffer(done.stdout, str(a["type"])[:-2], wanted.size, at)
        np.testing.assert_array_equal(found.reshape(wanted.shape), wanted)
        at += found.nbytes


def test_one_library_for_all_processors_has_no_path_with_tiles() -> None:
    with pytest.raises(CompileError, match="no path has AMX"):
        CTarget(cpu="x86-64-amx", dispatch=True)
