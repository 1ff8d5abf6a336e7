"""Commands that take the options of every target, as each target declares them.

Our targets' options are always known. Those of installed targets cost the loading of the target: they are looked up for
the help, and where the command line holds an option that nobody knows so far.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import click

from pefslc.console.loading import LoadingCommand
from pefslc.console.usage import usage_error

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from pefslc.targets.options import Option
    from pefslc.targets.protocol import Target

__all__ = ["TargetCommand", "chosen_target", "given_options", "shown_option"]

# In click's Context.meta.
_GIVEN, _INSTALLED, _FROM_FILE = "pefslc.given_options", "pefslc.installed_options", "pefslc.target_from_file"


class TargetCommand(LoadingCommand):
    """A command with --target, and with the options of the targets."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        own = super().get_params(ctx)
        taken = {name for parameter in own for name in parameter.opts}
        found: dict[str, click.Parameter] = {}
        for option in (o for options in _declared(ctx).values() for o in options):
            if option.flag not in taken:
                found.setdefault(option.flag, _parameter(option))
        return [*own, *found.values()]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        _look_at_file(ctx, args)
        try:
            return super().parse_args(ctx, list(args))
        except click.NoSuchOption:
            if _INSTALLED in ctx.meta or not _look_at_installed(ctx):
                raise
            return super().parse_args(ctx, args)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The options of every compile, then those of each target."""
        _look_at_installed(ctx)
        records = [p.get_help_record(ctx) for p in super().get_params(ctx)]
        with formatter.section("Options"):
            formatter.write_dl([record for record in records if record is not None and record[1]])
        for target, options in _declared(ctx).items():
            if options:
                with formatter.section(f"Options of --target {target}"):
                    formatter.write_dl([(shown_option(o), o.help) for o in options])


def given_options(ctx: click.Context) -> dict[str, object]:
    """Option name -> what the command line says, as text or switch; only those that it names."""
    found: dict[str, object] = ctx.meta.get(_GIVEN, {})
    return found


def chosen_target(name: str) -> Target:
    """The target of that name with the options on the command line; a mistake is a usage error."""
    from pefslc.diagnostics.error_codes import Code
    from pefslc.diagnostics.errors import CompileError
    from pefslc.driver import compile_options
    from pefslc.driver.target_registry import find_target
    from pefslc.driver.user_target import inner_target
    from pefslc.targets.options import options_of

    ctx = click.get_current_context()
    given = given_options(ctx)
    from_file: dict[str, Target] = ctx.meta.get(_FROM_FILE, {})
    try:
        target = from_file.get(name, name)
        if given:
            found = find_target(target) if isinstance(target, str) else target
            own = {o.name: o for o in options_of(inner_target(found))}
            given = {key: _converted(own[key], text, ctx) if key in own else text for key, text in given.items()}
        return compile_options.chosen_target(target, given)
    except CompileError as e:
        if any(p.code is Code.TARGET_FAILED for p in e.problems):
            raise  # a fault of the target's
        raise usage_error(e) from None


def _declared(ctx: click.Context) -> Mapping[str, tuple[Option, ...]]:
    """Target name -> options, as far as they are known."""
    from pefslc.driver.target_registry import built_in_options

    from_file = ctx.meta.get(_FROM_FILE, {})
    options = {}
    if from_file:
        from pefslc.targets.options import options_of

        options = {name: options_of(target) for name, target in from_file.items()}
    return {**built_in_options(), **ctx.meta.get(_INSTALLED, {}), **options}


def _look_at_file(ctx: click.Context, args: Sequence[str]) -> None:
    """Load the target of --target FILE.py:Class, once: its options are needed to read the command line."""
    named = [b for a, b in pairwise(args) if a == "--target"]
    named += [a.removeprefix("--target=") for a in args if a.startswith("--target=")]
    for name in named:
        if ".py" not in name:  # nothing heavy is loaded for another
            continue
        from pefslc.diagnostics.errors import CompileError
        from pefslc.driver.target_file import is_target_file, target_of_file

        if is_target_file(name):
            try:
                ctx.meta.setdefault(_FROM_FILE, {})[name] = target_of_file(name)
            except CompileError as e:
                raise usage_error(e) from None


def _look_at_installed(ctx: click.Context) -> bool:
    """Make the options of installed targets known; False where there are none."""
    from pefslc.driver.target_registry import installed_options

    found = ctx.meta.setdefault(_INSTALLED, installed_options())
    return any(found.values())


def _parameter(option: Option) -> click.Option:
    """As click parses it. Targets may share a name with other types: the text is converted for the one chosen."""

    def keep(ctx: click.Context, _: click.Parameter, value: object) -> None:
        if value is not None:
            ctx.meta.setdefault(_GIVEN, {})[option.name] = value

    # What a switch says is what it is not by default. Without `default=None`, click takes False for "not named".
    kind: dict[str, Any] = {"metavar": option.metavar, "type": str}
    if option.is_switch:
        kind = {"is_flag": True, "flag_value": not option.default}
    if option.known is not None:
        kind["shell_complete"] = _complete_known(option.known)
    return click.Option(
        [option.flag, option.name], **kind, default=None, expose_value=False, callback=keep, help=option.help
    )


def _complete_known(known: Callable[[], tuple[str, ...]]) -> Callable[..., list[CompletionItem]]:
    """The values that have names; where none begins so, a file."""

    def complete(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        named = [CompletionItem(value) for value in known() if value.startswith(incomplete)]
        return named or [CompletionItem(incomplete, type="file")]

    return complete


def _converted(option: Option, value: object, ctx: click.Context) -> object:
    if option.is_switch is not isinstance(value, bool):
        takes = "no value" if option.is_switch else "a value"
        raise click.UsageError(
            f"{option.flag} takes {takes} here, but another target's {option.flag} does not: name it from Python", ctx
        )
    parameter = next(p for p in ctx.command.get_params(ctx) if option.flag in p.opts)
    try:
        return click.types.convert_type(option.type)(value, parameter, ctx)
    except click.BadParameter:
        raise click.UsageError(f"{option.flag} is {value!r}, not {option.wanted}", ctx) from None


def shown_option(option: Option) -> str:
    """The flag, and what stands for its value."""
    return option.flag if option.is_switch else f"{option.flag} {option.metavar}"
