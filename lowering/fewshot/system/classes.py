"""Classes by their names: learn one, find one. The arithmetic knows ids only."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, quote
from pefslc.fewshot.head.state import HeadState, check_name, id_of_name

__all__ = ["class_called", "enrol_class", "label"]

_MOST_LISTED = 20


def enrol_class(state: HeadState, name: str, codes: NDArray[np.int64]) -> int:
    """Learn shots, codes [shots, dimension], of the class of that name, which may be new. Returns its id.

    Raises CompileError, and changes nothing, for a name that no class can have, and as `Classifier.enrol` does.
    """
    check_name(name)
    if not name.strip():
        raise CompileError(Code.HEAD_NAME, "a class has no name", hint="name it: --class mug")
    if name != name.strip():
        raise CompileError(
            Code.HEAD_NAME,
            f"the name {quote(name)} begins or ends with a blank",
            hint=f"leave the blank out: {quote(name.strip())}",
        )
    known = state.find(name)
    class_id = id_of_name(name) if known is None else known
    if known is None and class_id in state.classifier.classes and state.name(class_id):
        raise CompileError(
            Code.HEAD_NAME,
            f"{quote(name)} and {quote(state.name(class_id))} stand for one class id, {class_id}",
            hint="take another name",
        )
    state.classifier.enrol(class_id, codes, names={class_id: name})
    state.rename(class_id, name)
    return class_id


def class_called(state: HeadState, name: str) -> int:
    """The id of the class of that name; of one without a name, its id in digits. Raises CompileError."""
    found = state.find(name)
    if found is None and name.isascii() and name.isdigit() and int(name) in state.classifier.classes:
        return int(name)
    if found is not None:
        return found
    names = [label(state, c) for c in state.classifier.classes]
    more = f", and {len(names) - _MOST_LISTED} more" if len(names) > _MOST_LISTED else ""
    known = ", ".join(map(quote, names[:_MOST_LISTED])) + more
    raise CompileError(Code.HEAD_CLASS, f"there is no class {quote(name)}", hint=f"the classes are: {known or 'none'}")


def label(state: HeadState, class_id: int) -> str:
    """The name of a class, or its id where it has none."""
    return state.name(class_id) or str(class_id)
