"""What the target `tensil` can be told. Loads nothing heavy: `pefslc --help` shows it."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from typing import ClassVar

from pefslc.targets.options import check_values, option
from pefslc.targets.tensil.machine.architecture import built_in_architectures

__all__ = ["DEFAULT_ARCHITECTURE", "TensilOptions"]

DEFAULT_ARCHITECTURE = "pynqz1"


def _boards() -> tuple[str, ...]:
    return tuple(built_in_architectures())


@dataclass(frozen=True, slots=True, kw_only=True)
class TensilOptions:
    """The options of `TensilTarget`. Raises CompileError for values that they cannot have."""

    name: ClassVar[str] = "tensil"
    summary: ClassVar[str] = (
        "programs for the Tensil accelerator (.tmodel, .tprog, .tdata), run by its stock PYNQ driver"
    )

    arch: str | PathLike[str] | None = option(
        None,
        type=str,
        metavar="NAME|FILE",
        wanted="the name of an architecture",
        accepts=lambda arch: bool(str(arch)),
        known=_boards,
        help=f"a board or a .tarch file  [default: {DEFAULT_ARCHITECTURE}]",
    )
    clock_mhz: float | None = option(
        None,
        type=float,
        metavar="MHZ",
        wanted="a frequency in MHz",
        example="100",
        accepts=lambda clock: clock > 0,
        help="the accelerator's clock, for times in --costs and --report",
    )

    leave_out: str | None = option(
        None,
        type=str,
        metavar="NAME,...",
        wanted="names of rewrites",
        example="keep-activations",
        help="rewrites that do not run: the same codes, more cycles (docs/tcu-lowering.md)",
    )

    def __post_init__(self) -> None:
        check_values(self)

    @property
    def architecture_name(self) -> str:
        """The board's name or the path of the .tarch file."""
        return str(self.arch or DEFAULT_ARCHITECTURE)
