"""A harness that compiles many emitted models into one program with sanitizers, and the fixtures of these tests."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from integer_graphs import GraphBuilder, random_graph, random_inputs, random_stages
from pefslc.ir.graph import Graph
from pefslc.ir.interpret import run_codes
from pefslc.ir.value import Value
from pefslc.targets.c.target import CTarget
from pefslc.targets.protocol import TargetOptions

Array = NDArray[np.int64]

# The flags that the issue names; they are themselves a test of the emitted text.
WARNINGS = ("-std=c99", "-Wall", "-Wextra", "-Wconversion", "-pedantic", "-Werror")
SANITIZERS = ("-fsanitize=undefined,address", "-fno-sanitize-recover=all")

# All that clang has to say, but for what is no fault in emitted C99. (Version 14 says nothing of these either.)
EVERYTHING = (
    "-Weverything",
    "-Wno-unknown-warning-option",  # an older clang need not know the names below
    "-Wno-padded",  # the ABI may pad the end of a struct: a `pefslc_quantizer` has three int64_t and seven ints
    "-Wno-unsafe-buffer-usage",  # C has no other buffers than pointers
    "-Wno-declaration-after-statement",  # C99 allows it; the warning speaks for C90
    "-Wno-pre-c11-compat",  # nothing older than C99 is meant to read it
)


@pytest.fixture(scope="session")
def cc() -> str:
    """The C compiler's path."""
    found = shutil.which("gcc") or shutil.which("clang") or shutil.which("cc")
    if found is None:
        pytest.skip("no C compiler")
    return found


@pytest.fixture(scope="session")
def gcc() -> str:
    """gcc's path."""
    return _whose_warnings("gcc")


@pytest.fixture(scope="session")
def clang() -> str:
    """clang's path."""
    return _whose_warnings("clang")


def _whose_warnings(compiler: str) -> str:
    found = shutil.which(compiler)
    if found is None:
        pytest.skip(f"{compiler} is not installed: what it warns of was not looked at")
    return found


@pytest.fixture(scope="session")
def check_syntax() -> Callable[[str, Path, tuple[str, ...]], None]:
    """check_syntax(compiler, folder, flags): all C files of a folder, with warnings as errors."""

    def check(compiler: str, folder: Path, flags: tuple[str, ...]) -> None:
        sources = sorted(map(str, folder.glob("*.c")))
        assert sources
        compiled([compiler, *WARNINGS, *flags, "-O1", "-fsyntax-only", *sources])

    return check


@pytest.fixture(scope="session")
def clang_is_silent(clang: str, check_syntax: Callable[[str, Path, tuple[str, ...]], None]) -> Callable[[Path], None]:
    """clang_is_silent(folder): of the C files in it."""
    return lambda folder: check_syntax(clang, folder, EVERYTHING)


_READ_WEIGHTS = """
static int has_read(const char *path, void *to, size_t size)
{
    FILE *file = fopen(path, "rb");
    return file != NULL && fread(to, 1, size, file) == size && fclose(file) == 0;
}
"""


def compiled(command: list[str]) -> None:
    """Run a compiler; its complaints are the failure."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[:4000]


@dataclass
class Bench:
    """Emitted models in one folder, compiled to one program that runs each on inputs from files."""

    folder: Path
    cc: str
    models: list[tuple[Graph, dict[str, object]]] = field(default_factory=list)

    def add(self, graph: Graph, target: CTarget | None = None) -> None:
        emission = (target or CTarget()).lower(graph, TargetOptions())
        for name, content in emission.files.items():
            assert not (self.folder / name).exists(), "two models write one file"
            (self.folder / name).write_bytes(content)
        self.models.append((graph, dict(emission.details)))

    def build(self, flags: tuple[str, ...]) -> Path:
        """The program, compiled with warnings as errors."""
        sources = [str(self.folder / s) for _, d in self.models for s in d["sources"]]  # type: ignore[attr-defined]
        program = self.folder / "program"
        # Of the harness only the includes are under test: it speaks stdio, which strict flags do not mind either.
        (self.folder / "harness.c").write_text(self._harness())
        compiled([self.cc, *WARNINGS, *flags, *sources, str(self.folder / "harness.c"), "-o", str(program)])
        return program

    def run(self, program: Path, inputs: list[dict[str, Array]]) -> list[dict[str, Array]]:
        """Outputs of every model, by name."""
        data = b""
        for (graph, details), given in zip(self.models, inputs, strict=True):
            arguments = details["arguments"]
            runs = len(given[graph.inputs[0].name]) // graph.inputs[0].value.type.shape[0]
            data += np.int64(runs).tobytes()
            for r in range(runs):
                for a in arguments:  # type: ignore[attr-defined]
                    if a["direction"] == "input":
                        n = a["shape"][0]
                        data += given[a["onnx_name"]][r * n : (r + 1) * n].astype(a["type"][:-2]).tobytes()
        done = subprocess.run([str(program)], input=data, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()[:4000]
        at = 0
        results = []
        for (graph, details), given in zip(self.models, inputs, strict=True):
            runs = len(given[graph.inputs[0].name]) // graph.inputs[0].value.type.shape[0]
            parts: dict[str, list[Array]] = {}
            for _ in range(runs):
                for a in details["arguments"]:  # type: ignore[attr-defined]
                    if a["direction"] == "output":
                        kind = np.dtype(a["type"][:-2])
                        count = int(np.prod(a["shape"]))
                        found = np.frombuffer(done.stdout, kind, count, at).astype(np.int64)
                        parts.setdefault(a["onnx_name"], []).append(found.reshape(a["shape"]))
                        at += count * kind.itemsize
            results.append({name: np.concatenate(arrays) for name, arrays in parts.items()})
        assert at == len(done.stdout)
        return results

    def check(self, flags: tuple[str, ...], runs: int = 3) -> None:
        """Every model equals the interpreter."""
        inputs = [random_inputs(graph, runs, 99 + i) for i, (graph, _) in enumerate(self.models)]
        results = self.run(self.build(flags), inputs)
        for (graph, _), given, found in zip(self.models, inputs, results, strict=True):
            expected = run_codes(graph, given)
            for output in graph.outputs:
                np.testing.assert_array_equal(found[output.name], expected[output.value.name], err_msg=graph.name)

    def _harness(self) -> str:
        lines = ["#include <stdint.h>", "#include <stdio.h>", "#include <string.h>"]
        lines += [_READ_WEIGHTS] if any("weights_file" in d for _, d in self.models) else []
        lines += [f'#include "{d["header"]}"' for _, d in self.models]
        lines += ["int main(void)", "{", "    int64_t runs;"]
        for i, (_, details) in enumerate(self.models):
            prefix = str(details["function"]).removesuffix("_run")
            arguments: list[dict[str, object]] = details["arguments"]  # type: ignore[assignment]
            lines.append("    {")
            if details["caller_arena"]:
                lines.append(f"        static {prefix}_arena arena;")
            for k, a in enumerate(arguments):
                size = f"{prefix}_{str(a['name']).upper()}_SIZE"
                if i % 2 == 0 and "place" in a:  # every other model has its inputs in the arena, if they have places
                    handed = "&arena" if details["caller_arena"] else ""
                    lines.append(f"        {a['type']} (*const m{i}p{k})[{size}] = (void *){a['place']}({handed});")
                    lines.append(f"#define m{i}a{k} (*m{i}p{k})")
                else:
                    lines.append(f"        static {a['type']} m{i}a{k}[{size}];")
            if "weights_file" in details:
                path = (self.folder / str(details["weights_file"])).as_posix()
                size = f"{prefix}_WEIGHTS_BYTES"
                lines.append(f"        static int64_t weights[{size} / 8 + 1];")
                lines.append(f'        if (!has_read("{path}", weights, {size})) {{ return 1; }}')
                lines.append(f"        if ({details['set_weights']}(weights, {size}) != {prefix}_OK) {{ return 1; }}")
            lines.append("        if (fread(&runs, sizeof(runs), 1, stdin) != 1) { return 1; }")
            lines.append("        for (; runs > 0; runs--) {")
            if details["caller_arena"]:  # nothing of the run before is left
                lines.append("            memset(&arena, 0xa5, sizeof(arena));")
            for k, a in enumerate(arguments):
                if a["direction"] == "input":
                    lines.append(f"            if (fread(m{i}a{k}, sizeof(m{i}a{k}), 1, stdin) != 1) {{ return 1; }}")
            pointers = ["&arena"] * bool(details["caller_arena"]) + [f"m{i}a{k}" for k in range(len(arguments))]
            lines.append(f"            {details['function']}({', '.join(pointers)});")
            for k, a in enumerate(arguments):
                if a["direction"] == "output":
                    lines.append(f"            if (fwrite(m{i}a{k}, sizeof(m{i}a{k}), 1, stdout) != 1) {{ return 1; }}")
            lines += ["        }", "    }"]
        return "\n".join([*lines, "    return 0;", "}", ""])


@pytest.fixture
def bench(tmp_path: Path, cc: str) -> Bench:
    """An empty bench in a temporary folder."""
    return Bench(tmp_path, cc)


@pytest.fixture(scope="session")
def build_graph() -> type[GraphBuilder]:
    return GraphBuilder


@pytest.fixture(scope="session")
def random_graphs() -> Callable[[int], Graph]:
    return random_graph


@pytest.fixture(scope="session")
def requantize_randomly() -> Callable[[np.random.Generator, GraphBuilder, Value], Value]:
    """requantized(rng, builder, value): a few bits of an accumulator, per channel or not."""

    def requantized(rng: np.random.Generator, builder: GraphBuilder, x: Value) -> Value:
        bits = int(rng.integers(2, 9))
        return builder.requantize(x, random_stages(rng, x, bits), bits, signed=bool(rng.random() < 0.5))

    return requantized


@pytest.fixture(scope="session")
def warning_flags() -> tuple[str, ...]:
    return WARNINGS


@pytest.fixture(scope="session")
def sanitizer_flags(cc: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """-fsanitize..., or nothing where the compiler comes without the libraries.

    Without -O: then each operation of the text is looked at, none that the optimizer has removed is missed, and a
    compilation takes a quarter of the time. What optimizers make of the text runs in tests of their own.
    """
    folder = tmp_path_factory.mktemp("sanitizer")
    (folder / "empty.c").write_text("int main(void) { return 0; }\n")
    command = [cc, *SANITIZERS, str(folder / "empty.c"), "-o", str(folder / "empty")]
    works = subprocess.run(command, capture_output=True, check=False).returncode == 0
    return SANITIZERS if works else ()
