"""What the user says about the shapes of inputs: `--batch 1`, `--input-shape x=1,3,32,32`."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from numbers import Integral

from pefslc.analysis.verify import verify
from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, Origin, Problem, quote, quote_given
from pefslc.geometry.shapes import Shape
from pefslc.ir.batch import batch_of, with_batch
from pefslc.ir.graph import Graph

__all__ = ["NOTHING_GIVEN", "GivenShapes"]


@dataclass(frozen=True, slots=True)
class GivenShapes:
    """Fills the axes that a file leaves open; contradicts none that it fixes, but for the batch.

    batch     the size of every input's axis 0, or None. Where the file fixes another, it is imported with that, and
              then gets this one (`resized`)
    by_input  whole shapes by the ONNX name of an input; none that contradicts `batch`

    Raises CompileError for what is no shapes at all.
    """

    batch: int | None = None
    by_input: Mapping[str, Shape] = field(default_factory=dict)

    def __post_init__(self) -> None:
        problems = []
        if self.batch is not None and not _is_size(self.batch):
            problems.append(
                Problem(Code.GIVEN_SHAPE, f"batch is {quote_given(self.batch)}, not a size", hint="for example batch=1")
            )
        hint = 'a shape for each input by its name, for example input_shapes={"x": (1, 3, 32, 32)}'
        if not isinstance(self.by_input, Mapping):
            what = f"input_shapes is {quote_given(self.by_input)}, not a dict"
            problems.append(Problem(Code.GIVEN_SHAPE, what, hint=hint))
        else:
            problems += [
                Problem(Code.GIVEN_SHAPE, f"input_shapes[{name!r}] is {quote_given(shape)}, not a shape", hint=hint)
                for name, shape in self.by_input.items()
                if not isinstance(shape, Sequence) or not all(_is_size(size) for size in shape)
            ]
        if problems:
            raise CompileError.of(problems)

    def problems(self, inputs: Sequence[str]) -> Iterator[Problem]:
        """Shapes for inputs that the model does not have, and sizes that no tensor has."""
        known = ", ".join(map(quote, inputs)) or "none"
        for name, shape in self.by_input.items():
            if name not in inputs:
                yield Problem(Code.GIVEN_SHAPE, f"the model has no input {quote(name)}", hint=f"its inputs: {known}")
            elif not shape or min(shape) < 1:
                yield Problem(
                    Code.GIVEN_SHAPE,
                    f"{list(map(int, shape))} is no shape for input {quote(name)}",
                    hint="sizes from 1 on",
                )
            elif self.batch is not None and shape[0] != self.batch:
                yield Problem(
                    Code.GIVEN_SHAPE,
                    f"--batch {self.batch} and the shape {list(map(int, shape))} given for input {quote(name)} "
                    "contradict each other",
                    hint="give every input's shape and no --batch, or make them agree",
                )
        if self.batch is not None and self.batch < 1:
            yield Problem(Code.GIVEN_SHAPE, f"a batch of {self.batch} is not possible", hint="1 or more")

    def resized(self, graph: Graph) -> Graph:
        """The graph with the batch that is given. Raises CompileError where it has no one batch."""
        if self.batch is None or batch_of(graph) == self.batch:
            return graph
        size = int(self.batch)
        if _has_faults(graph, size):
            raise CompileError.of([_fixed_batch(graph, size)])
        return with_batch(graph, size)

    def shape_of(
        self, name: str, declared: Sequence[int | str | None] | None, at: Origin
    ) -> Sequence[int | str | None] | None:
        """The shape of input `name`: `declared` with its open axes filled. Raises CompileError on a contradiction."""
        given: Sequence[int | str | None] | None = None
        if name in self.by_input:
            given = tuple(map(int, self.by_input[name]))  # NumPy's integers become Python's
        elif self.batch is not None and declared and not isinstance(declared[0], int):
            given = (int(self.batch), *declared[1:])
        if given is None or declared is None:
            return declared if given is None else given
        fixed = [(ours, theirs) for ours, theirs in zip(given, declared, strict=False) if isinstance(theirs, int)]
        if len(given) != len(declared) or any(ours != theirs for ours, theirs in fixed):
            raise CompileError(
                Code.GIVEN_SHAPE,
                f"the input is declared {list(declared)}, which {list(given)} contradicts",
                at=at,
                hint="only open axes can be given, and another batch with --batch; else export the model with the "
                "shape that you need",
            )
        return given


def _has_faults(graph: Graph, size: int) -> bool:
    """Whether it is no graph with a batch of `size`."""
    return batch_of(graph) is None or bool(verify(with_batch(graph, size)))


def _fixed_batch(graph: Graph, size: int) -> Problem:
    """What keeps the graph from a batch of `size`: its inputs, or the first operation that is illegal then."""
    asked = f"a batch of {size} is asked for, and"
    before = batch_of(replace(graph, ops=(), outputs=()))
    if before is None:
        return Problem(
            Code.GIVEN_SHAPE,
            f"{asked} the file fixes another for some of its inputs only",
            hint="export the model with the batch that you need",
        )
    some = (replace(graph.outputs[0], value=graph.inputs[0].value, function=None),)  # a graph has an output
    prefixes = [replace(graph, ops=graph.ops[: i + 1], outputs=some) for i in range(len(graph.ops))]
    first = bisect_left(prefixes, True, key=lambda prefix: _has_faults(prefix, size))
    origin = graph.ops[first].result.origin
    return Problem(
        Code.GIVEN_SHAPE,
        f"{asked} here the file works with its own batch of {before} only",
        at=origin,
        hint="compile without --batch: what mixes the rows of a batch is refused there, and the error says why; else "
        "export the model with the batch that you need",
    )


def _is_size(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


NOTHING_GIVEN = GivenShapes()
