"""`pefslc fewshot quantize`: a float backbone becomes a quantized one, in an .onnx file with a card beside it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pefslc.console.fewshot_data_options import data_options, source_of, tuning_options
from pefslc.console.loading import LoadingCommand
from pefslc.console.options import input_file

if TYPE_CHECKING:
    from pefslc.fewshot.data.image_set import FewShotData
    from pefslc.fewshot.networks import TrainedFile
    from pefslc.fewshot.sweep.cells import Prune
    from pefslc.fewshot.sweep.setting import DataSource

__all__ = ["parse_prune", "pictures_of", "prune_option", "quantize"]


def parse_prune(ctx: click.Context, parameter: click.Parameter, value: str) -> Prune:
    """SHARE:ARRAY, such as 0.6:12."""
    from pefslc.fewshot.sweep.cells import Prune

    share, _, array = value.partition(":")
    try:
        return Prune(float(share), int(array))
    except ValueError:
        raise click.UsageError(
            f"{parameter.opts[0]}: {value!r} is not SHARE:ARRAY; 0.6:12 keeps about 0.6 of the channels inside of "
            "blocks, in multiples of 12",
            ctx,
        ) from None


def prune_option(ctx: click.Context, parameter: click.Parameter, value: str | None) -> Prune | None:
    """A callback."""
    return None if value is None else parse_prune(ctx, parameter, value)


@click.command(
    "quantize",
    cls=LoadingCommand,
    loads="pefslc.fewshot.networks",
    short_help="quantize a float backbone into an .onnx file, after training or by more of it",
)
@click.argument("trained", callback=input_file("a trained backbone"))
@click.option("-o", "--output", type=click.Path(), required=True, metavar="FILE.onnx", help="the quantized network")
@click.option("--method", type=click.Choice(("ptq", "qat")), default="qat", help="[default: qat]")
@click.option("--fmt", required=True, metavar="Qm.n|auto:B", help="one format, or one a tensor of B bits, from data")
@click.option("--distill", is_flag=True, help="follow the float network while tuning")
@click.option("--prune", callback=prune_option, metavar="SHARE:ARRAY", help="keep that share of the inner channels")
@click.option("--seed", type=int, default=0, metavar="N", help="of the tuning  [default: 0]")
@click.option("--cache", type=click.Path(), metavar="DIR", help="keep drawn glyphs there")
@tuning_options
@data_options
@click.option("-q", "--quiet", is_flag=True, help="print errors only")
@click.option("--debug", is_flag=True, help="show a traceback for faults of pefslc")
def quantize(
    trained: str,
    output: str,
    method: str,
    fmt: str,
    distill: bool,
    prune: Prune | None,
    seed: int,
    cache: str | None,
    tuning: dict[str, Any],
    data: dict[str, Any],
    quiet: bool,
    debug: bool,
) -> None:
    """Quantize the backbone in TRAINED. The data are those of its training, unless options say where they are now."""
    del debug  # read by cli.run
    import json
    from dataclasses import asdict

    from pefslc.console.progress import progress_bar
    from pefslc.fewshot.networks import Recipe, export_onnx, read_trained
    from pefslc.fewshot.sweep.card import require_card_path, write_card
    from pefslc.fewshot.sweep.cells import Cell, Method
    from pefslc.fewshot.sweep.methods import pruned_network, quantized_network

    path = _onnx_path(output)
    cell = Cell(method=Method(method), fmt=fmt, distill=distill, prune=prune, seed=seed)
    recipe = Recipe.fine_tuning(**tuning, seed=seed)
    require_card_path(path)
    content = read_trained(Path(trained))
    floating = content.trained
    with progress_bar(quiet=quiet) as progress:
        source, pictures = pictures_of(content, data, cache, progress)
        network = floating
        if prune is not None:
            network = pruned_network(floating, prune, pictures.base, recipe, distill=distill, progress=progress)
        small = quantized_network(network, floating, cell, pictures.base, recipe, progress=progress)
        export_onnx(small, pictures.base.images, path)
    card = write_card(
        path,
        {
            "cell": cell.to_json(),  # type: ignore[dict-item]
            "description": json.loads(small.description.to_json()),
            "data": asdict(source),
            "data_sha256": pictures.digest(),
            "tuning": asdict(recipe),
        },
    )
    if not quiet:
        mean, std = (",".join(f"{v:g}" for v in part) for part in (small.description.mean, small.description.std))
        print(f"{cell.label}: wrote {path} and {card}")
        print(f"  pefslc fewshot evaluate {path} --float {trained}")
        print(f"  pefslc fewshot build {path} -o build/ --mean {mean} --std {std}")


def pictures_of(
    content: TrainedFile, given: dict[str, Any], cache: str | None, progress: Any
) -> tuple[DataSource, FewShotData]:
    """The pictures of a training, from where it had them or the user says. Raises CompileError for others."""
    import json

    from pefslc.diagnostics.error_codes import Code
    from pefslc.diagnostics.errors import CompileError, quote

    source = source_of(given, json.loads(content.origin.get("data", "{}")))
    pictures = source.load(cache, progress)
    wanted = content.origin.get("data_sha256")
    if wanted is not None and pictures.digest() != wanted:
        raise CompileError(
            Code.TRAINING,
            f"{quote(source.source)} holds other pictures than the backbone was trained on",
            hint="give the data of the training: --data, --size, --splits, --images-per-class, --data-seed",
        )
    return source, pictures


def _onnx_path(output: str) -> Path:
    path = Path(output)
    if path.suffix != ".onnx":
        raise click.UsageError(f"-o: {output!r} does not end in .onnx", click.get_current_context())
    return path
