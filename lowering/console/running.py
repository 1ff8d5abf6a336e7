"""`pefslc run ARTIFACT`: a .tmodel is simulated, C is compiled and run; values in, values out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pefslc.console.loading import LoadingCommand
from pefslc.console.options import input_file, json_option, no_such_file
from pefslc.console.target_command import chosen_target

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["run_artifact"]


@click.command(
    "run",
    cls=LoadingCommand,
    loads="pefslc.driver.compiled_artifact",
    short_help="run compiled artifacts: a .tmodel is simulated, C compiled and run",
)
@click.argument("artifact", type=click.Path())
@click.option(
    "--inputs",
    type=click.Path(),
    callback=input_file("an .npz file"),
    required=True,
    metavar="X.npz",
    help="arrays by the name of the input; a single input may be called x",
)
@click.option("-o", "--output", type=click.Path(), metavar="Y.npz", help="write the outputs here: float64, by name")
@click.option("--target", metavar="FILE.py:Class", help="the target that it was compiled for, if it is of a file")
@json_option
@click.option("-q", "--quiet", is_flag=True, help="print errors only")
@click.option("--debug", is_flag=True, help="show a traceback for faults of pefslc")
def run_artifact(
    artifact: str, inputs: str, output: str | None, target: str | None, as_json: bool, quiet: bool, debug: bool
) -> None:
    """Run ARTIFACT: a folder that a compile wrote, its sidecar, or one of its files."""
    del debug  # read by cli.run
    if artifact.endswith(".py") or ".py:" in artifact:
        raise click.UsageError(
            f"{artifact!r} names a target, not what was compiled for it\n  help: pefslc run BUILD --target {artifact} "
            "--inputs X.npz"
        )
    if not Path(artifact).exists():
        raise no_such_file(artifact, click.get_current_context())
    from pefslc.console.clipping import print_clipped
    from pefslc.console.json_output import print_json, run_json
    from pefslc.console.progress import progress_bar
    from pefslc.driver.compiled_artifact import open_artifact
    from pefslc.files.arrays import read_arrays, write_arrays

    if output is not None:
        _refuse_to_replace(Path(output), Path(inputs))
    opened = open_artifact(Path(artifact), None if target is None else chosen_target(target))
    with progress_bar(quiet=quiet) as progress:
        arrays = read_arrays(Path(inputs))
        results = opened.run(arrays, progress)
    clipped = opened.clipped(arrays)
    if output is not None:
        write_arrays(Path(output), results)
    if as_json:
        print_json(run_json(artifact, opened.target, results, clipped, output))
    elif not quiet:
        print_clipped(clipped)
        for name, values in results.items():
            print(f"{name} {list(values.shape)}: {_digest(values)}")
        if output is not None:
            print(f"wrote {output}")


def _refuse_to_replace(output: Path, inputs: Path) -> None:
    """Only an earlier result is replaced: a plain .npz file that is not the inputs."""
    from pefslc.files.staging import in_the_way, require_replaceable

    another = "give another path with -o"
    if output.is_file() and not output.is_symlink() and output.samefile(inputs):
        raise in_the_way(output, "holds the inputs", another)
    require_replaceable(output, ".npz file", lambda path: path.suffix == ".npz", another)


def _digest(values: NDArray[np.float64]) -> str:
    return f"from {values.min():.9g} to {values.max():.9g}"
