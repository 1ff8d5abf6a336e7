"""The accumulator hazard: every experiment that was made on the RTL is a test, with the RTL's verdict."""

from __future__ import annotations

import random
import re
from pathlib import Path

import numpy as np
import pytest

from pefslc.targets.tensil.check.hazards import accumulator_hazards
from pefslc.targets.tensil.machine.architecture import Architecture, load_architecture
from pefslc.targets.tensil.machine.instructions import (
    DataMove,
    Instruction,
    LoadWeights,
    MatMul,
    MoveKind,
    NoOp,
    Simd,
    SimdOperation,
)
from pefslc.targets.tensil.program.table import table_of

ROOT = Path(__file__).parents[2]
EXPERIMENTS = ROOT / "tests" / "data" / "tcu" / "rtl_hazards.txt"
SHARED = ROOT.parent / "shared" / "tcu" / "rtl_hazards.txt"

OVERWRITE, ACCUMULATE = MatMul(0, 5, 1), MatMul(0, 5, 1, accumulate=True)
ELSEWHERE = MatMul(0, 6, 1, accumulate=True)
MOVE_OVERWRITE = DataMove(MoveKind.LOCAL_TO_ACCUMULATOR, 0, 5, 1)
MOVE_ACCUMULATE = DataMove(MoveKind.LOCAL_TO_ACCUMULATOR_ACCUMULATE, 0, 5, 1)
MOVE_READ = DataMove(MoveKind.ACCUMULATOR_TO_LOCAL, 0, 5, 1)
SIMD_OVERWRITE = Simd(SimdOperation.MOVE, 1, 1, write=5)
SIMD_ACCUMULATE = Simd(SimdOperation.MOVE, 1, 1, write=5, accumulate=True)
SIMD_MODIFY = Simd(SimdOperation.ADD, 0, 1, read=5, write=5)
SIMD_READ = Simd(SimdOperation.MOVE, 0, 0, 1, read=5)
REGISTER_ONLY = Simd(SimdOperation.MOVE, 1, 1, 1)


def repeated(between: list[Instruction], times: int, last: Instruction = ACCUMULATE) -> list[Instruction]:
    return [*between, last] * times


ROWS: list[tuple[str, bool, list[Instruction]]] = [  # the name in rtl_hazards.txt, whether the RTL went wrong
    ("overwrite then ONE accumulate, MatMul n=1", False, [OVERWRITE, ACCUMULATE]),
    ("overwrite (local->acc) then ONE accumulate MatMul", False, [MOVE_OVERWRITE, ACCUMULATE]),
    ("overwrite MatMul then ONE accumulate local->acc", False, [OVERWRITE, MOVE_ACCUMULATE]),
    ("SIMD overwrite then ONE accumulate local->acc", False, [SIMD_OVERWRITE, MOVE_ACCUMULATE]),
    ("accumulate then accumulate (MatMul)", True, [ACCUMULATE, ACCUMULATE]),
    ("accumulate then overwrite then accumulate", True, [ACCUMULATE, OVERWRITE, ACCUMULATE]),
    ("accumulate then read (acc->local)", False, [ACCUMULATE, MOVE_READ]),
    ("accumulate then SIMD read-modify", False, [ACCUMULATE, SIMD_MODIFY]),
    ("SIMD accumulate write without read x4 (register -> same acc)", True, [SIMD_ACCUMULATE] * 4),
    *(
        (
            f"accumulate MatMul x4 same address, {n} NoOps between",
            n < 24,
            repeated([NoOp()] * n, 4),
        )
        for n in (1, 4, 8, 16, 20, 22, 24, 26, 30, 40)
    ),
    *(
        (
            f"accumulate local->acc x4 same address, {n} NoOps between",
            True,
            repeated([NoOp()] * n, 4, MOVE_ACCUMULATE),
        )
        for n in (1, 2, 4)
    ),
    ("accumulate x4 separated by a SIMD acc read to register", False, repeated([SIMD_READ], 4)),
    ("accumulate x4 separated by another address", False, repeated([ELSEWHERE], 4)),
    (
        "last vector of one accumulate = first of next",
        True,
        [MatMul(0, 5, 4, accumulate=True), MatMul(0, 8, 4, accumulate=True), MatMul(0, 11, 4, accumulate=True)],
    ),
    *(
        (f"(LoadWeights {n}, MatMul acc n=1) x6 same acc", n < 5, repeated([LoadWeights(0, n)], 6))
        for n in (12, 11, 10, 8, 5, 2, 1)
    ),
    *(
        (
            f"(LoadWeights zeroes {n}, MatMul acc n=1) x6 same acc",
            n < 13,
            repeated([LoadWeights(0, n, zeroes=True)], 6),
        )
        for n in (13, 12, 2)
    ),
    (
        "(LoadWeights 12, LoadWeights zeroes 1, MatMul acc n=1) x6",
        False,
        repeated([LoadWeights(0, 12), LoadWeights(0, 1, zeroes=True)], 6),
    ),
]

CAREFUL: list[tuple[str, bool, list[Instruction]]] = [  # not tried on the RTL, or reasoned from what was
    ("23 NoOps", True, repeated([NoOp()] * 23, 2)),
    ("LoadWeights 3 was not tried", True, repeated([LoadWeights(0, 3)], 2)),
    ("LoadWeights 4 was not tried", True, repeated([LoadWeights(0, 4)], 2)),
    ("many short LoadWeights may all be queued", True, repeated([LoadWeights(0, 2)] * 20, 2)),
    ("a register-only SIMD is no access", True, repeated([REGISTER_ONLY], 2)),
    ("24 register-only SIMD keep the decoder", False, repeated([REGISTER_ONLY] * 24, 2)),
    ("a DRAM read keeps the decoder", False, repeated([DataMove(MoveKind.DRAM1_TO_LOCAL, 0, 0, 24)], 2)),
    ("a short DRAM read may not", True, repeated([DataMove(MoveKind.DRAM1_TO_LOCAL, 0, 0, 23)], 2)),
    ("n distinct addresses, repeated", False, [MatMul(0, 5, 2, accumulate=True)] * 3),
    ("accumulate, overwrite", False, [ACCUMULATE, OVERWRITE]),
    ("overwrite twice, accumulate", False, [OVERWRITE, OVERWRITE, ACCUMULATE]),
    ("the hazard through three kinds of writes", True, [MOVE_ACCUMULATE, SIMD_OVERWRITE, ACCUMULATE]),
    ("queued SIMD lag behind the decoder", True, repeated([NoOp()] * 30, 2, SIMD_ACCUMULATE)),
    ("LoadWeights does not wait for queued SIMD", True, [SIMD_ACCUMULATE, LoadWeights(0, 13), SIMD_ACCUMULATE]),
    ("MatMul-zeroes is queued too", True, repeated([NoOp()] * 30, 2, MatMul(0, 5, 1, accumulate=True, zeroes=True))),
    ("LoadWeights zeroes hold up the array only", True, [ACCUMULATE, LoadWeights(0, 13, zeroes=True), SIMD_ACCUMULATE]),
    ("LoadWeights drains before a SIMD", False, [ACCUMULATE, LoadWeights(0, 13), SIMD_ACCUMULATE]),
    ("a SIMD that reads separates itself", False, [ACCUMULATE, Simd(SimdOperation.MOVE, 0, 0, 0, 5, 5, True)]),
]


@pytest.mark.parametrize(("hazard", "program"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_rtl_experiment(custom_perf: Architecture, hazard: bool, program: list[Instruction]) -> None:
    assert bool(accumulator_hazards(custom_perf, table_of(custom_perf, program)).size) == hazard


@pytest.mark.parametrize(("hazard", "program"), [row[1:] for row in CAREFUL], ids=[row[0] for row in CAREFUL])
def test_not_tried(custom_perf: Architecture, hazard: bool, program: list[Instruction]) -> None:
    assert bool(accumulator_hazards(custom_perf, table_of(custom_perf, program)).size) == hazard


@pytest.mark.parametrize(
    "path",
    [path for path in (EXPERIMENTS, SHARED) if path == EXPERIMENTS or path.is_file()],
    ids=["checkout", "shared"][: 1 + SHARED.is_file()],
)
def test_every_experiment_is_a_test(path: Path) -> None:
    verdicts = {}
    for line in path.read_text().splitlines():
        if matched := re.match(r"(.*?)\s+rc=0 (OK|MISMATCH)", line):
            verdicts[matched[1]] = matched[2] == "MISMATCH"
    fuzz = {name for name in verdicts if name.startswith("random without accumulate->accumulate")}
    assert len(fuzz) == 40
    assert {name: hazard for name, hazard in verdicts.items() if name not in fuzz} == {r[0]: r[1] for r in ROWS}


def test_a_larger_array_needs_longer_loads() -> None:
    zcu104 = load_architecture("zcu104")
    for rows, hazard in ((13, True), (14, False), (33, False)):
        table = table_of(zcu104, repeated([LoadWeights(0, rows)], 2))
        assert bool(accumulator_hazards(zcu104, table).size) == hazard


@pytest.mark.parametrize("seed", range(40))
def test_random_programs_against_a_plain_reading_of_the_rule(custom_perf: Architecture, seed: int) -> None:
    """The RTL's fuzzing dropped exactly the instructions that accumulate right after an accumulation."""
    rng = random.Random(seed)
    program = [_random_instruction(rng) for _ in range(300)]
    table = table_of(custom_perf, program)
    found = accumulator_hazards(custom_perf, table)
    assert found.tolist() == _plain_hazards(program)
    kept = [i for index, i in enumerate(program) if index not in set(found.tolist())]
    for _ in range(10):  # dropping an instruction can bring two others together
        found = accumulator_hazards(custom_perf, table_of(custom_perf, kept))
        kept = [i for index, i in enumerate(kept) if index not in set(found.tolist())]
    assert found.size == 0


def _random_instruction(rng: random.Random) -> Instruction:
    n, address, stride = rng.randint(1, 3), rng.randrange(4), rng.randrange(2)
    return rng.choice(
        [
            MatMul(0, address, n, 0, stride, accumulate=True),
            MatMul(0, address, n, 0, stride),
            DataMove(MoveKind.LOCAL_TO_ACCUMULATOR_ACCUMULATE, 0, address, n, 0, stride),
            DataMove(MoveKind.ACCUMULATOR_TO_LOCAL, 0, address, n, 0, stride),
            Simd(SimdOperation.MOVE, 1, 1, write=address, accumulate=True),
            Simd(SimdOperation.MOVE, 0, 0, 1, read=address),
            Simd(SimdOperation.MAX, 0, 1, read=address, write=address),
            NoOp(),
        ]
    )


def _plain_hazards(program: list[Instruction]) -> list[int]:
    """Written again, without arrays and without healing: what follows an accumulation to the same address."""
    hazards, last, accumulated = [], -1, False
    for index, i in enumerate(program):
        accesses: list[tuple[int, str]] = []
        if isinstance(i, MatMul):
            kind = "accumulate" if i.accumulate else "overwrite"
            accesses = [(i.accumulator + (k << i.accumulator_stride), kind) for k in range(i.vectors)]
        elif isinstance(i, DataMove):
            kind = "read" if i.kind is MoveKind.ACCUMULATOR_TO_LOCAL else "accumulate"
            accesses = [(i.other + (k << i.other_stride), kind) for k in range(i.vectors)]
        elif isinstance(i, Simd):
            accesses = [] if i.read is None else [(i.read, "read")]
            if i.write is not None:
                accesses.append((i.write, "accumulate" if i.accumulate else "overwrite"))
        for address, kind in accesses:
            if kind == "read" or address != last:
                last, accumulated = (-1 if kind == "read" else address), False
            if kind == "accumulate" and accumulated:
                hazards.append(index)
            accumulated |= kind == "accumulate"
    return hazards


def test_no_accumulators_no_hazard(custom_perf: Architecture) -> None:
    assert accumulator_hazards(custom_perf, table_of(custom_perf, [])).size == 0
    assert accumulator_hazards(custom_perf, table_of(custom_perf, [NoOp()])).dtype == np.intp
