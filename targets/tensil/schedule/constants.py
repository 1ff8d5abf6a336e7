"""DRAM1 under construction: all that a program reads and never writes.

Where a network's constants are few, the driver copies them into local memory once, to the same addresses
(`load_consts_to_local`), and no run reads DRAM1.
"""

from __future__ import annotations

from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from pefslc.targets.tensil.machine.architecture import DataType
from pefslc.targets.tensil.machine.instructions import MoveKind
from pefslc.targets.tensil.schedule.emitter import Emitter

__all__ = ["Constants"]

Words = NDArray[np.int64]
Stored = NDArray[np.int16 | np.int32]  # a network has millions of them


class Constants:
    """Rows [A] in the order in which they were stored; `resident` for those that stay in local memory.

    data_type  of the words
    once  equal blocks of rows are stored once: groups that run several times store theirs each time, and both digits of
          a tensor multiply the same weights
    """

    def __init__(self, *, resident: bool, once: bool = False, data_type: DataType = DataType.FP32BP16) -> None:
        self.resident = resident
        self._is_narrow = data_type.width_bits <= 16
        self._rows: list[Stored] = []
        self._addresses: dict[bytes, int] | None = {} if once else None
        self.size = 0

    def store(self, rows: Words) -> int:
        """Append rows [n, A], unless they are stored and equal ones need not be again; their address."""
        base = self.size
        stored: Stored = rows.astype(np.int16) if self._is_narrow else rows.astype(np.int32)
        assert np.array_equal(stored, rows), "wider than any word"
        if self._addresses is not None:
            found = self._addresses.setdefault(sha256(stored.tobytes()).digest(), base)
            if found != base:
                return found
        self._rows.append(stored)
        self.size += len(rows)
        return base

    def rows(self) -> Stored:
        """Everything stored."""
        found = np.empty((self.size, self._rows[0].shape[1]), dtype=self._rows[0].dtype)
        first = 0
        for i, part in enumerate(self._rows):  # one by one: what was copied makes room
            found[first : first + len(part)] = part
            first += len(part)
            self._rows[i] = found[:0]
        self._rows = [found]
        return found

    def fetch(self, emitter: Emitter, base: int, address: int, vectors: int) -> int:
        """Bring stored rows to local memory at `base`, unless they are there; where they are."""
        if self.resident:
            return address
        emitter.dram(MoveKind.DRAM1_TO_LOCAL, base, address, vectors)
        return base
