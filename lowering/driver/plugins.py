"""A user's passes: from a Python file (--plugin my_pass.py) or an installed package (--plugin NAME).

A file's passes are the classes defined in it that satisfy `passes.manager.Pass` and can be made without arguments, but
for those that another of these passes derives from.
"""

from __future__ import annotations

import os
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import cast

from pefslc.analysis.verify import verify
from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, InternalError, quote, quote_given
from pefslc.diagnostics.user_code import exception_text, place_in
from pefslc.driver.python_file import classes_of, import_file
from pefslc.ir.graph import Graph, GraphInput, GraphOutput, Level
from pefslc.ir.value import Op
from pefslc.passes.manager import Exactness, Pass, check_pass, interface_faults

__all__ = ["UserPass", "installed_passes", "load_plugins", "require_names_of_their_own"]

_GROUP = "pefslc.passes"
_MEMBERS = ("name", "exactness", "level", "run")
_RANGES = (
    "give the result the range of pefslc.analysis.ranges.result_range(op); or change the model on the quantized level, "
    "whose ranges are computed afterwards: `pefslc explain writing-a-pass`, Ranges"
)
_STALE = (
    "let what reads it read the new value: pefslc.ir.graph.map_operands; `pefslc explain writing-a-pass` has an example"
)
_HINT = "`pefslc explain writing-a-pass` has one to copy"

_ADVICE = {"the codes reach": _RANGES, "with another type or origin": _STALE}  # by what a fault says


def require_names_of_their_own(passes: Iterable[Pass], ours: Container[str]) -> None:
    """Raise CompileError for a user's pass that has the name of one of ours: records tell passes apart by it."""
    taken = [p.name for p in passes if p.name in ours]
    if taken:
        raise CompileError(
            Code.WRONG_OPTION, f"plugin pass {quote(taken[0])} has the name of a pass of pefslc", hint="rename it"
        )


@dataclass(frozen=True, slots=True)
class UserPass:
    """A pass of the user's: its faults are reported as the user's, with the place in the user's file."""

    inner: Pass
    source: str
    check: bool = False

    @property
    def name(self) -> str:
        return self.inner.name

    @property
    def exactness(self) -> Exactness:
        return self.inner.exactness

    @property
    def level(self) -> Level:
        return self.inner.level

    def run(self, graph: Graph) -> Graph:
        try:
            after = self.inner.run(graph)
        except CompileError:
            raise
        except (Exception, SystemExit) as e:
            raise CompileError(
                Code.PLUGIN_FAILED,
                f"plugin pass {quote(self.name)} failed: {exception_text(e)}",
                at=place_in(self.source, e),
                hint="the pass is not part of pefslc: correct it, or leave it out (--plugin)",
            ) from e
        if not isinstance(after, Graph):
            raise CompileError(
                Code.PLUGIN_FAILED,
                f"plugin pass {quote(self.name)} returned {type(after).__name__}, not a Graph",
                at=self.source,
            )
        if after is not graph:
            self._judge(graph, after)
        return after

    def _judge(self, before: Graph, after: Graph) -> None:
        try:
            faults = _type_faults(before, after) or verify(after)
            faults = faults or interface_faults(self.exactness, before, after)
        except Exception as e:  # a field of a type that it cannot have
            faults = [exception_text(e)]
        if faults:
            raise CompileError(
                Code.PLUGIN_FAILED,
                f"plugin pass {quote(self.name)} left an illegal graph: {'; '.join(faults)}",
                at=self.source,
                hint="\n".join(hint for sign, hint in _ADVICE.items() if any(sign in fault for fault in faults))
                or None,
            )
        if self.check:
            try:
                check_pass(self.inner, before, after)
            except InternalError as e:
                raise CompileError(
                    Code.PLUGIN_FAILED, str(e), at=self.source, hint="declare it Exactness.BOUNDED, or correct it"
                ) from None


def load_plugins(
    plugins: str | Path | Pass | Sequence[str | Path | Pass], *, check: bool = False
) -> tuple[UserPass, ...]:
    """The passes of every plugin, in order: a file, an installed name, or (from Python) a pass itself."""
    found: list[UserPass] = []
    for name in [plugins] if isinstance(plugins, str) or not isinstance(plugins, Iterable) else plugins:
        if isinstance(name, str | Path):
            found.extend(UserPass(p, str(name), check) for p in _passes_of(str(name)))
        elif isinstance(name, UserPass):
            found.append(name)
        elif not _is_pass(name):
            raise CompileError(
                Code.PLUGIN_UNUSABLE,
                f"plugin {quote_given(name)} is not a pass",
                hint=f"a .py file, an installed name, or an object with {', '.join(_MEMBERS)}; {_HINT}",
            )
        else:
            found.append(UserPass(name, type(name).__qualname__, check))
    return tuple(found)


def installed_passes() -> tuple[EntryPoint, ...]:
    """The entry points of the group pefslc.passes, by name."""
    return tuple(sorted(entry_points(group=_GROUP), key=lambda e: e.name))


def _passes_of(name: str) -> list[Pass]:
    path = Path(name)
    if path.suffix == ".py" or os.path.exists(path):
        return _passes_in_file(path)
    for entry in installed_passes():
        if entry.name == name:
            return [_installed(entry)]
    known = ", ".join(e.name for e in installed_passes())
    raise CompileError(
        Code.NO_SUCH_PLUGIN,
        f"no plugin {quote(name)}",
        hint="give a .py file" + (f", or an installed pass: {known}" if known else ""),
    )


def _installed(entry: EntryPoint) -> Pass:
    try:
        made = entry.load()()
    except (Exception, SystemExit) as e:
        raise CompileError(
            Code.PLUGIN_UNUSABLE, f"plugin {quote(entry.name)} cannot be loaded: {exception_text(e)}", at=entry.value
        ) from e
    if not _is_pass(made):
        raise CompileError(
            Code.PLUGIN_UNUSABLE, f"plugin {quote(entry.name)} is not a pass", at=entry.value, hint=_HINT
        )
    return made  # type: ignore[no-any-return]  # just checked


def _passes_in_file(path: Path) -> list[Pass]:
    made: dict[type, object] = {}
    for made_by in classes_of(import_file(path, "plugin", _HINT)):
        if not all(hasattr(made_by, member) for member in _MEMBERS):
            continue
        try:
            made[made_by] = made_by()
        except TypeError:
            continue  # it needs arguments: a helper, or a pass that another class of the file makes
        except (Exception, SystemExit) as e:
            raise CompileError(
                Code.PLUGIN_UNUSABLE,
                f"plugin class {made_by.__name__} cannot be made: {exception_text(e)}",
                at=place_in(str(path), e),
            ) from e
    passes: list[Pass] = []
    for made_by, one in made.items():
        if any(other is not made_by and issubclass(other, made_by) for other in made):
            continue  # what other passes of the file have in common
        if not _is_pass(one):
            raise CompileError(
                Code.PLUGIN_UNUSABLE,
                f"plugin class {made_by.__name__} is not a pass: `name` is a string, `exactness` an Exactness, "
                "`level` a Level",
                at=str(path),
                hint=_HINT,
            )
        passes.append(cast(Pass, one))
    if not passes:
        raise CompileError(
            Code.PLUGIN_UNUSABLE,
            f"plugin {quote(path)} defines no pass",
            hint=f"a class with {', '.join(_MEMBERS)} that can be made without arguments; {_HINT}",
        )
    return passes


def _is_pass(made: object) -> bool:
    return (
        not isinstance(made, type)
        and isinstance(made, Pass)
        and isinstance(made.name, str)
        and isinstance(made.exactness, Exactness)
        and isinstance(made.level, Level)
    )


def _type_faults(before: Graph, after: Graph) -> list[str]:
    """What a type checker would have told the pass's author, and `verify` takes for granted."""
    faults = []
    if after.name != before.name or after.level is not before.level:
        faults.append(f"its name and level stay {quote(before.name)} and {before.level.value}, in a plugin's pass")
    parts: tuple[tuple[str, object, type], ...] = (
        ("inputs", after.inputs, GraphInput),
        ("ops", after.ops, Op),
        ("outputs", after.outputs, GraphOutput),
    )
    for what, part, kind in parts:
        if not isinstance(part, tuple):
            faults.append(f"{what} are a {type(part).__name__}, not a tuple")
            continue
        wrong = [type(p).__name__ for p in part if not isinstance(p, kind)]
        faults += [f"{what} hold {name} where {kind.__name__} is needed" for name in dict.fromkeys(wrong)]
    return faults
