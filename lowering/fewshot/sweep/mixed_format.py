"""`mixed:3`: the formats of a backbone whose tensors have 3 bits in the mean, each as many as pay."""

from __future__ import annotations

from dataclasses import dataclass

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, quote_given
from pefslc.driver.compile_options import parse_format
from pefslc.numeric.choose_format import FEWEST_BITS, AutoFormat
from pefslc.numeric.format import FixedPoint

__all__ = ["MixedFormat", "backbone_format"]

_PREFIX = "mixed:"


@dataclass(frozen=True, slots=True)
class MixedFormat:
    """At most `bits` bits of a weight, and of a stored value, each in the mean; 2 to 8 of any."""

    bits: int

    MOST_BITS = 8

    @property
    def budgets(self) -> tuple[str, str]:
        return f"bits={self.bits}", f"activations={self.bits}"

    def __str__(self) -> str:
        return f"{_PREFIX}{self.bits}"


def backbone_format(text: str) -> FixedPoint | AutoFormat | MixedFormat:
    """Qm.n, `auto:3` or `mixed:3`. Raises CompileError."""
    if text.startswith(_PREFIX):
        digits = text.removeprefix(_PREFIX)
        if digits.isascii() and digits.isdigit() and FEWEST_BITS <= int(digits) < MixedFormat.MOST_BITS:
            return MixedFormat(int(digits))
        raise CompileError(
            Code.BAD_FORMAT,
            f"{quote_given(text)} is not a format",
            hint=f"mixed:{FEWEST_BITS} to mixed:{MixedFormat.MOST_BITS - 1}: so many bits on average",
        )
    parsed = parse_format(text)
    assert parsed is not None
    return parsed
