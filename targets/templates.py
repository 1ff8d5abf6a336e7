"""Templates of emitted text: an unknown name is an error, and the text ends as the template does."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import jinja2

__all__ = ["templates_in"]


@cache
def templates_in(folder: Path, *, of_blocks: bool = False) -> jinja2.Environment:
    """The templates of a folder. Kept, with those that it compiled: they take longer than a small network.

    of_blocks  lines that hold a statement of the template alone leave no line
    """
    import jinja2  # here: a refusal needs no template, and loading this takes long

    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        undefined=jinja2.StrictUndefined,
        trim_blocks=of_blocks,
        lstrip_blocks=of_blocks,
        keep_trailing_newline=True,
    )
