"""What a target is: limits as data, a lowering from integer graphs to files, and a way to run those files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pefslc.analysis.limits import TargetLimits
from pefslc.artifacts.costs import Costs
from pefslc.artifacts.sidecar import JsonObject, Sidecar
from pefslc.diagnostics.errors import Origin
from pefslc.diagnostics.progress import Progress
from pefslc.files.arrays import Arrays
from pefslc.ir.graph import Graph
from pefslc.numeric.deviation import Deviations
from pefslc.numeric.format import FixedPoint

__all__ = [
    "Audit", "Emission", "LayerAudit", "OpReport", "Runner", "Stage", "Target", "TargetOptions", "host_words_of",
    "stages_of",
]  # fmt: skip

Codes = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Stage:
    """One step of a target's lowering, shown: its middle form after this step.

    name     one of the target's `stages`
    text     to be read by people: lines, the last one ended
    changed  whether the step changed anything
    """

    name: str
    text: str
    changed: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetOptions:
    """What a compile asks of every target. What only one target can be told is a field of that target.

    allow_overflow  accept sums that are not proven to fit
    require_exact   what is bounded will be refused: a target may spend more to compute it exactly
    progress        called with (done, total, what) on work over a second
    calibrate       inputs (arrays by name) that are like those to come, where there are some
    observe         where somebody watches: a target may call it with a `Stage` after each of its steps
    problems_only   whether the graph is refused is all that is asked: a target may leave the emission empty
    kept            what a target keeps of an attempt at a model for the next ones, at parts of it whose problems are
                    asked for; None where there is no other attempt
    """

    allow_overflow: bool = False
    require_exact: bool = False
    progress: Progress | None = None
    calibrate: Arrays | None = field(default=None, compare=False)
    observe: Callable[[Stage], None] | None = None
    problems_only: bool = False
    kept: dict[type, object] | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class OpReport:
    """What the target did with one operation of the integer graph.

    implementation  how, in a few words: "round-shift 5, clip", "threshold table"
    exact           whether it was certified equal to the operation
    deviations      where it differs, for a requantization that is bounded
    cycles          modelled cycles, None where the target models none
    is_split        whether its sums are wider than the target's words, which make them all the same
    """

    implementation: str
    exact: bool = True
    cycles: int | None = None
    deviations: Deviations | None = None
    is_split: bool = False


@dataclass(frozen=True, slots=True)
class LayerAudit:
    """A layer of a program in native arithmetic on some inputs: its words, held to what it made them from.

    words      how many were compared
    outside    how many of them are not what the layer makes of the words that it read
    furthest   by how many units, at most
    saturated  inputs on which a sum saturated on its way: nothing is compared there
    """

    origin: Origin
    words: int
    outside: int
    furthest: int
    saturated: int

    def __add__(self, other: LayerAudit) -> LayerAudit:
        """Of both sets of inputs."""
        return LayerAudit(
            self.origin,
            self.words + other.words,
            self.outside + other.outside,
            max(self.furthest, other.furthest),
            self.saturated + other.saturated,
        )


@dataclass(frozen=True, slots=True)
class Emission:
    """A lowered program.

    files     file name -> content; everything the target writes except the sidecar
    details   JSON for the sidecar's "details": what the target's own runner and user need
    ops       by the name of the operation's result value; what computes and is left out does not count as exact
    notes     lines for the summary, for example totals
    cycles    modelled, of the whole program: the layers and what frames them; None where the target models none
    costs     finds out what each part of the program costs, in up to a second; None where the target cannot
    computed  the graph that the files compute, integer for integer, where that is not the lowered one: its bounded
              requantizations are what the target makes of them. Verification holds the files to it
    native    the format of sums and tensors, where the program of a float model computes in the target's own rounding
              and saturating arithmetic. Verification measures how far it is off the float model
    audit     of such a program: runs it on input codes, and holds each layer to what it read
    functions by the name of an output behind which the model ends with a function: what the files compute of it, too,
              in words that follow "the codes are those before the end; ". Of others the host computes it
    cautions  those of the notes that say where what comes out is not what one may think: `check` shows them, too
    """

    files: Mapping[str, bytes]
    details: JsonObject
    ops: Mapping[str, OpReport] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    cycles: int | None = None
    costs: Callable[[], Costs] | None = None
    computed: Graph | None = None
    native: FixedPoint | None = None
    audit: Audit | None = None
    functions: Mapping[str, str] = field(default_factory=dict)
    cautions: tuple[str, ...] = ()


class Runner(Protocol):
    """Runs emitted files, read back from disk."""

    def run(self, inputs: Mapping[str, Codes]) -> dict[str, Codes]:
        """Output codes by ONNX output name, for input codes by ONNX input name; any multiple of the model's batch."""
        ...


class Audit(Protocol):
    """Runs emitted files as `Runner.run` does, and holds each layer to the words that it read."""

    def __call__(
        self, runner: Runner, inputs: Mapping[str, Codes], /
    ) -> tuple[dict[str, Codes], tuple[LayerAudit, ...]]: ...


class Target(Protocol):
    """A backend. `name` is what --target takes: a lower-case identifier, which is part of file names.

    A target may have more: options (it is a dataclass with fields made by `pefslc.targets.options.option`), and
    `stages: tuple[str, ...]`, the names of the steps that it reports to `TargetOptions.observe`, in order. One of ours
    may have `host_words`, see `host_words_of`.
    """

    @property
    def name(self) -> str: ...

    @property
    def summary(self) -> str: ...

    def limits(self, options: TargetOptions) -> TargetLimits:
        """The widths that the accumulator check reads."""
        ...

    def lower(self, graph: Graph, options: TargetOptions) -> Emission:
        """The files for an integer-level graph. Raises CompileError, with every fault, for what it cannot do."""
        ...

    def runner(self, folder: Path, sidecar: Sidecar) -> Runner:
        """A runner of the files that `sidecar` names in `folder`."""
        ...


def stages_of(target: Target) -> tuple[str, ...]:
    """The names of the steps that a target can report, in order; none where it says nothing about it."""
    found: tuple[str, ...] = getattr(target, "stages", ())
    return found


def host_words_of(target: Target, graph: Graph) -> Mapping[str, FixedPoint]:
    """The format of the words that the host writes, by the name of each input of a quantized graph whose quantizer the
    host does not know: then the target applies it. None where the host does.
    """
    words: Callable[[Graph], Mapping[str, FixedPoint]] | None = getattr(target, "host_words", None)
    return {} if words is None else words(graph)
