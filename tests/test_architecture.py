"""Imports between packages point downwards: FLOORS is the page to read."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

import networkx as nx
import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = {"frontend": "pefslc.frontend", "lowering": "pefslc", "passes": "pefslc.passes", "targets": "pefslc.targets"}
PAGES = ("docs", "pefslc.docs")  # a folder of data, no modules

# A room is a package, or a module that lies directly in `pefslc`. From bottom to top; a room may import rooms of lower
# floors, and rooms of one floor do not know each other. All imports count, those inside of functions, too. Here a new
# room gets its floor.
FLOORS = (
    ("version", "diagnostics", "geometry", "numeric"),  # know nothing of networks
    ("files",),  # arrays and folders of the user, and what is wrong with them
    ("ir",),  # the graph: its operations, what they mean, how they are written
    # what follows from a graph; what is written about it; the classifier that learns
    ("analysis", "evaluation", "artifacts", "fewshot.head"),
    # a file to a graph; graph to graph; the contract of targets; how well features tell classes apart; bits within a
    # budget
    ("frontend", "passes", "targets", "fewshot.episodes", "fewshot.precision"),
    ("targets.c", "targets.tensil", "train"),  # graph to files; network to file
    ("reports", "fewshot.device"),  # what became of a model; the classifier as files for a device
    ("fewshot.data",),  # pictures in classes
    ("verification",),  # whether the files compute what the model does
    ("driver",),  # from a file to a Program
    # backbones: trained, quantized; a Program and a head: pictures in, names out; a Program as data to be read
    ("fewshot.networks", "fewshot.system", "model_report"),
    # what a bit costs: networks of many formats, measured; a page to play with a system; a page of a report
    ("fewshot.sweep", "fewshot.demo", "report_page"),
    ("fewshot",),  # few-shot learning: its public names
    ("",),  # `import pefslc`: the public names
    ("console",),  # the command
    ("__main__",),
)
# The rooms of targets/tensil, likewise; on top lie its own modules, such as target.py.
TENSIL_FLOORS = (
    ("machine",),  # the accelerator: its size, its instructions, its arithmetic, its timing
    ("program", "groups"),  # instructions in files; the first form: groups in codes
    ("check", "cost", "rewriting"),  # what a program may not do; what it takes; what a rewrite is
    ("simulate", "group_rewrites"),  # programs run; rewrites of groups in codes
    ("words",),  # the second form: groups in words
    ("wide",),  # sums wider than a word, and corrections, as operations on words: rewrites of the integer graph
    ("matrix", "native"),  # requantization by MatMul; float models in the machine's own arithmetic
    ("word_rewrites",),  # rewrites of groups in words
    ("schedule",),  # groups in words to instructions
)
TENSIL_WITHOUT_FLOOR: set[str] = set()


@dataclass(frozen=True)
class Import:
    importer: str
    imported: str
    late: bool
    line: int
    relative: bool


def python_files() -> list[tuple[str, Path]]:
    """(module name, path) of the package."""
    modules = []
    for folder, package in FOLDERS.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = [package, *path.relative_to(ROOT / folder).with_suffix("").parts]
            modules.append((".".join(parts).removesuffix(".__init__"), path))
    return modules


MODULES = dict(python_files())


def statements(body: Iterable[ast.AST], typing_only: bool, late: bool) -> Iterator[tuple[ast.AST, bool, bool]]:
    """Each statement at any depth, whether it is for types alone, and whether it is in a function."""
    for node in body:
        yield node, typing_only, late
        for_types = isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for name in ("body", "orelse", "finalbody", "handlers", "cases"):
            yield from statements(getattr(node, name, ()), typing_only or for_types, late or inside)


def imports(module: str, path: Path) -> Iterator[Import]:
    tree = ast.parse(path.read_text(), str(path))
    for node, typing_only, late in statements(tree.body, False, False):
        if typing_only and module != "pefslc":  # what `pefslc` imports for types it loads on demand
            continue
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(module, alias.name, late, node.lineno, False)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            for alias in node.names:
                name = f"{base}.{alias.name}"
                yield Import(module, name if name in MODULES else base, late, node.lineno, node.level > 0)


@cache
def all_imports() -> list[Import]:
    """Of the package. Not when this file is loaded, which every process of a run does."""
    return [i for module, path in MODULES.items() for i in imports(module, path)]


@cache
def ours() -> list[Import]:
    return [i for i in all_imports() if i.imported.split(".")[0] == "pefslc"]


TENSIL = "targets.tensil"
STARTS = {"__main__", "console", "driver", "fewshot.system"}  # rooms that load on demand
TRAINING = {"train", "fewshot.networks", "fewshot.sweep"}  # rooms that need the extra `train`
NUMPY_ALONE = {name for names in FLOORS[:4] for name in names} | {"passes"}
PACKAGES = {module for module, path in MODULES.items() if path.name == "__init__.py"}


def room(module: str) -> str:
    """The room of a module without its leading `pefslc`; the rooms of targets/tensil are one here."""
    package = module if MODULES[module].name == "__init__.py" else module.rpartition(".")[0]
    if package == "pefslc":  # a module that lies directly in it
        package = module
    below = package.removeprefix("pefslc").removeprefix(".")
    return TENSIL if below.startswith(f"{TENSIL}.") else below


def tensil_room(module: str) -> str:
    """The room of a module of targets/tensil; "" for those that lie in none."""
    parts = module.removeprefix(f"pefslc.{TENSIL}").removeprefix(".").split(".")
    return parts[0] if len(parts) > 1 or module in PACKAGES else ""


def ours_of_tensil() -> list[Import]:
    return [i for i in ours() if room(i.importer) == TENSIL == room(i.imported)]


def circles(edges: Iterable[tuple[str, str]]) -> list[list[str]]:
    """The sets of nodes that lead to each other."""
    graph = nx.DiGraph((a, b) for a, b in edges if a != b)
    return [sorted(part) for part in nx.strongly_connected_components(graph) if len(part) > 1]


def upward(floors: Sequence[Sequence[str]], room_of: Callable[[str], str], found: Iterable[Import]) -> list[str]:
    """The imports that do not lead to a lower floor."""
    floor = {name: height for height, names in enumerate(floors) for name in names}
    return [
        f"{i.importer}:{i.line} imports {i.imported}"
        for i in found
        if room_of(i.importer) != room_of(i.imported) and floor[room_of(i.importer)] <= floor[room_of(i.imported)]
    ]


def test_imports_are_absolute() -> None:
    assert not [i for i in all_imports() if i.relative]


def test_every_room_has_its_floor() -> None:
    names = [name for names in FLOORS for name in names]
    assert sorted(names) == sorted({room(module) for module in MODULES})
    tensil = {*(name for names in TENSIL_FLOORS for name in names), *TENSIL_WITHOUT_FLOOR, ""}
    assert tensil == {tensil_room(module) for module in MODULES if room(module) == TENSIL}


def test_a_room_imports_lower_floors_only() -> None:
    wrong = upward(FLOORS, room, ours())
    assert not wrong, "\n".join(wrong)


def test_a_room_of_tensil_imports_lower_floors_only() -> None:
    floors = (*TENSIL_FLOORS, tuple(TENSIL_WITHOUT_FLOOR), ("",))
    wrong = upward(
        floors, tensil_room, (i for i in ours_of_tensil() if tensil_room(i.importer) not in TENSIL_WITHOUT_FLOOR)
    )
    assert not wrong, "\n".join(wrong)


def test_there_is_no_circle_of_rooms() -> None:
    assert not circles((room(i.importer), room(i.imported)) for i in ours())


def test_there_is_no_circle_of_rooms_in_tensil() -> None:
    assert not circles((tensil_room(i.importer), tensil_room(i.imported)) for i in ours_of_tensil())


def test_there_is_no_circle_of_modules() -> None:
    assert not circles((i.importer, i.imported) for i in ours())


def test_every_imported_module_exists() -> None:
    assert not sorted({i.imported for i in ours()} - set(MODULES))


def test_only_what_starts_the_program_imports_ours_late() -> None:
    """For `pefslc --help` to be fast. Elsewhere an import inside a function would only hide what a module needs."""
    late = sorted({f"{i.importer} imports {i.imported}" for i in ours() if i.late and room(i.importer) not in STARTS})
    assert not late, "\n".join(late)


def test_the_core_needs_only_numpy_and_the_standard_library() -> None:
    known = {*sys.stdlib_module_names, "pefslc", "numpy"}
    used = {(i.importer, i.imported.split(".")[0]) for i in all_imports() if room(i.importer) in NUMPY_ALONE}
    foreign = {(importer, name) for importer, name in used if name not in known}
    assert foreign == {("pefslc.ir.flow", "networkx")}  # in a function: who does not ask about paths does not load it
    assert all(i.late for i in all_imports() if i.imported.split(".")[0] == "networkx")


def test_onnx_does_not_leak_out_of_the_frontend() -> None:
    users = {i.importer for i in all_imports() if i.imported.split(".")[0] in ("onnx", "onnx_graphsurgeon", "google")}
    assert {u for u in users if room(u) != "frontend"} == {"pefslc.reports.netron", "pefslc.train.export"}


def test_torch_is_needed_for_training_only() -> None:
    users = {i.importer for i in all_imports() if i.imported.split(".")[0] in ("torch", "brevitas", "onnxoptimizer")}
    assert users
    assert {room(u) for u in users} == TRAINING
    late = [i for i in ours() if room(i.imported) in TRAINING and room(i.importer) not in TRAINING]
    assert late
    assert all(i.late for i in late), "importing pefslc imports torch"


def test_the_folders_are_never_imported_by_their_own_names() -> None:
    """`passes.x` beside `pefslc.passes.x` would be two classes of one name."""
    looks_so = re.compile(rf"^\s*(?:from|import)\s(?:.*,)?\s*(?:{'|'.join(FOLDERS)})\b", re.MULTILINE)
    left_out = ("build", "dist", "venv")
    folders = [p for p in ROOT.iterdir() if p.is_dir() and not p.name.startswith(".") and p.name not in left_out]
    wrong = []
    for path in [*ROOT.glob("*.py"), *(path for folder in sorted(folders) for path in sorted(folder.rglob("*.py")))]:
        if not looks_so.search(path.read_text()):  # else it is read as Python
            continue
        relative = path.relative_to(ROOT)
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
    assert sorted(config["packages"]) == sorted([*packages, PAGES[1]])
    assert {folder: package for package, folder in config["package-dir"].items()} == {**FOLDERS, PAGES[0]: PAGES[1]}


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
