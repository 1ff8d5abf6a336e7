"""DRAM1 under construction: all that a program reads and never writes.

Where a network's constants are few, the driver copies them into local memory once, to the same addresses
(`load_consts_to_local`), and no run reads DRAM1.
"""

from __future__ import annotations

from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from pefslc.targets.tensil.machine.instructions import MoveKind
from pefslc.targets.tensil.schedule.emitter import Emitter

__all__ = ["Constants"]

Words = NDArray[np.int64]


class Constants:
    """Rows [A] in the order in which they were stored; `resident` for those that stay in local memory.

    once  equal blocks of rows are stored once: groups that run several times store theirs each time
    """

    def __init__(self, *, resident: bool, once: bool = False) -> None:
        self.resident = resident
        self._rows: list[Words] = []
        self._addresses: dict[bytes, int] | None = {} if once else None
        self.size = 0

    def store(self, rows: Words) -> int:
        """Append rows [n, A], unless they are stored and equal ones need not be again; their address."""
        base = self.size
        if self._addresses is not None:
            found = self._addresses.setdefault(sha256(rows.tobytes()).digest(), base)
            if found != base:
                return found
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
