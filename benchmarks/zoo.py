"""Which networks of a folder compile for which target, and whether they are exact. Prints the table of docs/zoo.md.

usage: python benchmarks/zoo.py FOLDER      of NAME.onnx with NAME.npz (inputs x, expected values y_ref64)
"""

from __future__ import annotations

import sys
from pathlib import Path

import pefslc

TARGETS = (("c", None), ("tensil", "pynqz1"), ("tensil", "zcu104"), ("tensil", "custom_perf"))


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
    found = program.verify(model.with_suffix(".npz"))
    unexpected = [c for c in found.comparisons if c.differing and not c.bounded]
    if unexpected:
        return f"{sum(c.differing for c in unexpected)} of {sum(c.count for c in unexpected)} differ", ""
    if program.exact:
        return "exact", ""
    bounded = [c for c in found.comparisons if c.bounded][:1]
    return "; ".join(f"bounded: {c.differing} of {c.count}" for c in bounded) or "bounded", ""


if __name__ == "__main__":
    main(Path(sys.argv[1]))
