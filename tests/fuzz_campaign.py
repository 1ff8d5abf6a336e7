"""A long run of mutated models: `python tests/fuzz_campaign.py --count 100000 --seed 1 --findings DIR`.

Workers are forked, limited to 1 GB more than they need to start, and started again after what kills them. Findings are
written with the seed and number that make them again: `--only NUMBER` runs one case in this process.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
import traceback
from collections import Counter
from contextlib import suppress
from pathlib import Path

import onnx  # noqa: F401  # before the fork: what the workers share they do not load again
from fuzzing import Hang, make_case, outcome

from process_memory import limit_growth, peak_kilobytes

_MEMORY_BYTES = 1 << 30
_BATCH = 1000
_FOLDER = "/dev/shm" if os.path.isdir("/dev/shm") else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int)
    parser.add_argument("--findings", type=Path, default=Path("fuzz-findings"))
    options = parser.parse_args()
    if options.only is not None:
        with tempfile.TemporaryDirectory(dir=_FOLDER) as folder:
            print(outcome(make_case(options.seed, options.only), Path(folder) / "model.onnx"))
        return
    options.findings.mkdir(exist_ok=True)
    for number in range(200):  # before the fork: what the workers share they do not load again, nor anew
        with tempfile.TemporaryDirectory(dir=_FOLDER) as folder, suppress(Exception, Hang):
            outcome(make_case(0, number), Path(folder) / "model.onnx")
    start, number, end = time.time(), options.first, options.first + options.count
    while number < end:
        number = run_batch(options.seed, number, min(number + _BATCH, end), options.findings)
        print(f"{number} cases, {time.time() - start:.0f} s", flush=True)


def run_batch(seed: int, first: int, end: int, findings: Path) -> int:
    """Run cases first..end-1 in a child; returns the number of the next case, after one that killed it."""
    progress = findings / f"progress-{seed}"
    child = os.fork()
    if child == 0:
        status = 1
        try:
            _work(seed, first, end, findings, progress)
            status = 0
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    if status == 0:
        return end
    died = int(progress.read_text())
    (findings / f"{seed}-{died}.txt").write_text(f"the process died, status {status}\n")
    return died + 1


def _work(seed: int, first: int, end: int, findings: Path, progress: Path) -> None:
    limit_growth(_MEMORY_BYTES)
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(dir=_FOLDER) as folder, progress.open("w") as number_file:
        path = Path(folder) / "model.onnx"
        for number in range(first, end):
            number_file.seek(0)
            number_file.write(str(number))
            number_file.flush()
            try:
                counts[outcome(make_case(seed, number), path)] += 1
            except (Exception, Hang):
                (findings / f"{seed}-{number}.txt").write_text(traceback.format_exc())
            strays = [p for p in os.listdir(folder) if p != "model.onnx"]
            if strays:
                (findings / f"{seed}-{number}.txt").write_text(f"left on disk: {strays}\n")
    with (findings / f"outcomes-{seed}.txt").open("a") as log:
        log.write(f"{first}..{end - 1} peak {peak_kilobytes()} KB {dict(counts.most_common())}\n")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    main()
