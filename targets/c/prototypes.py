"""Heads of emitted C functions: what they return, are called and take."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Parameter", "Prototype"]


@dataclass(frozen=True, slots=True)
class Parameter:
    """type: what stands before the name, with the space or the star behind it."""

    type: str
    name: str

    def __str__(self) -> str:
        return f"{self.type}{self.name}"


@dataclass(frozen=True, slots=True)
class Prototype:
    """result: the type, with the space or the star behind it."""

    result: str
    name: str
    parameters: tuple[Parameter, ...]

    def __str__(self) -> str:
        return f"{self.result}{self.name}({', '.join(map(str, self.parameters)) or 'void'})"

    @property
    def handed(self) -> str:
        """The arguments of a call by a function that has the same parameters."""
        return ", ".join(each.name for each in self.parameters)
