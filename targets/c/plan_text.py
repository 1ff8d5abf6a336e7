"""The plan of a C program in words: its steps in order, what each reads and writes, and where that lies.

0: t2: u8[1,8,16,16] channels last = dot products, s8 x s8, sums in 32 bits of input0: s8[1,1,16,16] ... (input)
   then round-shift 4, clip
   does conv2d %v15, requantize %v17
t2: arena8[0:2048], in steps 0 to 1
"""

from __future__ import annotations

from collections.abc import Iterator

from pefslc.targets.c.arena import Arena
from pefslc.targets.c.steps import Program
from pefslc.targets.c.storage import Place, Tensor

__all__ = ["plan_text"]


def plan_text(program: Program, arena: Arena) -> str:
    """A line for each step, then a line for each buffer of the working memory."""
    return "".join(f"{line}\n" for line in _lines(program, arena))


def _lines(program: Program, arena: Arena) -> Iterator[str]:
    for number, step in enumerate(program.steps):
        reads = ", ".join(map(_tensor, step.reads))
        yield f"{number}: {_tensor(step.result)} = {step.report} of {reads}"
        stages = ", ".join(s.report for s in step.stages)
        if stages:
            yield f"   then {stages}"
        if step.ops:
            yield f"   does {', '.join(f'{op.mnemonic} %{op.result.name}' for op in step.ops)}"
        if step.scratch:
            yield f"   scratch {', '.join(b.name for b in step.scratch)}"
    for slot in arena.slots.values():
        yield f"{slot.buffer.name}: bytes {slot.offset} to {slot.end}, in steps {slot.first} to {slot.last}"


def _tensor(tensor: Tensor) -> str:
    shape = ",".join(map(str, tensor.shape))
    owner = "" if tensor.buffer.place is Place.ARENA else f" ({tensor.buffer.place.value})"
    return f"{tensor.buffer.name}: {tensor.type.short}[{shape}] {tensor.layout.value}{owner}"
