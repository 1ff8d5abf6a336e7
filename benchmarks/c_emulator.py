"""Counts the instructions of an emitted network under QEMU, by the plugin of c_count_plugin.c."""

from __future__ import annotations

from pathlib import Path

from c_build import HERE, Failed, run
from c_processors import Emulated

__all__ = ["build_plugin", "count_instructions"]

_VERSIONS = (1, 2, 4)  # of QEMU's interface for plugins: 7, 9, 10


def build_plugin(folder: Path) -> tuple[Path, ...]:
    """The plugin, for each version of the interface. Raises Failed where there is no gcc."""
    folder.mkdir(parents=True, exist_ok=True)
    for version in _VERSIONS:
        out = folder / f"count{version}.so"
        run(["gcc", "-O2", "-shared", "-fPIC", f"-DVERSION={version}", HERE / "c_count_plugin.c", "-o", out])
    return tuple(folder / f"count{version}.so" for version in _VERSIONS)


def count_instructions(program: Path, row: Emulated, plugins: tuple[Path, ...]) -> int:
    """Of one run of the network: those between the two calls of `mark`. Raises Failed, also for a wrong output."""
    symbols = run([f"{row.tools}nm", program]).stdout.split("\n")
    mark = next(int(line.split()[0], 16) & ~1 for line in symbols if line.endswith(" mark"))  # bit 0 says Thumb
    for plugin in plugins:
        try:
            done = run([*row.emulator, "-plugin", f"{plugin},at={mark:#x}", *row.kernel, program])
        except Failed as e:
            failure = e
            continue
        counts = [int(line.split()[1]) for line in done.stderr.splitlines() if line.startswith("count ")]
        if len(counts) != 2:
            raise Failed(f"{row.emulator[0]} counted at {len(counts)} marks, not 2")
        return counts[1] - counts[0]
    raise failure
