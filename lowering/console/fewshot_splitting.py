"""`pefslc fewshot split`: the classes of a folder of one's own, in base, val and novel."""

from __future__ import annotations

from pathlib import Path

import click

from pefslc.console.fewshot_options import debug_option, quiet_option
from pefslc.console.loading import LoadingCommand

__all__ = ["split"]


@click.command(
    "split",
    cls=LoadingCommand,
    loads="pefslc.fewshot.data.split_lists",
    short_help="split the classes of a folder into base, val and novel",
)
@click.argument("folder", type=click.Path())
@click.option(
    "--val", type=int, default=10, metavar="N", help="how many classes are for choosing settings  [default: 10]"
)
@click.option("--novel", type=int, default=20, metavar="N", help="how many classes are for measuring  [default: 20]")
@click.option("--seed", type=int, default=0, metavar="N", help="another seed is another split  [default: 0]")
@click.option(
    "--least", type=int, default=20, metavar="N", help="the fewest pictures of a class in val and novel  [default: 20]"
)
@click.option("--replace", is_flag=True, help="overwrite an earlier split")
@quiet_option
@debug_option
def split(folder: str, val: int, novel: int, seed: int, least: int, replace: bool, quiet: bool, debug: bool) -> None:
    """Split the classes of FOLDER, a folder of pictures each, at random but the same everywhere: writes
    FOLDER/split.json.
    """
    del debug  # read by cli.run
    from pefslc.fewshot.data.split_lists import SPLIT_FILE, split_classes

    found = split_classes(Path(folder), val, novel, seed, least, replace)
    if quiet:
        return
    for name, classes in (("base", found.base), ("val", found.val), ("novel", found.novel)):
        print(f"{name}: {len(classes)} classes")
    if found.too_small:
        print(f"in base for having fewer than {least} pictures: {', '.join(found.too_small)}")
    print(f"wrote {Path(folder) / SPLIT_FILE}")
