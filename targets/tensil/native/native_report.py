"""What calibration inputs, or what is proven of all inputs, made of native words: for the summary and the sidecar."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import sqrt

from pefslc.artifacts.sidecar import Json
from pefslc.ir.graph import Graph
from pefslc.numeric.format import FixedPoint
from pefslc.targets.tensil.groups.group_program import GroupProgram
from pefslc.targets.tensil.machine.architecture import DataType
from pefslc.targets.tensil.native.error_bound import output_errors
from pefslc.targets.tensil.native.magnitudes import Magnitudes
from pefslc.targets.tensil.native.native_placement import NativePlacement, most_products
from pefslc.targets.tensil.native.native_words import native_format

__all__ = ["NativeReport"]


@dataclass(frozen=True, slots=True)
class NativeReport:
    """Formats of the sums of each layer and of what it stores; how far the largest value is from its words' end.

    own     the data type's own format
    layers  by the name of the result: the formats of sums, and of the stored tensor
    room    the least factor between the end of words and what they hold; None where that is 0
    holds   whether nothing saturates by what is known of the values: for all inputs, where words prove it
    bounds  by output, `error_bound`
    reach   by output, the largest magnitude
    rounded by output, how many products its sums are made of, and the root mean square of the rounding of these alone
    ends    the functions that outputs end in, which the host computes: bounds are of what these are taken of
    """

    rows: int
    own: FixedPoint
    layers: dict[str, tuple[str, str]]
    room: Fraction | None
    holds: bool
    bounds: dict[str, float]
    reach: dict[str, float]
    rounded: dict[str, tuple[int, float]]
    ends: dict[str, str]

    @classmethod
    def of(
        cls,
        graph: Graph,
        program: GroupProgram,
        placed: NativePlacement,
        magnitudes: Magnitudes,
        *,
        saturates: bool | None,
    ) -> NativeReport:
        """`saturates`: whether some input may do so, by `word_ranges`; None where that was not asked."""
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
        room = min(rooms, default=None)
        return cls(
            magnitudes.rows,
            native_format(data_type),
            layers,
            room,
            (room is None or room >= 1) and not saturates,
            output_errors(graph, program, placed.words.groups, placed.units, magnitudes),
            {p.name: float(magnitudes.largest_of(program, p.tensor)) for p in program.outputs},
            _rounded(placed, data_type),
            {o.name: o.function.kind.value for o in graph.outputs if o.function is not None},
        )

    @property
    def is_proven(self) -> bool:
        """Whether it holds for all inputs, and not for those that are like the calibration inputs."""
        return not self.rows

    @property
    def says_something(self) -> bool:
        """Whether there is more to say than that all words are the data type's own, and may saturate."""
        return not self.is_proven or self.holds

    def notes(self) -> tuple[str, ...]:
        """Lines for the summary."""
        if not self.says_something:
            return (self._what_is_not_known(),)
        sums = list(dict.fromkeys(of_sums for of_sums, _ in self.layers.values()))
        by_fraction = sorted(sums, key=lambda fmt: int(fmt.split(".")[1]))
        ends = by_fraction[0] if len(sums) == 1 else f"{by_fraction[0]} to {by_fraction[-1]}, layer by layer"
        inputs = "all inputs" if self.is_proven else f"{self.rows} calibration input{'' if self.rows == 1 else 's'}"
        reach = f": on {inputs} they saturate at {float(self.room or 0):.3g} times what they reach"
        bounds = (self._bound(name) for name in self.reach) if self.holds else ()
        return f"sums of {ends}{reach if self.room and self.holds else ''}", *bounds

    def _what_is_not_known(self) -> str:
        """What coarse words cost at least, and what would make them finer."""
        narrow = FixedPoint(1, self.own.fraction_bits - 1)
        costs = (
            f"{name}: {count} products a sum, whose rounding alone is {rms:.2g} (rms)"
            for name, (count, rms) in self.rounded.items()
        )
        return (
            "inputs as large as their formats hold may make sums saturate, so that words stay coarse "
            f"({'; '.join(costs)}): --calibrate DATA makes them finer, and so does --input-fmt where the inputs are "
            f"known to be small ({narrow} for [-1, 1))"
        )

    def _bound(self, name: str) -> str:
        if name not in self.bounds:
            return f"{name}: no bound, for weights at the end of their format may have been cut off"
        bound, reach = self.bounds[name], self.reach[name]
        what = f"what the {self.ends[name]} of {name} is taken of" if name in self.ends else name
        where = "inputs whose layers stay within the measured ranges and do not saturate"
        says = "" if bound < reach else ", which says nothing"
        text = f"{what}: off the float model by at most {bound:.3g} of {reach:.4g}{says}"
        return f"{text} (a bound for {'all inputs that their formats hold' if self.is_proven else where})"

    def to_json(self) -> Json:
        return {
            "layers": {name: {"sums": sums, "stored": stored} for name, (sums, stored) in self.layers.items()},
            "bounds": dict(self.bounds) if self.holds else {},
        }


def _rounded(placed: NativePlacement, data_type: DataType) -> dict[str, tuple[int, float]]:
    """By output that is a sum of products: their number, and the rms of their rounding, half a unit each at most."""
    makers = {group.result: group for group in placed.words.groups}
    found: dict[str, tuple[int, float]] = {}
    for port in placed.words.outputs:
        group = makers.get(port.tensor)
        if group is not None and group.terms:
            count = sum(map(most_products, group.terms))
            exponent = placed.units.exponents.accumulators[group.result]
            found[port.name] = count, sqrt(count / 12) * 2.0 ** -(data_type.binary_point + exponent)
    return found
