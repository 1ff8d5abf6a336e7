"""The extra `train`: torch and Brevitas, imported here once, or a message that says how to get them."""

from __future__ import annotations

import warnings

from pefslc.diagnostics import CompileError

__all__ = ["MissingExtra", "require_extra"]


class MissingExtra(CompileError, ImportError):
    """The extra is not installed: for the user a CompileError, for `import` an ImportError."""


def require_extra() -> None:
    """Import what the extra `train` brings. Raises MissingExtra."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # brevitas imports deprecated modules, its own among them
            import brevitas.export
            import brevitas.nn
            import brevitas.quant
            import onnxoptimizer  # noqa: F401  # brevitas exports nothing without it, and says so only then
            import torch  # noqa: F401
    except ImportError as e:
        raise MissingExtra(
            f"pefslc.train needs torch and Brevitas: {e.name or e} is missing", hint='pip install "pefslc[train]"'
        ) from e
