"""The emitted files: C that no compiler complains about, and is small; Python that an old board runs."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from fewshot.conftest import WARNINGS
from fewshot.head_actors import BACKBONE, emitted_module
from fewshot.head_specs import SPECS

from pefslc.diagnostics.errors import CompileError
from pefslc.fewshot.device.head_c import emit_head_c
from pefslc.fewshot.device.head_python import emit_head_python, head_module
from pefslc.fewshot.head.classifier import Classifier
from pefslc.fewshot.head.spec import HeadSpec, bounds_of
from pefslc.fewshot.head.state import HeadState
from pefslc.fewshot.head.state_file import editing, load_state
from pefslc.targets.c.naming import model_prefix

GCC_MORE = ("-Wshadow", "-Wsign-conversion", "-Wcast-qual", "-Wundef", "-Wtype-limits", "-Wlogical-op", "-Wvla")
CLANG_EVERYTHING = (
    "-Weverything",
    "-Wno-unknown-warning-option",
    "-Wno-padded",
    "-Wno-unsafe-buffer-usage",
    "-Wno-declaration-after-statement",
    "-Wno-pre-c11-compat",
)
# Words of 64 bits in the terms, codes as wide as a word, every single range check left out or not.
MORE = {
    "wide_terms": HeadSpec.cosine(-(2**18), 2**18, [7] * 4, fraction_bits=12, max_shots=1),
    "widest_codes": HeadSpec.euclid(1, -(2**30), 2**30 - 1, max_shots=1),
    "not negative": HeadSpec.euclid(2, 3, 255),
    "int": HeadSpec.euclid(2, 0, 1, max_classes=1),
}


def written(folder: Path) -> list[Path]:
    for name in ("cosine80", "small", "one", "brim", "euclid", *MORE):
        for file, content in emit_head_c(name, {**SPECS, **MORE}[name], BACKBONE).items():
            (folder / file).write_bytes(content)
    return sorted(folder.glob("*.c"))


@pytest.mark.parametrize(
    ("compiler_name", "flags"),
    [
        ("gcc", (*WARNINGS, *GCC_MORE, "-O1", "-c")),  # some of its warnings come of optimizing
        ("clang", (*WARNINGS, *CLANG_EVERYTHING, "-fsyntax-only")),
        ("g++", ("-xc++", "-Wall", "-Wextra", "-Werror", "-fsyntax-only")),
    ],
)
def test_compilers_have_nothing_to_say(compiler_name: str, flags: tuple[str, ...], tmp_path: Path) -> None:
    if shutil.which(compiler_name) is None:
        pytest.skip(f"{compiler_name} is not installed: what it warns of was not looked at")
    command = [compiler_name, *flags, *map(str, written(tmp_path))]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_c_code_is_small(compiler: str, tmp_path: Path) -> None:
    """Code and constants, on the machine that runs the test: Thumb code is smaller."""
    if shutil.which("size") is None:
        pytest.skip("no binutils")
    (source,) = [p for p in written(tmp_path) if p.name == "cosine80_head.c"]
    subprocess.run([compiler, "-std=c99", "-Os", "-c", str(source), "-o", str(tmp_path / "x.o")], check=True)
    listed = subprocess.run(["size", str(tmp_path / "x.o")], capture_output=True, text=True, check=True).stdout
    text, data, bss = map(int, listed.splitlines()[1].split()[:3])
    assert text < 5000
    assert data + bss == 0


def test_the_c_code_has_no_float_and_takes_no_memory() -> None:
    for spec in SPECS.values():
        texts = [c.decode() for c in emit_head_c("net", spec, BACKBONE).values()]
        code = re.sub(r"/\*.*?\*/", "", "\n".join(texts), flags=re.DOTALL)
        assert not re.search(r"\b(float|double|malloc|calloc|realloc|alloca)\b|\d\.\d| / | % ", code)


def test_products_are_as_wide_as_their_bound() -> None:
    for name, spec in SPECS.items():
        text = emit_head_c(name, spec, BACKBONE)[f"{model_prefix(name)}_head.c"].decode()
        (width,) = set(re.findall(r"uint32_t limb\[(\d+)\]", text))
        assert 2 ** (32 * (int(width) - 1)) <= bounds_of(spec).comparison < 2 ** (32 * int(width))


def test_names_are_safe_in_c_and_python() -> None:
    for name in ("*/ int x; /*", '"""\n\\N', "7 Zwerge", "ä", ""):
        for content in emit_head_python(name, SPECS["small"], BACKBONE).values():
            ast.parse(content, feature_version=(3, 6))
        files = emit_head_c(name, SPECS["small"], BACKBONE)
        assert sorted(files) == [f"{model_prefix(name)}_head.{suffix}" for suffix in "ch"]
        assert all(content.count(b"/*") == content.count(b"*/") for content in files.values())
    assert head_module("resnet-9") == "resnet_9_head"
    # the network x_head and the head of network x are different files
    assert model_prefix("x_head") != "x_head"


def test_a_backbone_without_a_hash_is_refused() -> None:
    for emit in (emit_head_c, emit_head_python):
        with pytest.raises(CompileError, match="names no backbone"):
            emit("net", SPECS["small"], "latest")


@pytest.mark.parametrize("name", SPECS)
def test_the_module_has_only_what_python_3_6_and_numpy_1_16_have(name: str) -> None:
    ((_, content),) = emit_head_python(name, SPECS[name], BACKBONE).items()
    tree = ast.parse(content, feature_version=(3, 6))
    imported = {a.name for node in ast.walk(tree) if isinstance(node, ast.Import) for a in node.names}
    assert imported == {"fcntl", "os", "struct", "tempfile", "time", "zlib", "numpy"}
    of_numpy = {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute) and ast.unparse(n.value) == "np"}
    assert of_numpy == {"array", "asarray", "frombuffer", "int64", "integer"}  # all of them in numpy 1.0
    methods = {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
    assert not methods & {"removeprefix", "removesuffix", "total", "bit_count", "fromisoformat", "is_relative_to"}
    # int64 by name, on 32 bits too, where numpy's default integer has 32
    assert not re.search(r"\.sum\((?!.*dtype=np\.int64)", content.decode())


def test_pefslc_and_the_module_work_on_one_state(tmp_path: Path) -> None:
    spec, path = SPECS["euclid"], tmp_path / "x.state"
    module = emitted_module("euclid", spec, tmp_path)
    with editing(path, new=HeadState.new(spec, BACKBONE, 17)) as state:
        state.classifier.enrol(3, np.arange(16) - 8)
    with module.editing(path) as head:
        head.enrol(3, np.arange(16) - 9)
        head.rename(3, "Tässe")
    state = load_state(path, spec=spec, backbone=BACKBONE)
    expected = Classifier(spec)
    expected.enrol(3, [np.arange(16) - 8, np.arange(16) - 9])
    assert (state.classifier, state.names, state.devices) == (expected, {3: "Tässe"}, (17,))
    with pytest.raises(module.HeadError), module.editing(path) as head:  # noqa: PT012
        head.forget_class(3)
        head.enrol(4, [99] * 16)
    assert load_state(path) == state
    assert sorted(p.name for p in tmp_path.iterdir() if p.suffix not in (".py", "")) == ["x.state"]


@pytest.mark.parametrize(
    ("act", "reason"),
    [
        (lambda h: h.enrol(1, [0.5] * 16), "bad-codes"),
        (lambda h: h.enrol(1, np.zeros((0, 16), int)), "bad-codes"),
        (lambda h: h.enrol(-1, [0] * 16), "no-class"),
        (lambda h: h.enrol("mug", [0] * 16), "no-class"),
        (lambda h: h.classify([[0] * 16] * 2), "bad-codes"),
        (lambda h: h.classify([0] * 16, 0.5), "threshold"),
        (lambda h: h.classify([0] * 16, -1), "threshold"),
        (lambda h: h.classify([0] * 16, 2**32), "threshold"),
        (lambda h: h.rename(1, "x" * 33), "name"),
        (lambda h: h.rename(2, "x"), "no-class"),
        (lambda h: h.save("photo.png"), "foreign"),
        (lambda h: type(h)(True), "no-class"),
    ],
)
def test_the_module_says_what_it_refuses(act, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.chdir(tmp_path)
    Path("photo.png").write_bytes(b"\x89PNG")
    module = emitted_module("euclid", SPECS["euclid"], tmp_path)
    head = module.Head(1)
    head.enrol(1, [0] * 16)
    before = head.to_bytes()
    with pytest.raises(module.HeadError) as caught:
        act(head)
    assert caught.value.reason == reason
    assert head.to_bytes() == before


WRITER = """
import sys
sys.path.insert(0, sys.argv[1])
import euclid_head
for _ in range(40):
    with euclid_head.editing(sys.argv[2], device=17) as head:
        head.enrol(1, [1] * 16)
"""


def test_the_module_waits_for_pefslc_and_pefslc_for_it(tmp_path: Path) -> None:
    path = tmp_path / "x.state"
    emitted_module("euclid", SPECS["euclid"], tmp_path)
    new = HeadState.new(SPECS["euclid"], BACKBONE, 17)
    with subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), str(path)]) as process:
        for _ in range(40):
            with editing(path, new=new) as state:
                state.classifier.enrol(2, [1] * 16)
    assert process.returncode == 0
    state = load_state(path)
    assert [state.classifier.shots(c) for c in (1, 2)] == [40, 40]
