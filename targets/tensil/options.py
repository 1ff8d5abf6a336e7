"""What the target `tensil` can be told. Loads nothing heavy: `pefslc --help` shows it."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from typing import ClassVar

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, quote
from pefslc.targets.options import check_values, option
from pefslc.targets.tensil.machine.architecture import built_in_architectures

__all__ = ["DEFAULT_ARCHITECTURE", "REWRITE_NAMES", "TensilOptions"]

DEFAULT_ARCHITECTURE = "pynqz1"
HOSTS = "module", "plain", "dense"
# The rewrites of `pipeline`, whose import takes too long for --help; a test holds the two equal.
REWRITE_NAMES: tuple[str, ...] = (
    "pack-inputs",
    "keep-activations",
    "factor-leftovers",
    "pack-leftovers",
    "group-pixels",
    "pack-rows",
    "split-means",
    "fuse-sums",
    "drop-idle-clips",
    "requantize-while-packing",
    "sum-both-digits",
    "split-leftovers",
    "merge-additions",
    "store-with-offsets",
    "fold-addends",
    "requantize-while-adding",
)


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
        is_path=True,
        known=_boards,
        help=f"a board or a .tarch file  [default: {DEFAULT_ARCHITECTURE}]",
    )
    clock_mhz: float | None = option(
        None,
        type=float,
        metavar="MHZ",
        wanted="a frequency in MHz",
        example="100",
        accepts=lambda clock: clock >= 1e-6,  # times stay finite
        help="the accelerator's clock, for times in --costs and --report",
    )

    leave_out: str | None = option(
        None,
        type=str,
        metavar="NAME,...",
        wanted="names of rewrites",
        example="keep-activations",
        known=lambda: REWRITE_NAMES,
        help="rewrites to leave out: more cycles and the same codes (in native arithmetic others) "
        "(`pefslc explain tcu-lowering`)",
    )

    host: str = option(
        "module",
        type=str,
        metavar="HOST",
        wanted="module, plain or dense",
        example="plain",
        accepts=lambda host: host in HOSTS,
        known=lambda: HOSTS,
        help="module: your code calls NAME_io.py; plain, dense: Tensil's own driver code runs the program, without it: "
        "images with zeros in the lanes left, or without (`pefslc explain boards`)",
    )

    wide: bool = option(False, type=bool, example="True", help="pay any price in cycles for codes that are exact")

    def __post_init__(self) -> None:
        check_values(self)
        unknown = sorted(self.left_out - {*REWRITE_NAMES})
        if unknown:
            raise CompileError(
                Code.WRONG_OPTION,
                f"the target tensil has no rewrite {quote(unknown[0])}",
                hint=f"--leave-out takes one or more of {', '.join(REWRITE_NAMES)}",
            )

    @property
    def left_out(self) -> frozenset[str]:
        """The rewrites that do not run."""
        return frozenset(name.strip() for name in (self.leave_out or "").split(",") if name.strip())

    @property
    def architecture_name(self) -> str:
        """The board's name or the path of the .tarch file."""
        return str(self.arch or DEFAULT_ARCHITECTURE)
