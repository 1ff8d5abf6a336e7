"""The packages of the extra `fewshot`, imported when they are needed, or a message that says how to get them."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError

__all__ = ["require_package"]


def require_package(module: str, package: str, purpose: str, extra: str = "fewshot") -> Any:
    """The module, imported. Raises CompileError where it is not installed.

    package  its name for pip
    purpose  what needs it: "the default set of glyphs"
    extra    of pefslc that brings it
    """
    try:
        return import_module(module)
    except ImportError as e:
        raise CompileError(
            Code.NO_FEWSHOT_EXTRA,
            f"{purpose} needs {package}: {e.name or e} is missing",
            hint=f'pip install {package}, or, in a checkout of pefslc: pip install ".[{extra}]"',
        ) from None
