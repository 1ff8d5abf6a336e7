"""What calibration inputs made of the words of a float model, for the summary and the sidecar."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from pefslc.artifacts.sidecar import Json
from pefslc.targets.tensil.groups.group_program import GroupProgram
from pefslc.targets.tensil.native.error_bound import output_errors
from pefslc.targets.tensil.native.magnitudes import Magnitudes
from pefslc.targets.tensil.native.native_placement import NativePlacement
from pefslc.targets.tensil.native.native_words import native_format

__all__ = ["NativeReport"]


@dataclass(frozen=True, slots=True)
class NativeReport:
    """Formats of the sums of each layer and of what it stores; how far the largest value is from its words' end.

    layers  by the name of the result: the formats of sums, and of the stored tensor
    room    the least factor between the end of words and what they hold on the calibration inputs; None where that is 0
    bounds  by output, `error_bound`
    reach   by output, the largest magnitude on these inputs
    """

    rows: int
    layers: dict[str, tuple[str, str]]
    room: Fraction | None
    bounds: dict[str, float]
    reach: dict[str, float]

    @classmethod
    def of(cls, program: GroupProgram, placed: NativePlacement, magnitudes: Magnitudes) -> NativeReport:
        exponents, data_type = placed.units.exponents, placed.units.data_type
        layers, rooms = {}, []
        for group in program.groups:
            a, d = exponents.accumulators[group.result], exponents.tensors[group.result]
            if group.ops and group.result not in exponents.copies:
                layers[group.result] = str(native_format(data_type, a)), str(native_format(data_type, d))
            for name in (*group.ops, group.result):
                largest, e = magnitudes.largest_of(program, name), d if name == group.result else a
                if largest:
                    rooms.append((data_type.max_code + 1) / (largest * data_type.one * Fraction(2) ** e))
        return cls(
            magnitudes.rows,
            layers,
            min(rooms, default=None),
            output_errors(program, placed.words.groups, placed.units, magnitudes),
            {p.name: float(magnitudes.largest_of(program, p.tensor)) for p in program.outputs},
        )

    def notes(self) -> tuple[str, ...]:
        """Lines for the summary."""
        sums = list(dict.fromkeys(of_sums for of_sums, _ in self.layers.values()))
        by_fraction = sorted(sums, key=lambda fmt: int(fmt.split(".")[1]))
        ends = by_fraction[0] if len(sums) == 1 else f"{by_fraction[0]} to {by_fraction[-1]}, layer by layer"
        inputs = f"{self.rows} calibration input{'' if self.rows == 1 else 's'}"
        room = (
            "" if self.room is None else f": on {inputs} they saturate at {float(self.room):.3g} times what they reach"
        )
        return f"sums of {ends}{room}", *(self._bound(name) for name in self.bounds)

    def _bound(self, name: str) -> str:
        bound, reach = self.bounds[name], self.reach[name]
        where = "a bound for inputs whose layers stay within the measured ranges and do not saturate"
        says = "" if bound < reach else ", which says nothing"
        return f"{name}: off the float model by at most {bound:.3g} of {reach:.4g}{says} ({where})"

    def to_json(self) -> Json:
        return {
            "layers": {name: {"sums": sums, "stored": stored} for name, (sums, stored) in self.layers.items()},
            "bounds": dict(self.bounds),
        }
