"""The targets by name: ours, then those that installed packages add under the entry point `pefslc.targets`."""

from __future__ import annotations

from importlib.metadata import entry_points

from pefslc.codes import Code
from pefslc.diagnostics import CompileError, quote
from pefslc.targets.protocol import Target

__all__ = ["find_target", "target_names"]

_OURS = ("c", "tensil")


def target_names() -> tuple[str, ...]:
    """Every name that --target takes."""
    return (*_OURS, *sorted(e.name for e in entry_points(group="pefslc.targets")))


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
            try:
                target: Target = entry.load()()
            except Exception as e:
                raise CompileError(
                    Code.PLUGIN_UNUSABLE,
                    f"target {quote(name)} cannot be loaded: {type(e).__name__}: {e}",
                    at=entry.value,
                    hint="correct or remove the package that installed it",
                ) from e
            return target
    raise CompileError(Code.UNKNOWN_TARGET, f"unknown target {quote(name)}", hint=f"known: {', '.join(target_names())}")
