"""How far what was compiled is from the model before --fmt, on data: the errors of the outputs, and what saturates.

One value for all that measure it: `--verify`, which runs the emitted files, and `--calibrate`, which runs the quantized
model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pefslc.artifacts.sidecar import JsonObject
from pefslc.diagnostics.errors import quote
from pefslc.evaluation.float_error import FloatError
from pefslc.numeric.choose_format import AutoFormat
from pefslc.numeric.format import FixedPoint
from pefslc.reports.given_inputs import format_holding
from pefslc.reports.saturation import Saturation, rounded

__all__ = ["FLOAT_MODEL", "FloatDistance", "format_that_holds"]

FLOAT_MODEL = "the float model"


@dataclass(frozen=True, slots=True)
class FloatDistance:
    """On so many inputs.

    errors     of each output, in order: what was compiled against the model before --fmt
    saturated  first what loses most
    """

    rows: int
    errors: tuple[FloatError, ...]
    saturated: tuple[Saturation, ...]

    @property
    def worst(self) -> FloatError:
        """The output that is off by the largest share of its values."""
        return max(self.errors, key=lambda e: e.relative)

    @property
    def misleads(self) -> bool:
        """Whether so much saturates that the format does not suit the model, or these inputs."""
        return any(s.heavy for s in self.saturated)

    def to_json(self) -> JsonObject:
        return {
            "rows": self.rows,
            "outputs": {
                e.output: {
                    "largest_error": rounded(e.largest),
                    "rms_error": rounded(e.rms),
                    "largest_value": rounded(e.reach),
                    "worst": e.worst,
                }
                for e in self.errors
            },
            "saturated": [s.to_json() for s in self.saturated],
        }

    def __str__(self) -> str:
        worst = self.worst
        which = f" ({quote(worst.output)})" if len(self.errors) > 1 else ""
        rows = f"{self.rows:,} input{'' if self.rows == 1 else 's'}"
        return f"outputs off by at most {worst.largest:.4g} of {worst.reach:.4g}{which}, on {rows}"


def format_that_holds(fmt: FixedPoint | AutoFormat | None, saturated: Sequence[Saturation]) -> FixedPoint | None:
    """The format of as many bits as `fmt` that holds what saturates; None where that leaves no bit of fraction.

    What has no sign now has none in the other format.
    """
    if not isinstance(fmt, FixedPoint) or not saturated:
        return None
    ranges = [(s.low, s.high, s.held[0] < 0) for s in saturated]
    return format_holding(ranges, fmt.bits, fmt.integer_bits + 1)
