"""Every refusal carries a code of `pefslc.diagnostics.error_codes`, and every code is used."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from pefslc.diagnostics.error_codes import Code

ROOT = Path(__file__).resolve().parent.parent.parent
SOURCES = [p for folder in ("lowering", "frontend", "passes", "targets") for p in sorted((ROOT / folder).rglob("*.py"))]
FOR_PLUGINS = {Code.PLUGIN_REFUSES}  # raised by passes that are not ours


def calls(path: Path) -> Iterator[ast.Call]:
    """The calls of CompileError and Problem, not those of CompileError.of."""
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in ("CompileError", "Problem")
        ):
            yield node


def names_a_code(argument: ast.expr) -> bool:
    """`Code.NAME`, or a parameter `code` that a caller fills."""
    if isinstance(argument, ast.IfExp):
        return names_a_code(argument.body) and names_a_code(argument.orelse)
    if isinstance(argument, ast.Attribute) and isinstance(argument.value, ast.Name) and argument.value.id == "Code":
        return argument.attr in Code.__members__
    return isinstance(argument, ast.Name) and argument.id == "code"


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_refusal_has_a_code(path: Path) -> None:
    for call in calls(path):
        coded = bool(call.args) and names_a_code(call.args[0])
        assert coded, f"{path.name}:{call.lineno}: no code"


def test_every_code_is_used() -> None:
    texts = "\n".join(p.read_text() for p in SOURCES)
    used = {Code[name] for name in re.findall(r"\bCode\.([A-Z0-9_]+)\b", texts)}
    assert set(Code) - FOR_PLUGINS == used


def test_numbers_are_well_formed_and_given_once() -> None:
    numbers = [code.number for code in Code]
    assert len(set(numbers)) == len(numbers)
    assert numbers == sorted(numbers)
    assert all(re.fullmatch(r"PEF\d{4}", number) for number in numbers)
