"""Which networks of a folder compile for which target, and whether they are exact. Prints the table of docs/zoo.md.

usage: python benchmarks/zoo.py FOLDER      of NAME.onnx with NAME.npz (inputs x, expected values y_ref64)
"""

from __future__ import annotations

import sys
from pathlib import Path

import pefslc

TARGETS = (("c", None), ("tensil", "pynqz1"), ("tensil", "zcu104"))


def main(folder: Path) -> None:
    """One row per network."""
    print("| network | " + " | ".join(arch or target for target, arch in TARGETS) + " | refused because |")
    print("|---|" + "---|" * (len(TARGETS) + 1))
    for model in sorted(folder.glob("*.onnx")):
        cells, reasons = [], []
        for target, arch in TARGETS:
            cell, reason = verdict(model, target, arch)
            cells.append(cell)
            if reason and reason not in reasons:
                reasons.append(reason)
        print(f"| {model.stem} | {' | '.join(cells)} | {'; '.join(reasons)} |", flush=True)


def verdict(model: Path, target: str, arch: str | None) -> tuple[str, str]:
    """("exact" or "bounded" or "-" or a count of differing outputs, the reason of a refusal)."""
    try:
        program = pefslc.compile(model, target=target, arch=arch)
    except pefslc.CompileError as e:
        more = f" (and {len(e.problems) - 1} more)" if len(e.problems) > 1 else ""
        return "-", e.problems[0].message + more
    comparisons = program.verify(model.with_suffix(".npz")).comparisons
    differing = sum(c.differing for c in comparisons)
    if differing:
        return f"{differing} of {sum(c.count for c in comparisons)} differ", ""
    return ("exact" if all(row.exact for row in program.layers) else "bounded"), ""


if __name__ == "__main__":
    main(Path(sys.argv[1]))
