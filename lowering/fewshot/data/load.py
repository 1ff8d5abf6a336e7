"""One door to all data: "glyphs", or a folder whose layout is found by the names in it."""

from __future__ import annotations

import os
from pathlib import Path

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, quote
from pefslc.diagnostics.progress import Progress
from pefslc.fewshot.data.folders import FOLDER_LAYOUTS
from pefslc.fewshot.data.glyph_cache import cached_glyphs
from pefslc.fewshot.data.glyphs import IMAGES_PER_CLASS, make_glyphs
from pefslc.fewshot.data.image_set import FewShotData, require_size
from pefslc.fewshot.data.layout import Layout, Request
from pefslc.fewshot.data.pickled_sets import PICKLE_LAYOUTS
from pefslc.files.paths import as_path
from pefslc.files.reading import unreadable

__all__ = ["GLYPHS", "LAYOUTS", "find_layout", "load_data"]

GLYPHS = "glyphs"
# The first that knows a folder reads it: those of exact names before ImageFolder, which any folders of pictures are.
LAYOUTS: tuple[Layout, ...] = (*PICKLE_LAYOUTS, *FOLDER_LAYOUTS)
_MOST_SHOWN = 6  # names of a folder that is none of them


def load_data(
    source: str | os.PathLike[str] = GLYPHS,
    size: int = 32,
    *,
    splits: str | os.PathLike[str] | None = None,
    images_per_class: int = IMAGES_PER_CLASS,
    seed: int = 0,
    cache: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> FewShotData:
    """The pictures of a source, cropped to squares of `size` pixels (16 to 84).

    source            "glyphs", or a folder in one of LAYOUTS; a folder of that name is "./glyphs"
    splits            a folder of split lists, or "fc100", where the data have none of their own
    images_per_class  of the glyphs
    seed              of the glyphs, and of Omniglot's val
    cache             a folder in which drawn glyphs are kept
    progress          called with (done, total, what)

    Raises CompileError: for a folder of none of the layouts it shows how each looks.
    """
    require_size(size)
    if source == GLYPHS:
        if splits is not None:
            raise _own_split("the set of glyphs")
        if cache is None:
            return make_glyphs(size, images_per_class, seed, progress)
        folder = as_path(cache, Code.DATA_OPTION, "a folder for drawn glyphs", "the path of a folder")
        return cached_glyphs(folder, size, images_per_class, seed, progress)
    folder = as_path(source, Code.DATA_LAYOUT, "a source of pictures", f'"{GLYPHS}", or the path of a folder')
    given = None if splits is None else as_path(splits, Code.SPLIT_LIST, "a split", 'a folder of lists, or "fc100"')
    chosen: Path | str | None = "fc100" if given == Path("fc100") and not Path("fc100").is_dir() else given
    layout = find_layout(folder)
    if chosen is not None and not layout.takes_splits:
        raise _own_split(f"{quote(folder)} ({layout.name})")
    return layout.read(folder, Request(size, chosen, seed, progress))


def _own_split(what: str) -> CompileError:
    return CompileError(Code.DATA_OPTION, f"{what} has a split of its own", hint="leave out the split lists")


def find_layout(folder: Path) -> Layout:
    """The layout of a folder. Raises CompileError."""
    if not folder.exists():
        raise CompileError(
            Code.NO_SUCH_FILE, f"no such folder: {quote(folder)}", hint=f'or "{GLYPHS}", which needs none'
        )
    if not folder.is_dir():
        raise CompileError(Code.DATA_LAYOUT, f"{quote(folder)} is no folder", hint="unpack archives first\n" + _known())
    try:
        found = next((layout for layout in LAYOUTS if layout.known(folder)), None)
    except OSError as e:
        raise unreadable(folder, e, "folder") from None
    if found is None:
        inside = sorted(path.name + "/" * path.is_dir() for path in folder.iterdir())
        more = ", ..." if len(inside) > _MOST_SHOWN else ""
        holds = f"holds {', '.join(map(quote, inside[:_MOST_SHOWN]))}{more}" if inside else "is empty"
        raise CompileError(Code.DATA_LAYOUT, f"{quote(folder)} {holds}: it has no layout that is known", hint=_known())
    return found


def _known() -> str:
    """All layouts as small trees."""
    lines = ["the layouts that are known:"]
    for layout in LAYOUTS:
        lines += [layout.name, *(f"    {line}" for line in layout.tree)]
    return "\n".join(lines)
