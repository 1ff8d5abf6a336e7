"""What went wrong, where, and what to do next: the two exception types of the project.

`CompileError` is the user's problem and never shows a traceback; `InternalError` is ours.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from pefslc.diagnostics.error_codes import Code

__all__ = ["CompileError", "InternalError", "Origin", "Problem", "quote"]

_LONGEST_QUOTE = 80
_LONGEST_PATH = 1000
_LONGEST_LINE = 2000
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


def quote(name: str | Path) -> str:
    """A name from a file, safe to print: one line, no control characters, at most 80 characters.

    A Path is shown whole, where systems could have it: its end is what tells files apart.
    """
    printable = "".join(c if c.isprintable() else "?" for c in str(name))
    if len(printable) > (_LONGEST_PATH if isinstance(name, Path) else _LONGEST_QUOTE):
        printable = printable[: _LONGEST_QUOTE - 3] + "..."
    return f"'{printable}'"


def quote_given(value: object) -> str:
    """What was given where something else was wanted: a text as it is, anything else as Python writes it.

    Without the address of an object, which says nothing and changes from run to run.
    """
    return quote(value if isinstance(value, str) else _ADDRESS.sub("", repr(value)))


def _one_line(text: str) -> str:
    """`text` safe to print: what a file holds can neither forge a line of a message nor flood the terminal."""
    printable = "".join(c if c.isprintable() else "?" for c in text[: _LONGEST_LINE + 1])
    return printable if len(printable) <= _LONGEST_LINE else f"{printable[:_LONGEST_LINE]}..."


@dataclass(frozen=True, slots=True)
class Origin:
    """The ONNX node (and tensor) that a value came from."""

    node: str
    op_type: str
    tensor: str = ""

    def __str__(self) -> str:
        where = f"{quote(self.node)[1:-1]} ({self.op_type})" if self.node else f"({self.op_type})"
        return f"{where}, tensor {quote(self.tensor)}" if self.tensor else where

    @property
    def short(self) -> str:
        """The node alone, where it has a name."""
        return f"{quote(self.node)[1:-1]} ({self.op_type})" if self.node else str(self)


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault: what is wrong, where, and what would help. docs/errors.md explains each code."""

    code: Code
    message: str
    at: Origin | str | None = None
    hint: str | None = None
    shape: tuple[int, ...] | None = None  # of the tensor in `at`, where it is known

    def __str__(self) -> str:
        lines = [f"error[{self.code}]: {_one_line(self.message)}"]
        if self.at is not None:
            lines.append(f"  at:   {self.place}")
        if self.hint is not None:
            lines.append(_help(self.hint))
        return "\n".join(lines)

    @property
    def place(self) -> str:
        """Where, in words."""
        shape = "" if self.shape is None else f", shape {list(self.shape)}"
        return f"{_one_line(str(self.at))}{shape}"

    @property
    def tensor(self) -> str:
        """The ONNX tensor that the problem is about, or ""."""
        return self.at.tensor if isinstance(self.at, Origin) else ""

    def to_json(self) -> dict[str, object]:
        """What `pefslc check --json` prints; None where something is not known or does not apply."""
        origin = self.at if isinstance(self.at, Origin) else Origin("", "")
        return {
            "code": self.code.number,
            "title": self.code.title,
            "reason": self.message,
            "node": origin.node or None,
            "operator": origin.op_type or None,
            "tensor": origin.tensor or None,
            "shape": None if self.shape is None else list(self.shape),
            "place": self.at if isinstance(self.at, str) else None,
            "help": self.hint,
        }

    def with_shape(self, shapes: Mapping[str, tuple[int, ...]]) -> Problem:
        """This problem with the shape of its tensor, where `shapes` (by ONNX name) has it."""
        return replace(self, shape=shapes.get(self.tensor)) if self.shape is None and self.tensor else self


class CompileError(Exception):
    """The user's problem. Holds one or several `Problem`s; `str()` is the text shown to the user."""

    def __init__(self, code: Code, message: str, *, at: Origin | str | None = None, hint: str | None = None) -> None:
        self.problems: tuple[Problem, ...] = (Problem(code, message, at, hint),)
        super().__init__(message)

    @classmethod
    def of(cls, problems: Iterable[Problem]) -> CompileError:
        """One error from all the faults that a check found. `problems` must not be empty."""
        found = tuple(problems)
        assert found, "an error without a problem"
        error = cls(found[0].code, found[0].message)
        error.problems = found
        return error

    def __str__(self) -> str:
        """The problems in order; one that several places share is told once, with the list of the places."""
        alike: dict[tuple[Code, str], list[Problem]] = {}
        for problem in self.problems:
            alike.setdefault((problem.code, problem.message), []).append(problem)
        return "\n".join(_told_once(group) for group in alike.values())


def _told_once(problems: list[Problem]) -> str:
    """The text of problems with one message."""
    places = [p.at.short if isinstance(p.at, Origin) else p.at for p in problems if p.at is not None]
    if len(places) < 2:
        return "\n".join(str(p) for p in problems)
    hints = dict.fromkeys(p.hint for p in problems if p.hint is not None)
    lines = [f"error[{problems[0].code}]: {_one_line(problems[0].message)}"]
    lines += [f"{'        ' if i else '  at:   '}{_one_line(place)}" for i, place in enumerate(places)]
    return "\n".join([*lines, *map(_help, hints)])


def _help(hint: str) -> str:
    """A hint may have several lines; each is indented, so that none looks like a message."""
    first, *others = map(_one_line, hint.split("\n"))
    return "\n".join([f"  help: {first}", *(f"        {line}" for line in others)])


class InternalError(Exception):
    """Our problem: a promise of the compiler that does not hold. Exit status 70."""
