"""`pefslc fewshot`: the commands of few-shot systems, each loaded when it is asked for or listed."""

from __future__ import annotations

import difflib
from importlib import import_module

import click

__all__ = ["fewshot"]

# Name -> (module, the command in it).
_COMMANDS = {
    "train": ("pefslc.console.fewshot_training", "train"),
    "quantize": ("pefslc.console.fewshot_quantizing", "quantize"),
    "evaluate": ("pefslc.console.fewshot_evaluating", "evaluate"),
    "build": ("pefslc.console.fewshot_building", "build"),
    "enrol": ("pefslc.console.fewshot_learning", "enrol"),
    "classify": ("pefslc.console.fewshot_recognising", "classify"),
    "forget": ("pefslc.console.fewshot_learning", "forget"),
    "merge": ("pefslc.console.fewshot_merging", "merge"),
    "inspect": ("pefslc.console.fewshot_inspecting", "inspect"),
    "demo": ("pefslc.console.fewshot_demo", "demo"),
    "split": ("pefslc.console.fewshot_splitting", "split"),
    "sweep": ("pefslc.console.fewshot_sweeping", "sweep"),
}

_SESSION = (
    "pefslc fewshot train -o float.pt",
    "pefslc fewshot quantize float.pt -o backbone.onnx --fmt auto:4 --distill",
    "pefslc fewshot evaluate backbone.onnx --float float.pt",
    "pefslc fewshot build backbone.onnx -o build/",
    "pefslc fewshot enrol build/ desk.state --class mug mug1.png mug2.png mug3.png",
    "pefslc fewshot enrol build/ desk.state --folder supports/        (a folder in it for each class)",
    "pefslc fewshot classify build/ desk.state photo.png",
    "pefslc fewshot demo build/ --state desk.state                    (a page to draw and film for)",
    "pefslc fewshot merge desk.state kitchen.state -o both.state",
    "pefslc fewshot inspect both.state",
    "pefslc fewshot sweep -o sweep/ --fmt auto:2,auto:3,Q2.3 --seeds 0,1,2 --arch custom_perf",
)


class _LazyGroup(click.Group):
    """Its commands are imported when one of them is needed: the help of `pefslc` needs none."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in _COMMANDS:
            return None
        module, name = _COMMANDS[cmd_name]
        command = getattr(import_module(module), name)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in _COMMANDS and not args[0].startswith("-"):
            close = difflib.get_close_matches(args[0], _COMMANDS, n=1)
            meant = f"did you mean {close[0]!r}?" if close else f"{ctx.command_path} --help"
            raise click.UsageError(f"no command {args[0]!r}\n  help: {meant}", ctx)
        return super().resolve_command(ctx, args)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        with formatter.section("A session"):
            for line in _SESSION:
                formatter.write(f"  {line}\n")


@click.group("fewshot", cls=_LazyGroup, short_help="few-shot learning: enrol classes from pictures, recognise them")
def fewshot() -> None:
    """Few-shot learning with a compiled backbone: every decision is exact, and the one that the device takes."""
