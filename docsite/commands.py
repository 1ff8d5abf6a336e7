"""The page of the commands: what `pefslc COMMAND --help` prints, as Markdown.

click lays out the help of a command by calls to a formatter; this one writes Markdown instead of columns, so the page
has the very words of the help, in their order.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import click

from pefslc.console.group import commands

_HEAD = """\
# Commands

What `pefslc COMMAND --help` prints. `pefslc MODEL.onnx ...` means `pefslc compile MODEL.onnx ...`.
"""


def commands_page() -> str:
    """The Markdown of the page."""
    return "\n".join([_HEAD, *_sections(click.Context(commands, info_name="pefslc"), 2)])


class MarkdownFormatter(click.HelpFormatter):
    """Takes what click's own formatter takes."""

    def write_usage(self, prog: str, args: str = "", prefix: str | None = None) -> None:  # noqa: ARG002 click's
        self.write(f"```text\n{prog} {args}\n```\n\n")

    def write_heading(self, heading: str) -> None:
        self.write(f"**{heading}**\n\n")

    def write_text(self, text: str) -> None:
        self.write(f"{_markdown(' '.join(text.split()))}\n\n")

    def write_dl(self, rows: Sequence[tuple[str, str]], col_max: int = 30, col_spacing: int = 2) -> None:  # noqa: ARG002 click's
        for name, meaning in rows:
            self.write(f"`{name}`\n: {_markdown(meaning) or '-'}\n\n")

    @contextmanager
    def section(self, name: str) -> Iterator[None]:
        self.write_heading(name)
        yield


def _sections(context: click.Context, level: int) -> Iterator[str]:
    """A section for the command of `context`, then those of the commands below it."""
    yield f"{'#' * level} {context.command_path}\n"
    formatter = MarkdownFormatter()
    command = context.command
    root = context.parent is None  # its help is that of `compile`, laid out for a terminal
    if root:
        command.format_commands(context, formatter)
    else:
        command.format_help(context, formatter)
    yield formatter.getvalue()
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            if below is not None and not below.hidden:
                yield from _sections(click.Context(below, info_name=name, parent=context), level + 1 - root)


def _markdown(text: str) -> str:
    """Prose in which nothing but `code` means anything."""
    parts = re.split(r"(`[^`]+`)", text)
    return "".join(p if i % 2 else re.sub(r"([\\*_\[\]<>|#~])", r"\\\1", p) for i, p in enumerate(parts))
