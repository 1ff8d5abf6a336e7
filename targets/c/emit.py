"""The program as C99 text."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from textwrap import wrap

import numpy as np
from numpy.typing import NDArray

from pefslc.ir.graph import Graph
from pefslc.numeric.rounding import RoundingMode
from pefslc.targets.c.arena import Arena, Slot
from pefslc.targets.c.arg_max import ArgMax, arg_max_of
from pefslc.targets.c.calls import most_of_a_call, portions
from pefslc.targets.c.convolution_functions import AnyLoops, convolution_loops, part_calls
from pefslc.targets.c.cpus import FAST, SMALL
from pefslc.targets.c.ctype import WHERE_WIDE
from pefslc.targets.c.dispatch import VARIANTS, Exported, exported_functions
from pefslc.targets.c.host_text import input_text, output_text
from pefslc.targets.c.kernel_tasks import moves_of, sums_of
from pefslc.targets.c.kernels import headers_of, kernels_for, shared_by_kernels
from pefslc.targets.c.naming import Names, comment_text, weights_file
from pefslc.targets.c.options import BINARY, COptions
from pefslc.targets.c.packing import packed_bytes
from pefslc.targets.c.stages import ConstantArray, LineWriter, literal
from pefslc.targets.c.steps import CopyStep, DepthwiseStep, DotStep, MapStep, PoolStep, Program, Step
from pefslc.targets.c.storage import CACHE_LINE, Buffer, CType, Place, Tensor, narrowest_signed, sum_type
from pefslc.targets.c.values import Helper, input_helper, input_macros, output_helper, output_macros
from pefslc.targets.c.weights_binary import ALIGNMENT, binary_weights
from pefslc.targets.c.weights_text import weights_text
from pefslc.targets.templates import templates_in

__all__ = ["Argument", "Emitted", "emit", "interface"]

Codes = NDArray[np.int64]

_UINT8 = CType(8, signed=False)
_HERE = Path(__file__).parent
_COMMENT_WIDTH = 110


@dataclass(frozen=True, slots=True)
class Argument:
    """A parameter of the emitted function: the C name, the ONNX name and where the data is.

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
    def declaration(self) -> str:
        return f"{'const ' if self.is_input else ''}{self.tensor.type} *{self.name}"


@dataclass(frozen=True, slots=True)
class Emitted:
    """files: by name; step_bytes: of each step's constants, `constant_bytes` of all, and at most, where weights are
    wide; arg_maxes: of the outputs; exported: the functions of the source.
    """

    files: dict[str, bytes]
    step_bytes: tuple[int, ...]
    constant_bytes: int
    most_constant_bytes: int
    arg_maxes: tuple[ArgMax, ...]
    exported: tuple[Exported, ...]


def interface(graph: Graph, program: Program, arena: Arena, prefix: str) -> tuple[Argument, ...]:
    """The function's parameters: inputs, then outputs, in the graph's order."""
    names = Names(prefix)
    found = []
    for i, tensor in zip(graph.inputs, program.inputs, strict=True):
        name = names.unique(i.name, "input")
        helper = input_helper(i, name, tensor)
        found.append(
            Argument(
                name, i.name, tensor, True, input_text(i), input_macros(i), helper, arena.slots.get(tensor.buffer.name)
            )
        )
    for o, tensor in zip(graph.outputs, program.outputs, strict=True):
        name = names.unique(o.name, "output")
        helper = output_helper(o, name, tensor)
        found.append(Argument(name, o.name, tensor, False, output_text(o), output_macros(o, tensor), helper))
    return tuple(found)


def emit(
    graph: Graph,
    program: Program,
    arena: Arena,
    prefix: str,
    version_text: str,
    options: COptions,
    arguments: tuple[Argument, ...],
    rows: int = 1,
) -> Emitted:
    """The program's text, and its weights as bytes where `options` say so.

    arguments  of the emitted function
    rows       of the arguments; the program is that of each
    """
    environment = templates_in(_HERE, of_blocks=True)
    functions = [_Function(prefix, i, step, arena.overlaid(step)) for i, step in enumerate(program.steps)]
    arg_maxes = arg_max_functions(graph, arguments, prefix)
    constants = [c for f in functions for c in f.constants] + [c for f in arg_maxes for c in f.constants]
    step_bytes = tuple(sum(c.bytes for c in f.constants) for f in functions)
    constant_bytes = sum(c.bytes for c in constants)
    most_constant_bytes = sum(c.most_bytes for c in constants)
    places = {
        tensor.buffer.name: a.name if rows == 1 else f"{a.name} + row * {tensor.buffer.elements}"
        for tensor, a in zip((*program.inputs, *program.outputs), arguments, strict=True)
    }
    parts = portions(program, options.steps) if options.steps else []
    binary = binary_weights(constants) if options.weights == BINARY else None
    context = {
        "prefix": prefix,
        "model": comment_text(graph.name),
        "version": version_text,
        "arguments": arguments,
        "input_places": [(a, _address(a.slot)) for a in arguments if a.slot is not None],
        "arena": arena,
        "arena_line": CACHE_LINE if _wants_lines(program, constants, options) else 0,
        "caller_arena": options.caller_arena,
        "small": options.memory == SMALL,
        "binary": binary,
        "alignment": ALIGNMENT,
        "macs": program.macs * rows,
        "rows": rows,
        "constants": constants,
        "constant_bytes": constant_bytes,
        "most_constant_bytes": most_constant_bytes,
        "where_wide": WHERE_WIDE,
        "functions": functions,
        "arg_maxes": arg_maxes,
        "sums": sums_of(program),
        "kernels_for": kernels_for,
        "headers": headers_of(program),
        "shared": shared_by_kernels(program),
        "moves": moves_of(program),
        "unpacked_bits": sorted({s.packed for s in program.steps if isinstance(s, DotStep) and s.packed}),
        "helpers": sorted(set().union(*(f.helpers for f in functions))),
        "places": places,
        "places_of_arrays": {
            name: f"arrays->{place.replace(' + row ', ' + arrays->row ')}" for name, place in places.items()
        },
        "portions": parts,
        "most_of_a_call": most_of_a_call(program, parts) if parts else 0,
        "threaded": [f for f in functions if f.step.threads > 1],
        "modes": list(RoundingMode),
        "text": comment_text,
        "wrap": _wrapped,
    }
    files = {
        f"{prefix}.h": "model.h.j2",
        f"{prefix}.c": "model.c.j2",
        f"{prefix}_weights.h": "weights.h.j2",
        f"{prefix}_values.h": "values.h.j2",
    }
    emitted = {name: environment.get_template(template).render(context).encode() for name, template in files.items()}
    heading = environment.get_template("weights.c.j2" if binary is None else "weights_binary.c.j2").render(context)
    if binary is None:
        nothing = f"typedef int {prefix}_has_no_constants;\n"
        emitted[f"{prefix}_weights.c"] = weights_text(heading, constants, nothing, "const PEFSLC_FLASH")
    else:
        emitted[f"{prefix}_weights.c"] = heading.encode()
        emitted[weights_file(prefix)] = binary.content
    given = [("arena", f"{prefix}_arena *arena")] * options.caller_arena + [(a.name, a.declaration) for a in arguments]
    result = "void" if binary is None else "int"
    arena_of = (f"{prefix}_arena *arena", "arena") if options.caller_arena else ("void", "")
    places_of_inputs = [
        Exported(f"{prefix}_{a.name}_place", f"{a.tensor.type} *", *arena_of) for a in arguments if a.slot is not None
    ]
    exported = exported_functions(prefix, result, given, places_of_inputs, options.steps is not None, arg_maxes)
    if options.dispatch:
        of_paths = {**context, "variants": VARIANTS, "exported": exported}
        emitted[f"{prefix}_dispatch.c"] = environment.get_template("dispatch.j2").render(of_paths).encode()
    emitted[f"{prefix}_fixed.h"] = (_HERE / "fixed.h").read_bytes()
    return Emitted(emitted, step_bytes, constant_bytes, most_constant_bytes, arg_maxes, exported)


def _wants_lines(program: Program, constants: Sequence[ConstantArray], options: COptions) -> bool:
    """Whether the static arena begins with a cache line: for vectors of one, and for threads, which share none."""
    reads_lines = any(c.aligned >= CACHE_LINE for c in constants)
    return options.memory == FAST and (reads_lines or any(step.threads > 1 for step in program.steps))


def arg_max_functions(graph: Graph, arguments: Sequence[Argument], prefix: str) -> tuple[ArgMax, ...]:
    """Those of the outputs that end with one, in their order."""
    outputs = (a for a in arguments if not a.is_input)
    found = (arg_max_of(o, a.tensor, a.name, prefix) for o, a in zip(graph.outputs, outputs, strict=True))
    return tuple(f for f in found if f is not None)


class _Function:
    """One step as one static function: what the templates ask for."""

    def __init__(self, prefix: str, index: int, step: Step, is_overlaid: bool) -> None:
        self.step = step
        # Where the result lies over a part of what is read, pointers to both are not restricted.
        self.restrict = "" if is_overlaid else "restrict "
        self.index = index
        self.name = f"step{index}"
        self.kind = _KINDS[type(step)]
        base = f"{prefix}_{index}"
        self.constants: list[ConstantArray] = []
        self.weight = self.bias = ""
        if isinstance(step, DotStep | DepthwiseStep):
            self.weight = f"{base}_weight"
            parts = [part.weight.reshape(-1) for part in step.parts]
            weights = np.concatenate(parts) if len(parts) > 1 else parts[0]
            aligned = step.aligned if isinstance(step, DotStep) else 0
            kind, what = step.weight_type, "weights"
            if isinstance(step, DotStep) and step.packed:
                kind, weights, what = _UINT8, packed_bytes(weights, step.packed), f"weights of {step.packed} bits"
            self.constants.append(ConstantArray(self.weight, kind, weights, what, aligned))
            if step.bias is not None and step.bias.any():
                self.bias = f"{base}_bias"
                bias = step.filled_bias if step.starts_biased else step.bias
                kind = step.sums if bias is not step.bias else narrowest_signed(bias)
                self.constants.append(ConstantArray(self.bias, kind, bias, "bias"))
        if isinstance(step, PoolStep) and step.factors is not None:
            self.weight = f"{base}_factors"
            self.constants.append(ConstantArray(self.weight, narrowest_signed(step.factors), step.factors, "factors"))
        self._base = base
        self.lines: list[str] = []
        self.helpers: set[str] = set()
        self.stored = ""
        if self.kind != "copy":
            self._write_stages()

    def _write_stages(self) -> None:
        step = self.step
        # Where the result's element lies, in terms of the loops that the templates write.
        element = "i" if isinstance(step, MapStep) else "at + c"
        writer = LineWriter(self._base, element, [f"r{i}" for i in range(len(step.added))])
        kind = self.value_type
        name = writer.define(kind, self._loaded(kind))
        for stage in step.stages:
            name, kind = stage.write(writer, name, kind)
        self.lines, self.helpers = writer.lines, writer.helpers
        self.constants += writer.constants
        self.stored = name if kind == step.result.type else f"({step.result.type}){name}"
        adds_bias = bool(self.bias) and isinstance(step, DotStep | DepthwiseStep) and not step.starts_biased
        self.needs_channel = writer.uses_channel or adds_bias

    @property
    def value_type(self) -> CType:
        """The type of the number that the stages start from."""
        step = self.step
        if isinstance(step, DotStep | DepthwiseStep | PoolStep):
            return step.sums
        return sum_type(step.source.low, step.source.high)

    def _loaded(self, kind: CType) -> str:
        if isinstance(self.step, MapStep):
            return f"({kind})x[i]" if self.step.source.type != kind else "x[i]"
        adds = not isinstance(self.step, DotStep | DepthwiseStep) or not self.step.starts_biased
        return f"sum + {self.bias}[c]" if self.bias and adds else "sum"

    @property
    def start(self) -> str:
        """What a PoolStep's accumulators start from: a code that no tap is below."""
        assert isinstance(self.step, PoolStep)
        return literal(self.step.source.low if self.step.is_max else 0, self.step.sums)

    @property
    def conversion(self) -> str:
        """The cast of a CopyStep's elements."""
        return "" if self.step.source.type == self.step.result.type else f"({self.step.result.type})"

    @property
    def title(self) -> str:
        """What the function does, for its comment."""
        done = [f"{op.mnemonic} {op.result.origin}" for op in self.step.ops]
        return comment_text("; ".join(done)) if done else f"{self.step.source.layout.value} to the other layout"

    @property
    def layer(self) -> str:
        """What the function computes, as the inside of a C string: the ONNX name of its first operation's result."""
        name = self.step.ops[0].result.origin.short if self.step.ops else "layout"
        return re.sub(r"[^A-Za-z0-9_./: -]", "_", name)

    @property
    def parameters(self) -> str:
        return ", ".join(self.parameter_list)

    @property
    def parameter_list(self) -> list[str]:
        step = self.step
        found = [f"const {step.source.type} *{self.restrict}x"]
        found += [f"const {t.type} *{self.restrict}r{i}" for i, t in enumerate(step.added)]
        found.append(f"{step.result.type} *{self.restrict}y")
        found += [f"{b.type} *restrict {n}" for b, n in zip(step.scratch, step.scratch_names, strict=True)]
        return found if step.bands is None else [*found, "int32_t begin", "int32_t end"]

    @cached_property
    def loops(self) -> Sequence[AnyLoops]:
        """The loops of a convolution: one for each form of its parts."""
        assert isinstance(self.step, DotStep | DepthwiseStep)
        return convolution_loops(self.name, self.parameter_list, self.weight, self.step)

    @property
    def part_calls(self) -> list[str]:
        """Where the loops are functions of their own: a call for each part."""
        assert isinstance(self.step, DotStep | DepthwiseStep)
        return part_calls(self.loops, self.weight, self.step)

    @property
    def parted_band(self) -> tuple[str, str] | None:
        """C expressions of the first band of part number `part`, and of the end; None where there is one part."""
        bands, parts = self.step.bands, self.step.threads
        return None if parts == 1 else (f"part * {bands} / {parts}", f"(part + 1) * {bands} / {parts}")

    def call(self, arena: Arena, places: dict[str, str], band: tuple[str, str] | None = None) -> str:
        """The call that computes the result; `band`, C expressions of the first and the end, computes a part of it."""

        def pointer(buffer: Buffer) -> str:
            return places[buffer.name] if buffer.place is not Place.ARENA else _address(arena.slots[buffer.name])

        step = self.step

        def scratch(buffer: Buffer) -> str:
            own = f" + part * {buffer.elements // self.step.threads}" if self.step.threads > 1 else ""
            return pointer(buffer) + own

        arrays = [*(pointer(t.buffer) for t in step.reads), pointer(step.result.buffer), *map(scratch, step.scratch)]
        limits = [] if step.bands is None else band or ["0", str(step.bands)]
        return f"{self.name}({', '.join([*arrays, *limits])});"

    # --- shapes, for the templates --------------------------------------------------------------------------------

    @property
    def image(self) -> tuple[int, int, int, int]:
        """(N, C, H, W) of the source."""
        n, c, h, w = self.step.images if isinstance(self.step, DotStep | DepthwiseStep) else self.step.source.shape
        return n, c, h, w


_KINDS: dict[type[Step], str] = {
    DotStep: "dot",
    DepthwiseStep: "depthwise",
    PoolStep: "pool",
    MapStep: "map",
    CopyStep: "copy",
}


def _address(slot: Slot) -> str:
    """The C expression of where a buffer begins."""
    kind = slot.buffer.type
    address = f"arena->memory{kind.bits} + {slot.offset // kind.bytes}"
    return address if kind.signed else f"({kind} *)({address})"


def _wrapped(text: str) -> list[str]:
    """Lines of a comment."""
    return wrap(text, _COMMENT_WIDTH, break_on_hyphens=False)
