"""`pefslc view MODEL|DUMP`: Netron on a graph, served to this computer only."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pefslc.console.loading import LoadingCommand
from pefslc.console.options import (
    data_limit_option,
    format_argument,
    input_format_option,
    no_such_file,
    shape_options,
)

if TYPE_CHECKING:
    from pefslc.frontend import GivenShapes
    from pefslc.ir.graph import Graph
    from pefslc.numeric.format import FixedPoint

__all__ = ["view_graph"]

_LOOPBACK = "127.0.0.1"
_IMPORT = "import"
_DUMPED = re.compile(r"(\d\d+)_(.+)\.onnx")


@click.command(
    "view",
    cls=LoadingCommand,
    loads="pefslc.driver.compiler",
    short_help="show a model, a stage of it or a dump in Netron",
)
@click.argument("model", metavar="MODEL|DUMP", type=click.Path())
@click.option("--stage", metavar="NAME", help="the graph after this pass  [default: as imported; of a dump, the last]")
@format_argument
@input_format_option
@shape_options
@data_limit_option
@click.option("--port", type=click.IntRange(0, 65535), default=0, metavar="N", help="[default: one that is free]")
@click.option("--no-open", is_flag=True, help="only print the address, and open no browser")
@click.option("--debug", is_flag=True, help="show a traceback for faults of pefslc")
def view_graph(
    model: str,
    stage: str | None,
    fmt: FixedPoint | None,
    input_fmt: FixedPoint | dict[str, FixedPoint] | None,
    batch: int | None,
    input_shapes: dict[str, tuple[int, ...]],
    data_limit: float,
    port: int,
    no_open: bool,
    debug: bool,
) -> None:
    """Serve Netron for a model, the text of a graph (.ir), or a folder that --dump-dir wrote, until Ctrl-C."""
    del debug  # read by cli.run
    path = Path(model)
    if not path.exists():
        raise no_such_file(model, click.get_current_context())
    from pefslc.frontend import GivenShapes
    from pefslc.reports.netron import to_onnx

    if path.is_dir():
        name, content = _dumped(path, stage)
    elif path.suffix == ".onnx":
        given = GivenShapes(batch, input_shapes)
        name, graph = _stage_of(path, stage, fmt, input_fmt, given, data_limit)
        content = to_onnx(graph)
    else:
        if stage is not None:
            raise click.UsageError("--stage is for a model or a dump: this file holds one graph")
        from pefslc.driver.named_passes import read_graph

        name, content = path.name, to_onnx(read_graph(path))
    _serve(f"{name.removesuffix('.onnx')}.onnx", content, port, no_open)


def _serve(name: str, content: bytes, port: int, no_open: bool) -> None:
    import logging

    try:
        import netron
    except ImportError:
        raise click.UsageError(
            "pefslc view shows graphs with Netron, which is not installed\n"
            '  help: pip install netron, or, in a checkout of pefslc: pip install ".[view]"'
        ) from None
    logging.getLogger("netron").setLevel(logging.ERROR)  # it would print each request
    host, chosen = netron.serve(name, content, address=(_LOOPBACK, port), browse=not no_open)
    print(f"{name} at http://{host}:{chosen}  (Ctrl-C ends it)", flush=True)
    netron.wait()


def _dumped(folder: Path, stage: str | None) -> tuple[str, bytes]:
    """A file of a dump: the last, or the last of that name, or that number and name."""
    found = {p.name: m for p in sorted(folder.iterdir()) if (m := _DUMPED.fullmatch(p.name))}
    if not found:
        raise click.UsageError(f"{str(folder)!r} holds no dump: pefslc MODEL --target NAME --dump-dir DIR writes one")
    wanted = [n for n, m in found.items() if stage is None or stage in (m[2], f"{m[1]}_{m[2]}")]
    if not wanted:
        raise _no_stage(str(stage), list(dict.fromkeys(m[2] for m in found.values())))
    return wanted[-1], (folder / wanted[-1]).read_bytes()


def _stage_of(
    path: Path,
    stage: str | None,
    fmt: FixedPoint | None,
    input_fmt: FixedPoint | dict[str, FixedPoint] | None,
    given: GivenShapes,
    data_limit: float,
) -> tuple[str, Graph]:
    """The model's graph as imported, or after a pass: the last of that name."""
    from pefslc.analysis.limits import TargetLimits
    from pefslc.driver.compiler import load, lower_model

    if stage in (None, _IMPORT):
        return path.stem, load(path, batch=given.batch, input_shapes=given.by_input, data_limit=data_limit)
    graphs: dict[str, Graph] = {}
    lower_model(
        path,
        TargetLimits(64, "the interpreter"),
        fmt=fmt,
        allow_overflow=True,
        given=given,
        input_fmt=input_fmt,
        data_limit=data_limit,
        observe=lambda record, graph: graphs.update({record.name: graph}),
    )
    if stage not in graphs:
        raise _no_stage(str(stage), list(graphs))
    return f"{path.stem}_{stage}", graphs[str(stage)]


def _no_stage(stage: str, known: list[str]) -> click.UsageError:
    return click.UsageError(f"no stage {stage!r}\n  help: --stage takes {', '.join(known)}")
