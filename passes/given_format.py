"""A format that --formats gives to one place of a graph."""

from __future__ import annotations

from dataclasses import dataclass

from pefslc.numeric.choose_format import AutoFormat
from pefslc.numeric.format import FixedPoint

__all__ = ["GivenFormat"]


@dataclass(frozen=True, slots=True)
class GivenFormat:
    """The format of one place.

    fmt      it itself; or its width, and data chooses its binary point
    exactly  whether its sign is meant, too: else Qm.n is UQm.n where nothing is negative, as with --fmt
    where    the entry that says it, for messages
    """

    fmt: FixedPoint | AutoFormat
    exactly: bool
    where: str
