"""The commands together: a bare model path means compile, a known command wins over a file of its name."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING, Any

import click

from pefslc.console.check import check
from pefslc.console.compiling import compile_model
from pefslc.console.completion import completion
from pefslc.console.deploying import deploy
from pefslc.console.disassembling import disassemble_program
from pefslc.console.examining import examine
from pefslc.console.explaining import explain
from pefslc.console.fewshot_group import fewshot
from pefslc.console.formats import write_formats
from pefslc.console.helping import show_help
from pefslc.console.inspecting import inspect_model
from pefslc.console.listing import list_passes, list_targets
from pefslc.console.reporting import report_model
from pefslc.console.rewriting import rewrite_graph
from pefslc.console.running import run_artifact
from pefslc.console.schema import show_schema
from pefslc.console.viewing import view_graph
from pefslc.version import __version__

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

__all__ = ["commands"]

_WIDEST, _NARROWEST = 100, 40

_ABOUT = """\
What was trained is what runs: pefslc lowers a quantized ONNX network, as Brevitas exports it, to the Tensil
accelerator or to C, integer for integer; where it cannot, it says where and by how much, or refuses."""

_FORMATS = (
    "Formats: Qm.n is signed, m integer bits including the sign and n fraction bits; UQm.n is unsigned.",
    "Q2.3 has 5 bits, step 0.125, range [-2, 1.875]; UQ2.3 has 5 bits, range [0, 3.875]; Q8.8 is Tensil's FP16BP8.",
    "--fmt asserts the format of the model's weight and activation quantizers, and gives it to an unquantized input.",
)

_EXAMPLES = (
    "pefslc model.onnx --target c --fmt Q2.3 -o build/",
    "pefslc model.onnx --target tensil --arch custom_perf -o build/ --verify model.npz",
    "pefslc run build/ --inputs x.npz -o y.npz",
)

_STATUS = "Exit status: 0 done; 1 refused, differs or unproved; 2 usage; 70 a fault of ours."


class _Commands(click.Group):
    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        kwargs.setdefault("terminal_width", _help_width())
        return super().make_context(*args, **kwargs)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Commands and options; where none begins so, the file of a model, for the word `compile` may be left out."""
        from click.shell_completion import CompletionItem

        # The script for bash forgets all other answers where one of them is "a file".
        return super().shell_complete(ctx, incomplete) or [CompletionItem(incomplete, type="file")]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ("--help", "-h", "--version"):
            args = ["compile", *args]
        return super().parse_args(ctx, args)

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write("Usage: pefslc MODEL.onnx --target TARGET [OPTIONS]\n       pefslc COMMAND ...\n\n")
        formatter.write_text(_ABOUT)
        compile_context = click.Context(compile_model, info_name="pefslc", parent=ctx)
        compile_model.format_options(compile_context, formatter)
        with formatter.section("Commands"):
            formatter.write_dl(
                [
                    (name, command.get_short_help_str(90))
                    for name, command in self.commands.items()
                    if not command.hidden
                ]
            )
        formatter.write_paragraph()
        for line in _FORMATS:
            formatter.write_text(line)
        with formatter.section("Examples"):
            for example in _EXAMPLES:
                formatter.write(f"  {example}\n")
        formatter.write_paragraph()
        formatter.write_text(_STATUS)


def _help_width() -> int:
    """The terminal's, within reason; in a pipe, where nobody's terminal is meant, always the same."""
    if sys.stdout is None or not sys.stdout.isatty():
        return _WIDEST
    return max(_NARROWEST, min(_WIDEST, shutil.get_terminal_size().columns - 1))


commands = _Commands(
    "pefslc",
    commands=[
        compile_model,
        inspect_model,
        check,
        write_formats,
        report_model,
        run_artifact,
        deploy,
        disassemble_program,
        fewshot,
        rewrite_graph,
        view_graph,
        list_passes,
        list_targets,
        show_schema,
        examine,
        explain,
        show_help,
        completion,
    ],
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": _WIDEST},
    no_args_is_help=True,
)
click.version_option(__version__, message="pefslc %(version)s")(commands)
