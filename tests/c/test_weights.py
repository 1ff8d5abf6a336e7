"""The constants of the emitted C: as text, and as a file of bytes that the program is handed."""

from __future__ import annotations

import struct
import subprocess
import zlib
from pathlib import Path

import numpy as np
import pytest

import pefslc
from pefslc.artifacts.sidecar import load_sidecar
from pefslc.targets.c.stages import ConstantArray
from pefslc.targets.c.storage import CType, dtype_of
from pefslc.targets.c.target import CTarget
from pefslc.targets.c.weights_binary import binary_weights
from pefslc.targets.c.weights_text import weights_text
from pefslc.targets.protocol import TargetOptions

EXAMPLE = Path(__file__).parents[2] / "examples" / "cnn_bnfold_q2_3.onnx"
TYPES = [CType(8, True), CType(8, False), CType(16, True), CType(16, False), CType(32, True), CType(64, True)]


def _numbers(kind: CType, count: int, seed: int) -> list[int]:
    """Any numbers of the type, its ends among them where there is room."""
    low = -(1 << (kind.bits - 1)) if kind.signed else 0
    high = low + (1 << kind.bits) - 1
    rng = np.random.default_rng(seed)
    drawn = [int(v) for v in rng.integers(low, high, count, endpoint=True, dtype=dtype_of(kind))]
    return [*([low, high, 0][:count]), *drawn[3:]]


@pytest.mark.parametrize("kind", TYPES, ids=str)
@pytest.mark.parametrize("count", [1, 23, 24, 25, 48, 49, 5000])
def test_the_text_has_every_number_in_lines_of_24(kind: CType, count: int) -> None:
    numbers = _numbers(kind, count, count)
    array = ConstantArray("a", kind, np.array(numbers, dtype=dtype_of(kind)), "weights")
    text = weights_text("/* head */\n", [array], "nothing", "const").decode()
    head, definition, *lines, last, end = text.split("\n")
    assert (head, definition) == ("/* head */", f"const {kind} a[{count}] = {{")
    assert (last, end) == ("};", "")
    assert all(line.startswith("    ") and line.endswith(",") for line in lines[:-1])
    assert [len(line.rstrip(",").split(", ")) for line in lines[:-1]] == [24] * (len(lines) - 1)
    assert 1 <= len(lines[-1].split(", ")) <= 24
    literals = [word for line in lines for word in line.strip().rstrip(",").split(", ")]
    ends = {f"INT{bits}_MIN": -(2 ** (bits - 1)) for bits in (32, 64)}
    found = [ends.get(word) or int(word.removeprefix("INT64_C(").removesuffix(")")) for word in literals]
    assert found == numbers
    assert all(word.startswith("INT64_") == (kind.bits == 64) for word in literals)


def test_text_without_constants_says_so() -> None:
    assert weights_text("head\n", [], "nothing\n", "const") == b"head\nnothing\n"


def test_the_file_has_each_array_little_endian_at_a_multiple_of_8_bytes() -> None:
    arrays = [ConstantArray(f"a{i}", kind, np.array(_numbers(kind, i + 3, i)), "") for i, kind in enumerate(TYPES)]
    made = binary_weights(arrays)
    formats = {8: "b", 16: "h", 32: "i", 64: "q"}
    for array in arrays:
        letter = formats[array.type.bits] if array.type.signed else formats[array.type.bits].upper()
        assert made.offsets[array.name] % 8 == 0
        found = struct.unpack_from(f"<{array.data.size}{letter}", made.content, made.offsets[array.name])
        assert list(found) == array.data.tolist()
    assert made.crc == zlib.crc32(made.content)
    assert made.bytes % 8 == 0


def test_a_program_that_is_handed_its_weights_equals_the_interpreter(bench, random_graphs, sanitizer_flags):  # type: ignore[no-untyped-def]
    for i in range(8):
        bench.add(random_graphs(i), CTarget(caller_arena=i % 3 == 0, weights="binary"))
    bench.check(sanitizer_flags)


_STATUSES = """
#include <stdio.h>
#include <stdlib.h>
#include "{p}.h"
int main(void)
{{
    static {arguments};
    static int64_t memory[{p}_WEIGHTS_BYTES / 8 + 2];
    unsigned char *data = (unsigned char *)memory;
    FILE *file = fopen("{file}", "rb");
    if (file == NULL || fread(data, 1, {p}_WEIGHTS_BYTES, file) != {p}_WEIGHTS_BYTES || fgetc(file) != EOF) {{
        return 1;
    }}
    fclose(file);
    printf("%d", {p}_run({names}));
    printf(" %d", {p}_set_weights(NULL, {p}_WEIGHTS_BYTES));
    printf(" %d", {p}_set_weights(data, {p}_WEIGHTS_BYTES - 1));
    printf(" %d", {p}_set_weights(data, {p}_WEIGHTS_BYTES + 8));
    printf(" %d", {p}_set_weights(data + 1, {p}_WEIGHTS_BYTES));
    data[{p}_WEIGHTS_BYTES / 2] ^= 4;
    printf(" %d", {p}_set_weights(data, {p}_WEIGHTS_BYTES));
    data[{p}_WEIGHTS_BYTES / 2] ^= 4;
    printf(" %d", {p}_set_weights(data, {p}_WEIGHTS_BYTES));
    printf(" %d", {p}_run({names}));
    printf(" %d", {p}_set_weights(data, 3));
    printf(" %d", {p}_run({names}));
    return 0;
}}
"""


def test_other_bytes_than_the_weights_are_refused_with_a_status(bench, random_graphs, sanitizer_flags):  # type: ignore[no-untyped-def]
    """Nothing runs before weights were handed over, nor after a refusal."""
    bench.add(random_graphs(3), CTarget(weights="binary"))
    (_, details), *_ = bench.models
    names = [str(a["name"]) for a in details["arguments"]]
    p = str(details["function"]).removesuffix("_run")
    declared = [f"{a['type']} {a['name']}[{p}_{a['name'].upper()}_SIZE]" for a in details["arguments"]]
    arguments = ";\n    static ".join(declared)
    text = _STATUSES.format(
        p=p, file=(bench.folder / details["weights_file"]).as_posix(), names=", ".join(names), arguments=arguments
    )
    (bench.folder / "statuses.c").write_text(text)
    program = bench.folder / "statuses"
    sources = [str(bench.folder / name) for name in (*details["sources"], "statuses.c")]
    command = [bench.cc, "-std=c99", "-Wall", "-Wextra", "-Werror", *sanitizer_flags, *sources, "-o", str(program)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[:2000]
    done = subprocess.run([str(program)], capture_output=True, text=True, check=True)
    ok, no_weights, length, alignment, checksum = 0, 1, 2, 3, 5
    found = [int(word) for word in done.stdout.split()]
    assert found == [no_weights, length, length, length, alignment, checksum, ok, ok, length, no_weights]


def test_the_form_of_the_constants_changes_nothing_else(random_graphs):  # type: ignore[no-untyped-def]
    """The same graph twice gives the same bytes, and text and file hold the same constants."""
    graph = random_graphs(5)
    text, once, again = (CTarget(weights=w).lower(graph, TargetOptions()) for w in ("text", "binary", "binary"))
    assert once.files == again.files
    assert {n for n in once.files if n not in text.files} == {str(once.details["weights_file"])}
    assert once.details["constant_bytes"] == text.details["constant_bytes"]


@pytest.mark.usefixtures("cc")
def test_what_is_compiled_with_binary_weights_verifies_and_is_read_back(tmp_path: Path) -> None:
    program = pefslc.compile(EXAMPLE, target="c", weights="binary")
    verification = program.verify(EXAMPLE.with_suffix(".npz"))
    assert verification.equal
    (note,) = (n for n in program.emission.notes if "constants" in n)
    assert note.endswith("bytes of constants in cnn_bnfold_q2_3_weights.bin: hand them to cnn_bnfold_q2_3_set_weights")
    *_, sidecar = program.save(tmp_path)
    weights = tmp_path / "cnn_bnfold_q2_3_weights.bin"
    weights.write_bytes(weights.read_bytes()[:-8])
    with pytest.raises(pefslc.CompileError, match=r"_weights\.bin"):
        load_sidecar(sidecar)
    with pytest.raises(pefslc.CompileError, match=r"weights \(--weights\) is 'elf', not 'text' or 'binary'"):
        CTarget(weights="elf")
