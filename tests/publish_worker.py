"""A process that writes artifacts and ends in the middle: run by test_interrupted_writing.

    python publish_worker.py {"folder": ..., "model": ..., "content": ..., "way": ...} [...]

Each job runs in a process of its own, forked here. `way`: "end" writes all; "kill 5" ends the process, without any
clean-up, before its 5th call that changes a file; "SIGINT 5" and "SIGTERM 5" send it a signal there; "OSError 5" makes
the call fail. "race" starts with the next job at the same time. Prints how each job ended: done, error, interrupted or
killed.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

from pefslc.artifacts.sidecar import Sidecar
from pefslc.diagnostics.errors import CompileError
from pefslc.files.staging import publish

CALLS = ("open", "write", "replace", "mkdir", "unlink", "rmdir", "truncate")
ENDS = {0: "done", 1: "error", 2: "interrupted", 9: "killed"}


def artifacts(model: str, content: str) -> tuple[dict[str, bytes], tuple[str, bytes]]:
    """Three files and the sidecar that names them."""
    files = {f"{model}{end}": f"{model} {end} {content}".encode() for end in (".tprog", ".tmodel", "_io.py")}
    hashes = {name: sha256(data).hexdigest() for name, data in files.items()}
    sidecar = Sidecar(model, "fake", "0", sha256(content.encode()).hexdigest(), hashes, (), (), source=f"{model}.onnx")
    return files, (sidecar.file_name, sidecar.to_bytes())


def disturb(way: str) -> None:
    """Make this process meet its end at the call that `way` says."""
    what, at = way.split()
    left = [int(at)]

    def disturbed(real: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object, **options: object) -> object:
            left[0] -= 1
            if left[0] == 0:
                if what == "kill":
                    os._exit(9)
                if what == "OSError":
                    raise OSError(28, "No space left on device")
                os.kill(os.getpid(), signal.Signals[what])
            return real(*args, **options)

        return call

    for name in CALLS:
        setattr(os, name, disturbed(getattr(os, name)))


def work(job: dict[str, str]) -> int:
    def terminate(*_: object) -> None:
        raise SystemExit(2)

    signal.signal(signal.SIGTERM, terminate)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs the tests may ignore it
    files, sidecar = artifacts(job["model"], job["content"])
    if job["way"] not in ("end", "race"):
        disturb(job["way"])
    try:
        publish(Path(job["folder"]), files, sidecar)
    except CompileError:
        return 1
    except (KeyboardInterrupt, SystemExit):
        return 2
    return 0


def start(job: dict[str, str], begin: int) -> int:
    process = os.fork()
    if process == 0:
        os.read(begin, 1)
        try:
            os._exit(work(job))
        except BaseException as e:
            print(repr(e), file=sys.stderr)
            os._exit(3)
    return process


def main(jobs: list[dict[str, str]]) -> None:
    waiting: list[int] = []
    read, write = os.pipe()
    for job in jobs:
        waiting.append(start(job, read))
        if job["way"] == "race":
            continue
        os.write(write, b"x" * len(waiting))
        for process in waiting:
            status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
            print(ENDS.get(status, f"status {status}"))
        waiting.clear()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
