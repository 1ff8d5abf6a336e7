"""The program as C99 text: the header, the source, the constants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap

from pefslc.numeric.rounding import RoundingMode
from pefslc.targets.c.arena import Arena
from pefslc.targets.c.calls import most_of_a_call, portions
from pefslc.targets.c.cpus import FAST, SMALL
from pefslc.targets.c.dispatch import VARIANTS
from pefslc.targets.c.interface import Interface
from pefslc.targets.c.kernel_tasks import moves_of, sums_of
from pefslc.targets.c.kernels import headers_of, kernels_for, shared_by_kernels
from pefslc.targets.c.naming import comment_text, weights_file
from pefslc.targets.c.options import BINARY, COptions
from pefslc.targets.c.stages import ConstantArray
from pefslc.targets.c.step_functions import step_function
from pefslc.targets.c.steps import ConvolutionStep, Program
from pefslc.targets.c.storage import CACHE_LINE
from pefslc.targets.c.weights_binary import ALIGNMENT, binary_weights
from pefslc.targets.c.weights_text import weights_text
from pefslc.targets.templates import templates_in

__all__ = ["TEMPLATES", "Emitted", "emit"]

TEMPLATES = Path(__file__).parent

_EMITTER = "C target 1"  # named in the files; the compiler's version is in the sidecar, so that goldens survive it
_COMMENT_WIDTH = 110


@dataclass(frozen=True, slots=True)
class Emitted:
    """files: by name; step_bytes: of each step's constants, `constant_bytes` of all, and at most, where weights are
    wide; context: what templates know.
    """

    files: dict[str, bytes]
    step_bytes: tuple[int, ...]
    constant_bytes: int
    most_constant_bytes: int
    context: Mapping[str, object]


def emit(program: Program, arena: Arena, interface: Interface, options: COptions, rows: int) -> Emitted:
    """The program's text, and its weights as bytes where `options` say so.

    rows  of the interface's arrays; the program is that of each
    """
    prefix = interface.prefix
    functions = [step_function(prefix, i, step, arena.overlaid(step)) for i, step in enumerate(program.steps)]
    constants = [c for f in functions for c in f.constants] + [c for f in interface.arg_maxes for c in f.constants]
    constant_bytes = sum(c.bytes for c in constants)
    most_constant_bytes = sum(c.most_bytes for c in constants)
    parts = portions(program, options.steps) if options.steps else []
    binary = binary_weights(constants) if options.weights == BINARY else None
    context = {
        "prefix": prefix,
        "model": interface.model,
        "version": _EMITTER,
        "interface": interface,
        "arguments": interface.arguments,
        "arg_maxes": interface.arg_maxes,
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
        "functions": functions,
        "sums": sums_of(program),
        "kernels_for": kernels_for,
        "headers": headers_of(program),
        "shared": shared_by_kernels(program),
        "moves": moves_of(program),
        "unpacked_bits": sorted({s.packed for s in program.steps if isinstance(s, ConvolutionStep) and s.packed}),
        "helpers": sorted(set().union(*(f.helpers for f in functions))),
        "places": _places(program, interface, rows, ""),
        "places_of_arrays": _places(program, interface, rows, "arrays->"),
        "portions": parts,
        "most_of_a_call": most_of_a_call(program, parts) if parts else 0,
        "threads": max((f.step.threads for f in functions), default=1),
        "variants": VARIANTS,
        "modes": list(RoundingMode),
        "text": comment_text,
        "wrap": _wrapped,
    }

    def rendered(template: str) -> bytes:
        return templates_in(TEMPLATES, of_blocks=True).get_template(template).render(context).encode()

    files = {
        f"{prefix}.h": rendered("model.h.j2"),
        f"{prefix}.c": rendered("model.c.j2"),
        f"{prefix}_weights.h": rendered("weights.h.j2"),
        f"{prefix}_values.h": rendered("values.h.j2"),
    }
    if binary is None:
        nothing, heading = f"typedef int {prefix}_has_no_constants;\n", rendered("weights.c.j2").decode()
        files[f"{prefix}_weights.c"] = weights_text(heading, constants, nothing, "const PEFSLC_FLASH")
    else:
        files[f"{prefix}_weights.c"] = rendered("weights_binary.c.j2")
        files[weights_file(prefix)] = binary.content
    if options.dispatch:
        files[f"{prefix}_dispatch.c"] = rendered("dispatch.j2")
    files[f"{prefix}_fixed.h"] = (TEMPLATES / "fixed.h").read_bytes()
    step_bytes = tuple(sum(c.bytes for c in f.constants) for f in functions)
    return Emitted(files, step_bytes, constant_bytes, most_constant_bytes, context)


def _wants_lines(program: Program, constants: Sequence[ConstantArray], options: COptions) -> bool:
    """Whether the static arena begins with a cache line: for vectors of one, and for threads, which share none."""
    reads_lines = any(c.aligned >= CACHE_LINE for c in constants)
    return options.memory == FAST and (reads_lines or any(step.threads > 1 for step in program.steps))


def _places(program: Program, interface: Interface, rows: int, owner: str) -> dict[str, str]:
    """Buffer -> the C expression of where the row lies, of inputs and outputs, which are members of `owner`."""
    tensors = (*program.inputs, *program.outputs)
    return {
        tensor.buffer.name: f"{owner}{a.name}" + f" + {owner}row * {tensor.buffer.elements}" * (rows > 1)
        for tensor, a in zip(tensors, interface.arguments, strict=True)
    }


def _wrapped(text: str) -> list[str]:
    """Lines of a comment."""
    return wrap(text, _COMMENT_WIDTH, break_on_hyphens=False)
