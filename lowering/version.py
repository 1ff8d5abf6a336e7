"""The version of pefslc, for everything that writes it down. It imports nothing."""

from __future__ import annotations

__all__ = ["__version__"]

__version__ = "0.1.0"
