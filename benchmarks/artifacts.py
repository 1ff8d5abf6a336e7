"""What every network of a folder compiles to, as hashes: to see what a change of the compiler changes for its users.

usage: python benchmarks/artifacts.py take FOLDER SNAPSHOT.json       of its .onnx files
       python benchmarks/artifacts.py compare BEFORE.json AFTER.json  prints what differs; exits with 1 then

A snapshot has, for each network and each target (on each board that pefslc knows), the hash of every file and of the
sidecar, the modelled cycles and the lines of the summary; or the refusal, word for word. Float networks take Q8.8.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pefslc

TARGETS = (
    ("c", None),
    *(("tensil", arch) for arch in ("pynqz1", "custom_perf", "zcu104", "zcu104_uram", "ultra96v2", "cmoda7")),
)
FLOAT_FORMAT = "Q8.8"
NEEDS_FORMAT = "PEF0503"  # the refusal of a float model without --fmt


def take(folder: Path) -> dict[str, Any]:
    """network -> target -> what became of it."""
    snapshot: dict[str, Any] = {}
    for model in sorted(folder.rglob("*.onnx")):
        name = model.relative_to(folder).with_suffix("").as_posix()
        snapshot[name] = {"/".join(filter(None, chosen)): outcome(model, *chosen) for chosen in TARGETS}
        print(name, file=sys.stderr, flush=True)
    return snapshot


def outcome(model: Path, target: str, arch: str | None, fmt: str | None = None) -> dict[str, Any]:
    """The hashes of one compile, or its refusal."""
    try:
        program = pefslc.compile(model, target=target, arch=arch, fmt=fmt)
    except pefslc.CompileError as e:
        if fmt is None and any(p.code.number == NEEDS_FORMAT for p in e.problems):
            return outcome(model, target, arch, FLOAT_FORMAT)
        return {"exit": 1, "refused": str(e)}
    files = {**program.emission.files, program.sidecar.file_name: program.sidecar.to_bytes()}
    return {
        "exit": 0,
        "exact": program.exact,
        "cycles": program.emission.cycles,
        "summary": list(program.emission.notes),
        "files": {name: digest(content) for name, content in sorted(files.items())},
    }


def digest(content: bytes) -> str:
    """A short hash."""
    return hashlib.sha256(content).hexdigest()[:16]


def differences(before: dict[str, Any], after: dict[str, Any]) -> Iterator[str]:
    """A line for each network and target that is not what it was."""
    for network in sorted(before.keys() | after.keys()):
        if network not in before or network not in after:
            yield f"{network}: only {'after' if network in after else 'before'}"
            continue
        for target in before[network].keys() | after[network].keys():
            old, new = before[network].get(target, {}), after[network].get(target, {})
            if old == new:
                continue
            what = [key for key in old.keys() | new.keys() if old.get(key) != new.get(key)]
            cycles = f"; cycles {old.get('cycles')} -> {new.get('cycles')}" if "cycles" in what else ""
            refused = f"; {old.get('refused')!r} -> {new.get('refused')!r}" if "refused" in what else ""
            yield f"{network} {target}: {', '.join(sorted(what))}{cycles}{refused}"


def main(arguments: list[str]) -> int:
    """The exit status."""
    match arguments:
        case ["take", folder, file]:
            Path(file).write_text(json.dumps(take(Path(folder)), indent=1, sort_keys=True) + "\n")
            return 0
        case ["compare", before, after]:
            lines = list(differences(json.loads(Path(before).read_text()), json.loads(Path(after).read_text())))
            print("\n".join(lines) or "the same")
            return int(bool(lines))
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
