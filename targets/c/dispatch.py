"""One library for all x86-64 processors: the source compiled for some of them, and the best chosen when it runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pefslc.targets.c.prototypes import Prototype

__all__ = ["VARIANTS", "Variant"]


@dataclass(frozen=True, slots=True)
class Variant:
    """A path: the source compiled with flags that some processors allow.

    name      of the path: what the names of its functions end with
    flags     of gcc and clang
    features  that the processor must have, as __builtin_cpu_supports names them; none for every processor
    """

    name: str
    flags: str
    features: tuple[str, ...]

    def of_path(self, function: Prototype) -> Prototype:
        """The function in this path."""
        return replace(function, name=f"{function.name}_{self.name}")

    def renames(self, functions: Sequence[Prototype]) -> str:
        """The compiler's options that give the path's functions names of their own."""
        return " ".join(f"-D{f.name}={self.of_path(f).name}" for f in functions)


# The best first; the last runs on every processor.
_V3 = ("avx2", "bmi", "bmi2", "fma")
_V4 = (*_V3, "avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl")
VARIANTS = (
    Variant(
        "avx512vbmi",
        "-march=x86-64-v4 -mavx512vnni -mavx512vbmi",
        (*_V4, "avx512vnni", "avx512vbmi"),
    ),
    Variant("avx512vnni", "-march=x86-64-v4 -mavx512vnni", (*_V4, "avx512vnni")),
    Variant("avx2", "-march=x86-64-v3", _V3),
    Variant("baseline", "-march=x86-64", ()),
)
