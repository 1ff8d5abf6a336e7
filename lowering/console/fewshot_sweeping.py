"""`pefslc fewshot sweep`: methods x formats x seeds, measured, in one table and one figure."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pefslc.console.fewshot_data_options import (
    data_options,
    measurement_of,
    measurement_options,
    network_options,
    numbers,
    recipe_options,
    source_of,
    tuning_options,
)
from pefslc.console.fewshot_quantizing import parse_prune
from pefslc.console.fewshot_training import describe, recipe_of
from pefslc.console.loading import LoadingCommand

if TYPE_CHECKING:
    from pefslc.fewshot.sweep.cells import Prune
    from pefslc.fewshot.sweep.setting import Setting

__all__ = ["sweep"]

_METHODS = ("float", "ptq", "qat")
_DISTILL = {"no": (False,), "yes": (True,), "both": (False, True)}


def _words(allowed: tuple[str, ...] = ()) -> Any:
    """A callback: words with commas between them."""

    def callback(ctx: click.Context, parameter: click.Parameter, value: str) -> tuple[str, ...]:
        words = tuple(word.strip() for word in value.split(",") if word.strip())
        wrong = [word for word in words if allowed and word not in allowed]
        if wrong or not words:
            raise click.UsageError(f"{parameter.opts[0]}: {value!r} is not of {', '.join(allowed) or 'formats'}", ctx)
        return words

    return callback


def _prunes(ctx: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> tuple[Prune, ...]:
    return tuple(parse_prune(ctx, parameter, value) for value in values)


@click.command(
    "sweep",
    cls=LoadingCommand,
    loads="pefslc.fewshot.networks",
    short_help="what a bit costs: formats x methods x seeds, with a table and a figure",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(),
    required=True,
    metavar="DIR",
    help="folder for the table, the figure and all results",
)
@click.option("--methods", default="float,ptq,qat", callback=_words(_METHODS), metavar="M,M", help="[default: all]")
@click.option(
    "--fmt", "formats", callback=_words(), metavar="F,F",
    default="Q2.2,Q2.3,Q2.4,auto:2,auto:3,auto:4,auto:5,mixed:3,mixed:5",
    help="[default: Q2.2 to Q2.4, auto:2 to auto:5, mixed:3, mixed:5]",
)  # fmt: skip
@click.option("--seeds", default="0", callback=numbers(int, "seeds: 0,1,2"), metavar="N,N", help="[default: 0]")
@click.option("--distill", type=click.Choice(tuple(_DISTILL)), default="no", help="[default: no]")
@click.option(
    "--prune", "prunes", multiple=True, callback=_prunes, metavar="SHARE:ARRAY", help="also networks pruned so"
)
@click.option("--arch", "boards", multiple=True, metavar="NAME", help="also count the cycles on this Tensil board")
@click.option("--jobs", type=click.IntRange(1), metavar="N", help="processes on this machine  [default: its cores]")
@click.option("--scheduler", metavar="tcp://HOST:PORT", help="run on the workers of this Dask scheduler")
@click.option("--times", is_flag=True, help="also measure how long the C takes here; this differs from run to run")
@click.option("--no-plot", is_flag=True, help="make no figure; it needs matplotlib")
@data_options
@network_options
@recipe_options
@tuning_options
@measurement_options
@click.option("-q", "--quiet", is_flag=True, help="print the table only")
@click.option("--debug", is_flag=True, help="show a traceback for faults of pefslc")
def sweep(
    output: str,
    methods: tuple[str, ...],
    formats: tuple[str, ...],
    seeds: tuple[int, ...],
    distill: str,
    prunes: tuple[Prune, ...],
    boards: tuple[str, ...],
    jobs: int | None,
    scheduler: str | None,
    times: bool,
    no_plot: bool,
    quiet: bool,
    debug: bool,
    **groups: dict[str, Any],
) -> None:
    """Train, quantize and measure all networks that the options name. What DIR holds already is not computed again, so
    the same command goes on after Ctrl-C, a killed process or a lost machine.
    """
    del debug  # read by cli.run
    from pefslc.diagnostics.errors import CompileError
    from pefslc.fewshot.sweep.cells import Method, cells_of
    from pefslc.fewshot.sweep.engines import DaskScheduler, LocalProcesses
    from pefslc.fewshot.sweep.plot import require_plot
    from pefslc.fewshot.sweep.run import run_sweep
    from pefslc.targets.c.host_compiler import find_compiler

    if scheduler is not None and jobs is not None:
        raise click.UsageError(
            "--jobs is of this machine, --scheduler of others: give one", click.get_current_context()
        )
    cells = cells_of([Method(m) for m in methods], formats, seeds, _DISTILL[distill], (None, *prunes))
    folder = Path(output)
    if not no_plot:
        require_plot()  # before the hours, not after them
    if times:
        find_compiler()
    _check_boards(boards)
    setting = _setting(folder, boards, groups)
    engine = LocalProcesses(jobs or os.cpu_count() or 1) if scheduler is None else DaskScheduler(scheduler)

    def tell(done: int, total: int, what: str) -> None:
        del done, total
        click.echo(what, err=True)

    if not quiet:
        trainings = f"{len(seeds)} training{'s' * (len(seeds) > 1)}"
        click.echo(f"{len(cells)} networks of {trainings}; the first news comes when one has ended", err=True)
    try:
        swept = run_sweep(
            setting,
            cells,
            folder,
            engine,
            shares_disk=scheduler is None,
            times=times,
            progress=None if quiet else tell,
        )
    except KeyboardInterrupt:
        click.echo(f"kept in {folder}: what was finished; the same command goes on", err=True)
        raise
    written = swept.write(folder, plot=not no_plot)
    print(swept.text())
    if not quiet:
        print(f"wrote {', '.join(map(str, written))}")
    if swept.refused:
        raise CompileError.of(swept.refused)


def _setting(folder: Path, boards: tuple[str, ...], groups: dict[str, dict[str, Any]]) -> Setting:
    import json
    from dataclasses import asdict

    from pefslc.fewshot.networks import Recipe
    from pefslc.fewshot.sweep.setting import Setting, versions
    from pefslc.fewshot.sweep.store import Store

    source = source_of(groups["data"])
    description, recipe = describe(groups["network"], source.size), recipe_of(groups["recipe"], 0)
    tuning = Recipe.fine_tuning(**groups["tuning"])
    measurement = measurement_of(groups["measurement"], "novel")
    pictures = source.load(str(Store(folder).place("data")))
    return Setting(
        data=source,
        data_digest=pictures.digest(),
        description=description.to_json(),
        recipe=json.dumps(asdict(recipe)),
        tuning=json.dumps(asdict(tuning)),
        measurement=measurement,
        boards=boards,
        versions=versions(),
    )


def _check_boards(boards: tuple[str, ...]) -> None:
    """Demand architectures that are there. Raises CompileError."""
    from pefslc.driver.compile_options import chosen_target
    from pefslc.targets.protocol import TargetOptions

    for board in boards:
        chosen_target("tensil", {"arch": board}).limits(TargetOptions())
