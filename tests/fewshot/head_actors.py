"""The three implementations of the head behind one interface for the tests: Classifier, Python module, C."""

from __future__ import annotations

import importlib.util
import struct
import subprocess
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Protocol

import numpy as np

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError
from pefslc.fewshot.device.head_c import emit_head_c
from pefslc.fewshot.device.head_python import emit_head_python, head_module
from pefslc.fewshot.head.classifier import vote
from pefslc.fewshot.head.spec import HeadSpec
from pefslc.fewshot.head.state import HeadState
from pefslc.fewshot.head.state_file import from_bytes, to_bytes
from pefslc.targets.c.naming import model_prefix

BACKBONE = "0123456789abcdef" * 4
Vector = tuple[int, ...]
Result = int | str | None  # a class id, "ok" or why it is refused, or no class

_REASONS = {
    Code.HEAD_CODES: "bad-codes", Code.HEAD_CLASS: "class", Code.HEAD_FULL: "full", Code.MERGED_TWICE: "twice",
    Code.HEAD_NAME: "two-names", Code.STATE_DAMAGED: "damaged", Code.STATE_FOREIGN: "foreign",
}  # fmt: skip


class Actor(Protocol):
    """One implementation with numbered states."""

    def init(self, slot: int, device: int) -> Result: ...
    def enrol(self, slot: int, class_id: int, shots: list[Vector]) -> Result: ...
    def forget_shot(self, slot: int, class_id: int, shot: Vector) -> Result: ...
    def forget_class(self, slot: int, class_id: int) -> Result: ...
    def rename(self, slot: int, class_id: int, name: str) -> Result: ...
    def classify(self, slot: int, query: Vector, threshold: Fraction | None) -> Result: ...
    def vote(self, decisions: list[int | None]) -> Result: ...
    def merge(self, slot: int, other: int) -> Result: ...
    def save(self, slot: int) -> bytes: ...
    def load(self, slot: int, content: bytes) -> Result: ...


class Ours:
    """Classifier and HeadState."""

    def __init__(self, spec: HeadSpec) -> None:
        self.spec = spec
        self.states: dict[int, HeadState] = {}

    def init(self, slot: int, device: int) -> Result:
        self.states[slot] = HeadState.new(self.spec, BACKBONE, device)
        return "ok"

    def enrol(self, slot: int, class_id: int, shots: list[Vector]) -> Result:
        return _reason(lambda: self.states[slot].classifier.enrol(class_id, _array(shots, self.spec)))

    def forget_shot(self, slot: int, class_id: int, shot: Vector) -> Result:
        return _reason(lambda: self.states[slot].classifier.forget_shot(class_id, shot))

    def forget_class(self, slot: int, class_id: int) -> Result:
        return _reason(lambda: self.states[slot].forget_class(class_id))

    def rename(self, slot: int, class_id: int, name: str) -> Result:
        return _reason(lambda: self.states[slot].rename(class_id, name))

    def classify(self, slot: int, query: Vector, threshold: Fraction | None) -> Result:
        single = self.states[slot].classifier.classify(query, threshold=threshold).class_id
        (among_all,) = self.states[slot].classifier.classify_all([query], threshold=threshold).tolist()
        assert among_all == (-1 if single is None else single)
        return single

    def vote(self, decisions: list[int | None]) -> Result:
        return vote(decisions)

    def merge(self, slot: int, other: int) -> Result:
        return _reason(lambda: self.states[slot].merge(self.states[other]))

    def save(self, slot: int) -> bytes:
        return to_bytes(self.states[slot])

    def load(self, slot: int, content: bytes) -> Result:
        def load() -> None:
            state = from_bytes(content)
            if state.spec != self.spec or state.backbone != BACKBONE:
                raise CompileError(Code.STATE_FOREIGN, "")
            self.states[slot] = state

        return _reason(load)


def _reason(act: Callable[[], object]) -> str:
    try:
        act()
    except CompileError as e:
        return _REASONS[e.problems[0].code]
    return "ok"


def _array(shots: list[Vector], spec: HeadSpec) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    return np.array(shots, dtype=np.int64).reshape(-1, spec.dimension)


def emitted_module(name: str, spec: HeadSpec, folder: Path) -> ModuleType:
    """The emitted Python module, imported."""
    ((file, content),) = emit_head_python(name, spec, BACKBONE).items()
    (folder / file).write_bytes(content)
    found = importlib.util.spec_from_file_location(head_module(name), folder / file)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


class InPython:
    """The emitted Python module."""

    def __init__(self, spec: HeadSpec, folder: Path) -> None:
        self.spec = spec
        self.module = emitted_module("emitted", spec, folder)
        self.heads: dict[int, object] = {}

    def init(self, slot: int, device: int) -> Result:
        self.heads[slot] = self.module.Head(device)
        return "ok"

    def enrol(self, slot: int, class_id: int, shots: list[Vector]) -> Result:
        return self._do(slot, "enrol", class_id, _array(shots, self.spec))

    def forget_shot(self, slot: int, class_id: int, shot: Vector) -> Result:
        return self._do(slot, "forget_shot", class_id, np.array(shot))

    def forget_class(self, slot: int, class_id: int) -> Result:
        return self._do(slot, "forget_class", class_id)

    def rename(self, slot: int, class_id: int, name: str) -> Result:
        return self._do(slot, "rename", class_id, name)

    def classify(self, slot: int, query: Vector, threshold: Fraction | None) -> Result:
        return self.heads[slot].classify(np.array(query), threshold)  # type: ignore[attr-defined,no-any-return]

    def vote(self, decisions: list[int | None]) -> Result:
        return self.module.vote(decisions)  # type: ignore[no-any-return]

    def merge(self, slot: int, other: int) -> Result:
        return self._do(slot, "merge", self.heads[other])

    def save(self, slot: int) -> bytes:
        return self.heads[slot].to_bytes()  # type: ignore[attr-defined,no-any-return]

    def load(self, slot: int, content: bytes) -> Result:
        try:
            self.heads[slot] = self.module.from_bytes(content)
        except self.module.HeadError as e:
            return str(e.reason)
        return "ok"

    def _do(self, slot: int, name: str, *arguments: object) -> Result:
        try:
            getattr(self.heads[slot], name)(*arguments)
        except self.module.HeadError as e:
            return {"no-class": "class", "no-shot": "class"}.get(e.reason, e.reason)
        return "ok"


_IN_C = {0: "ok", -2: "class", -3: "bad-codes", -4: "full", -5: "class", -6: "twice", -7: "two-names", -8: "damaged"}
_IN_C |= {-9: "foreign"}


class InC:
    """The emitted C, several specs in one program. It obeys orders from a pipe."""

    def __init__(self, process: subprocess.Popen[bytes], number: int, spec: HeadSpec) -> None:
        self.process = process
        self.number = number
        self.spec = spec

    def init(self, slot: int, device: int) -> Result:
        return _IN_C[self._ask(b"i", slot, struct.pack("<I", device))]

    def enrol(self, slot: int, class_id: int, shots: list[Vector]) -> Result:
        codes = _array(shots, self.spec).astype("<i4").tobytes()
        return _IN_C[self._ask(b"e", slot, struct.pack("<II", class_id, len(shots)) + codes)]

    def forget_shot(self, slot: int, class_id: int, shot: Vector) -> Result:
        return _IN_C[self._ask(b"f", slot, struct.pack("<I", class_id) + np.array(shot, dtype="<i4").tobytes())]

    def forget_class(self, slot: int, class_id: int) -> Result:
        return _IN_C[self._ask(b"c", slot, struct.pack("<I", class_id))]

    def rename(self, slot: int, class_id: int, name: str) -> Result:
        return _IN_C[self._ask(b"n", slot, struct.pack("<I32s", class_id, name.encode()))]

    def classify(self, slot: int, query: Vector, threshold: Fraction | None) -> Result:
        t, d = (0, 0) if threshold is None else (threshold.numerator, threshold.denominator)
        found = self._ask(b"q", slot, struct.pack("<II", t, d) + np.array(query, dtype="<i4").tobytes())
        assert found >= -2
        return found if found >= 0 else None

    def vote(self, decisions: list[int | None]) -> Result:
        numbers = [-1 - i % 2 if d is None else d for i, d in enumerate(decisions)]
        found = self._ask(b"v", 0, struct.pack(f"<I{len(numbers)}q", len(numbers), *numbers))
        return None if found < 0 else found

    def merge(self, slot: int, other: int) -> Result:
        return _IN_C[self._ask(b"m", slot, bytes([other]))]

    def save(self, slot: int) -> bytes:
        size = self._ask(b"s", slot, b"")
        assert self.process.stdout is not None
        return self.process.stdout.read(size)

    def load(self, slot: int, content: bytes) -> Result:
        return _IN_C[self._ask(b"l", slot, struct.pack("<I", len(content)) + content)]

    def _ask(self, order: bytes, slot: int, arguments: bytes) -> int:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(bytes([self.number]) + order + bytes([slot]) + arguments)
        self.process.stdin.flush()
        answer = self.process.stdout.read(8)
        assert len(answer) == 8, "a sanitizer ended the program: see its messages"
        return int(struct.unpack("<q", answer)[0])


SLOTS = 4


def write_program(folder: Path, specs: dict[str, HeadSpec]) -> list[Path]:
    """The emitted files of all specs, and a program that obeys orders. The sources."""
    sources = []
    text = [_PRELUDE]
    for number, (name, spec) in enumerate(specs.items()):
        files = emit_head_c(name, spec, BACKBONE)
        for file, content in files.items():
            (folder / file).write_bytes(content)
        prefix = model_prefix(name)
        sources.append(folder / f"{prefix}_head.c")
        code_type = files[f"{prefix}_head.h"].decode().split("* Codes: ")[1].split("[")[0]
        text.append(_HEAD.replace("@P@", f"{prefix}_head").replace("@PM@", f"{prefix}_HEAD").replace("@T@", code_type))
        text.append(f"#define OBEY_{number} {prefix}_obey\n")
    cases = "".join(f"        case {i}: OBEY_{i}(order, slot); break;\n" for i in range(len(specs)))
    text.append(_MAIN.replace("@CASES@", cases))
    (folder / "obey.c").write_text("".join(text).replace("_head_obey", "_obey"))
    return [*sources, folder / "obey.c"]


_PRELUDE = """#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void take(void *to, size_t size)
{
    if (size > 0 && fread(to, 1, size, stdin) != size) { exit(0); }
}

static uint32_t take32(void)
{
    uint32_t value;
    take(&value, 4);
    return value;
}

static void tell(int64_t value)
{
    fwrite(&value, 8, 1, stdout);
}
"""

_HEAD = """
#include "@P@.h"

/* On the heap, of the very size: what reads or writes beyond is seen. */
static @T@ *@P@_codes(uint32_t shots)
{
    const size_t count = (size_t)shots * @PM@_DIMENSION;
    @T@ *const codes = malloc(count * sizeof(@T@) + (count == 0));
    size_t i;
    for (i = 0; i < count; i++) { codes[i] = (@T@)(int32_t)take32(); }
    return codes;
}

static void @P@_obey(char order, uint8_t slot)
{
    static @P@_state *states[4];
    @P@_state *state;
    uint32_t i;
    if (states[slot] == NULL) { states[slot] = malloc(sizeof(@P@_state)); }
    state = states[slot];
    switch (order) {
    case 'i': @P@_init(state, take32()); tell(0); break;
    case 'e': {
        const uint32_t id = take32();
        const uint32_t shots = take32();
        @T@ *const codes = @P@_codes(shots);
        tell(@P@_enrol(state, id, codes, shots));
        free(codes);
        break;
    }
    case 'f': {
        const uint32_t id = take32();
        @T@ *const codes = @P@_codes(1);
        tell(@P@_forget_shot(state, id, codes));
        free(codes);
        break;
    }
    case 'c': tell(@P@_forget_class(state, take32())); break;
    case 'n': {
        const uint32_t id = take32();
        char name[32];
        int64_t found = @PM@_NO_CLASS;
        take(name, 32);
        for (i = 0; i < state->class_count; i++) {
            if (state->classes[i].id == id) { memcpy(state->classes[i].name, name, 32); found = 0; }
        }
        tell(found);
        break;
    }
    case 'q': {
        const uint32_t t = take32();
        const uint32_t d = take32();
        @T@ *const codes = @P@_codes(1);
        tell(@P@_classify(state, codes, t, d));
        free(codes);
        break;
    }
    case 'v': {
        const uint32_t count = take32();
        int64_t *const decisions = malloc(count * 8 + 1);
        take(decisions, count * 8);
        tell(@P@_vote(decisions, count));
        free(decisions);
        break;
    }
    case 'm': {
        uint8_t other;
        take(&other, 1);
        tell(@P@_merge(state, states[other]));
        break;
    }
    case 's': {
        uint8_t *const bytes = malloc(@PM@_FILE_BYTES);
        const size_t size = @P@_save(state, bytes, @PM@_FILE_BYTES);
        uint8_t *const exact = malloc(size);
        if (@P@_save(state, exact, size - 1) != 0 || @P@_save(state, exact, size) != size) { exit(3); }
        tell((int64_t)size);
        fwrite(exact, 1, size, stdout);
        free(bytes);
        free(exact);
        break;
    }
    case 'l': {
        const uint32_t size = take32();
        uint8_t *const bytes = malloc(size + (size == 0));
        take(bytes, size);
        tell(@P@_load(state, bytes, size));
        free(bytes);
        break;
    }
    default: exit(4);
    }
}
"""

_MAIN = """
int main(void)
{
    for (;;) {
        uint8_t start[3];
        char order;
        uint8_t slot;
        take(start, 3);
        order = (char)start[1];
        slot = start[2];
        switch (start[0]) {
@CASES@        default: exit(5);
        }
        fflush(stdout);
    }
}
"""
