"""`pefslc fewshot quantize`: a float backbone becomes a quantized one, in an .onnx file with a card beside it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pefslc.console.fewshot_checkpoints import checkpoints, resume_option
from pefslc.console.fewshot_data_options import data_options, source_of, tuning_options
from pefslc.console.loading import LoadingCommand
from pefslc.console.options import input_file

if TYPE_CHECKING:
    from pefslc.artifacts.sidecar import JsonObject
    from pefslc.fewshot.data.image_set import FewShotData
    from pefslc.fewshot.networks import TrainedFile
    from pefslc.fewshot.networks.mixed_precision import MixedFormats
    from pefslc.fewshot.precision.budgets import BudgetRequest
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


def budgets_option(ctx: click.Context, _: click.Parameter, values: tuple[str, ...]) -> tuple[BudgetRequest, ...]:
    """A callback: KIND=LIMIT, any number of times."""
    from pefslc.diagnostics.error_codes import Code
    from pefslc.diagnostics.errors import CompileError
    from pefslc.driver.compile_options import chosen_target
    from pefslc.fewshot.precision.budgets import parse_budget

    requests = tuple(map(parse_budget, values))
    for request in requests:
        if request.board:
            chosen_target("tensil", {"arch": request.board})  # a board that there is not is said before the search
    if requests and not str(ctx.params.get("fmt")).startswith("auto:"):
        raise CompileError(
            Code.BUDGET,
            f"--budget shares out the bits of auto:, and --fmt is {ctx.params.get('fmt')}",
            hint="use --fmt auto:8 --budget ...: at most 8 bits for each tensor, fewer where that costs least",
        )
    return requests


@click.command(
    "quantize",
    cls=LoadingCommand,
    loads="pefslc.fewshot.networks",
    short_help="quantize a float backbone into an .onnx file, with or without more training",
)
@click.argument("trained", callback=input_file("a trained backbone"))
@click.option("-o", "--output", type=click.Path(), required=True, metavar="FILE.onnx", help="the quantized network")
@click.option("--method", type=click.Choice(("ptq", "qat")), default="qat", help="[default: qat]")
@click.option(
    "--fmt",
    required=True,
    is_eager=True,  # --budget asks for it
    metavar="Qm.n|auto:B|mixed:B",
    help="Qm.n: one format for all; auto:B: B bits, a format for each tensor from data; mixed:B: the same, B bits on "
    "average, searched",
)
@click.option(
    "--budget",
    "budgets",
    multiple=True,
    callback=budgets_option,
    metavar="KIND=LIMIT",
    help="with auto:B, a limit; tensors get fewer than B bits where it costs least. bits=3.5: bits of a weight, on "
    "average; activations=4: bits of a value between layers, on average; bytes=60000: size of the packed weights; "
    "accumulator=16, or accumulator=custom_perf: bits of sums. Several limits must all hold",
)
@click.option("--distill", is_flag=True, help="follow the float network while tuning")
@click.option("--prune", callback=prune_option, metavar="SHARE:ARRAY", help="keep this share of the inner channels")
@resume_option
@click.option("--seed", type=int, default=0, metavar="N", help="seed of the tuning  [default: 0]")
@click.option("--cache", type=click.Path(), metavar="DIR", help="folder that keeps the drawn glyphs for the next time")
@tuning_options
@data_options
@click.option("-q", "--quiet", is_flag=True, help="print errors only")
@click.option("--debug", is_flag=True, help="show a traceback for faults of pefslc")
def quantize(
    trained: str,
    output: str,
    method: str,
    fmt: str,
    budgets: tuple[BudgetRequest, ...],
    distill: bool,
    prune: Prune | None,
    resume: bool,
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
    from pefslc.fewshot.networks import Recipe, read_trained
    from pefslc.fewshot.networks.mixed_precision import mixed_formats
    from pefslc.fewshot.networks.quantizing import onnx_content
    from pefslc.fewshot.precision.budgets import parse_budget
    from pefslc.fewshot.precision.search_log import search_text
    from pefslc.fewshot.sweep.card import require_network_path, write_network
    from pefslc.fewshot.sweep.cells import Cell, Method
    from pefslc.fewshot.sweep.methods import cell_formats, pruned_network, quantized_network
    from pefslc.fewshot.sweep.mixed_format import MixedFormat, backbone_format

    path = _onnx_path(output)
    cell = Cell(method=Method(method), fmt=fmt, distill=distill, prune=prune, seed=seed)
    parsed = backbone_format(fmt)
    most_bits = parsed.bits
    if isinstance(parsed, MixedFormat):
        most_bits, budgets = parsed.MOST_BITS, tuple(map(parse_budget, parsed.budgets))
    recipe = Recipe.fine_tuning(**tuning, seed=seed)
    require_network_path(path)
    stages = ["pruning.checkpoint"] * (prune is not None) + ["checkpoint"] * (cell.method is Method.QAT)
    content = read_trained(Path(trained))
    floating = content.trained
    with (
        checkpoints(path, *stages, resume=resume) as files,
        progress_bar(quiet=quiet) as progress,
    ):
        source, pictures = pictures_of(content, data, cache, progress)
        base, watched, network, found = pictures.base, pictures.val.images, floating, None
        if prune is not None:
            pruning = files["pruning.checkpoint"]
            network = pruned_network(
                floating, prune, base, recipe, distill=distill, checkpoint=pruning, progress=progress
            )
        if budgets:
            found = mixed_formats(network, most_bits, budgets, base.images, watched, progress=progress)
        formats = cell_formats(network, fmt, base, watched) if found is None else found.formats
        small = quantized_network(
            network, floating, cell, formats, base, recipe, checkpoint=files.get("checkpoint"), progress=progress
        )
        card = write_network(
            path,
            onnx_content(small, base.images),
            {
                "cell": cell.to_json(),  # type: ignore[dict-item]
                "description": json.loads(small.description.to_json()),
                "data": asdict(source),
                "data_sha256": pictures.digest(),
                "tuning": asdict(recipe),
                **({} if found is None else _search_json(found)),
            },
        )
    if found is not None:
        _warn_of_missed(path, found)
    if quiet:
        return
    if found is not None:
        print(search_text(found.descent, [str(b) for b in found.budgets], found.tried))
        if found.loss < found.descent.loss:
            print(f"points settled: 1 - cos {found.descent.loss:.5f} -> {found.loss:.5f}")
        print()
    within = f" within {', '.join(map(str, budgets))}" if budgets and not isinstance(parsed, MixedFormat) else ""
    print(f"{cell.label}{within}: wrote {path} and {card}")
    print(f"  pefslc fewshot evaluate {path} --float {trained}")
    print(f"  pefslc fewshot build {path} -o build/")


def _search_json(found: MixedFormats) -> JsonObject:
    """For the card: the formats, and everything that the search tried."""
    from pefslc.fewshot.precision.search_log import search_json

    formats: JsonObject = found.formats.to_json()
    search = search_json(found.descent, [str(b) for b in found.budgets], found.tried)
    return {"formats": formats, "loss": found.loss, "search": search}


def _warn_of_missed(path: Path, found: MixedFormats) -> None:
    """Weights that were trained on make other sums than those that the search saw."""
    from pefslc.fewshot.networks.mixed_precision import missed_budgets
    from pefslc.frontend import import_model

    for missed in missed_budgets(import_model(path), found.budgets):
        click.echo(
            f"warning: tuned, {path} misses {missed}; --method ptq keeps it, or a budget of a bit less", err=True
        )


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
