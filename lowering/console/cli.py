"""The command `pefslc`: runs a command and turns its end into an exit status.

0 done; 1 refused, differs or unproved; 2 usage; 70 a fault of ours; 130 interrupted; 143 terminated.
"""

from __future__ import annotations

import errno
import gc
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import click

from pefslc.console.completion import answer_shell
from pefslc.console.group import commands
from pefslc.console.streams import discard_output
from pefslc.console.usage import usage_text
from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, InternalError
from pefslc.files.reading import unreadable
from pefslc.version import __version__

__all__ = ["end_interrupted", "main", "run"]

DONE, REFUSED, USAGE, OUR_FAULT, INTERRUPTED, TERMINATED = 0, 1, 2, 70, 130, 143

_NOTHING_HALF = "what was being written is there whole, or not at all"

# What the arguments name and is not there.
_OF_USAGE = frozenset({Code.NO_SUCH_FILE, Code.UNKNOWN_ARCHITECTURE})

# What a write to stdout ends with; files that cannot be written are a CompileError where they are written.
_OUTPUT_ERRORS = frozenset({errno.ENOSPC, errno.EIO, errno.EBADF, errno.EFBIG})


def main() -> None:
    """The console script."""
    gc.set_threshold(100_000, 50, 100)  # a compile makes a million objects that live to its end, and hardly a cycle
    signal.signal(signal.SIGTERM, _terminate)
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup ignores it
        signal.signal(signal.SIGHUP, _terminate)
    answered = answer_shell(commands)
    sys.exit(run(sys.argv[1:]) if answered is None else answered)


def end_interrupted() -> NoReturn:
    """The end of a command that was interrupted before it began."""
    _complain(f"interrupted: {_NOTHING_HALF}")
    sys.exit(INTERRUPTED)


class _TerminatedError(KeyboardInterrupt):
    """SIGTERM or SIGHUP: what an interrupt tidies up, it tidies up, too."""


def _terminate(*_: object) -> None:
    raise _TerminatedError


def run(arguments: Sequence[str]) -> int:
    """Run `pefslc` with these arguments; returns the exit status."""
    status = _run(arguments)
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        discard_output()
    except OSError as e:
        status = max(status, _output_failed(e))
    return status


def _run(arguments: Sequence[str]) -> int:
    try:
        # Not `commands.main`: it answers interrupts and closed pipes itself, in its own way.
        with commands.make_context("pefslc", list(arguments)) as context:
            commands.invoke(context)
        return DONE
    except click.exceptions.Exit as e:
        return e.exit_code
    except click.exceptions.NoArgsIsHelpError as e:
        _complain(e.ctx.get_help() if e.ctx else e.message)
        return USAGE
    except click.UsageError as e:
        _complain(usage_text(e))
        return USAGE
    except CompileError as e:
        _complain(f"{e}{_where_more_is_told(e)}")
        return USAGE if all(problem.code in _OF_USAGE for problem in e.problems) else REFUSED
    except _TerminatedError:
        _complain(f"terminated: {_NOTHING_HALF}")
        return TERMINATED
    except (click.Abort, KeyboardInterrupt):
        _complain(f"interrupted: {_NOTHING_HALF}")
        return INTERRUPTED
    except BrokenPipeError:
        discard_output()  # its reader has what it wanted
        return DONE
    except Exception as e:
        if isinstance(e, OSError) and e.filename is None and e.errno in _OUTPUT_ERRORS:
            return _output_failed(e)
        if isinstance(e, OSError) and e.filename is not None and e.errno == errno.ENAMETOOLONG:
            _complain(str(unreadable(Path(str(e.filename)), e)))  # whoever looked first whether it is a folder
            return REFUSED
        if "--debug" in arguments:
            raise
        _complain(_fault_text(e, arguments))
        return OUR_FAULT


def _complain(text: str) -> None:
    """Print to stderr, where there is one."""
    with suppress(OSError):
        if sys.stderr is not None:
            print(text, file=sys.stderr, flush=True)


def _where_more_is_told(error: CompileError) -> str:
    """For people, not for logs and tools: a line with the command that explains the codes."""
    if sys.stderr is None or not sys.stderr.isatty():
        return ""
    codes = dict.fromkeys(problem.code.number for problem in error.problems)
    return f"\n  more: pefslc explain {' '.join(codes)}"


def _output_failed(error: OSError) -> int:
    _complain(f"error[{Code.CANNOT_WRITE}]: cannot write the output: {error.strerror or error}")
    discard_output()
    return REFUSED


def _fault_text(error: Exception, arguments: Sequence[str]) -> str:
    import platform
    import shlex

    what = str(error) if isinstance(error, InternalError) else f"{type(error).__name__}: {error}"
    return "\n".join(
        [
            f"fault in pefslc: {what}",
            "  This is ours, not yours. Please report it with these lines and, if you may, the model:",
            f"  pefslc {__version__}, Python {platform.python_version()}, {platform.system()}",
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
