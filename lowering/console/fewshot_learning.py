"""`pefslc fewshot enrol` and `forget`: a state learns pictures of a class, or loses them again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pefslc.console.fewshot_options import (
    build_and_state,
    debug_option,
    engine_option,
    open_system,
    picture_files,
    quiet_option,
    read_all,
)
from pefslc.console.loading import LoadingCommand

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pefslc.fewshot.system.system import FewShotSystem

__all__ = ["enrol", "forget"]


@click.command(
    "enrol",
    cls=LoadingCommand,
    loads="pefslc.fewshot.system.system",
    short_help="learn pictures of a class, or a folder of classes",
)
@build_and_state
@click.argument("pictures", nargs=-1, type=click.Path())
@click.option("--class", "name", metavar="NAME", help="the class that PICTURES show; it may be new")
@click.option(
    "--folder", metavar="DIR", help="a folder that holds a folder of pictures for each class; instead of --class"
)
@click.option(
    "--device",
    type=click.IntRange(0, 2**32 - 1),
    metavar="ID",
    help="the number of this device, for a new state  [default: random]",
)
@engine_option
@quiet_option
@debug_option
def enrol(
    build: str,
    state: str,
    pictures: tuple[str, ...],
    name: str | None,
    folder: str | None,
    device: int | None,
    engine: str,
    quiet: bool,
    debug: bool,
) -> None:
    """Learn PICTURES, files or folders of them, with the system in the folder BUILD. STATE is the file of what was
    learned; it is made when it is not there. All pictures are learned, or none.
    """
    del debug  # read by cli.run
    if (name is None) == (folder is None):
        raise click.UsageError("give --class NAME and its pictures, or --folder DIR")
    if folder is not None and pictures:
        raise click.UsageError(f"--folder names all pictures: {pictures[0]!r} is one more")
    path = Path(state)
    by_class = _classes_in(Path(folder)) if folder is not None else {str(name): _some(picture_files(pictures))}
    system = open_system(build, engine, quiet=quiet)
    _require_device(path, device)
    codes = _codes(system, by_class, quiet)
    from pefslc.fewshot.system.classes import enrol_class

    lines = []
    with system.editing(path, new=system.new_state(device)) as learned:
        for class_name, shots in codes.items():
            class_id = enrol_class(learned, class_name, shots)
            lines.append(f"{class_name}: {_counted(len(shots))} learned, {learned.classifier.shots(class_id)} in all")
        count = len(learned.classifier.classes)
    if not quiet:
        print("\n".join(lines))
        print(f"wrote {state}: {count} class{'' if count == 1 else 'es'}")


def _counted(shots: int) -> str:
    return f"{shots} shot{'' if shots == 1 else 's'}"


def _some(files: list[Path]) -> list[Path]:
    """Raises CompileError where there are none."""
    from pefslc.diagnostics.error_codes import Code
    from pefslc.diagnostics.errors import CompileError

    if not files:
        raise CompileError(Code.NO_SHOTS, "there are no pictures to learn", hint="name their files, or a folder")
    return files


def _classes_in(folder: Path) -> dict[str, list[Path]]:
    """The pictures of each class in a folder of folders. Raises CompileError."""
    from pefslc.diagnostics.error_codes import Code
    from pefslc.diagnostics.errors import CompileError, quote
    from pefslc.fewshot.data.split_lists import class_folders

    found = {path.name: picture_files([str(path)]) for path in class_folders(folder)}
    if not found:
        raise CompileError(
            Code.NO_SHOTS,
            f"{quote(folder)} holds no folders",
            hint="one for each class; or --class NAME FOLDER",
        )
    return found


def _require_device(path: Path, device: int | None) -> None:
    """A number that is given belongs to a new state: that of a state does not change."""
    from pefslc.diagnostics.errors import quote
    from pefslc.fewshot.head.state_file import load_state

    if device is not None and path.exists() and device not in load_state(path).devices:
        raise click.UsageError(f"--device {device}: {quote(path)} is the state of another device; leave it out")


def _codes(system: FewShotSystem, by_class: dict[str, list[Path]], quiet: bool) -> dict[str, NDArray[np.int64]]:
    """The feature codes of each class. Every picture is read before the first is computed."""
    files = [(name, path) for name, paths in by_class.items() for path in paths]
    pictures = read_all([path for _, path in files])
    if not quiet:
        _tell_of_repeated(files, pictures)
    codes = system.codes(pictures)
    found, at = {}, 0
    for class_name, paths in by_class.items():
        found[class_name] = codes[at : at + len(paths)]
        at += len(paths)
    return found


def _tell_of_repeated(files: Sequence[tuple[str, Path]], pictures: Sequence[NDArray[np.uint8]]) -> None:
    """A note on pictures that are equal, pixel by pixel: each is a shot. Earlier calls left sums, no pictures."""
    from pefslc.diagnostics.errors import quote

    seen: dict[tuple[tuple[int, ...], bytes], tuple[str, Path]] = {}
    for file, picture in zip(files, pictures, strict=True):
        name, path = file
        first = seen.setdefault((picture.shape, picture.tobytes()), file)
        if first is file:
            continue
        what = f"counts as two shots of {quote(name)}" if first[0] == name else (
            f"is a shot of {quote(first[0])} and of {quote(name)}"
        )  # fmt: skip
        click.echo(f"note: {quote(path)} is the same picture as {quote(first[1])}: it {what}", err=True)


@click.command(
    "forget",
    cls=LoadingCommand,
    loads="pefslc.fewshot.system.system",
    short_help="forget a class, or the shots of some pictures",
)
@build_and_state
@click.argument("pictures", nargs=-1, type=click.Path())
@click.option("--class", "name", metavar="NAME", required=True, help="the class")
@engine_option
@quiet_option
@debug_option
def forget(build: str, state: str, pictures: tuple[str, ...], name: str, engine: str, quiet: bool, debug: bool) -> None:
    """Forget a class of STATE; with PICTURES, only these shots of it, as if they had never been enrolled. BUILD is the
    folder of the system.
    """
    del debug  # read by cli.run
    from pefslc.fewshot.system.classes import class_called

    path = Path(state)
    files = picture_files(pictures)
    system = open_system(build, engine, quiet=quiet)
    codes = system.codes(read_all(files))
    with system.editing(path) as learned:
        class_id = class_called(learned, name)
        if not files:
            learned.forget_class(class_id)
        for shot in codes:
            learned.classifier.forget_shot(class_id, shot, names={class_id: name})
        rest = 0 if not files else learned.classifier.shots(class_id)
    if not quiet:
        print(f"{name}: forgotten" if not files else f"{name}: {_counted(len(files))} forgotten, {rest} left")
        print(f"wrote {state}")
