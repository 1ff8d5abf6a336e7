"""The command `pefslc`: runs a command and turns its end into an exit status.

0 done; 1 refused, differs or unproved; 2 usage; 70 a fault of ours; 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import click

from pefslc.console.group import commands
from pefslc.diagnostics import CompileError, InternalError

__all__ = ["main", "run"]

DONE, REFUSED, USAGE, OUR_FAULT, INTERRUPTED = 0, 1, 2, 70, 130


def main() -> None:
    """The console script."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run `pefslc` with these arguments; returns the exit status."""
    try:
        # Not `commands.main`: it answers interrupts and closed pipes itself, in its own way.
        with commands.make_context("pefslc", list(arguments)) as context:
            commands.invoke(context)
        sys.stdout.flush()
        return DONE
    except click.exceptions.Exit as e:
        return e.exit_code
    except click.exceptions.NoArgsIsHelpError as e:
        print(e.ctx.get_help() if e.ctx else e.message, file=sys.stderr)
        return USAGE
    except click.UsageError as e:
        print(_usage_text(e), file=sys.stderr)
        return USAGE
    except CompileError as e:
        print(e, file=sys.stderr)
        return REFUSED
    except (click.Abort, KeyboardInterrupt):
        print("interrupted: nothing was written", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has what it wanted; the interpreter's own flush at exit must not complain either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except Exception as e:
        if "--debug" in arguments:
            raise
        print(_fault_text(e, arguments), file=sys.stderr)
        return OUR_FAULT


def _usage_text(error: click.UsageError) -> str:
    lines = [f"error: {error.format_message()}"]
    command = error.ctx.command_path if error.ctx else "pefslc"
    lines.append(f"  help: {command} --help")
    return "\n".join(lines)


def _fault_text(error: Exception, arguments: Sequence[str]) -> str:
    import platform
    import shlex

    import pefslc

    what = str(error) if isinstance(error, InternalError) else f"{type(error).__name__}: {error}"
    return "\n".join(
        [
            f"fault in pefslc: {what}",
            "  This is ours, not yours. Please report it with these lines and, if you may, the model:",
            f"  pefslc {pefslc.__version__}, Python {platform.python_version()}, {platform.system()}",
            f"  pefslc {shlex.join(arguments)}",
            *_model_lines(arguments),
            "  The same command with --debug shows where it happened.",
        ]
    )


def _model_lines(arguments: Sequence[str]) -> list[str]:
    from hashlib import sha256

    found = []
    for argument in arguments:
        if argument.endswith(".onnx") and os.path.isfile(argument):
            with open(argument, "rb") as file:
                found.append(f"  {os.path.basename(argument)}: sha256 {sha256(file.read()).hexdigest()}")
    return found
