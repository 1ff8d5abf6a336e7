"""`pefslc report MODEL --target T`: one page about a compiled model, or its numbers as JSON or text."""

from __future__ import annotations

from pathlib import Path

import click

from pefslc.console.compile_request import CompileRequest, compile_request
from pefslc.console.options import (
    input_file,
    json_option,
)
from pefslc.console.target_command import TargetCommand

__all__ = ["report_model"]

_PAGE = "report.html"


@click.command(
    "report",
    cls=TargetCommand,
    loads="pefslc.driver.compiler",
    short_help="a page about a compiled model: graph, formats, costs, memory; two compared",
)
@compile_request
@click.option(
    "--inputs",
    type=click.Path(),
    callback=input_file("an .npz file"),
    metavar="X.npz",
    help="show what the layers compute of these inputs; of a float model, error and signal to noise",
)
@click.option(
    "--against",
    type=click.Path(),
    callback=input_file("a report"),
    metavar="REPORT.json",
    help="compare with an earlier report: its .json, or its page",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(),
    metavar="FILE.html",
    help=f"write the page here, and its numbers beside it as .json  [default: {_PAGE}, without --text and --json]",
)
@click.option("--picture", type=click.Path(), metavar="FILE.svg", help="write the charts as one picture, too")
@click.option("--text", "as_text", is_flag=True, help="print every number as text")
@json_option
@click.option("-q", "--quiet", is_flag=True, help="print errors only")
@click.option("--debug", is_flag=True, help="show a traceback for faults of pefslc")
def report_model(
    request: CompileRequest,
    inputs: str | None,
    against: str | None,
    output: str | None,
    picture: str | None,
    as_text: bool,
    as_json: bool,
    quiet: bool,
    debug: bool,
) -> None:
    """Compile MODEL for one target and say what became of it: one HTML file that needs no network.

    The page and its .json hold the same numbers; --text and --json print them, and need no extra package.
    """
    del debug  # read by cli.run
    request.checked_limits()
    if as_text and as_json:
        raise click.UsageError("--text and --json each print the report: give one")
    if output is None and not (as_text or as_json or picture):
        output = _PAGE
    page, numbers = _paths(output)
    drawing = None if picture is None else Path(picture)
    if page is not None or drawing is not None:
        _require_drawing()
    _require_replaceable(page, numbers, drawing)
    from pefslc.console.json_output import print_json
    from pefslc.console.progress import progress_bar
    from pefslc.files.staging import write_file
    from pefslc.model_report.collect import collect_report
    from pefslc.model_report.comparison import compare, read_report
    from pefslc.model_report.report_file import report_bytes, report_content
    from pefslc.model_report.text import report_text

    other = None if against is None else read_report(Path(against))
    with progress_bar(quiet=quiet or as_json) as progress:
        program = request.compile(progress=progress)
        report = collect_report(program, inputs)
    comparison = None if other is None else compare(report.to_json(), other)
    written = []
    if page is not None and numbers is not None:
        from pefslc.report_page.page import report_page

        write_file(page, report_page(report, comparison))
        write_file(numbers, report_bytes(report, comparison))
        written += [page, numbers]
    if drawing is not None:
        from pefslc.report_page.picture import report_picture

        write_file(drawing, report_picture(report))
        written.append(drawing)
    if as_json:
        print_json(report_content(report, comparison))
    elif as_text:
        print(report_text(report, comparison), end="")
    elif not quiet:
        print(f"{report.model} on {report.target}: {report.verdict}")
        print(f"wrote {', '.join(map(str, written))}")


def _paths(output: str | None) -> tuple[Path | None, Path | None]:
    """The page, and the numbers beside it."""
    if output is None:
        return None, None
    page = Path(output)
    if page.suffix.lower() not in (".html", ".htm"):
        raise click.UsageError(f"-o {output!r} is no page: its name ends with .html", click.get_current_context())
    return page, page.with_suffix(".json")


def _require_drawing() -> None:
    """Usage error where what draws a page is not installed."""
    from importlib.util import find_spec

    missing = [name for name in ("matplotlib", "graphlay") if find_spec(name) is None]
    if missing:
        raise click.UsageError(
            "a page is drawn with matplotlib and graphlay, and "
            f"{f'{missing[0]} is not' if len(missing) == 1 else 'neither is'} installed\n"
            f'  help: pip install {" ".join(missing)}, or, in a checkout of pefslc: pip install ".[report]"; '
            "--text and --json need neither"
        )


def _require_replaceable(page: Path | None, numbers: Path | None, picture: Path | None) -> None:
    """Only earlier reports are replaced."""
    from pefslc.console.replacing import require_writable
    from pefslc.files.staging import require_replaceable

    another = "give another path with -o"
    if page is not None and numbers is not None:
        require_replaceable(
            page, "earlier report", lambda path: _begins_with(path, b'content="pefslc report"'), another
        )
        require_replaceable(numbers, "earlier report", lambda path: _begins_with(path, b'"report_format"'), another)
        require_writable(page, "-o")
    if picture is not None:
        another = "give another path with --picture"
        require_replaceable(picture, "earlier picture", lambda path: _begins_with(path, b"<svg"), another)
        require_writable(picture, "--picture")


def _begins_with(path: Path, mark: bytes) -> bool:
    with path.open("rb") as file:
        return mark in file.read(1024)
