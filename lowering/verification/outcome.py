"""What a verification found, in words, and whether it passes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, Problem, quote
from pefslc.diagnostics.html_table import html_details, html_heading, html_table, html_text
from pefslc.evaluation.float_error import FloatError, SameIndices
from pefslc.numeric.deviation import Deviations
from pefslc.reports.clipped_inputs import ClippedInput
from pefslc.reports.float_distance import FloatDistance
from pefslc.reports.layer_report import layer_name
from pefslc.reports.saturation import Saturation
from pefslc.targets.protocol import LayerAudit
from pefslc.verification.comparison import Comparison

__all__ = ["REFERENCE", "Measured", "Verification", "nothing_to_measure"]

REFERENCE = "y_ref64"
_SATURATED_LISTED = 5
_BELONGS = "does the array belong to these inputs and to this model?"


@dataclass(frozen=True, slots=True)
class Measured:
    """A bounded requantization on the inputs: of so many codes, how many were not the model's of that accumulator."""

    layer: str
    count: int
    differing: int
    predicted: Deviations

    def to_json(self) -> dict[str, object]:
        largest = self.predicted.largest
        return {"layer": self.layer, "codes": self.count, "differing": self.differing, "largest": largest}

    def __str__(self) -> str:
        rate = self.predicted.differing / self.predicted.codes
        return (
            f"{self.layer}: {self.differing:,} of {self.count:,} codes off by at most {self.predicted.largest} "
            f"({self.differing / self.count:.3%}); of the accumulator codes that can occur, {rate:.3%} are"
        )


@dataclass(frozen=True, slots=True)
class Verification:
    """All comparisons of a run.

    measured  the bounded requantizations; none where the artifacts are exact
    errors    of what need not be equal: of a model that --fmt changed, and of artifacts in native arithmetic
    distance  of the artifacts from the model before --fmt, where that changed it
    strangers expected arrays that neither that model makes of the inputs, nor what it was quantized to
    layers    of such artifacts: each layer held to what it read
    overflows whether sums may overflow, which the user accepted
    advice    where an array of the user's differs: what may be behind it
    ignored   arrays that are no inputs, where none held expected outputs: perhaps one was meant to
    saturated_inputs  inputs of a quantized model that do not fit the format that the user gave to them
    clipped_inputs    the other inputs that do not fit: the model itself clips them
    """

    inputs: int
    comparisons: tuple[Comparison, ...]
    measured: tuple[Measured, ...] = ()
    errors: tuple[FloatError | SameIndices, ...] = ()
    overflows: bool = False
    layers: tuple[LayerAudit, ...] = ()
    ignored: tuple[str, ...] = ()
    distance: FloatDistance | None = None
    strangers: tuple[str, ...] = ()
    advice: str = ""
    saturated_inputs: tuple[Saturation, ...] = ()
    clipped_inputs: tuple[ClippedInput, ...] = ()

    @property
    def equal(self) -> bool:
        """Whether no integer differs from the model's."""
        return not any(c.differing for c in self.comparisons)

    @property
    def as_predicted(self) -> bool:
        """Whether the artifacts compute what the compile said: the model, the bounded staircases that it listed, or in
        native arithmetic what each layer makes of the words that it read.
        """
        return not any(c.differing and not c.bounded for c in self.comparisons) and not any(
            layer.outside for layer in self.layers
        )

    def require(self, max_error: float | None = None) -> None:
        """Raise CompileError with every difference that was not predicted.

        max_error  by how much an output may be off that of the float model that was quantized; None: as much as it is
        """
        if max_error is not None:
            self._require_near(max_error)
        if not self.as_predicted:
            wrong = [c for c in self.comparisons if c.differing and not c.bounded]
            problems = [Problem(Code.DIFFERS, f"verification: {c}", hint=self._hint(wrong)) for c in wrong]
            raise CompileError.of([*problems, *map(_outside, (layer for layer in self.layers if layer.outside))])

    def _require_near(self, max_error: float) -> None:
        if self.distance is None:
            raise nothing_to_measure()
        far = [e for e in self.distance.errors if not e.largest <= max_error]
        if far:
            first = f"{self.distance.saturated[0]}; " if self.distance.saturated else ""
            problems = [Problem(Code.TOO_FAR, f"verification: {e}; --max-error allows {max_error:g}") for e in far]
            advice = "more bits, --fmt auto with --calibrate, or a larger --max-error"
            raise CompileError.of([*problems[:-1], replace(problems[-1], hint=f"{first}{advice}")])

    def _hint(self, wrong: Sequence[Comparison]) -> str | None:
        if self.overflows:
            return "sums saturate on these inputs: compile without --allow-overflow"
        if all(c.given for c in wrong):
            return f"model, interpreter and artifacts agree: {self.advice or _BELONGS}"
        return None

    def __repr__(self) -> str:
        return f"<Verification on {self.inputs:,} inputs: {self._verdict()}>"

    def _verdict(self) -> str:
        if self.equal:
            return "every compared integer is equal"
        differing = sum(c.differing for c in self.comparisons)
        how = "differ as predicted" if self.as_predicted else "differ"
        return f"{differing:,} of {sum(c.count for c in self.comparisons):,} compared integers {how}"

    def _repr_html_(self) -> str:
        """What a notebook shows: what was compared with what, and below it what `str` says."""
        rows = [(c.output, c.compared, f"{c.count - c.differing:,} of {c.count:,}", c.first) for c in self.comparisons]
        table = html_table(("output", "compared", "equal", "first difference"), rows, right=frozenset({2}))
        return f"{html_heading(repr(self)[1:-1])}{table}{html_details('all lines', html_text(str(self)))}"

    def to_json(self) -> dict[str, object]:
        """What `pefslc MODEL --verify INPUTS.npz --json` prints under "verification"."""
        words = {name: sum(getattr(layer, name) for layer in self.layers) for name in ("words", "outside")}
        return {
            "inputs": self.inputs,
            "equal": self.equal,
            "as_predicted": self.as_predicted,
            "comparisons": [asdict(c) for c in self.comparisons],
            "bounded_layers": [m.to_json() for m in self.measured],
            "errors": [e.to_json() for e in self.errors],
            "native_words": words if self.layers else None,
            "saturated_inputs": [s.to_json() for s in self.saturated_inputs],
            "clipped_inputs": [c.to_json() for c in self.clipped_inputs],
            "not_compared": list(self.ignored),
            "strangers": list(self.strangers),
        }

    def __str__(self) -> str:
        saturated = () if self.distance is None else self.distance.saturated[:_SATURATED_LISTED]
        lines: list[object] = [*self.comparisons, *self.measured, *self.errors, *self._audited(), *saturated]
        lines += [*self.saturated_inputs, *self.clipped_inputs]
        text = "\n".join(f"{self.inputs} inputs: {line}" for line in lines)
        if self.ignored:
            names = ", ".join(map(quote, self.ignored))
            text += f"\nnot compared: {names}; expected outputs are named like the output, or {quote(REFERENCE)}"
        return text

    def _audited(self) -> Iterator[str]:
        saturated: dict[str, int] = {}  # a layer may have several parts
        for layer in self.layers:
            name = layer_name(layer.origin)
            saturated[name] = max(saturated.get(name, 0), layer.saturated)
        for name, count in saturated.items():
            if count:
                yield f"warning: sums of {name} saturated on {count} of them, where its words are not compared"
        if words := sum(layer.words for layer in self.layers):
            outside = sum(layer.outside for layer in self.layers)
            what = "are the sums of rounded products of the words that they were made from"
            yield f"{words - outside:,} of {words:,} words of all layers {what}"


def nothing_to_measure() -> CompileError:
    """The refusal of a largest error for a model that is compiled as it is."""
    return CompileError(
        Code.WRONG_OPTION,
        "a largest error is given (--max-error), and --fmt changed nothing of the model: its integers must be equal",
        hint="leave it out",
    )


def _outside(layer: LayerAudit) -> Problem:
    return Problem(
        Code.DIFFERS,
        f"verification: {layer.outside:,} of {layer.words:,} words are not what their layer makes of what it read, off "
        f"by up to {layer.furthest} units",
        at=layer.origin,
    )
