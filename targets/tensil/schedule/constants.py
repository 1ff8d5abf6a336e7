"""DRAM1 under construction: all that a program reads and never writes.

Where a network's constants are few, the driver copies them into local memory once, to the same addresses
(`load_consts_to_local`), and no run reads DRAM1.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pefslc.targets.tensil.machine.instructions import MoveKind
from pefslc.targets.tensil.schedule.emitter import Emitter

__all__ = ["Constants"]

Words = NDArray[np.int64]


class Constants:
    """Rows [A] in the order in which they were stored; `resident` for those that stay in local memory.

    shared  what is stored twice lies there once: digits are made by the same matrix, and both multiplied by the same
            weights
    """

    def __init__(self, *, resident: bool, shared: bool = False) -> None:
        self.resident, self._shared = resident, shared
        self._rows: list[Words] = []
        self._address: dict[bytes, int] = {}
        self.size = 0

    def store(self, rows: Words) -> int:
        """Append rows [n, A], or find them; their address."""
        base = self.size
        if self._shared and self._address.setdefault(rows.tobytes(), base) < base:
            return self._address[rows.tobytes()]
        self._rows.append(rows)
        self.size += len(rows)
        return base

    def rows(self) -> Words:
        """Everything stored."""
        return np.concatenate(self._rows)

    def fetch(self, emitter: Emitter, base: int, address: int, vectors: int) -> int:
        """Bring stored rows to local memory at `base`, unless they are there; where they are."""
        if self.resident:
            return address
        emitter.dram(MoveKind.DRAM1_TO_LOCAL, base, address, vectors)
        return base
