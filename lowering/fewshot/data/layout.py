"""What a layout of files is: its name, how it looks, how it is known, how it is read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pefslc.diagnostics.progress import Progress
from pefslc.fewshot.data.image_set import FewShotData

__all__ = ["Layout", "Request"]


@dataclass(frozen=True, slots=True)
class Request:
    """What the user wants of the data.

    size    pixels a side
    splits  a folder of split lists, or "fc100", for data that come without a split
    seed    of a split that is drawn: Omniglot's val
    """

    size: int
    splits: Path | str | None
    seed: int
    progress: Progress | None


@dataclass(frozen=True, slots=True)
class Layout:
    """One way in which few-shot data are published.

    tree          how the folder looks, in a few short lines
    known         whether a folder is one of these, by the names in it alone
    takes_splits  whether other split lists may be given; the rest says itself which picture is in which split
    """

    name: str
    tree: tuple[str, ...]
    known: Callable[[Path], bool]
    read: Callable[[Path, Request], FewShotData]
    takes_splits: bool = False
