"""Compiles models under limits, in a process of its own: `hostile_worker.py OUT.json MODEL...`.

Writes what became of each model and target: "compiled" or the codes of the refusal, the files that were opened
meanwhile, what was left beside the model, and the seconds and memory of the process.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import pefslc
from process_memory import limit_growth, peak_kilobytes

_TARGETS = ("c", "tensil")


def main(out: Path, models: list[Path]) -> None:
    for target in _TARGETS:  # what they import is not part of what a model costs
        pefslc.compile(models[0], target=target)
    opened: list[str] = []
    sys.addaudithook(
        lambda event, args: opened.append(os.fspath(args[0])) if event == "open" and _is_path(args[0]) else None
    )
    limit_growth(1 << 30)
    results = []
    for model in models:
        before = sorted(os.listdir(model.parent))
        for target in _TARGETS:
            opened.clear()
            start = time.process_time()
            try:
                pefslc.compile(model, target=target)
                codes = ["compiled"]
            except pefslc.CompileError as e:
                codes = sorted({str(p.code) for p in e.problems})
            seconds = time.process_time() - start
            left = sorted(set(os.listdir(model.parent)) - set(before))
            files = sorted({os.path.realpath(path) for path in opened})
            results.append(
                {
                    "model": model.stem,
                    "target": target,
                    "codes": codes,
                    "seconds": seconds,
                    "left": left,
                    "files": files,
                }
            )
    out.write_text(json.dumps({"results": results, "peak_kilobytes": peak_kilobytes()}))


def _is_path(opened: object) -> bool:
    return isinstance(opened, str | bytes | os.PathLike)


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(p) for p in sys.argv[2:]])
