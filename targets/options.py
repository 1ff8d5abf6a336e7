"""Options of a target: a target declares them as data, and a user names them in Python or on the command line.

A target that has options is a dataclass; an option is a field of it that `option` made:

    @dataclass(frozen=True)
    class MyTarget:
        unroll: int = option(1, type=int, metavar="N", help="copies of the inner loop")

So a target is a value that carries its options. This module loads nothing heavy: `pefslc --help` shows what it holds.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields, is_dataclass, replace
from numbers import Integral, Real
from os import PathLike
from typing import Any, TypeVar

from pefslc.diagnostics.alike import alike
from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, Problem, quote, quote_given

__all__ = ["Option", "check_values", "faults_of_names", "option", "options_of", "with_options"]

_KEY = "pefslc.option"
_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
_TYPES: Mapping[type, str] = {bool: "True or False", int: "a whole number", float: "a number", str: "a text"}
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Option:
    """One option of a target, as its target declares it.

    name     of the field and of the keyword in Python; the command line writes --my-name for my_name
    type     bool, int, float or str
    default  what the option is where the user does not name it
    help     what it does, in half a line
    metavar  what the command line shows for its value; a switch has none
    wanted   what a value must be, for the message that refuses another one: "a frequency in MHz"
    example  a value that is right
    accepts  whether a value of the right type is one of those wanted
    is_path  whether a str may be a path: a path object is a value, too
    known    the values that have a name, for `pefslc targets NAME`: called when they are shown
    """

    name: str
    type: type
    default: object
    help: str
    metavar: str
    wanted: str
    example: str
    accepts: Callable[[Any], bool] | None = None
    known: Callable[[], tuple[str, ...]] | None = None
    is_path: bool = False

    @property
    def flag(self) -> str:
        """How the command line writes it; a switch that is on by default is switched off by its flag."""
        return f"--{'no-' if self.default is True else ''}{self.name.replace('_', '-')}"

    @property
    def is_switch(self) -> bool:
        return self.type is bool

    def fault(self, value: object) -> str | None:
        """Why the option cannot be this, in words; None where it can. None is right where it is the default."""
        if value is None and self.default is None:
            return None
        if self._has_type(value) and (self.accepts is None or self.accepts(value)):
            return None
        is_number = isinstance(value, Real) and not isinstance(value, bool)
        shown = value if is_number and self.type in (int, float) else quote_given(value)
        return f"{self.name} ({self.flag}) is {shown}, not {self.wanted}"

    def _has_type(self, value: object) -> bool:
        if self.type is bool or isinstance(value, bool):
            return self.type is bool and isinstance(value, bool)
        if self.type is str:
            return isinstance(value, str) or (self.is_path and isinstance(value, PathLike))
        if self.type is int:
            return isinstance(value, Integral)
        try:
            return isinstance(value, Real) and math.isfinite(value)
        except OverflowError:  # a whole number beyond every float
            return False


def option(
    default: _T,
    *,
    type: type,
    help: str,
    metavar: str = "VALUE",
    wanted: str = "",
    example: str = "",
    accepts: Callable[[Any], bool] | None = None,
    known: Callable[[], tuple[str, ...]] | None = None,
    is_path: bool = False,
) -> _T:
    """A field of a target's dataclass that a user may set. See `Option` for what the arguments mean.

    Raises TypeError for a declaration that is none: the author's fault, shown where the class is written.
    """
    if type not in _TYPES:
        raise TypeError(f"the type of an option is {type!r}, not one of bool, int, float, str")
    if not (isinstance(help, str) and help and isinstance(metavar, str) and isinstance(wanted, str)):
        raise TypeError("help, metavar and wanted of an option are texts, and help is not empty")
    made = Option("", type, default, help, metavar, wanted or _TYPES[type], example, accepts, known, is_path)
    if made.is_switch and not isinstance(default, bool):
        raise TypeError(f"the default of a switch is {default!r}, not True or False")
    if made.fault(default) is not None:
        raise TypeError(f"the default of an option is {default!r}, not {made.wanted}")
    if accepts is not None and not wanted:
        raise TypeError("an option that accepts some values only says which: wanted='2 or more'")
    return field(default=default, kw_only=True, metadata={_KEY: made})


def options_of(target: object) -> tuple[Option, ...]:
    """The options that a target, or its class, declares, in order; none where it is no dataclass."""
    if not is_dataclass(target):
        return ()
    return tuple(_named(f) for f in fields(target) if _KEY in f.metadata)


def _named(declared: Field[Any]) -> Option:
    made: Option = declared.metadata[_KEY]
    return replace(made, name=declared.name)


def faults_of_names(target: object) -> list[str]:
    """Options whose names no command line could bear."""
    declared = options_of(target)
    flags = [o.flag for o in declared]
    wrong = [o.name for o in declared if not _NAME.fullmatch(o.name)]
    return [
        *(f"option {quote(n)} is not named with lower-case letters, digits and _, 40 at most" for n in wrong),
        *(f"two options have the flag {flag}" for flag in sorted({f for f in flags if flags.count(f) > 1})),
    ]


def check_values(target: object) -> None:
    """Raise CompileError with every option of a target that has a value which it cannot have."""
    judged = [(o, o.fault(getattr(target, o.name))) for o in options_of(target)]
    problems = [
        Problem(Code.WRONG_OPTION, fault, hint=_instead(o, getattr(target, o.name)))
        for o, fault in judged
        if fault is not None
    ]
    if problems:
        raise CompileError.of(problems)


def _instead(option: Option, value: object) -> str:
    """What to give instead of a wrong value."""
    meant = alike(value, option.known()) if isinstance(value, str) and option.known is not None else None
    if meant is not None:
        return f"did you mean {meant}?"
    return f"for example {option.name}={option.example}" if option.example else "leave it out"


def with_options(target: _T, values: Mapping[str, object]) -> _T:
    """The same target with these options; `target` itself where there are none."""
    return replace(target, **values) if values else target  # type: ignore[type-var]
