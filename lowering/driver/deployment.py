"""What brings a compiled model to a board and tests it there: three commands, of `ssh` and `scp`."""

from __future__ import annotations

import re
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path

from pefslc.artifacts.sidecar import Sidecar
from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, quote
from pefslc.driver.compiled_artifact import Artifact, open_artifact
from pefslc.targets.tensil.machine.architecture import load_architecture
from pefslc.targets.tensil.machine.boards import WITHOUT_LINUX

__all__ = ["Deployment", "is_host", "is_remote_folder", "plan_deployment", "run_command"]

Command = tuple[str, ...]

# No name that begins with "-": ssh and scp would read it as an option.
_NAME = r"[A-Za-z0-9_][A-Za-z0-9_.+-]*"
_HOST = re.compile(rf"({_NAME}@)?{_NAME}")
# scp hands the folder to a shell of the board in old versions, and does not in new ones: nothing that needs quotes.
_FOLDER = re.compile(rf"/?{_NAME}(/{_NAME})*")
_BITSTREAM = "a bitstream is FILE.bit, and PYNQ needs the design's FILE.hwh beside it"
_PYTHON = "/usr/local/share/pynq-venv/bin/python3"  # of PYNQ 2.7 and later; before, the system's Python has pynq

_CANNOT_CONNECT = 255  # ssh's own status; any other is that of what ran there


def is_host(text: str) -> bool:
    """Whether it is `host` or `user@host`, by name or IPv4 address."""
    return _HOST.fullmatch(text) is not None


def is_remote_folder(text: str) -> bool:
    """Whether it is a path that no shell reads otherwise."""
    return _FOLDER.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class Deployment:
    """Files for a folder of the board, and the script that runs there.

    folder     on the board; relative to the user's home
    files      absolute paths
    arguments  of the script
    """

    host: str
    folder: str
    files: tuple[Path, ...]
    script: str
    arguments: tuple[str, ...] = ()

    @property
    def commands(self) -> tuple[Command, Command, Command]:
        """Make the folder, copy, run. The last word of an ssh command is a line for the shell of the board."""
        inside = f"cd {shlex.quote(self.folder)} && "
        python = f"python={_PYTHON}; [ -x $python ] || python=python3; "
        script = shlex.join([self.script, *self.arguments])
        return (
            ("ssh", "--", self.host, f"mkdir -p {shlex.quote(self.folder)}"),
            ("scp", "--", *map(str, self.files), f"{self.host}:{self.folder}/"),
            # -t: sudo may ask for a password
            ("ssh", "-t", "--", self.host, f"{inside}{{ {python}sudo XILINX_XRT=/usr $python {script}; }}"),
        )


def plan_deployment(
    build: Path, host: str, folder: str | None = None, bitstream: Path | None = None, runs: int | None = None
) -> Deployment:
    """For a folder that a compile wrote, or one of its files. Raises CompileError.

    folder     on the board; the model's name unless given
    bitstream  a .bit, which is copied with the .hwh beside it; else the script looks for the usual one on the board
    """
    opened = open_artifact(build)
    if not isinstance(opened, Artifact):
        raise CompileError(
            Code.NOT_AN_ARTIFACT,
            f"{quote(build)} has no sidecar: pefslc did not compile it",
            hint="give the folder that a compile wrote into",
        )
    sidecar = opened.sidecar
    script = _script_of(sidecar)
    where = build if build.is_dir() else build.parent
    files = [where / name for name in sidecar.files]
    arguments = [] if runs is None else ["--runs", str(runs)]
    if bitstream is not None:
        files += _with_handoff(bitstream)
        arguments += ["--bitstream", f"./{bitstream.name}"]
    paths = tuple(path.absolute() for path in files)
    home = sidecar.model if is_remote_folder(sidecar.model) else "model"  # a sidecar may be anybody's
    return Deployment(host, folder or home, paths, script, tuple(arguments))


def _script_of(sidecar: Sidecar) -> str:
    script = sidecar.details.get("run")
    if sidecar.target != "tensil" or not isinstance(script, str):
        raise CompileError(
            Code.NOT_AN_ARTIFACT,
            f"{quote(sidecar.file_name)} names no script for a board",
            hint="compile the model with --target tensil, by this version",
        )
    for name in WITHOUT_LINUX:
        if sidecar.details.get("architecture") == load_architecture(name).to_json_dict():
            raise CompileError(
                Code.BOARD,
                f"{quote(sidecar.model)} is for --arch {name}, a board without Linux: neither ssh nor PYNQ runs there",
                hint=f"{script} --dry-run tests it without a board; a board with PYNQ has another --arch: "
                "`pefslc explain boards`",
            )
    return script


def _with_handoff(bitstream: Path) -> tuple[Path, Path]:
    """The bitstream and its .hwh, which PYNQ reads, too."""
    both = bitstream.with_suffix(".bit"), bitstream.with_suffix(".hwh")
    if bitstream not in both[:1]:
        raise CompileError(Code.BOARD, f"{quote(bitstream)} is no .bit file", hint=_BITSTREAM)
    for path in both:
        if not path.is_file():
            raise CompileError(
                Code.NO_SUCH_FILE,
                f"no such file: {quote(path)}",
                hint=_BITSTREAM,
            )
    return both


def run_command(command: Command) -> None:
    """Run one of the commands in this terminal. Raises CompileError where it fails."""
    program = command[0]
    try:
        status = subprocess.run(command, check=False).returncode
    except OSError as e:
        raise CompileError(
            Code.BOARD,
            f"cannot run {program}: {e.strerror}",
            hint="install OpenSSH's client; or use --print, and type the commands elsewhere",
        ) from None
    if status == _CANNOT_CONNECT or (status and program == "scp"):
        raise CompileError(
            Code.BOARD,
            f"{program} ended with status {status}",
            hint="its own message stands above; look whether the board answers to ssh",
        )
    if status:
        raise CompileError(
            Code.BOARD, f"what ran on the board ended with status {status}", hint="its own message stands above"
        )
