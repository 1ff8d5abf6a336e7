"""What a compile is asked for, as a user says it: the target, its options, the format."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from math import inf

import numpy as np

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, Problem, quote, quote_given
from pefslc.driver.target_file import is_target_file, target_of_file
from pefslc.driver.target_registry import find_target, guarded, option_owners, target_names
from pefslc.driver.user_target import MEMBERS, RESERVED, UserTarget, inner_target, missing_members
from pefslc.ir.graph import Graph, GraphInput
from pefslc.numeric.choose_format import AutoFormat
from pefslc.numeric.format import FixedPoint
from pefslc.passes.input_formats import InputFormats, format_of_input
from pefslc.targets.options import Option, check_values, options_of, with_options
from pefslc.targets.protocol import Target, host_words_of

__all__ = [
    "check_functions",
    "check_input_formats",
    "check_max_error",
    "check_requantize",
    "check_switches",
    "chosen_target",
    "data_limit_bytes",
    "parse_format",
    "parse_input_format",
    "words_of_host",
]


def chosen_target(target: str | Target, values: Mapping[str, object] | None = None) -> Target:
    """The target, by its name or itself, with these options. Raises CompileError.

    values  by option name. None says nothing where the option is another target's: a script may pass it to every target
    """
    if isinstance(target, str) and is_target_file(target):
        target = target_of_file(target)
    if isinstance(target, str):
        chosen = find_target(target)
    elif isinstance(target, type) or missing_members(target):
        raise CompileError(
            Code.UNKNOWN_TARGET,
            f"{quote_given(target)} is not a target",
            hint=_meant_target(target)
            or f"a name ({', '.join(target_names())}), or an object with {', '.join(MEMBERS)}",
        )
    else:
        chosen = guarded(target)
    own = {o.name: o for o in options_of(inner_target(chosen))}
    named = {name: value for name, value in (values or {}).items() if name in own}
    problems = [
        _foreign_option(chosen, name, own, owners)
        for name, value in (values or {}).items()
        if name not in own and not ((owners := option_owners(name)) and value is None)
    ]
    if problems:
        raise CompileError.of(problems)
    if isinstance(chosen, UserTarget):
        return chosen.with_options(named)
    configured = with_options(chosen, named)
    check_values(configured)
    return configured


def _meant_target(given: object) -> str:
    """For the class of a target: the object that was meant."""
    if not isinstance(given, type) or any(not hasattr(given, member) for member in MEMBERS):
        return ""
    return f"it is a class: did you mean an object of it, {given.__name__}()?"


def _foreign_option(target: Target, name: str, own: Mapping[str, Option], owners: Sequence[str]) -> Problem:
    """The refusal of an option that the target does not declare."""
    text = f"target {quote(target.name)} has no option {quote(name)}"
    if owners:
        flag, others = f"--{name.replace('_', '-')}", " and of ".join(map(quote, owners))
        text = f"{name} ({flag}) is an option of target {others}, not of {quote(target.name)}"
    known = ", ".join(f"{o.name} ({o.flag})" for o in own.values())
    close = difflib.get_close_matches(name, [*own, *sorted(RESERVED - {name})], n=1)
    maybe = f"did you mean {close[0]}? " if close and not owners else ""
    return Problem(Code.WRONG_OPTION, text, hint=f"{maybe}options of {target.name}: {known or 'none'}")


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


def check_requantize(requantize: bool, fmt: FixedPoint | AutoFormat | None, formats: object = None) -> None:
    """Raise CompileError for --requantize without the name of a format, and with formats by name."""
    if requantize and formats is not None:
        raise CompileError(
            Code.WRONG_OPTION,
            "--requantize changes a model to the one format of --fmt, and --formats names several",
            hint="leave one of them out; of a quantized model --formats asserts",
        )
    if requantize and not isinstance(fmt, FixedPoint):
        raise CompileError(
            Code.WRONG_OPTION,
            "--requantize changes a quantized model to a format, and none is named",
            hint="for example --fmt Q2.3 --requantize",
        )


def check_max_error(max_error: float | None, measured: bool) -> None:
    """Raise CompileError for a largest error that is none, or that nothing is held to."""
    if max_error is None:
        return
    if isinstance(max_error, bool) or not isinstance(max_error, int | float) or not 0 <= max_error < inf:
        raise CompileError(
            Code.WRONG_OPTION,
            f"max_error (--max-error) is {quote_given(max_error)}, not a number of 0 or more",
            hint="in the units of the outputs, for example 0.1",
        )
    if not measured:
        raise CompileError(
            Code.WRONG_OPTION,
            "--max-error is given, but no inputs to measure the error on",
            hint="give inputs, too: --verify INPUTS.npz",
        )


def data_limit_bytes(data_limit: float) -> int:
    """The bytes that are read of files beside the model, for a limit in GiB. Raises CompileError."""
    if isinstance(data_limit, bool) or not isinstance(data_limit, int | float) or not 0 < data_limit < inf:
        raise CompileError(
            Code.WRONG_OPTION,
            f"data_limit (--data-limit) is {quote_given(data_limit)}, not a number above 0",
            hint="in GiB, for example 4",
        )
    return int(data_limit * (1 << 30))


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


def parse_input_format(
    fmt: str | FixedPoint | Mapping[str, str | FixedPoint] | None,
) -> FixedPoint | dict[str, FixedPoint] | None:
    """The format in which the host hands over inputs, of all or by name. Raises CompileError."""
    if isinstance(fmt, Mapping):
        return {name: _named_format(one) for name, one in fmt.items()}
    return None if fmt is None else _named_format(fmt)


def _named_format(fmt: str | FixedPoint) -> FixedPoint:
    parsed = parse_format(fmt)
    if not isinstance(parsed, FixedPoint):
        raise CompileError(Code.BAD_FORMAT, f"{fmt} names no format of inputs", hint='for example "Q8.8"')
    return parsed


def check_input_formats(fmt: InputFormats, inputs: Sequence[GraphInput]) -> None:
    """Raise CompileError for a format of an input that the model does not have, and for one of an input of integers
    that holds no positive one of them.
    """
    names = [i.name for i in inputs]
    problems = [
        Problem(
            Code.WRONG_OPTION,
            f"a format (--input-fmt) is given for {quote(name)}, and the model has no such input",
            hint=f"its inputs: {', '.join(map(quote, names))}",
        )
        for name in (fmt if isinstance(fmt, Mapping) else ())
        if name not in names
    ]
    for i in inputs:
        given = format_of_input(fmt, i.name)
        if given is not None and i.integers and given.quantization.value(given.quantization.high) < 1:
            limits = np.iinfo(i.integers)
            whole = f"{'U' if limits.min == 0 else ''}Q{limits.bits}.0"
            problems.append(
                Problem(
                    Code.WRONG_OPTION,
                    f"input {quote(i.name)} holds {i.integers}, and {given.describe()} (--input-fmt) holds no positive "
                    "integer",
                    hint=f"its numbers are those of the file, not scaled yet: --input-fmt {i.name}={whole}",
                )
            )
    if problems:
        raise CompileError.of(problems)


def words_of_host(target: Target | None, graph: Graph, given: InputFormats) -> dict[str, FixedPoint]:
    """What the target says of the inputs that its host writes as words, but for those that the user gave such words."""
    words = {} if target is None else host_words_of(target, graph)
    own = {name: format_of_input(given, name) for name in words}
    return {n: w for n, w in words.items() if (g := own[n]) is None or (g.bits, g.signed) != (w.bits, w.signed)}
