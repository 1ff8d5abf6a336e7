"""The C target: an integer graph becomes a self-contained C99 program."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import ClassVar

from pefslc.analysis.limits import TargetLimits
from pefslc.artifacts.costs import Costs, MemoryBlock, MemorySize, PartCost, Timeline
from pefslc.artifacts.footprint import CompiledSize, Footprint
from pefslc.artifacts.sidecar import JsonObject, Sidecar
from pefslc.ir.batch import batch_of, with_batch
from pefslc.ir.graph import Graph
from pefslc.targets.c.arena import Arena, plan_arena
from pefslc.targets.c.calls import with_threads
from pefslc.targets.c.compiled_size import compiled_size
from pefslc.targets.c.cpus import SMALL, adapted, cpu_named
from pefslc.targets.c.ctype import WHERE_WIDE
from pefslc.targets.c.emit import Emitted, emit, interface
from pefslc.targets.c.naming import model_prefix, weights_file
from pefslc.targets.c.options import BINARY, COptions
from pefslc.targets.c.plan import plan_program
from pefslc.targets.c.plan_text import plan_text
from pefslc.targets.c.proportion import out_of_proportion
from pefslc.targets.c.runner import CRunner
from pefslc.targets.c.starter import starter_files
from pefslc.targets.c.steps import DotStep, Program
from pefslc.targets.protocol import Emission, OpReport, Stage, TargetOptions

__all__ = ["CTarget"]

_LARGE_TEXT = 1 << 24  # some seconds of gcc, and 200 MB of its memory

_NOTHING_TO_PACK = (
    "--pack packs nothing here: it takes weights of 2 to 7 bits, read as bytes, of layers not depthwise nor grouped"
)

_EMITTER = "C target 1"  # named in the files; the compiler's version is in the sidecar, so that goldens survive it


class CTarget(COptions):
    """Portable C99: no floating point, no allocation, no input or output."""

    __slots__ = ()

    stages: ClassVar[tuple[str, ...]] = ("plan",)

    def limits(self, options: TargetOptions) -> TargetLimits:
        """Sums may use int64_t; int32_t is chosen wherever it is proven to suffice."""
        del options
        return TargetLimits(64, "the C target")

    def lower(self, graph: Graph, options: TargetOptions) -> Emission:
        """Header, source, weights. Raises CompileError naming every operation that cannot be done."""
        rows = batch_of(graph) or 1
        cpu = adapted(cpu_named(self.cpu), memory=self.memory, packs=self.pack, widens=self.has_one_compilation)
        program = plan_program(with_batch(graph, 1) if rows > 1 else graph, cpu)
        program = with_threads(program, self.threads)
        arena = plan_arena(program, self.memory, inputs=_has_places(rows, self.memory))
        if options.observe is not None:
            options.observe(Stage("plan", plan_text(program, arena)))
        prefix = model_prefix(graph.name)
        arguments = interface(graph, plan_program(graph, cpu) if rows > 1 else program, arena, prefix)
        emitted = emit(graph, program, arena, prefix, _EMITTER, self, arguments, rows)
        files = {**emitted.files, **starter_files(graph, arguments, prefix, _EMITTER, self, emitted)}
        constant_bytes = emitted.constant_bytes
        binary = self.weights == BINARY
        handed = {"weights_file": weights_file(prefix), "set_weights": f"{prefix}_set_weights"} if binary else {}
        details: JsonObject = {
            "function": f"{prefix}_run",
            "header": f"{prefix}.h",
            "sources": [f"{prefix}.c", f"{prefix}_weights.c"],
            "cpu": self.cpu,
            "caller_arena": self.caller_arena,
            "memory": self.memory,
            "pack": self.pack,
            "arena_bytes": arena.bytes,
            "constant_bytes": constant_bytes,
            "macs": program.macs * rows,
            "arguments": [
                {
                    "name": a.name,
                    "onnx_name": a.onnx_name,
                    "direction": "input" if a.is_input else "output",
                    "type": str(a.tensor.type),
                    "shape": list(a.tensor.shape),
                    **({} if a.slot is None else {"place": f"{prefix}_{a.name}_place"}),
                }
                for a in arguments
            ],
            **handed,
        }
        if emitted.arg_maxes:
            records: list[JsonObject] = [
                {"output": f.onnx_name, "function": f.name, "indices": f.results} for f in emitted.arg_maxes
            ]
            details = {**details, "arg_max": records}
        functions = {f.onnx_name: f"{f.name} computes of them {f.text}, exactly" for f in emitted.arg_maxes}
        ops: Mapping[str, OpReport] = {
            op.result.name: OpReport(program.implementation[op.result.name])
            for op in graph.ops
            if op.result.name in program.implementation
        }
        ram = {"arena": arena.bytes}
        for a in arguments:
            if a.slot is not None:
                continue
            what = "inputs" if a.is_input else "outputs"
            ram[what] = ram.get(what, 0) + a.elements * a.tensor.type.bytes
        footprint = Footprint(ram, constant_bytes)
        notes: tuple[str, ...] = (
            f"{program.macs * rows:,} MACs",
            f"{constant_bytes:,} bytes of constants{_more_where_wide(emitted)}{_handed_over(emitted.files, prefix)}"
            f"{out_of_proportion(program, emitted.step_bytes)}",
            footprint.ram_text + ("; the caller supplies the arena" if self.caller_arena else ""),
        )
        if self.pack and not any(isinstance(step, DotStep) and step.packed for step in program.steps):
            notes += (_NOTHING_TO_PACK,)
        placed = [a for a in arguments if a.slot is not None]
        if placed:
            names = ", ".join(f"{prefix}_{a.name}_place" for a in placed)
            held = sum(a.elements * a.tensor.type.bytes for a in placed)
            notes += (f"the arena has room for the inputs, at {names}: arrays of their own take {held:,} bytes more",)
        if self.emit_main:
            notes += (
                "in its folder, `make test` runs it here and `make qemu` on an emulated Cortex-M: both print PASS",
            )
        sources = [f"{prefix}.c", *([f"{prefix}_weights.c"] if binary else [])]  # in C, the weights are no code
        measure = partial(compiled_size, emitted.files, sources, cpu.compiler)
        costs = partial(_costs, program, arena, emitted.step_bytes, footprint, measure)
        return Emission(files, details, ops, notes, costs=costs, functions=functions)

    def runner(self, folder: Path, sidecar: Sidecar) -> CRunner:
        """The emitted C, compiled with the system's compiler. Raises CompileError when there is none."""
        return CRunner(folder, sidecar)


def _has_places(rows: int, memory: str) -> bool | None:
    """Whether inputs lie in the arena, None: where that costs nothing. Never in one that several rows share."""
    return False if rows > 1 else True if memory == SMALL else None


def _costs(
    program: Program,
    arena: Arena,
    constant_bytes: tuple[int, ...],
    footprint: Footprint,
    measure: Callable[[], CompiledSize | None],
) -> Costs:
    """Constants and working memory, step by step; code and stack, if a compiler is there."""
    parts = [
        PartCost(
            ops=tuple(op.result.name for op in step.ops),
            what="layout",
            bytes={"constants": constant_bytes[i]},
            peaks={"arena": arena.bytes_in_use(i)},
        )
        for i, step in enumerate(program.steps)
    ]
    in_use = Timeline(
        memory="arena",
        unit="bytes",
        moves=False,
        time_unit="steps",
        end=len(parts),
        values=tuple(arena.bytes_in_use(i) for i in range(len(parts))),
    )
    return Costs(
        parts=tuple(parts),
        memories=(MemorySize("arena", "bytes", arena.bytes),),
        timelines=(in_use,),
        blocks=tuple(_blocks(arena)),
        footprint=replace(footprint, compiled=measure()),
    )


def _blocks(arena: Arena) -> Iterator[MemoryBlock]:
    """The buffers."""
    for slot in arena.slots.values():
        yield MemoryBlock(
            memory="arena",
            name=slot.buffer.name,
            offset=slot.offset,
            size=slot.buffer.bytes,
            first=slot.first,
            last=slot.last,
        )


def _more_where_wide(emitted: Emitted) -> str:
    """What the constants take on processors where weights are wider."""
    most = emitted.most_constant_bytes
    return f", {most:,} {WHERE_WIDE}" if most > emitted.constant_bytes else ""


def _handed_over(files: Mapping[str, bytes], prefix: str) -> str:
    """How the program gets its constants where that is no matter of course."""
    text_bytes = len(files[f"{prefix}_weights.c"])
    if text_bytes > _LARGE_TEXT:
        return f", {text_bytes // 10**6} MB of C, which compilers read slowly: --weights binary makes a file of bytes"
    if weights_file(prefix) in files:
        return f" in {weights_file(prefix)}: hand them to {prefix}_set_weights"
    return ""
