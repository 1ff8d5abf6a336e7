"""`pefslc doctor`: what is there and what is missing, on this machine and in this Python."""

from __future__ import annotations

import platform
import sys
from typing import TYPE_CHECKING

import click

from pefslc.console.loading import LoadingCommand
from pefslc.console.options import json_option
from pefslc.version import __version__

if TYPE_CHECKING:
    from pefslc.driver.environment import Extra, Package, Tool

__all__ = ["examine"]


@click.command(
    "doctor",
    cls=LoadingCommand,
    loads="pefslc.driver.environment",
    short_help="what is there and what is missing: packages, compilers, extras",
)
@json_option
@click.option("--debug", is_flag=True, help="show a traceback for faults of pefslc")
def examine(as_json: bool, debug: bool) -> None:
    """Show the packages, extras and tools that pefslc can use, and what to do about those that are missing.

    Exit status 1 if a package that every command needs is missing, or has a version that is known to fail.
    """
    del debug  # read by cli.run
    from importlib.metadata import PackageNotFoundError

    from pefslc.driver.environment import extras, required_packages, tools

    try:
        needed, optional = required_packages(), extras()
    except PackageNotFoundError:
        raise click.ClickException("pefslc is not installed here: pip install . in its folder") from None
    found, well = tools(), all(package.fits for package in needed)
    if as_json:
        _print_json(needed, optional, found)
    else:
        _print_text(needed, optional, found)
    if not well:
        click.get_current_context().exit(1)


def _print_text(needed: tuple[Package, ...], optional: tuple[Extra, ...], found: tuple[Tool, ...]) -> None:
    from pefslc.console.tables import wrapped_table

    print(f"pefslc {__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}")
    print(f"{sys.executable}\n")
    rows = [(p.name, p.wanted, p.installed or "missing", "" if p.fits else _advice(p)) for p in needed]
    print(wrapped_table(("package", "wanted", "installed", ""), rows))
    listed = [(extra.name, extra.purpose, _of_extra(extra)) for extra in optional]
    print(f"\n{wrapped_table(('extra', 'for', ''), listed)}")
    there = [(tool.name, tool.purpose, _of_tool(tool)) for tool in found]
    print(f"\n{wrapped_table(('tool', 'for', ''), there)}")
    wrong = [p.name for p in needed if not p.fits]
    if wrong:
        print(f"\npefslc cannot work: {', '.join(wrong)}; the lines above say what helps")
    else:
        print("\npefslc can work; what is missing above is needed for what stands beside it, and for nothing else")


def _advice(package: Package) -> str:
    return f'pip install "{package.name}{package.wanted}"'


def _of_extra(extra: Extra) -> str:
    if not extra.missing:
        return "there"
    lacks = ", ".join(p.name if p.installed is None else f"{p.name} {p.installed}" for p in extra.missing)
    count = len(extra.missing)
    named = lacks if count <= 3 else f"{', '.join(p.name for p in extra.missing[:2])} and {count - 2} more"
    return f'not there ({named}): pip install "pefslc[{extra.name}]", in a checkout pip install ".[{extra.name}]"'


def _of_tool(tool: Tool) -> str:
    return tool.path if tool.path and not tool.version else f"{tool.path}: {tool.version}" if tool.path else "missing"


def _print_json(needed: tuple[Package, ...], optional: tuple[Extra, ...], found: tuple[Tool, ...]) -> None:
    from pefslc.console.json_output import print_json

    def package(p: Package) -> dict[str, object]:
        return {"name": p.name, "wanted": p.wanted, "installed": p.installed, "fits": p.fits}

    print_json(
        {
            "version": __version__,
            "python": platform.python_version(),
            "system": platform.system(),
            "machine": platform.machine(),
            "executable": sys.executable,
            "packages": [package(p) for p in needed],
            "extras": [
                {"name": e.name, "purpose": e.purpose, "packages": [package(p) for p in e.packages]} for e in optional
            ],
            "tools": [{"name": t.name, "purpose": t.purpose, "path": t.path, "version": t.version} for t in found],
        }
    )
