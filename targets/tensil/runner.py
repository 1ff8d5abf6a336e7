"""Emitted files, read back and run on the simulator."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial, reduce
from operator import add

import numpy as np
from numpy.typing import NDArray

from pefslc.artifacts.sidecar import Json, JsonObject, Sidecar
from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, quote
from pefslc.ir.row_batches import run_whole_batches
from pefslc.numeric.format import saturate
from pefslc.numeric.rounding import round_shift
from pefslc.targets.protocol import LayerAudit
from pefslc.targets.tensil.groups.host_movement import HostMove, moved, moves_from
from pefslc.targets.tensil.groups.layout import Layout, Offsets, from_vectors, packed, to_vectors
from pefslc.targets.tensil.host_io import codes_in_words
from pefslc.targets.tensil.machine.architecture import Architecture
from pefslc.targets.tensil.native_audit import NativeAudit
from pefslc.targets.tensil.program.tmodel import TensilProgram
from pefslc.targets.tensil.simulate.simulator import Machine

__all__ = ["Placement", "TensilRunner"]

_Inference = Callable[[Machine, Mapping[str, NDArray[np.int64]]], dict[str, NDArray[np.int64]]]


class TensilRunner:
    """Simulates the emitted files, read back from disk, on a machine whose memories start poisoned."""

    def __init__(self, program: TensilProgram, sidecar: Sidecar) -> None:
        self.program = program
        self.inputs = [Placement.of(r, i.shape) for r, i in zip(_list(sidecar, "inputs"), sidecar.inputs, strict=True)]
        self.outputs = [
            Placement.of(r, o.shape) for r, o in zip(_list(sidecar, "outputs"), sidecar.outputs, strict=True)
        ]
        self.rounds = "native_arithmetic" in sidecar.details

    def run(self, inputs: Mapping[str, NDArray[np.int64]]) -> dict[str, NDArray[np.int64]]:
        return self._run(inputs, lambda machine, raw: machine.infer(self.program, raw))

    def audited(
        self, inputs: Mapping[str, NDArray[np.int64]], audit: NativeAudit
    ) -> tuple[dict[str, NDArray[np.int64]], tuple[LayerAudit, ...]]:
        """`run`, and what the audit finds of each group on all inputs together."""
        found: list[tuple[LayerAudit, ...]] = []

        def infer(machine: Machine, raw: Mapping[str, NDArray[np.int64]]) -> dict[str, NDArray[np.int64]]:
            outputs, layers = audit.infer(machine, self.program, raw)
            found.append(layers)
            return outputs

        outputs = self._run(inputs, infer)
        return outputs, tuple(reduce(add, same) for same in zip(*found, strict=True))

    def _run(self, inputs: Mapping[str, NDArray[np.int64]], infer: _Inference) -> dict[str, NDArray[np.int64]]:
        rows = [{p.name: p.shape[0] for p in ends} for ends in (self.inputs, self.outputs)]
        return run_whole_batches(partial(self._run_batches, infer=infer), inputs, *rows)

    def _run_batches(self, inputs: Mapping[str, NDArray[np.int64]], infer: _Inference) -> dict[str, NDArray[np.int64]]:
        machine = Machine(self.program.architecture, poison_seed=0)
        machine.load_constants(self.program)
        batch = self.inputs[0].shape[0]
        rows = len(next(iter(inputs.values())))
        found: dict[str, list[NDArray[np.int64]]] = {p.name: [] for p in self.outputs}
        for row in range(0, rows, batch):
            raw = {p.name: p.to_raw(inputs[p.name][row : row + batch], self.program.architecture) for p in self.inputs}
            results = infer(machine, raw)
            for p in self.outputs:
                found[p.name].append(p.from_raw(np.asarray(results[p.name], dtype=np.int64), rounds=self.rounds))
        return {name: np.concatenate(codes) for name, codes in found.items()}


@dataclass(frozen=True, slots=True)
class Placement:
    """One input or output: codes in the ONNX shape <-> raw vectors."""

    name: str
    layout: Layout
    offsets: Offsets
    steps: tuple[int, int]
    exponent: int
    finer: int
    moves: tuple[HostMove, ...]
    shape: tuple[int, ...]
    words: tuple[tuple[int, int], ...]
    by_pixel: bool
    dense: bool

    @classmethod
    def of(cls, record: JsonObject, shape: tuple[int, ...]) -> Placement:
        channels, height, width = _ints(record["layout"])
        flat = _ints(record["lane_offsets"])
        offsets = tuple(zip(flat[::2], flat[1::2], strict=True))
        down, across = _ints(record.get("lane_steps", [1, 1]))
        exponent, finer = _ints([record["exponent"], record.get("finer", 1)])
        layout, moves = Layout(channels, height, width), moves_from(record.get("moves", []))
        parts = record.get("words", [])
        assert isinstance(parts, list)
        words = tuple((exponent, up) for exponent, up in map(_ints, parts))
        by_pixel, dense = (bool(record.get(key, False)) for key in ("by_pixel", "dense"))
        name, steps = str(record["name"]), (down, across)
        return cls(name, layout, offsets, steps, exponent, finer, moves, shape, words, by_pixel, dense)

    def to_raw(self, codes: NDArray[np.int64], architecture: Architecture) -> NDArray[np.int64]:
        """The vectors of a batch [N, ...]: row after row."""
        codes = saturate(codes, *codes_in_words(self.exponent, architecture.data_type))
        return np.concatenate([self._row_to_raw(row, architecture) for row in codes])

    def _row_to_raw(self, codes: NDArray[np.int64], architecture: Architecture) -> NDArray[np.int64]:
        planes = moved(codes[None], self.moves).reshape(self.layout.channels, self.layout.height, self.layout.width)
        words = packed(planes, self.offsets, self.steps) << self.exponent
        return to_vectors(words, architecture.array_size, by_pixel=self.by_pixel, dense=self.dense)

    def from_raw(self, vectors: NDArray[np.int64], *, rounds: bool) -> NDArray[np.int64]:
        """The codes of a batch; rounds: words may lie between codes, and are rounded half to even."""
        words = vectors.reshape(max(len(self.words), 1), self.shape[0], -1, vectors.shape[1])
        return np.stack([self._row_from_raw(words[:, row], rounds=rounds) for row in range(self.shape[0])])

    def _row_from_raw(self, words: NDArray[np.int64], *, rounds: bool) -> NDArray[np.int64]:
        """words  [of the output, vectors, A] of one row"""
        if self.words:
            parts = zip(words, self.words, strict=True)
            codes = [self._codes(part, exponent, rounds=rounds) << up for part, (exponent, up) in parts]
            return moved(sum(codes, start=np.zeros_like(codes[0])), self.moves).reshape(self.shape[1:])
        found = self._codes(words[0] * self.finer, self.exponent, rounds=rounds)
        return moved(found, self.moves).reshape(self.shape[1:])

    def _codes(self, vectors: NDArray[np.int64], exponent: int, *, rounds: bool) -> NDArray[np.int64]:
        words = from_vectors(vectors, self.layout, by_pixel=self.by_pixel)
        if not rounds and (words & ((1 << exponent) - 1)).any():
            raise CompileError(
                Code.TCU_PROGRAM, f"output {quote(self.name)} holds words that are no codes: the program is broken"
            )
        return round_shift(words, exponent)


def _ints(value: Json) -> list[int]:
    assert isinstance(value, list)
    return [int(str(v)) for v in value]


def _list(sidecar: Sidecar, key: str) -> list[JsonObject]:
    found = sidecar.details[key]
    assert isinstance(found, list)
    return found
