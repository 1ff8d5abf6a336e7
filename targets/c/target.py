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
from pefslc.artifacts.sidecar import Json, JsonObject, Sidecar
from pefslc.ir.batch import batch_of, with_batch
from pefslc.ir.graph import Graph
from pefslc.targets.c.arena import Arena, plan_arena
from pefslc.targets.c.calls import with_threads
from pefslc.targets.c.compiled_size import compiled_size
from pefslc.targets.c.cpus import SMALL, adapted, cpu_named
from pefslc.targets.c.emit import Emitted, emit
from pefslc.targets.c.interface import Interface, interface_of
from pefslc.targets.c.naming import model_prefix, weights_file
from pefslc.targets.c.options import BINARY, COptions
from pefslc.targets.c.plan import plan_program
from pefslc.targets.c.plan_text import plan_text
from pefslc.targets.c.proportion import out_of_proportion
from pefslc.targets.c.runner import CRunner
from pefslc.targets.c.starter import starter_files
from pefslc.targets.c.steps import ConvolutionStep, Program
from pefslc.targets.protocol import Emission, OpReport, Stage, TargetOptions

__all__ = ["CTarget"]

_LARGE_TEXT = 1 << 24  # some seconds of gcc, and 200 MB of its memory

_NOTHING_TO_PACK = (
    "--pack packs nothing here: it takes weights of 2 to 7 bits, read as bytes, of layers not depthwise nor grouped"
)


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
        of_all_rows = plan_program(graph, cpu) if rows > 1 else program
        interface = interface_of(graph, of_all_rows, arena, model_prefix(graph.name), self)
        emitted = emit(program, arena, interface, self, rows)
        footprint = _footprint(arena, interface, emitted)
        sources = [f"{interface.prefix}.c"]
        if self.weights == BINARY:  # in C, the weights are no code
            sources.append(f"{interface.prefix}_weights.c")
        measure = partial(compiled_size, emitted.files, sources, cpu.compiler)
        how = program.implementation
        return Emission(
            {**emitted.files, **starter_files(graph, interface, self, emitted)},
            self._details(program, arena, interface, emitted, rows),
            {name: OpReport(how[name]) for op in graph.ops if (name := op.result.name) in how},
            tuple(self._notes(program, interface, emitted, footprint, rows)),
            costs=partial(_costs, program, arena, emitted.step_bytes, footprint, measure),
            functions={f.onnx_name: f"{f.name} computes of them {f.text}, exactly" for f in interface.arg_maxes},
        )

    def _details(self, program: Program, arena: Arena, interface: Interface, emitted: Emitted, rows: int) -> JsonObject:
        """What the sidecar says of the files."""
        prefix = interface.prefix
        places = {a.name: place.name for a, place in interface.places}
        details: dict[str, Json] = {
            "function": interface.run.name,
            "header": f"{prefix}.h",
            "sources": [f"{prefix}.c", f"{prefix}_weights.c"],
            "cpu": self.cpu,
            "caller_arena": self.caller_arena,
            "memory": self.memory,
            "pack": self.pack,
            "arena_bytes": arena.bytes,
            "constant_bytes": emitted.constant_bytes,
            "macs": program.macs * rows,
            "arguments": [
                {
                    "name": a.name,
                    "onnx_name": a.onnx_name,
                    "direction": "input" if a.is_input else "output",
                    "type": str(a.tensor.type),
                    "shape": list(a.tensor.shape),
                    **({"place": places[a.name]} if a.name in places else {}),
                }
                for a in interface.arguments
            ],
        }
        if self.weights == BINARY:
            details |= {"weights_file": weights_file(prefix), "set_weights": f"{prefix}_set_weights"}
        if interface.arg_maxes:
            details["arg_max"] = [
                {"output": f.onnx_name, "function": f.name, "indices": f.results} for f in interface.arg_maxes
            ]
        return details

    def _notes(
        self, program: Program, interface: Interface, emitted: Emitted, footprint: Footprint, rows: int
    ) -> Iterator[str]:
        """What a user is told."""
        yield f"{program.macs * rows:,} MACs"
        handed_over = _handed_over(emitted.files, interface.prefix)
        remark = out_of_proportion(program, emitted.step_bytes)
        yield f"{emitted.constant_bytes:,} bytes of constants{_more_where_wide(emitted)}{handed_over}{remark}"
        yield footprint.ram_text + ("; the caller supplies the arena" if self.caller_arena else "")
        if self.pack and not any(isinstance(step, ConvolutionStep) and step.packed for step in program.steps):
            yield _NOTHING_TO_PACK
        if interface.places:
            names = ", ".join(place.name for _, place in interface.places)
            held = sum(a.bytes for a, _ in interface.places)
            yield f"the arena has room for the inputs, at {names}: arrays of their own take {held:,} bytes more"
        if self.emit_main:
            yield "in its folder, `make test` runs it here and `make qemu` on an emulated Cortex-M: both print PASS"

    def runner(self, folder: Path, sidecar: Sidecar) -> CRunner:
        """The emitted C, compiled with the system's compiler. Raises CompileError when there is none."""
        return CRunner(folder, sidecar)


def _has_places(rows: int, memory: str) -> bool | None:
    """Whether inputs lie in the arena, None: where that costs nothing. Never in one that several rows share."""
    return False if rows > 1 else True if memory == SMALL else None


def _footprint(arena: Arena, interface: Interface, emitted: Emitted) -> Footprint:
    """Inputs that have a place in the arena take no memory of their own."""
    ram = {"arena": arena.bytes}
    for a in interface.arguments:
        if a.slot is None:
            what = "inputs" if a.is_input else "outputs"
            ram[what] = ram.get(what, 0) + a.bytes
    return Footprint(ram, emitted.constant_bytes)


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
    return f", up to {most:,} on x86" if most > emitted.constant_bytes else ""


def _handed_over(files: Mapping[str, bytes], prefix: str) -> str:
    """How the program gets its constants where that is no matter of course."""
    text_bytes = len(files[f"{prefix}_weights.c"])
    if text_bytes > _LARGE_TEXT:
        return f", {text_bytes // 10**6} MB of C, which compilers read slowly: --weights binary makes a file of bytes"
    if weights_file(prefix) in files:
        return f" in {weights_file(prefix)}: hand them to {prefix}_set_weights"
    return ""
