"""The notebooks of examples/: their cells run, in order, and what they show can be shown.

Without a kernel: a cell is Python, its last expression is what a notebook would show, and the tag `raises-exception`,
which Jupyter knows, is on the cells that end with an error on purpose.
"""

from __future__ import annotations

import ast
import json
import traceback
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from pefslc.diagnostics.errors import CompileError

EXAMPLES = Path(__file__).parents[2] / "examples"
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))


def cells(notebook: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(notebook.read_text())["cells"]
    return found


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder like examples/, where notebooks may write."""
    for path in EXAMPLES.glob("cnn_*"):
        (tmp_path / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run_cell(source: str, namespace: dict[str, Any]) -> object:
    """The value of the last expression; None where the cell ends with a statement."""
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "<cell>", "exec", dont_inherit=True), namespace)
    if not isinstance(last, ast.Expr):
        return None
    value: object = eval(compile(ast.Expression(last.value), "<cell>", "eval", dont_inherit=True), namespace)
    return value


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda p: p.stem)
@pytest.mark.usefixtures("folder")
def test_the_cells_run_and_show_something(notebook: Path, capfd: pytest.CaptureFixture[str]) -> None:
    namespace: dict[str, Any] = {"__name__": "__main__"}
    pictures = 0
    for cell in cells(notebook):
        if cell["cell_type"] != "code":
            continue
        source = "".join(cell["source"])
        capfd.readouterr()
        if "raises-exception" in cell["metadata"].get("tags", []):
            with pytest.raises(CompileError) as error:
                run_cell(source, namespace)
            shown = "".join(traceback.format_exception(error.value))
            assert shown.count("\npefslc.diagnostics.errors.CompileError: ") == 1, source
            continue
        value = run_cell(source, namespace)
        if hasattr(value, "_repr_html_"):
            html = value._repr_html_()
            ElementTree.fromstring(f"<div>{html.replace('<br>', ' ')}</div>")
            pictures += "<svg" in html
        assert value is not None or capfd.readouterr().out, source
    assert pictures


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_notebook_is_short_and_holds_no_outputs(notebook: Path) -> None:
    content = json.loads(notebook.read_text())
    assert (content["nbformat"], content["nbformat_minor"]) == (4, 5)
    assert len({cell["id"] for cell in content["cells"]}) == len(content["cells"]) < 30
    for cell in content["cells"]:
        assert cell["source"]
        if cell["cell_type"] == "code":
            assert (cell["outputs"], cell["execution_count"]) == ([], None)


def test_there_are_notebooks() -> None:
    assert len(NOTEBOOKS) >= 2
