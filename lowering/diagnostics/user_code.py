"""A user's code that failed - a pass, a target - in words: its exception, and the line of the user's file."""

from __future__ import annotations

import sys
import traceback
from pathlib import Path

__all__ = ["exception_text", "place_in", "source_of"]


def exception_text(e: BaseException) -> str:
    """Type and message, where it has one."""
    text = e.msg if isinstance(e, SyntaxError) else str(e)
    return f"{type(e).__name__}: {text}" if text else type(e).__name__


def place_in(source: str, e: BaseException) -> str:
    """file:line of the innermost frame in the user's file `source`, or `source`."""
    if isinstance(e, SyntaxError) and e.filename and e.lineno:
        return f"{e.filename}:{e.lineno}"
    try:
        wanted = Path(source).resolve()
        lines = [f.lineno for f in traceback.extract_tb(e.__traceback__) if Path(f.filename).resolve() == wanted]
    except OSError:
        lines = []
    return f"{source}:{lines[-1]}" if lines else source


def source_of(made: object) -> str:
    """The file of an object's class, or (in a notebook, say) the class's name."""
    file = getattr(sys.modules.get(type(made).__module__), "__file__", None)
    return file if isinstance(file, str) else type(made).__qualname__
