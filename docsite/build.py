"""Build the site: `make docs`. Needs the extra `docs`, and no network.

The pages of docs/ have no directive in them: they are read on a screen, by `pefslc explain`, too. So the tree that
Sphinx reads is laid out here: docs/, the pages of the root, and docsite/pages, which hold what only the site has.
Each warning is an error.

usage: python docsite/build.py FOLDER

FOLDER  gets source/ and html/; what an earlier build left there is replaced
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from commands import commands_page
from links import ROOT, ROOT_PAGES, for_site

PAGES = Path(__file__).resolve().parent / "pages"


def lay_out(folder: Path) -> None:
    """Write the tree that Sphinx reads into `folder`, which does not exist."""
    shutil.copytree(ROOT / "docs", folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(PAGES, folder, dirs_exist_ok=True)
    written = [PurePosixPath("docs") / path.relative_to(ROOT / "docs").as_posix() for path in ROOT.glob("docs/**/*.md")]
    for page in [*written, *map(PurePosixPath, ROOT_PAGES)]:
        name = folder / (ROOT_PAGES.get(str(page)) or page.relative_to("docs"))
        name.write_text(for_site((ROOT / page).read_text(encoding="utf-8"), page), encoding="utf-8")
    index = folder / "index.md"
    index.write_text("".join(_of_pages_that_are_there(index.read_text(encoding="utf-8"), folder)), encoding="utf-8")
    (folder / "commands.md").write_text(commands_page(), encoding="utf-8")


def _of_pages_that_are_there(index: str, folder: Path) -> Iterator[str]:
    """The lines of the index without patterns that match no page: Sphinx would warn of them.

    A pattern keeps a place for pages that may come; a name without `*` is a page that must be there.
    """
    for line in index.splitlines(keepends=True):
        if not line.rstrip().endswith("*") or any(folder.glob(f"{line.strip()}.md")):
            yield line


def build(folder: Path) -> int:
    """Lay out the pages and run Sphinx; returns its exit status."""
    from sphinx.cmd.build import build_main

    shutil.rmtree(folder, ignore_errors=True)
    lay_out(folder / "source")
    configuration = str(PAGES.parent)
    quietly = ["-q", "--fail-on-warning", "-d", str(folder / "doctrees"), "-c", configuration]
    return build_main([*quietly, "-b", "html", str(folder / "source"), str(folder / "html")])


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    sys.exit(build(Path(sys.argv[1])))
