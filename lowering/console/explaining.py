"""`pefslc explain PEF0504`: what an error code means; `pefslc explain exactness`: a page of the documentation."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping

import click

__all__ = ["explain"]

_CODE = re.compile(r"pef\d{4}")
_FAMILY = len("pef05")
_SHORTEST_STEM = 3


def _names(_: click.Context, __: click.Parameter, incomplete: str) -> list[str]:
    from pefslc.diagnostics.error_codes import Code
    from pefslc.files.pages import page_names

    known = [*(code.number for code in Code), *page_names()]
    return [name for name in known if name.casefold().startswith(incomplete.casefold())]


@click.command("explain", short_help="what an error code means: PEF0504; or a page: exactness")
@click.argument("names", nargs=-1, metavar="[CODE|PAGE]...", shell_complete=_names)
@click.option("--debug", is_flag=True, help="show a traceback for faults of pefslc")
def explain(names: tuple[str, ...], debug: bool) -> None:
    """Print what an error CODE means and what helps, or a PAGE of the documentation; without a name, list both."""
    del debug  # read by cli.run
    if not names:
        print(_list())
        return
    texts = [_text(name) for name in names]
    print("\n".join(texts), end="")


def _text(name: str) -> str:
    from pefslc.diagnostics.error_codes import Code
    from pefslc.files.pages import error_sections, page, page_names

    wanted = _plain(name)
    sections, pages = error_sections(), {known.casefold(): known for known in page_names()}
    if wanted in (code.number.casefold() for code in Code):
        return sections[wanted.upper()]
    if wanted in pages:
        return page(pages[wanted])
    raise click.UsageError(
        f"no code or page {name!r}\n  help: {_meant(wanted, sections, pages)}", click.get_current_context()
    )


def _meant(wanted: str, sections: Iterable[str], pages: Mapping[str, str]) -> str:
    """What may be meant: pages whose names hold the word, a command of that name, or a name that is like it."""
    root = click.get_current_context().find_root().command
    commands = root.commands if isinstance(root, click.Group) else {}
    stems = tuple(s for s in (wanted, wanted.removesuffix("s"), wanted.removesuffix("es")) if len(s) >= _SHORTEST_STEM)
    found = [pages[known] for known in pages if any(word.startswith(stems) for word in known.split("-"))]
    if not found:
        family = wanted[:_FAMILY] if _CODE.fullmatch(wanted) else ""  # codes of other kinds say nothing
        known = [*(code for code in map(str.casefold, sections) if code.startswith(family)), *pages]
        found = [pages.get(close, close.upper()) for close in difflib.get_close_matches(wanted, known, n=3)]
    said = [f"did you mean {' or '.join(dict.fromkeys(found))}?"] if found else []
    if wanted in commands:
        said.append(f"`pefslc help {wanted}` is about the command")
    return "; ".join(said) or "`pefslc explain` lists the codes and the pages"


def _plain(name: str) -> str:
    """As a message or a link has it: error[PEF0504]:, docs/exactness.md."""
    code = name.strip().rstrip(":").removeprefix("error[").strip("[]")
    return code.rpartition("/")[2].removesuffix(".md").casefold()


def _list() -> str:
    from pefslc.diagnostics.error_codes import Code
    from pefslc.files.pages import page_names

    codes = "\n".join(f"  {code.number}  {code.title}" for code in Code)
    return f"Codes:\n{codes}\n\nPages:\n" + "\n".join(f"  {name}" for name in page_names())
