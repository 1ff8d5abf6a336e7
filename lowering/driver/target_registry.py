"""The targets by name: ours, then those that installed packages add under the entry point `pefslc.targets`.

Loads nothing heavy before a target is asked for: `pefslc --help` shows every target's options.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING

from pefslc.diagnostics.alike import alike
from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, quote
from pefslc.diagnostics.user_code import exception_text
from pefslc.targets.options import Option, options_of

if TYPE_CHECKING:
    from pefslc.driver.user_target import UserTarget
    from pefslc.targets.protocol import Target

__all__ = ["built_in_options", "find_target", "guarded", "installed_options", "option_owners", "target_names"]

# Name -> (where its options are declared, the class of them; the target), each loaded when it is needed.
_ALIKE = 0.8  # difflib's ratio: of names that are not targets only those nearly the same
_OURS = {
    "c": (("pefslc.targets.c.options", "COptions"), ("pefslc.targets.c.target", "CTarget")),
    "tensil": (("pefslc.targets.tensil.options", "TensilOptions"), ("pefslc.targets.tensil.target", "TensilTarget")),
}


def target_names() -> tuple[str, ...]:
    """Every name that --target takes."""
    return (*_OURS, *sorted(e.name for e in entry_points(group="pefslc.targets")))


def built_in_options() -> dict[str, tuple[Option, ...]]:
    """Target name -> its options, of our targets."""
    return {name: options_of(_loaded(*declared)) for name, (declared, _) in _OURS.items()}


def installed_options() -> dict[str, tuple[Option, ...]]:
    """Target name -> its options, of installed targets: each is loaded. One that cannot be has none."""
    found: dict[str, tuple[Option, ...]] = {}
    for entry in sorted(entry_points(group="pefslc.targets"), key=lambda e: e.name):
        try:
            found[entry.name] = options_of(_installed(entry).inner)
        except CompileError:  # told when it is chosen
            found[entry.name] = ()
    return found


def option_owners(name: str) -> tuple[str, ...]:
    """The targets that declare an option of this name. Installed ones are loaded only where none of ours does."""
    ours = tuple(_owners(name, built_in_options()))
    return ours or tuple(_owners(name, installed_options()))


def _owners(name: str, declared: dict[str, tuple[Option, ...]]) -> Iterator[str]:
    return (target for target, options in declared.items() if name in [o.name for o in options])


def _loaded(module: str, name: str) -> type:
    found: type = getattr(import_module(module), name)
    return found


def guarded(target: Target) -> Target:
    """A target that is given as an object: one of ours as it is, any other guarded.

    Raises CompileError for a name that `find_target` would take for another target: nothing could run its files.
    """
    from pefslc.driver.user_target import user_target

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
    from pefslc.driver.user_target import inner_target

    return inner_target(find_target(name))


def find_target(name: str) -> Target:
    """The target of that name; only its modules are loaded. Raises CompileError for an unknown name."""
    if name in _OURS:
        made: Target = _loaded(*_OURS[name][1])()
        return made
    for entry in entry_points(group="pefslc.targets"):
        if entry.name == name:
            return _installed(entry)
    raise CompileError(
        Code.UNKNOWN_TARGET,
        f"unknown target {quote(name)}",
        hint=f"{_meant(name)}known: {', '.join(target_names())}; or FILE.py:Class",
    )


def _meant(name: str) -> str:
    """What may be meant by a name that is no target: the value of an option, such as a board, or another target."""
    for target, options in built_in_options().items():
        for option in options:  # a board, or the path of one
            known = option.known() if option.known is not None and option.is_path else ()
            if (value := alike(name, known, _ALIKE)) is not None:
                return f"did you mean --target {target} {option.flag} {value}? "
    close = alike(name, target_names())
    return f"did you mean {close}? " if close else ""


def _installed(entry: EntryPoint) -> UserTarget:
    """The target of an installed package. Raises CompileError where it is none."""
    from pefslc.driver.user_target import missing_members, user_target

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
