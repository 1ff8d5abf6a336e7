"""The extra `train`: torch and Brevitas, imported here once, or a message that says how to get them."""

from __future__ import annotations

import warnings
from importlib import import_module

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError

__all__ = ["MissingExtra", "require_extra"]

# onnxoptimizer: Brevitas exports nothing without it, and says so only then.
_MODULES = ("torch", "onnxoptimizer", "brevitas.nn", "brevitas.quant", "brevitas.export")


class MissingExtra(CompileError, ImportError):
    """The extra is not installed: for the user a CompileError, for `import` an ImportError."""


def require_extra() -> None:
    """Import what the extra `train` brings. Raises MissingExtra."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # brevitas imports deprecated modules, its own among them
            for name in _MODULES:
                import_module(name)
    except ImportError as e:
        raise MissingExtra(
            Code.NO_EXTRA,
            f"pefslc.train needs torch and Brevitas: {e.name or e} is missing",
            hint='in a checkout of pefslc: pip install ".[train]"',
        ) from e
