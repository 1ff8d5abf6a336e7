"""What a program in C takes of a chip: RAM and flash, in bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pefslc.artifacts.signed_json import JsonObject

__all__ = ["CompiledSize", "Footprint"]


@dataclass(frozen=True, slots=True)
class CompiledSize:
    """The network's own functions, as a compiler made them.

    command      the compiler and its flags
    code_bytes   of the functions, without the constants
    stack_bytes  the most that they need at one time, but for functions of the C library; None where the compiler does
                 not say
    """

    command: str
    code_bytes: int
    stack_bytes: int | None


@dataclass(frozen=True, slots=True)
class Footprint:
    """What a program takes.

    ram             by what it is for: the arena, the inputs and the outputs; not the stack
    constant_bytes  in flash, beside the code
    compiled        None where there is no compiler
    """

    ram: Mapping[str, int]
    constant_bytes: int
    compiled: CompiledSize | None = None

    @property
    def ram_bytes(self) -> int:
        """Without the stack: known without a compiler."""
        return sum(self.ram.values())

    @property
    def ram_text(self) -> str:
        """In words: the number, and its parts."""
        parts = ", ".join(f"{name} {size:,}" for name, size in self.ram.items())
        return f"{self.ram_bytes:,} bytes of RAM and the stack: {parts}"

    def lines(self) -> tuple[str, ...]:
        """In words, with what was measured."""
        if self.compiled is None:
            return (self.ram_text, "no C compiler is there to measure code and stack")
        found, stack = self.compiled, self.compiled.stack_bytes
        both = found.code_bytes + self.constant_bytes
        flash = f"{found.code_bytes:,} bytes of code, {both:,} of flash with the constants"
        total = f"{stack:,} bytes of stack, {self.ram_bytes + stack:,} of RAM in all" if stack is not None else ""
        measured = f"{flash}; {total}" if total else f"{flash}; the compiler does not tell the stack"
        return (self.ram_text, measured, f"by {found.command}")

    def to_json(self) -> JsonObject:
        """The same as JSON."""
        found = self.compiled
        compiled: JsonObject | None = None
        if found is not None:
            stack = found.stack_bytes
            compiled = {
                "command": found.command,
                "code_bytes": found.code_bytes,
                "flash_bytes": found.code_bytes + self.constant_bytes,
                "stack_bytes": stack,
                "ram_bytes": None if stack is None else self.ram_bytes + stack,
            }
        return {
            "ram_bytes_without_stack": self.ram_bytes,
            "ram_parts": dict(self.ram),
            "constant_bytes": self.constant_bytes,
            "compiled": compiled,
        }
