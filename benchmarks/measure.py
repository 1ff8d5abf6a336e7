"""The table of the README: every quantized example, every target, compiled, verified, timed. Prints Markdown.

usage: python benchmarks/measure.py [MODEL.onnx ...]      beside each model lies MODEL.npz
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pefslc

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
TARGETS = (("c", None), ("tensil", "custom_perf"), ("tensil", "pynqz1"))


def main(models: list[Path]) -> None:
    """One row per model and target."""
    for target, arch in TARGETS:
        pefslc.compile(models[0], target=target, arch=arch)  # not the first import, but the compile, is timed
    print("| model | MMAC | target | outputs equal | cycles | compiled in |")
    print("|---|---:|---|---:|---:|---:|")
    for model in models:
        for target, arch in TARGETS:
            print(_row(model, target, arch))


def _row(model: Path, target: str, arch: str | None) -> str:
    board = f"{target} {arch}" if arch else target
    start = time.perf_counter()
    try:
        program = pefslc.compile(model, target=target, arch=arch)
    except pefslc.CompileError as e:
        return f"| {model.stem} | | {board} | refused: {e.problems[0].message} | | |"
    seconds = time.perf_counter() - start
    verification = program.verify(model.with_suffix(".npz"))
    last = verification.comparisons[-1]
    cycles = program.emission.cycles
    macs = sum(row.macs for row in program.layers)
    return (
        f"| {model.stem} | {macs / 1e6:.2f} | {board} | {last.count - last.differing} of {last.count} | "
        f"{f'{cycles:,}' if cycles else ''} | {seconds:.1f} s |"
    )


if __name__ == "__main__":
    # What a float model's outputs are to equal is not said by its file.
    main([Path(a) for a in sys.argv[1:]] or [m for m in sorted(EXAMPLES.glob("*.onnx")) if "float" not in m.stem])
