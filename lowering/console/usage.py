"""Mistakes on the command line, exit status 2: those that a check of ours finds, and click's in the words of ours."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

import click

__all__ = ["usage_error", "usage_text"]


def usage_error(error: Exception) -> click.UsageError:
    """The same text, as the user's mistake on the command line."""
    return click.UsageError(str(error))


def usage_text(error: click.UsageError) -> str:
    """What is wrong, and on a second line what to do: the help of the command where nothing more is known."""
    message, advice = _said(error)
    text = message if message.startswith("error[") else f"error: {message}"
    if "\n  help: " in text:
        return text
    command = error.ctx.command_path if error.ctx else "pefslc"
    return f"{text}\n  help: {'; '.join([*advice, f'{command} --help'])}"


def _said(error: click.UsageError) -> tuple[str, list[str]]:
    """The message and some advice."""
    match error:
        case click.NoSuchOption():
            close = get_close_matches(error.option_name, error.possibilities or (), n=1, cutoff=0)
            return f"no option {error.option_name!r}", [f"did you mean {name!r}?" for name in close]
        case click.BadOptionUsage():  # a switch with a value, or an option at the end of the line
            if "does not take a value" in error.message:
                return f"{error.option_name} is a switch, and takes no value", []
            return f"{error.option_name} needs a value", _for_example(_option(error))
        case click.MissingParameter(param=click.Parameter() as parameter):
            return f"{_name(parameter, error.ctx)} is missing", _for_example(parameter)
        case click.BadParameter(param=click.Parameter() as parameter):
            wanted = _wanted(parameter.type)
            value, found, _ = error.message.partition(" is not ")
            if wanted and found:
                return f"{_name(parameter, error.ctx)} is {value.strip(chr(39))!r}, not {wanted}", []
    before, found, rest = error.format_message().partition("Got unexpected extra argument")
    if found and not before:
        return f"nothing takes {rest.partition('(')[2].rstrip('.)')!r}", []
    return error.format_message(), []


def _option(error: click.BadOptionUsage) -> click.Parameter | None:
    if error.ctx is None:
        return None
    known = error.ctx.command.get_params(error.ctx)
    return next((p for p in known if error.option_name in p.opts), None)


def _name(parameter: click.Parameter, ctx: click.Context | None) -> str:
    """Of an option its longest form, of an argument what the help calls it."""
    if isinstance(parameter, click.Option):
        return max(parameter.opts, key=len)
    context = ctx or click.Context(click.Command(None))
    return (parameter.metavar or parameter.make_metavar(context)).strip("{}[].")


def _for_example(parameter: click.Parameter | None) -> list[str]:
    """How it is given, if that is more than its name."""
    if parameter is None:
        return []
    if isinstance(parameter.type, click.Choice):
        return [_or(parameter.type.choices)]
    if isinstance(parameter, click.Option) and parameter.metavar:
        return [f"{max(parameter.opts, key=len)} {parameter.metavar}"]
    return []


def _wanted(kind: click.ParamType[Any]) -> str:
    """What values of that type are; "" where its own message says it."""
    match kind:
        case click.Choice():
            return _or(kind.choices)
        case click.IntRange() | click.FloatRange():
            what = "a whole number" if isinstance(kind, click.IntRange) else "a number"
            if kind.max is not None:
                return f"{what} from {kind.min} to {kind.max}"
            return f"{what} above {kind.min:g}" if kind.min_open else f"{what} of {kind.min:g} or more"
        case click.types.IntParamType():
            return "a whole number"
        case click.types.FloatParamType():
            return "a number"
    return ""


def _or(names: Sequence[object]) -> str:
    *others, last = map(str, names)
    return f"{', '.join(others)} or {last}" if others else last
