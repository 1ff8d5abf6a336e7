"""A compiled network: its graphs, artifacts and reports, and what can be done with them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, TypeAlias, overload

import numpy as np
from numpy.typing import NDArray

from pefslc.artifacts.costs import CostReport
from pefslc.artifacts.sidecar import Sidecar, load_sidecar
from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.html_table import html_details, html_heading, html_table, html_text
from pefslc.driver.compile_options import check_switches
from pefslc.driver.format_file import FormatTable
from pefslc.driver.formats_of_model import formats_of
from pefslc.files.arrays import ArraysLike, as_arrays
from pefslc.files.paths import ModelPath, as_path
from pefslc.files.staging import publish
from pefslc.ir.graph import Graph
from pefslc.ir.integer import Requantize
from pefslc.ir.interpret import apply_output_map, as_batches, quantize_input
from pefslc.numeric.format import Quantization
from pefslc.passes.manager import Exactness, PassRecord
from pefslc.passes.pipeline import SAID_BY_USER
from pefslc.reports.clipped_inputs import InputsClipWarning, clipped_inputs
from pefslc.reports.float_distance import FLOAT_MODEL
from pefslc.reports.format_changes import FormatChange
from pefslc.reports.given_inputs import advice_on_outputs, rounded_before, saturated_inputs
from pefslc.reports.layer_report import LayerRow, cost_report, exact_to, verdict
from pefslc.reports.likely_saturation import likely_saturation
from pefslc.reports.post_training import PostTrainingReport
from pefslc.reports.saturation import Saturation
from pefslc.targets.protocol import Emission, Runner, Target, TargetOptions
from pefslc.verification.before_format import BeforeFormat
from pefslc.verification.outcome import Verification
from pefslc.verification.verify import Prediction, verify

__all__ = ["Lowered", "Program"]

_Inputs: TypeAlias = Mapping[str, NDArray[np.float64]] | NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Lowered:
    """A model on the integer level, before any target.

    reference  the quantized level as imported, with what --fmt filled or quantized: what the model means
    quantized  the quantized level as it was lowered
    float_model  the model as imported, where it was quantized after training
    requantized  the model as imported, where --requantize gave other formats to it
    given_inputs  the formats that --fmt and --input-fmt gave to inputs of a quantized model
    promised    the user's passes that changed the model, say that they are exact, and were not compared
    """

    reference: Graph
    quantized: Graph
    integer: Graph
    passes: tuple[PassRecord, ...]
    float_model: Graph | None = None
    requantized: Graph | None = None
    given_inputs: Mapping[str, Quantization] = field(default_factory=dict)
    promised: tuple[str, ...] = ()

    def is_exact(self, rows: Sequence[LayerRow]) -> bool:
        """Whether a program of these layers is, as far as passes keep their promises."""
        return all(row.exact for row in rows) and not self.changing_passes

    @property
    def before_format(self) -> tuple[Graph, str] | None:
        """The model that --fmt made another one of, and what it is called; None where it is compiled as it is."""
        if self.float_model is not None:
            return self.float_model, FLOAT_MODEL
        return None if self.requantized is None else (self.requantized, "the model before --requantize")

    @property
    def changing_passes(self) -> tuple[str, ...]:
        """The passes that changed the model and do not say that they are exact: within a bound, or on purpose.

        Not those of --fmt: what they fill in is what the model means.
        """
        changed = (r.name for r in self.passes if r.changed and r.exactness is not Exactness.EXACT)
        return tuple(dict.fromkeys(name for name in changed if name not in SAID_BY_USER))


@dataclass(frozen=True, slots=True)
class Program:
    """A compiled model: `save` writes its artifacts, `run` and `verify` execute them.

    post_training   a float model's comparison with what it was quantized to, where there was data for it
    format_changes  what --requantize changed of a quantized model
    quantized_to    what --fmt made of the model where that is another one: "Q4.12", "auto:8"; "" where the model's own
                    formats hold
    notes           what the model's file leaves unsaid and how it was taken
    """

    lowered: Lowered
    target: Target
    options: TargetOptions
    emission: Emission
    sidecar: Sidecar
    layers: tuple[LayerRow, ...]
    post_training: PostTrainingReport | None = None
    format_changes: tuple[FormatChange, ...] = ()
    quantized_to: str = ""
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        count = len(self.layers)
        layers = f"{count} layer{'' if count == 1 else 's'}"
        changed = self.lowered.changing_passes
        kind = f"exact to {exact_to(self.quantized_to)}" if self.exact else "bounded"
        if changed:
            kind = f"changed by {', '.join(map(repr, changed))}"
        return f"<Program {self.name!r} for {self.target.name}: {layers}, {kind}>"

    def _repr_html_(self) -> str:
        """What a notebook shows: the layers, the files that `save` writes, and at a click the integer graph."""
        header = ("layer", "op", "shape", "in", "weight", "out", "sums, bits", "exact", "MACs", "modelled cycles")
        rows = [
            (
                *(r.layer, r.op, "x".join(map(str, r.shape)), r.input, r.weight, r.output),
                *(str(r.accumulator_bits or ""), "exact" if r.exact else "bounded", f"{r.macs:,}"),
                "" if r.cycles is None else f"{r.cycles:,}",
            )
            for r in self.layers
        ]
        table = html_table(header, rows, right=frozenset({6, 8, 9}))
        files = html_details("files", html_text("\n".join(self.file_names)))
        graph = html_details("the integer graph", self.graph._repr_html_())
        return f"{html_heading(repr(self)[1:-1])}{table}{files}{graph}"

    @property
    def name(self) -> str:
        return self.sidecar.model

    @property
    def exact(self) -> bool:
        """Whether every output code is what the file says, for every input: proved, not measured. A pass of your own
        that says it is exact is believed: `check_passes` compares it, on random inputs.

        Where `quantized_to` names one, of the model that was quantized to it. How far that is from the float model is
        measured by `verify`, and on calibration data by `post_training`.
        """
        return self.lowered.is_exact(self.layers)

    @property
    def verdict(self) -> str:
        """What the compile proved, in words."""
        return verdict(self.layers, self.lowered.changing_passes, self.quantized_to, self.lowered.promised)

    @property
    def graph(self) -> Graph:
        """The integer graph that the target lowered."""
        return self.lowered.integer

    @property
    def formats(self) -> FormatTable:
        """The formats by name, as `pefslc.compile(formats=...)` takes them: read back, they give the same program.

        Of a quantized model those that are Qm.n. Native arithmetic, which has one format, and `input_fmt` are not told.
        """
        return formats_of(self.lowered.float_model or self.lowered.reference, self.lowered.reference)[0]

    @property
    def costs(self) -> CostReport | None:
        """Where modelled cycles, bytes and memory go, layer by layer; None where the target does not say.

        Worked out at each call: up to a second for a program of half a million instructions.
        """
        if self.emission.costs is None:
            return None
        costs = self.emission.costs()
        return cost_report(self.graph, self.emission.ops, costs, self.target.name)

    @property
    def file_names(self) -> tuple[str, ...]:
        """The names of the files that `save` writes, in its order."""
        return (*self.emission.files, self.sidecar.file_name)

    def save(self, folder: ModelPath) -> tuple[Path, ...]:
        """Write the artifacts and, last, the sidecar. Returns their paths; raises CompileError."""
        path = as_path(folder, Code.CANNOT_WRITE, "the path of a folder", 'for example program.save("build/")')
        return publish(path, self.emission.files, (self.sidecar.file_name, self.sidecar.to_bytes()))

    @overload
    def run(self, inputs: _Inputs, *, codes: Literal[False] = False) -> dict[str, NDArray[np.float64]]: ...

    @overload
    def run(self, inputs: _Inputs, *, codes: Literal[True]) -> dict[str, NDArray[np.int64]]: ...

    @overload
    def run(self, inputs: _Inputs, *, codes: bool) -> dict[str, NDArray[np.float64]] | dict[str, NDArray[np.int64]]: ...

    def run(
        self, inputs: _Inputs, *, codes: bool = False
    ) -> dict[str, NDArray[np.float64]] | dict[str, NDArray[np.int64]]:
        """Output name -> float64 values, computed by the artifacts themselves: the C compiled, the TCU simulated.

        inputs  input name -> array in the ONNX shape, or (one input) the array itself; any number of rows
        codes   return what the artifacts compute, int64 integers, instead of the values that the host makes of them:
                value = scale * code + offset, by the output's map in `graph.outputs` and in the sidecar

        Warns (InputsClipWarning) of inputs of which a tenth or more is beyond the range of their quantizer.
        """
        check_switches(codes=codes)
        arrays, _ = as_batches(self.graph, inputs)
        for clipped in clipped_inputs(self.graph.inputs, arrays):
            if clipped.heavy:
                warnings.warn(str(clipped), InputsClipWarning, stacklevel=2)
        quantized = {i.name: quantize_input(i, arrays[i.name]) for i in self.graph.inputs}
        with self._runner() as runner:
            results = runner.run(quantized)
        if codes:
            return {o.name: results[o.name] for o in self.graph.outputs}
        return {o.name: apply_output_map(o, results[o.name]) for o in self.graph.outputs}

    def verify(self, inputs: ArraysLike) -> Verification:
        """Compare model, interpreter and artifacts on the inputs, integer for integer.

        inputs  arrays by name, (one input) the array itself, or the path of an .npz

        How far the artifacts are off a float model is measured; and in native arithmetic, each layer is held to the
        words that it read.
        """
        arrays = as_arrays(inputs, "verify")
        changed = self.lowered.before_format
        before = None if changed is None else BeforeFormat(*changed, self.lowered.reference, self.target.name)
        if self.options.progress is not None:
            self.options.progress(0, 0, "verify: make the files ready")
        with self._runner() as runner:
            found = verify(
                self.lowered.reference, self.graph, runner, self.target.name, arrays, self.options.progress,
                self._prediction(), before, self.emission.audit, native=self.emission.native is not None,
            )  # fmt: skip
        by_name, _ = as_batches(self.graph, arrays)
        saturated = saturated_inputs(self.lowered.given_inputs, by_name)
        clipped = () if before is not None else clipped_inputs(self.graph.inputs, by_name)
        reason = rounded_before(self.lowered.given_inputs)
        return replace(
            found,
            comparisons=tuple(
                replace(c, reason=c.reason or reason) if c.given and c.differing else c for c in found.comparisons
            ),
            overflows=any(row.may_overflow for row in self.layers),
            saturated_inputs=saturated,
            clipped_inputs=tuple(c for c in clipped if c.name not in {s.name for s in saturated}),
            advice=advice_on_outputs(self.lowered.given_inputs, saturated) or found.advice,
        )

    @property
    def macs(self) -> int:
        """Multiplications of one batch."""
        return sum(row.macs for row in self.layers)

    def likely_saturation(self) -> tuple[Saturation, ...]:
        """What a float model's formats will hardly hold, without data: on random inputs; and weights; worst first."""
        if self.lowered.float_model is None:
            return ()
        return likely_saturation(self.lowered.float_model, self.lowered.reference, self.macs)

    def _prediction(self) -> Prediction | None:
        if self.emission.computed is None:
            return None
        layers = {id(deviations): row.layer for row in self.layers for deviations in row.deviations}
        found = []
        for op in self.graph.of_type(Requantize):
            report = self.emission.ops.get(op.result.name)
            if report is not None and report.deviations is not None:
                found.append((layers[id(report.deviations)], op, report.deviations))
        return Prediction(self.emission.computed, tuple(found))

    @contextmanager
    def _runner(self) -> Iterator[Runner]:
        """A runner of the files, written to disk and read back."""
        with TemporaryDirectory(prefix="pefslc-") as folder:
            *_, sidecar = self.save(folder)
            yield self.target.runner(Path(folder), load_sidecar(sidecar))
