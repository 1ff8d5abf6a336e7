"""The arrows between the packages point downwards: cli -> compiler -> frontend, passes, targets -> core."""

from __future__ import annotations

import ast
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import networkx as nx
import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = {"frontend": "pefslc.frontend", "lowering": "pefslc", "passes": "pefslc.passes", "targets": "pefslc.targets"}

# The layer of each module directly in lowering/; a new one must be entered here.
LAYER = {
    "arrays": "core",
    "artifact": "compiler",
    "blame": "core",
    "calibration_data": "core",
    "cli": "cli",
    "codes": "core",
    "comparison": "compiler",
    "compile_options": "compiler",
    "compiler": "compiler",
    "console": "cli",
    "cost": "core",
    "diagnosis": "compiler",
    "diagnostics": "core",
    "file_names": "core",
    "folder_lock": "core",
    "format_changes": "compiler",
    "frontend": "frontend",
    "given": "compiler",
    "interpret": "core",
    "interrupts": "core",
    "ir": "core",
    "limits": "core",
    "noise": "core",
    "numeric": "core",
    "passes": "passes",
    "phases": "core",
    "paths": "core",
    "plugins": "compiler",
    "ranges": "core",
    "post_training": "compiler",
    "reference": "core",
    "program": "compiler",
    "report": "compiler",
    "replacement": "core",
    "semantics": "core",
    "shapes": "core",
    "sidecar": "core",
    "staging": "core",
    "targets": "targets",
    "train": "train",
    "verification": "compiler",
    "": "compiler",  # pefslc itself: the public names, loaded on demand
    "__main__": "cli",
}
MAY_IMPORT = {
    "core": {"core"},
    "frontend": {"frontend", "core"},
    "passes": {"passes", "core"},
    "targets": {"targets", "core"},
    "train": {"train", "frontend", "core"},
    "compiler": {"compiler", "train", "frontend", "passes", "targets", "core"},
    "cli": {"cli", "compiler", "frontend", "passes", "targets", "core"},
}
# Imports inside functions that would be upward arrows or cycles at module level, each with its reason.
ALLOWED_LATE = {
    ("pefslc.ir.graph", "pefslc.ir.text"),  # str(graph): the printer needs every operation, which need nothing of it
    ("pefslc.ir.graph", "pefslc.evaluation.interpret"),  # graph.run: the interpreter needs every operation
    (
        "pefslc.evaluation.interpret",
        "pefslc.evaluation.reference",
    ),  # only the quantized level needs the float operations
    ("pefslc.frontend.importer", "pefslc.frontend.operators"),  # the table of operators needs the Builder
}


@dataclass(frozen=True)
class Import:
    importer: str
    imported: str
    late: bool
    line: int
    relative: bool


def python_files() -> list[tuple[str, Path]]:
    """(module name, path) of the package."""
    found = []
    for folder, package in FOLDERS.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = [package, *path.relative_to(ROOT / folder).with_suffix("").parts]
            found.append((".".join(parts).removesuffix(".__init__"), path))
    return found


MODULES = dict(python_files())


def imports(module: str, path: Path) -> Iterator[Import]:
    tree = ast.parse(path.read_text(), str(path))
    typing_only = {
        id(n) for branch in ast.walk(tree)
        if isinstance(branch, ast.If) and isinstance(branch.test, ast.Name) and branch.test.id == "TYPE_CHECKING"
        for n in ast.walk(branch)
    }  # fmt: skip
    late = {
        id(n) for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for n in ast.walk(function)
    }  # fmt: skip
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(module, alias.name, id(node) in late, node.lineno, False)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            for alias in node.names:
                name = f"{base}.{alias.name}"
                yield Import(module, name if name in MODULES else base, id(node) in late, node.lineno, node.level > 0)


ALL = [i for module, path in MODULES.items() for i in imports(module, path)]
OURS = [i for i in ALL if i.imported.split(".")[0] == "pefslc"]


def layer(module: str) -> str:
    return LAYER[module.split(".")[1] if "." in module else ""]


def test_imports_are_absolute() -> None:
    assert not [i for i in ALL if i.relative]


def test_arrows_point_downwards() -> None:
    wrong = [
        f"{i.importer}:{i.line} imports {i.imported}"
        for i in OURS
        if layer(i.imported) not in MAY_IMPORT[layer(i.importer)] and (i.importer, i.imported) not in ALLOWED_LATE
    ]
    assert not wrong, "\n".join(wrong)


def test_every_imported_module_exists() -> None:
    assert not sorted({i.imported for i in OURS} - set(MODULES))


def test_there_are_no_cycles() -> None:
    graph = nx.DiGraph((i.importer, i.imported) for i in OURS if not i.late and i.importer != i.imported)
    assert not list(nx.simple_cycles(graph))


def test_late_imports_of_the_core_are_listed_with_their_reason() -> None:
    """Only the layers above may load on demand (for start-up time); below, a late import hides a cycle."""
    late = {(i.importer, i.imported) for i in OURS if i.late and layer(i.importer) in ("core", "frontend", "passes")}
    assert late == ALLOWED_LATE & late
    assert late == ALLOWED_LATE, "an exception that is no longer needed"


def test_the_core_needs_only_numpy_and_the_standard_library() -> None:
    known = {*sys.stdlib_module_names, "pefslc", "numpy"}
    used = {(i.importer, i.imported.split(".")[0]) for i in ALL if layer(i.importer) in ("core", "passes")}
    foreign = {(importer, name) for importer, name in used if name not in known}
    assert foreign <= {("pefslc.ir.netron", "onnx")}


def test_onnx_does_not_leak_out_of_the_frontend() -> None:
    users = {i.importer for i in ALL if i.imported.split(".")[0] in ("onnx", "onnx_graphsurgeon", "google")}
    assert {u for u in users if layer(u) != "frontend"} <= {"pefslc.ir.netron", "pefslc.train.export"}


def test_torch_is_needed_for_training_only() -> None:
    users = {i.importer for i in ALL if i.imported.split(".")[0] in ("torch", "brevitas", "onnxoptimizer")}
    assert users
    assert {layer(u) for u in users} == {"train"}
    late = [i for i in OURS if layer(i.imported) == "train" and layer(i.importer) != "train"]
    assert late
    assert all(i.late for i in late), "importing pefslc imports torch"


def test_the_folders_are_never_imported_by_their_own_names() -> None:
    """`passes.x` beside `pefslc.passes.x` would be two classes of one name."""
    wrong = []
    for path in sorted(ROOT.rglob("*.py")):
        relative = path.relative_to(ROOT)
        if relative.parts[0].startswith(".") or relative.parts[0] in ("build", "dist", "venv"):
            continue
        for i in imports(str(relative), path):
            if i.imported.split(".")[0] in FOLDERS:
                wrong.append(f"{relative}:{i.line} imports {i.imported}")
    assert not wrong, "\n".join(wrong)


def test_no_module_is_named_like_one_of_the_standard_library() -> None:
    names = {module.rsplit(".", 1)[-1] for module in MODULES if module != "pefslc"} - {"__main__"}
    assert not names & set(sys.stdlib_module_names)


def test_the_packages_of_pyproject_are_those_of_the_tree() -> None:
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    packages = sorted(module for module, path in MODULES.items() if path.name == "__init__.py")
    assert sorted(config["packages"]) == packages
    assert {folder: package for package, folder in config["package-dir"].items()} == FOLDERS


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_data_file_of_the_tree_is_packaged(folder: str) -> None:
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["*"]
    for path in (ROOT / folder).rglob("*"):
        if path.is_file() and path.suffix not in (".py", ".pyc"):
            package = next(parent for parent in path.parents if (parent / "__init__.py").is_file())
            name = path.relative_to(package).as_posix()
            found = any(fnmatch(name, p) and name.count("/") == p.count("/") for p in patterns)
            assert found, f"{path.relative_to(ROOT)} would be missing from the wheel"


def test_no_test_draws_from_a_generator_that_others_draw_from() -> None:
    """What a test sees would depend on the tests before it, and those on how many processes share them."""
    shared = []
    for path in sorted((ROOT / "tests").rglob("*.py")):
        for node in ast.parse(path.read_text(), str(path)).body:
            if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Call):
                made = ast.unparse(node.value.func)
                if made.rsplit(".", 1)[-1] in ("default_rng", "Generator", "Random", "RandomState"):
                    shared.append(f"{path.relative_to(ROOT)}:{node.lineno} makes {ast.unparse(node.value)}")
    assert not shared, "\n".join(shared)
