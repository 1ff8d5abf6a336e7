"""What a run takes on the board that a system was built for: modelled cycles, and milliseconds at a clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pefslc.artifacts.sidecar import JsonObject, load_sidecar, sidecar_name
from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError
from pefslc.fewshot.system.engines import SIMULATED
from pefslc.fewshot.system.system import FewShotSystem
from pefslc.targets.tensil.cost.clock import clock_of

__all__ = ["Board", "board_of"]


@dataclass(frozen=True, slots=True)
class Board:
    """A Tensil board.

    name       the architecture
    cycles     modelled, of a run of the backbone
    batch      pictures in a run: one alone takes as long
    clock_mhz  None where nobody knows it
    clock_of   who says so: "--clock-mhz", or a published design
    """

    name: str
    cycles: int
    batch: int
    clock_mhz: float | None
    clock_of: str

    @property
    def milliseconds(self) -> float | None:
        """Modelled, of a run."""
        return None if self.clock_mhz is None else self.cycles / (self.clock_mhz * 1e3)

    def to_json(self) -> JsonObject:
        return {
            "name": self.name,
            "modelled_cycles": self.cycles,
            "batch": self.batch,
            "clock_mhz": self.clock_mhz,
            "clock_of": self.clock_of,
            "modelled_milliseconds": self.milliseconds,
        }


def board_of(system: FewShotSystem, clock_mhz: float | None = None) -> Board | None:
    """The board of a system, None where it was built for none. Raises CompileError for a clock without a board.

    clock_mhz  of the TCU; without it, that of the board's published design
    """
    name = system.description.architecture
    if not name:
        if clock_mhz is not None:
            raise CompileError(
                Code.WRONG_OPTION,
                "a clock for a system that was built for no board",
                hint="leave out --clock-mhz; or build the system for a board: --arch pynqz1",
            )
        return None
    cycles = load_sidecar(system.folder / sidecar_name(system.description.name, SIMULATED)).details["cycles"]
    assert isinstance(cycles, Mapping)  # the sidecar vouches for itself
    total = cycles["total"]
    assert isinstance(total, int)
    clock = clock_of(name, clock_mhz)
    batch = system.description.batch
    return Board(name, total, batch, *((None, "") if clock is None else (clock.mhz, clock.source)))
