"""How long work tells whoever waits how far it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

__all__ = ["Progress"]

Progress: TypeAlias = Callable[[int, int, str], None]
"""Called with how much is done, of how much, and what is being done."""
