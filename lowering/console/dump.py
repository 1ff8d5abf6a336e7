"""--print-ir-after and --dump-dir: the graph after each pass, as text and for Netron."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from pefslc.console.streams import discard_output
from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, quote

if TYPE_CHECKING:
    from pefslc.ir.graph import Graph
    from pefslc.passes.manager import PassRecord

__all__ = ["Watcher"]

_DUMPED = re.compile(r"\d\d_.+\.(ir|onnx)")


class Watcher:
    """Observes a compile: prints the graphs asked for, and writes NN_pass.ir and NN_pass.onnx."""

    def __init__(self, print_after: str | None, folder: Path | None) -> None:
        self.print_after = print_after
        self.folder = folder
        self.count = 0
        if folder is not None:
            _empty(folder)

    def __call__(self, record: PassRecord, graph: Graph) -> None:
        from pefslc.ir.text import print_graph

        if self.print_after in ("all", record.name):
            try:
                print(f"// after {record.name}: {'changed' if record.changed else 'unchanged'}")
                print(print_graph(graph, data=False), flush=True)
            except BrokenPipeError:
                discard_output()  # the compile goes on: it is asked for files
        if self.folder is not None:
            from pefslc.files.staging import write_file
            from pefslc.reports.netron import to_onnx

            stem = f"{self.count:02d}_{record.name}"
            write_file(self.folder / f"{stem}.ir", str(graph).encode())
            write_file(self.folder / f"{stem}.onnx", to_onnx(graph))
        self.count += 1


def _empty(folder: Path) -> None:
    """Make the folder; remove an earlier dump; refuse a folder that holds anything else."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        present = sorted(folder.iterdir())
        names = {p.name for p in present}
        foreign = [
            p.name
            for p in present
            if not _DUMPED.fullmatch(p.name) or p.with_suffix(".ir").name not in names or not _is_ours(p)
        ]
        if foreign:
            raise CompileError(
                Code.IN_THE_WAY,
                f"the dump folder {quote(folder)} holds other files: {quote(foreign[0])}",
                hint="give an empty or a new folder",
            )
        for path in present:
            path.unlink()
    except OSError as e:
        raise CompileError(
            Code.CANNOT_WRITE,
            f"cannot write into {quote(folder)}: {e.strerror or e}",
            hint="give another folder with --dump-dir",
        ) from None


def _is_ours(path: Path) -> bool:
    """Whether a file's content is what a dump writes: any file may have such a name, the model's also."""
    if path.is_symlink() or not path.is_file():
        return False
    content = path.read_bytes()
    if path.suffix == ".ir":
        return content.startswith(b"graph ")
    from pefslc.reports.netron import is_drawing

    return is_drawing(content)
