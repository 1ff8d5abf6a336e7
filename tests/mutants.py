"""The small changes that a good test suite notices: mutants of one source file, by the positions of its syntax tree.

A mutant replaces a piece of the text; all other text stays as it is, byte by byte. What a message says, annotations,
assertions and the printed form of a value are left alone: they decide nothing.
"""

from __future__ import annotations

import ast
import re
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Drawn", "Mutant", "all_mutants", "compiles", "equivalent", "folders", "modules", "mutants_of"]

ROOT = Path(__file__).resolve().parent.parent
EQUIVALENT = ROOT / "tests" / "mutants_equivalent.txt"

# An operator's text, and what replaces it. Two for an order: its bound off by one, and its opposite.
_OPERATORS: dict[type[ast.AST], tuple[str, tuple[str, ...]]] = {
    ast.Lt: ("<", ("<=", ">=")),
    ast.LtE: ("<=", ("<", ">")),
    ast.Gt: (">", (">=", "<=")),
    ast.GtE: (">=", (">", "<")),
    ast.Eq: ("==", ("!=",)),
    ast.NotEq: ("!=", ("==",)),
    ast.Is: ("is", ("is not",)),
    ast.IsNot: ("is not", ("is",)),
    ast.In: ("in", ("not in",)),
    ast.NotIn: ("not in", ("in",)),
    ast.Add: ("+", ("-",)),
    ast.Sub: ("-", ("+",)),
    ast.LShift: ("<<", (">>",)),
    ast.RShift: (">>", ("<<",)),
    ast.And: ("and", ("or",)),
    ast.Or: ("or", ("and",)),
    ast.BitAnd: ("&", ("|",)),
    ast.BitOr: ("|", ("&",)),
}
_NAMES = {"min": "max", "minimum": "maximum", "any": "all", "argmin": "argmax", "fmin": "fmax"}
_NAMES |= {value: key for key, value in _NAMES.items()}
_PRINTING = {"__str__", "__repr__", "describe"}
_NO_GUARD = (ast.Raise, ast.Return, ast.Continue, ast.Break)


@dataclass(frozen=True, slots=True)
class Mutant:
    """`text[start:end]` becomes `new`.

    scope          the function or class around it, by its dotted name; empty at the top of the module
    line, end_line of the change, from 1
    """

    start: int
    end: int
    new: str
    kind: str
    scope: str
    line: int
    end_line: int

    def applied(self, text: str) -> str:
        return text[: self.start] + self.new + text[self.end :]

    def described(self, text: str) -> str:
        """The line before and after, without what surrounds the change on other lines."""
        first = text.rfind("\n", 0, self.start) + 1
        last = text.find("\n", self.end)
        after = text[first : self.start] + self.new + text[self.end : last]
        return " ".join(text[first:last].split()) + "  =>  " + " ".join(after.split())


@dataclass(frozen=True, slots=True)
class Drawn:
    """A mutant of a module; `key` names it in the results and in the list of equivalent ones, without line numbers."""

    module: str
    path: str
    mutant: Mutant
    key: str


def mutants_of(text: str) -> list[Mutant]:
    """Every mutant, in the order of the text."""
    tree = ast.parse(text)
    found = {(m.start, m.end, m.new): m for m in _Mutation(text).of(tree, "")}
    return [found[key] for key in sorted(found)]


class _Mutation:
    def __init__(self, text: str) -> None:
        self.text = text
        lines = text.splitlines(keepends=True)
        self.offsets = [0]
        for line in lines:
            self.offsets.append(self.offsets[-1] + len(line))
        self.lines = lines

    def position(self, line: int, column: int) -> int:
        """Where in the text; columns of a syntax tree are bytes of UTF-8."""
        return self.offsets[line - 1] + len(self.lines[line - 1].encode()[:column].decode())

    def span(self, node: ast.expr) -> tuple[int, int]:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return self.position(node.lineno, node.col_offset), self.position(node.end_lineno, node.end_col_offset)

    def mutant(self, start: int, end: int, new: str, kind: str, scope: str) -> Mutant:
        lines = (self.text.count("\n", 0, at) + 1 for at in (start, end))
        return Mutant(start, end, new, kind, scope, *lines)

    def of(self, node: ast.AST, scope: str) -> Iterator[Mutant]:
        if isinstance(node, ast.Raise | ast.Assert | ast.JoinedStr | ast.Import | ast.ImportFrom):
            return
        if isinstance(node, ast.keyword) and node.arg == "strict":
            return  # of zip: an assertion
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            if node.name in _PRINTING:
                return
            scope = f"{scope}.{node.name}".lstrip(".")
        yield from self._here(node, scope)
        for name, field in ast.iter_fields(node):
            if name in ("annotation", "returns", "decorator_list", "bases"):
                continue
            for child in field if isinstance(field, list) else [field]:
                if isinstance(child, ast.AST):
                    yield from self.of(child, scope)

    def _here(self, node: ast.AST, scope: str) -> Iterator[Mutant]:
        match node:
            case ast.Compare():
                for left, op, right in zip([node.left, *node.comparators], node.ops, node.comparators, strict=False):
                    yield from self._operator(op, left, right, scope)
            case ast.BinOp():
                yield from self._operator(node.op, node.left, node.right, scope)
            case ast.BoolOp():
                for left, right in zip(node.values, node.values[1:], strict=False):
                    yield from self._operator(node.op, left, right, scope)
            case ast.UnaryOp(op=ast.Not() | ast.USub()) if not isinstance(node.operand, ast.Constant):
                start, _ = self.span(node)
                operator = "not " if self.text.startswith("not ", start) else self.text[start : start + 1]
                yield self.mutant(start, start + len(operator), "", "operator left out", scope)
            case ast.Constant(value=bool()):
                yield self.mutant(*self.span(node), str(not node.value), "constant", scope)
            case ast.Constant(value=int()):
                for value in (node.value + 1, node.value - 1):
                    yield self.mutant(*self.span(node), f"({value})" if value < 0 else str(value), "constant", scope)
            case ast.Call(func=ast.Name(id="abs"), args=[argument]):
                yield self.mutant(*self.span(node), f"({ast.get_source_segment(self.text, argument)})", "abs", scope)
            case ast.Name() | ast.Attribute():
                name = node.id if isinstance(node, ast.Name) else node.attr
                if name in _NAMES and isinstance(node.ctx, ast.Load):
                    end = self.span(node)[1]
                    yield self.mutant(end - len(name), end, _NAMES[name], "min and max", scope)
            case ast.If() | ast.While():
                if isinstance(node, ast.If) and not node.orelse and isinstance(node.body[-1], _NO_GUARD):
                    yield self.mutant(*self.span(node.test), "False", "guard left out", scope)
                yield from self._negated(node.test, scope)
            case ast.IfExp():
                yield from self._negated(node.test, scope)
            case ast.comprehension():
                for test in node.ifs:
                    yield self.mutant(*self.span(test), "True", "filter left out", scope)
            case ast.match_case(guard=ast.expr() as guard):
                yield from self._negated(guard, scope)
            case _:
                pass

    def _negated(self, test: ast.expr, scope: str) -> Iterator[Mutant]:
        start, end = self.span(test)
        if not isinstance(test, ast.UnaryOp):
            yield self.mutant(start, end, f"not ({self.text[start:end]})", "condition negated", scope)

    def _operator(self, op: ast.AST, left: ast.expr, right: ast.expr, scope: str) -> Iterator[Mutant]:
        if type(op) not in _OPERATORS:
            return
        old, new = _OPERATORS[type(op)]
        gap_start, gap_end = self.span(left)[1], self.span(right)[0]
        gap = self.text[gap_start:gap_end]
        pattern = old.replace(" ", r"\s+") if old[0].isalpha() else re.escape(old)
        at = re.search(rf"\b{pattern}\b" if old[0].isalpha() else pattern, re.sub(r"#.*", _blank, gap))
        if at is not None:
            for text in new:
                yield self.mutant(gap_start + at.start(), gap_start + at.end(), text, f"{old} to {text}", scope)


def _blank(comment: re.Match[str]) -> str:
    return " " * len(comment[0])


# --- of the packages -------------------------------------------------------------------------------------------------


def folders() -> dict[str, str]:
    """Folders by package, as pyproject.toml maps them."""
    mapping: dict[str, str] = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-dir"]
    return mapping


def modules() -> dict[str, str]:
    """Source files by module name."""
    found = {}
    for package, folder in sorted(folders().items()):
        for path in sorted((ROOT / folder).rglob("*.py")):
            name = ".".join([package, *path.relative_to(ROOT / folder).with_suffix("").parts])
            found[name.removesuffix(".__init__")] = path.relative_to(ROOT).as_posix()
    return dict(sorted(found.items()))


def all_mutants(packages: Iterable[str]) -> list[Drawn]:
    """Every mutant of the packages; several alike in one function are numbered."""
    drawn = []
    for module, path in modules().items():
        if any(f"{module}.".startswith(f"pefslc.{package}.") for package in packages):
            text, alike = (ROOT / path).read_text(), Counter[str]()
            for mutant in mutants_of(text):
                key = f"{module}:{mutant.scope}: {mutant.described(text)}"
                alike[key] += 1
                drawn.append(Drawn(module, path, mutant, key if alike[key] == 1 else f"{key}  #{alike[key]}"))
    return drawn


def equivalent() -> dict[str, str]:
    """Reasons by key: two lines for each mutant, the second one indented."""
    reasons: dict[str, str] = {}
    for line in EQUIVALENT.read_text().splitlines():
        if line.startswith(" "):
            key = next(reversed(reasons))
            reasons[key] = f"{reasons[key]} {line.strip()}".strip()
        elif line and not line.startswith("#"):
            reasons[line] = ""
    return reasons


def compiles(drawn: Drawn) -> bool:
    try:
        compile(drawn.mutant.applied((ROOT / drawn.path).read_text()), drawn.path, "exec", dont_inherit=True)
    except SyntaxError:
        return False
    return True
