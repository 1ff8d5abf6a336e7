"""The interface of an emitted network: its functions and their arguments, as other files and programs speak of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pefslc.ir.graph import Graph
from pefslc.targets.c.arena import Arena, Slot
from pefslc.targets.c.arg_max import ArgMax, arg_max_of
from pefslc.targets.c.host_text import input_text, output_text
from pefslc.targets.c.naming import Names, comment_text
from pefslc.targets.c.options import BINARY, COptions
from pefslc.targets.c.prototypes import Parameter, Prototype
from pefslc.targets.c.steps import Program
from pefslc.targets.c.storage import Tensor
from pefslc.targets.c.values import Helper, input_helper, input_macros, output_helper, output_macros

__all__ = ["Argument", "Interface", "interface_of"]


@dataclass(frozen=True, slots=True)
class Argument:
    """An array that a run is given: the C name, the ONNX name and where the data is.

    macros  of its codes and their scale, by the end of their names
    helper  from or to numbers
    slot    an input's own place in the arena, if it has one
    """

    name: str
    onnx_name: str
    tensor: Tensor
    is_input: bool
    encoding: str
    macros: Mapping[str, str]
    helper: Helper
    slot: Slot | None = None

    @property
    def elements(self) -> int:
        return self.tensor.buffer.elements

    @property
    def bytes(self) -> int:
        return self.elements * self.tensor.type.bytes

    @property
    def parameter(self) -> Parameter:
        return Parameter(f"{'const ' if self.is_input else ''}{self.tensor.type} *", self.name)


@dataclass(frozen=True, slots=True, eq=False)
class Interface:
    """What an emitted network offers.

    prefix     of everything that the files define, and the stem of their names
    model      its name, for comments
    arguments  inputs, then outputs, in the graph's order
    run        the function that computes all
    step       the one that does so in calls, if it is asked for
    places     of inputs in the arena: the function that tells where each one's is
    arg_maxes  of the outputs that end with one, in their order
    """

    prefix: str
    model: str
    arguments: tuple[Argument, ...]
    run: Prototype
    step: Prototype | None
    places: tuple[tuple[Argument, Prototype], ...]
    arg_maxes: tuple[ArgMax, ...]

    @property
    def inputs(self) -> tuple[Argument, ...]:
        return tuple(a for a in self.arguments if a.is_input)

    @property
    def outputs(self) -> tuple[Argument, ...]:
        return tuple(a for a in self.arguments if not a.is_input)

    @property
    def functions(self) -> tuple[Prototype, ...]:
        """All that the source defines for others."""
        places, arg_maxes = (place for _, place in self.places), (each.prototype for each in self.arg_maxes)
        return (self.run, *([self.step] if self.step else []), *places, *arg_maxes)


def interface_of(graph: Graph, program: Program, arena: Arena, prefix: str, options: COptions) -> Interface:
    """Of the graph and the program that computes all its rows."""
    arguments = tuple(_arguments(graph, program, arena, prefix))
    result = "int " if options.weights == BINARY else "void "
    working_memory = (Parameter(f"{prefix}_arena *", "arena"),) if options.caller_arena else ()
    parameters = (*working_memory, *(a.parameter for a in arguments))
    outputs = (a for a in arguments if not a.is_input)
    arg_maxes = (arg_max_of(o, a.tensor, a.name, prefix) for o, a in zip(graph.outputs, outputs, strict=True))
    return Interface(
        prefix=prefix,
        model=comment_text(graph.name),
        arguments=arguments,
        run=Prototype(result, f"{prefix}_run", parameters),
        step=Prototype(result, f"{prefix}_step", (*parameters, Parameter("int32_t ", "step")))
        if options.steps
        else None,
        places=tuple(
            (a, Prototype(f"{a.tensor.type} *", f"{prefix}_{a.name}_place", working_memory))
            for a in arguments
            if a.slot is not None
        ),
        arg_maxes=tuple(found for found in arg_maxes if found is not None),
    )


def _arguments(graph: Graph, program: Program, arena: Arena, prefix: str) -> list[Argument]:
    names = Names(prefix)
    found = []
    for i, tensor in zip(graph.inputs, program.inputs, strict=True):
        name, slot = names.unique(i.name, "input"), arena.slots.get(tensor.buffer.name)
        helper = input_helper(i, name, tensor)
        found.append(Argument(name, i.name, tensor, True, input_text(i), input_macros(i), helper, slot))
    for o, tensor in zip(graph.outputs, program.outputs, strict=True):
        name = names.unique(o.name, "output")
        helper = output_helper(o, name, tensor)
        found.append(Argument(name, o.name, tensor, False, output_text(o), output_macros(o, tensor), helper))
    return found
