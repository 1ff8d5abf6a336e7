"""--print-ir-after and --dump-dir: the graph after each pass, as text and for Netron; the stages of the target."""

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
    from pefslc.targets.protocol import Stage

__all__ = ["Watcher"]

_DUMPED = re.compile(r"\d\d+_(.+)\.(ir|onnx|txt)")


class Watcher:
    """Observes a compile: prints what is asked for, and writes NN_pass.ir, NN_pass.onnx and NN_target-stage.txt."""

    def __init__(self, print_after: str | None, folder: Path | None, target: str) -> None:
        self.print_after = print_after
        self.folder = folder
        self.target = target
        self.count = 0
        if folder is not None:
            _empty(folder)

    def __call__(self, record: PassRecord, graph: Graph) -> None:
        from pefslc.ir.text import print_graph

        if self.print_after in ("all", record.name):
            _print(f"{_title(record.name, record.changed)}{print_graph(graph, data=False)}\n")
        if self.folder is not None:
            from pefslc.files.staging import write_file
            from pefslc.reports.netron import to_onnx

            stem = f"{self.count:02d}_{record.name}"
            write_file(self.folder / f"{stem}.ir", str(graph).encode())
            write_file(self.folder / f"{stem}.onnx", to_onnx(graph))
        self.count += 1

    def stage(self, stage: Stage) -> None:
        """Observes the target."""
        name = f"{self.target}-{stage.name}"
        text = _title(name, stage.changed) + stage.text
        if self.print_after in ("all", stage.name, name):
            _print(text)
        if self.folder is not None:
            from pefslc.files.staging import write_file

            write_file(self.folder / f"{self.count:02d}_{name}.txt", text.encode())
        self.count += 1


def _title(name: str, changed: bool) -> str:
    return f"// after {name}: {'changed' if changed else 'unchanged'}\n"


def _print(text: str) -> None:
    try:
        print(text, end="", flush=True)
    except BrokenPipeError:
        discard_output()  # the compile goes on: it is asked for files


def _empty(folder: Path) -> None:
    """Make the folder; remove an earlier dump; refuse a folder that holds anything else."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        present = sorted(folder.iterdir())
        names = {p.name for p in present}
        foreign = [p.name for p in present if not _is_ours(p, names)]
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


def _is_ours(path: Path, names: set[str]) -> bool:
    """Whether a file is what a dump writes, by name and content: any file may have such a name, the model's also.

    names  of all files of the folder: a graph's text and its drawing come together
    """
    match = _DUMPED.fullmatch(path.name)
    if match is None or path.is_symlink() or not path.is_file():
        return False
    content = path.read_bytes()
    if path.suffix == ".txt":
        return content.startswith(tuple(_title(match[1], changed).encode() for changed in (True, False)))
    if path.with_suffix(".ir").name not in names:
        return False
    if path.suffix == ".ir":
        return content.startswith(b"graph ")
    from pefslc.reports.netron import is_drawing

    return is_drawing(content)
