"""`pefslc fewshot build`: a quantized backbone becomes a system in a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pefslc.console.fewshot_card import NO_CENTRE, base_pictures, normalization
from pefslc.console.fewshot_options import debug_option, picture_files, quiet_option, read_all
from pefslc.console.loading import LoadingCommand
from pefslc.console.options import input_file

__all__ = ["build"]


@click.command(
    "build",
    cls=LoadingCommand,
    loads="pefslc.fewshot.system.build",
    short_help="compile a backbone and a classifier into a folder",
)
@click.argument("backbone", callback=input_file("a backbone"))
@click.option("-o", "--output", type=click.Path(), required=True, metavar="DIR", help="the folder to write into")
@click.option(
    "--mean",
    metavar="M[,M,M]",
    help="the mean that img / 255 was trained with: 0.485,0.456,0.406  [default: the card's]",
)
@click.option(
    "--std", metavar="S[,S,S]", help="the deviation that it was trained with: 0.229,0.224,0.225  [default: the card's]"
)
@click.option(
    "--centre",
    metavar="DIR|none",
    help="pictures whose mean feature is subtracted, for example those of the base classes  [default: the training's, "
    "if the backbone has a card]",
)
@click.option("--centre-name", metavar="TEXT", help="a name for these pictures  [default: base mean]")
@click.option("--cache", type=click.Path(), metavar="DIR", help="folder that keeps the drawn glyphs for the next time")
@click.option(
    "--kind",
    type=click.Choice(("cosine", "euclid")),
    default="cosine",
    help="how distance is measured  [default: cosine]",
)
@click.option(
    "--max-shots", type=int, default=4095, metavar="N", help="the most shots that a class can have  [default: 4095]"
)
@click.option(
    "--max-classes", type=int, default=64, metavar="N", help="the most classes that a state can have  [default: 64]"
)
@click.option("--arch", metavar="NAME", help="also compile for this Tensil board")
@click.option(
    "--batch",
    type=click.IntRange(1),
    default=1,
    metavar="N",
    help="pictures in a run of the board's program, for enrolling and voting: one alone takes as long  [default: 1]",
)
@click.option("--fmt", metavar="Qm.n", help="the format of an input that is not quantized")
@click.option(
    "--input-fmt", metavar="Qm.n", help="the format in which the host gives numbers: Q8.8 for hosts without a quantizer"
)
@quiet_option
@debug_option
def build(
    backbone: str,
    output: str,
    mean: str | None,
    std: str | None,
    centre: str | None,
    centre_name: str | None,
    cache: str | None,
    kind: str,
    max_shots: int,
    max_classes: int,
    arch: str | None,
    batch: int,
    fmt: str | None,
    input_fmt: str | None,
    quiet: bool,
    debug: bool,
) -> None:
    """Compile BACKBONE, a quantized ONNX network whose output are features, with a classifier that learns. What it was
    trained with, and on, is in the card that `pefslc fewshot quantize` writes beside it.
    """
    del debug  # read by cli.run
    from pefslc.console.progress import progress_bar
    from pefslc.fewshot.sweep.card import read_card
    from pefslc.fewshot.system.build import build_system

    card: Any = read_card(Path(backbone))
    numbers = normalization(backbone, card, mean, std)
    of_card = centre is None and card is not None and kind == "cosine"
    if centre_name is not None and not of_card and centre in (None, NO_CENTRE):
        raise click.UsageError("--centre-name names a centre, and there is none", click.get_current_context())
    pictures: Any = None
    with progress_bar(quiet=quiet) as progress:
        name = "base mean"
        if of_card:
            pictures, name = base_pictures(backbone, card, cache, progress)
        elif centre is not None and centre != NO_CENTRE:
            pictures = read_all(picture_files([centre]))
        description = build_system(
            backbone,
            output,
            mean=numbers.mean,
            std=numbers.std,
            centre_pictures=pictures,
            centre_name=centre_name or name,
            kind=kind,
            max_shots=max_shots,
            max_classes=max_classes,
            arch=arch,
            batch=batch,
            fmt=fmt,
            input_fmt=input_fmt,
            progress=progress,
        )
    _compile_once(output)
    if not quiet:
        print(f"{description.name}: {description.spec.dimension} features, {description.ncm}")
        print(f"wrote {len(description.files) + 1} files into {output}")


def _compile_once(folder: str) -> None:
    """Open the system: what was written is read back, and the first command on it finds its C compiled."""
    from pefslc.diagnostics.error_codes import Code
    from pefslc.diagnostics.errors import CompileError
    from pefslc.fewshot.system.system import FewShotSystem

    try:
        FewShotSystem.open(folder)
    except CompileError as e:
        if e.problems[0].code is not Code.NO_C_COMPILER:  # it may be for a board only
            raise
