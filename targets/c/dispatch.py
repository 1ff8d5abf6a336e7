"""One library for all x86-64 processors: the source compiled for some of them, and the best chosen when it runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pefslc.targets.c.arg_max import ArgMax

__all__ = ["VARIANTS", "Exported", "Variant", "exported_functions"]


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

    def renames(self, functions: Sequence[Exported]) -> str:
        """The compiler's options that give the path's functions names of their own."""
        return " ".join(f"-D{f.name}={f.name}_{self.name}" for f in functions)


@dataclass(frozen=True, slots=True)
class Exported:
    """A function of the emitted source: what it returns, takes, and is called with."""

    name: str
    result: str
    parameters: str
    handed: str


def exported_functions(
    prefix: str,
    result: str,
    arguments: Sequence[tuple[str, str]],
    places: Sequence[Exported],
    has_steps: bool,
    arg_maxes: Sequence[ArgMax],
) -> tuple[Exported, ...]:
    """Those of the emitted source. arguments: (name, declaration) of the run's; result: its type.

    places  of inputs
    """
    names, declared = (list(each) for each in zip(*arguments, strict=True))
    found = [Exported(f"{prefix}_run", result, ", ".join(declared), ", ".join(names))]
    if has_steps:
        parameters = ", ".join([*declared, "int32_t step"])
        found.append(Exported(f"{prefix}_step", result, parameters, ", ".join([*names, "step"])))
    found += places
    found += [Exported(f.name, "void", f.parameters, "codes, index") for f in arg_maxes]
    return tuple(found)


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
