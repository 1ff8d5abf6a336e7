"""pefslc: what was trained is what runs.

import pefslc
program = pefslc.compile("model.onnx", target="c", fmt="Q2.3")
program.save("build/")
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from pefslc.version import __version__

if TYPE_CHECKING:
    from pefslc.diagnostics.error_codes import Code
    from pefslc.diagnostics.errors import CompileError, InternalError
    from pefslc.driver.compiler import compile, load
    from pefslc.driver.program import Program

__all__ = ["Code", "CompileError", "InternalError", "Program", "__version__", "compile", "load"]

_HOME = {
    "compile": "pefslc.driver.compiler",
    "load": "pefslc.driver.compiler",
    "Program": "pefslc.driver.program",
    "Code": "pefslc.diagnostics.error_codes",
    "CompileError": "pefslc.diagnostics.errors",
    "InternalError": "pefslc.diagnostics.errors",
}


def __getattr__(name: str) -> object:
    """The public names, loaded at first use: `pefslc --help` must not pay for numpy and onnx."""
    if name not in _HOME:
        raise AttributeError(f"module 'pefslc' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
