"""What a compile is asked for, as a user says it: the target, its options, the format."""

from __future__ import annotations

import math
from numbers import Real

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, Problem, quote, quote_given
from pefslc.driver.target_registry import find_target, guarded, target_names
from pefslc.driver.user_target import MEMBERS, missing_members
from pefslc.numeric.choose_format import AutoFormat
from pefslc.numeric.format import FixedPoint
from pefslc.targets.protocol import Target, TargetOptions

__all__ = ["check_functions", "check_options", "check_requantize", "check_switches", "chosen_target", "parse_format"]

# What only one of our targets reads, and what a user calls it; a target of someone else's is trusted to read all.
_ONLY_FOR = {
    "arch": ("tensil", "an architecture (--arch)"),
    "caller_arena": ("c", "a caller's arena (--caller-arena)"),
    "clock_mhz": ("tensil", "a clock (--clock-mhz)"),
}
_OWNERS = {owner for owner, _ in _ONLY_FOR.values()}


def chosen_target(target: str | Target) -> Target:
    if isinstance(target, str):
        return find_target(target)
    if isinstance(target, type) or missing_members(target):
        raise CompileError(
            Code.UNKNOWN_TARGET,
            f"{quote_given(target)} is not a target",
            hint=f"a name ({', '.join(target_names())}), or an object with {', '.join(MEMBERS)}",
        )
    return guarded(target)


def check_options(target: Target, options: TargetOptions) -> None:
    """Raise CompileError for options that the target would ignore, and for what its own check of them finds."""
    given = {
        "arch": options.arch is not None,
        "caller_arena": options.caller_arena,
        "clock_mhz": options.clock_mhz is not None,
    }
    problems = [
        Problem(
            Code.WRONG_OPTION, f"{what} is for target {quote(owner)}, not {quote(target.name)}", hint="leave it out"
        )
        for option, (owner, what) in _ONLY_FOR.items()
        if given[option] and target.name in _OWNERS and target.name != owner
    ]
    if options.arch is not None and not (isinstance(options.arch, str) and options.arch):
        problems.append(
            Problem(
                Code.WRONG_OPTION,
                f"the architecture (--arch) is {quote_given(options.arch)}, not a name",
                hint=f"leave it out; `pefslc targets` lists those of {target.name}",
            )
        )
    clock = options.clock_mhz
    is_number = isinstance(clock, Real) and not isinstance(clock, bool)
    if clock is not None and not (is_number and 0 < clock < math.inf):
        shown = clock if is_number else quote_given(clock)
        text = f"the clock (--clock-mhz) is {shown}, not a frequency in MHz"
        problems.append(Problem(Code.WRONG_OPTION, text, hint="for example 100"))
    if problems:
        raise CompileError.of(problems)


def check_switches(**given: bool) -> None:
    """Raise CompileError for what is not True or False: of "no", Python would make True."""
    problems = [
        Problem(Code.WRONG_OPTION, f"{name} is {quote_given(value)}, not True or False", hint=f"{name}=True")
        for name, value in given.items()
        if not isinstance(value, bool)
    ]
    if problems:
        raise CompileError.of(problems)


def check_functions(**given: object) -> None:
    """Raise CompileError for what is neither None nor can be called."""
    problems = [
        Problem(Code.WRONG_OPTION, f"{name} is {quote_given(value)}, not a function", hint="leave it out")
        for name, value in given.items()
        if value is not None and not callable(value)
    ]
    if problems:
        raise CompileError.of(problems)


def check_requantize(requantize: bool, fmt: FixedPoint | AutoFormat | None) -> None:
    """Raise CompileError for --requantize without the name of a format."""
    if requantize and not isinstance(fmt, FixedPoint):
        raise CompileError(
            Code.WRONG_OPTION,
            "--requantize changes a quantized model to a format, and none is named",
            hint="for example --fmt Q2.3 --requantize",
        )


def parse_format(fmt: str | FixedPoint | AutoFormat | None) -> FixedPoint | AutoFormat | None:
    """The format that the user named, or the request for formats. Raises CompileError."""
    if fmt is None:
        return None
    if not isinstance(fmt, str | FixedPoint | AutoFormat):
        raise CompileError(
            Code.BAD_FORMAT, f"{quote_given(fmt)} is not a format", hint='for example "Q2.3" or FixedPoint(2, 3)'
        )
    try:
        parsed = AutoFormat.parse(str(fmt)) or FixedPoint.parse(str(fmt))
    except ValueError as e:
        raise CompileError(Code.BAD_FORMAT, str(e), hint='for example "Q2.3" or "auto:8"') from None
    if not isinstance(fmt, str) and parsed != fmt:  # made of fields of other types
        raise CompileError(Code.BAD_FORMAT, f"{fmt!r} is not a format", hint=f"for example {parsed!r}")
    return parsed
