"""What the C target can be told. Loads nothing heavy: `pefslc --help` shows it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, Problem
from pefslc.targets.c.cpus import CPUS, FAST, SMALL
from pefslc.targets.options import check_values, option

__all__ = ["BINARY", "TEXT", "COptions"]

TEXT, BINARY = "text", "binary"  # forms of the constants

_MOST_THREADS = 64

_NAMES = tuple(cpu.name for cpu in CPUS)
_WITH_TILES = "x86-64-amx"  # which compilers cannot ask for as a program runs, before clang 15
_OF_X86 = tuple(n for n in _NAMES if n != _WITH_TILES and (n == "generic" or n.startswith("x86-64")))


@dataclass(frozen=True, slots=True, kw_only=True)
class COptions:
    """The options of `CTarget`. Raises CompileError for values that they cannot have."""

    name: ClassVar[str] = "c"
    summary: ClassVar[str] = "portable C99: integers only, no allocation"

    caller_arena: bool = option(
        False, type=bool, example="True", help="the caller supplies the working memory, instead of a static array"
    )

    cpu: str = option(
        "generic",
        type=str,
        metavar="NAME",
        wanted=f"one of {', '.join(_NAMES)}",
        example="'x86-64-v4'",
        accepts=lambda name: name in _NAMES,
        known=lambda: _NAMES,
        help="the processor that the C is laid out for; it runs on every one  [default: generic]",
    )

    memory: str = option(
        FAST,
        type=str,
        metavar=f"{FAST}|{SMALL}",
        wanted=f"{FAST!r} or {SMALL!r}",
        example=f"{SMALL!r}",
        accepts=lambda plan: plan in (FAST, SMALL),
        known=lambda: (FAST, SMALL),
        help="least time, or least working memory: results lie over what is no longer read  [default: fast]",
    )

    weights: str = option(
        TEXT,
        type=str,
        metavar=f"{TEXT}|{BINARY}",
        wanted=f"{TEXT!r} or {BINARY!r}",
        example=f"{BINARY!r}",
        accepts=lambda form: form in (TEXT, BINARY),
        known=lambda: (TEXT, BINARY),
        help="constants as C text, or as a binary file that the caller loads  [default: text]",
    )

    pack: bool = option(
        False,
        type=bool,
        example="True",
        help="store weights of 2 to 7 bits in as many bits, and unpack them as the layer runs: less flash, more time",
    )

    steps: int | None = option(
        None,
        type=int,
        metavar="MACS",
        wanted="1 or more",
        example="50_000",
        accepts=lambda most: most >= 1,
        help="write NAME_step, which does the run in calls of about so many multiply-accumulates",
    )

    threads: int = option(
        1,
        type=int,
        metavar="N",
        wanted="1 to 64",
        example="2",
        accepts=lambda count: 1 <= count <= _MOST_THREADS,
        help="compute large layers in N parts at one time: with -fopenmp, or by a function of yours  [default: 1]",
    )

    emit_main: bool = option(
        False,
        type=bool,
        example="True",
        help="write main.c, which tests the network on known codes, and a Makefile for this machine and for Cortex-M",
    )
    dispatch: bool = option(
        False,
        type=bool,
        example="True",
        help="write NAME_dispatch.c: one library for all x86-64 processors, which takes the best path when it runs",
    )
    cmake: bool = option(False, type=bool, example="True", help="write CMakeLists.txt: the network as a CMake library")
    arduino: bool = option(
        False, type=bool, example="True", help="write NAME_arduino.zip: an Arduino library with an example"
    )

    def __post_init__(self) -> None:
        check_values(self)
        conflicts = [
            Problem(Code.WRONG_OPTION, message, hint=hint)
            for is_wrong, message, hint in (
                (
                    self.steps is not None and self.threads > 1,
                    "a run in calls has one thread (--steps, --threads)",
                    "leave out --threads",
                ),
                (
                    self.dispatch and self.cpu == _WITH_TILES,
                    "no path has AMX (--cpu, --dispatch)",
                    "--cpu x86-64-v4; or leave out --dispatch",
                ),
                (
                    self.dispatch and self.cpu not in (*_OF_X86, _WITH_TILES),
                    f"paths of x86-64 are of no use for {self.cpu} (--cpu, --dispatch)",
                    f"--cpu {', '.join(_OF_X86)}; or leave out --dispatch",
                ),
                (
                    self.arduino and self.dispatch,
                    "an Arduino has no x86-64 processor (--arduino, --dispatch)",
                    "leave out --dispatch",
                ),
                (
                    self.arduino and self.weights == BINARY,
                    "an Arduino library has its weights in C (--arduino, --weights binary)",
                    "leave out --weights binary",
                ),
            )
            if is_wrong
        ]
        if conflicts:
            raise CompileError.of(conflicts)

    @property
    def has_one_compilation(self) -> bool:
        """Whether a compiler reads the weights, for the one processor that it compiles the functions for."""
        return self.weights == TEXT and not self.dispatch

    @property
    def has_test(self) -> bool:
        """Whether a file needs a golden vector."""
        return self.emit_main or self.arduino
