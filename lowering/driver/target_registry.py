"""The targets by name: ours, then those that installed packages add under the entry point `pefslc.targets`."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, quote
from pefslc.diagnostics.user_code import exception_text
from pefslc.driver.user_target import UserTarget, missing_members, user_target
from pefslc.targets.protocol import Target

__all__ = ["find_target", "guarded", "target_names"]

_OURS = ("c", "tensil")


def target_names() -> tuple[str, ...]:
    """Every name that --target takes."""
    return (*_OURS, *sorted(e.name for e in entry_points(group="pefslc.targets")))


def guarded(target: Target) -> Target:
    """A target that is given as an object: one of ours as it is, any other guarded.

    Raises CompileError for a name that `find_target` would take for another target: nothing could run its files.
    """
    if type(target).__module__.startswith("pefslc."):
        return target
    made = user_target(target)
    if made.name in _OURS or (made.name in target_names() and type(_inner(made.name)) is not type(target)):
        raise CompileError(
            Code.PLUGIN_UNUSABLE,
            f"the target is named {quote(made.name)}, and so is another one",
            at=made.source,
            hint=f"choose a name that is not taken: {', '.join(target_names())} are",
        )
    return made


def _inner(name: str) -> Target:
    found = find_target(name)
    return found.inner if isinstance(found, UserTarget) else found


def find_target(name: str) -> Target:
    """The target of that name; only its modules are loaded. Raises CompileError for an unknown name."""
    if name == "c":
        from pefslc.targets.c.target import CTarget

        return CTarget()
    if name == "tensil":
        from pefslc.targets.tensil.target import TensilTarget

        return TensilTarget()
    for entry in entry_points(group="pefslc.targets"):
        if entry.name == name:
            return _installed(entry)
    raise CompileError(Code.UNKNOWN_TARGET, f"unknown target {quote(name)}", hint=f"known: {', '.join(target_names())}")


def _installed(entry: EntryPoint) -> UserTarget:
    """The target of an installed package. Raises CompileError where it is none."""
    try:
        made = entry.load()()
    except (Exception, SystemExit) as e:
        raise _unusable(entry, f"cannot be loaded: {exception_text(e)}") from e
    if missing := missing_members(made):
        raise _unusable(entry, f"is no target: it has no {', no '.join(missing)}")
    target = user_target(made)
    if target.name != entry.name:  # a sidecar holds the target's own name, and is run by it
        raise _unusable(entry, f"calls itself {quote(target.name)}")
    return target


def _unusable(entry: EntryPoint, why: str) -> CompileError:
    return CompileError(
        Code.PLUGIN_UNUSABLE,
        f"target {quote(entry.name)} {why}",
        at=entry.value,
        hint="correct or remove the package that installed it",
    )
