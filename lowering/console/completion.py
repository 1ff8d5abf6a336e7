"""`pefslc completion bash|zsh|fish`: the script by which a shell completes commands, options and files."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

__all__ = ["answer_shell", "complete_pass", "complete_target", "completion"]

_PROGRAM = "pefslc"
_ASKED = "_PEFSLC_COMPLETE"  # the environment variable by which the script asks: click's protocol


@click.command("completion", short_help="the script by which bash, zsh or fish completes pefslc")
@click.argument("shell", type=click.Choice(("bash", "zsh", "fish")))
def completion(shell: str) -> None:
    """Print the script by which SHELL completes commands, options, targets, codes and files. To install it:

    \b
    bash  pefslc completion bash > ~/.local/share/bash-completion/completions/pefslc
    zsh   pefslc completion zsh > ~/.zfunc/_pefslc
          with these two lines in ~/.zshrc:  fpath+=~/.zfunc
                                             autoload -Uz compinit && compinit
    fish  pefslc completion fish > ~/.config/fish/completions/pefslc.fish

    The folder must exist (mkdir -p). Or try it in this shell alone:

    \b
    bash  eval "$(pefslc completion bash)"
    zsh   eval "$(pefslc completion zsh)"
    fish  pefslc completion fish | source
    """
    from click.shell_completion import get_completion_class

    script = get_completion_class(shell)
    assert script is not None, shell
    root = click.get_current_context().find_root().command
    print(script(root, {}, _PROGRAM, _ASKED).source())


def answer_shell(commands: click.Command) -> int | None:
    """What the script asks, answered on stdout: the exit status; None where no shell asks."""
    question = os.environ.get(_ASKED)
    if question is None:
        return None
    from click.shell_completion import shell_complete

    try:
        return shell_complete(commands, {}, _PROGRAM, _ASKED, question)
    except Exception:  # a message would be printed into the line that the user is typing
        return 1


def complete_target(_: click.Context, __: click.Parameter, incomplete: str) -> list[str]:
    """The targets whose names begin so."""
    from pefslc.driver.target_registry import target_names

    return [name for name in target_names() if name.startswith(incomplete)]


def complete_pass(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The passes whose names begin so; where there are none, a file."""
    from click.shell_completion import CompletionItem

    from pefslc.analysis.limits import TargetLimits
    from pefslc.driver.plugins import installed_passes
    from pefslc.passes.pipeline import SAID_BY_USER, pipeline

    known = [p.name for p in pipeline(TargetLimits(64, "the interpreter"))]
    known += [*SAID_BY_USER, *(entry.name for entry in installed_passes())]
    named = [CompletionItem(name) for name in dict.fromkeys(known) if name.startswith(incomplete)]
    return named or [CompletionItem(incomplete, type="file")]
