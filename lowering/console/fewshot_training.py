"""`pefslc fewshot train`: a float backbone from pictures, and its accuracy on val."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pefslc.console.fewshot_checkpoints import checkpoints, resume_option
from pefslc.console.fewshot_data_options import (
    data_options,
    measurement_of,
    measurement_options,
    network_options,
    recipe_options,
    source_of,
)
from pefslc.console.loading import LoadingCommand
from pefslc.console.options import input_file

if TYPE_CHECKING:
    from pefslc.fewshot.networks import Description, Recipe
    from pefslc.fewshot.networks.training import Epoch
    from pefslc.fewshot.sweep.setting import Measurement

__all__ = ["describe", "recipe_of", "train"]


@click.command(
    "train",
    cls=LoadingCommand,
    loads="pefslc.fewshot.networks",
    short_help="train a float backbone, in minutes on two cores",
)
@click.option("-o", "--output", type=click.Path(), required=True, metavar="FILE.pt", help="the backbone's file")
@resume_option
@click.option(
    "--validate-every",
    type=click.IntRange(0),
    default=0,
    metavar="N",
    help="measure the accuracy on val after every N epochs; 0: only at the end  [default: 0]",
)
@click.option(
    "--weights",
    callback=input_file("a file of weights"),
    metavar="X.pt",
    help="start from these weights: of EASY, brain-train or PEFSL",
)
@click.option("--seed", type=int, default=0, metavar="N", help="seed of the training  [default: 0]")
@click.option("--cache", type=click.Path(), metavar="DIR", help="folder that keeps the drawn glyphs for the next time")
@data_options
@network_options
@recipe_options
@measurement_options
@click.option("-q", "--quiet", is_flag=True, help="print errors only")
@click.option("--debug", is_flag=True, help="show a traceback for faults of pefslc")
def train(
    output: str,
    resume: bool,
    validate_every: int,
    weights: str | None,
    seed: int,
    cache: str | None,
    data: dict[str, Any],
    network: dict[str, Any],
    recipe: dict[str, Any],
    measurement: dict[str, Any],
    quiet: bool,
    debug: bool,
) -> None:
    """Train a backbone on the base classes; the table is of the val classes, the float head on float features."""
    del debug  # read by cli.run
    import json
    from dataclasses import asdict

    from pefslc.console.progress import progress_bar
    from pefslc.fewshot.networks import Backbone, TrainedFile, fit, load_weights, with_classifier, write_trained
    from pefslc.fewshot.networks.trained_file import require_trained_path
    from pefslc.fewshot.sweep.evaluation import evaluation_text
    from pefslc.fewshot.sweep.float_network import measure_float, validation_on_val

    path = Path(output)
    require_trained_path(path)
    measured, source = measurement_of(measurement, "val"), source_of(data)
    chosen, description = recipe_of(recipe, seed), describe(network, source.size)
    with checkpoints(path, "checkpoint", resume=resume) as files, progress_bar(quiet=quiet) as progress:
        pictures = source.load(cache, progress)
        backbone = load_weights(Path(weights), description) if weights else Backbone(description, chosen.seed)
        start = with_classifier(backbone, pictures.base, chosen)
        validation = validation_on_val(pictures.val, measured, validate_every) if validate_every else None
        trained = fit(
            start, pictures.base, chosen, checkpoint=files["checkpoint"], validation=validation, progress=progress
        )
        origin = {
            "data": json.dumps(asdict(source), sort_keys=True),
            "data_sha256": pictures.digest(),
            "recipe": json.dumps(asdict(chosen), sort_keys=True),
        }
        write_trained(path, TrainedFile(trained, origin))
    if quiet:
        return
    result = measure_float(trained, pictures, measured)
    print(f"{description.name}, {', '.join(map(str, description.maps))} maps, {description.size} pixels: wrote {path}")
    print(f"{pictures.name}, {measured.split} classes")
    print(evaluation_text({path.stem: result}, path.stem))
    if validate_every:
        print(f"\n{_history_text(trained.history, measured)}")


def _history_text(history: Sequence[Epoch], measurement: Measurement) -> str:
    """A line for each epoch. The figure is that of fewer episodes, around another centre: it tells epochs apart."""
    from pefslc.diagnostics.text_table import plain_table
    from pefslc.fewshot.sweep.float_network import validation_name

    rows = [
        (str(number), f"{epoch.loss:.4f}", "-" if math.isnan(epoch.figure) else f"{100 * epoch.figure:.2f} %")
        for number, epoch in enumerate(history, 1)
    ]
    table = plain_table(("epoch", "loss", "val"), rows, frozenset((0, 1, 2)))
    return f"{table}\nval: {validation_name(measurement)}"


def describe(network: dict[str, Any], size: int) -> Description:
    """The backbone that the options name. Raises CompileError."""
    from dataclasses import replace

    from pefslc.fewshot.networks import Activation, Description

    given = dict(network)
    depth, width = int(given.pop("depth", 9)), given.pop("width", 16)
    description = Description.of_depth(depth, width, size=size, strided=not given.pop("pooled", False))
    if "activation" in given:
        given["activation"] = Activation(given["activation"])
    return replace(description, **given)


def recipe_of(recipe: dict[str, Any], seed: int) -> Recipe:
    """The recipe that the options name. Raises CompileError."""
    from pefslc.fewshot.networks import Recipe

    return Recipe(**recipe, seed=seed)
