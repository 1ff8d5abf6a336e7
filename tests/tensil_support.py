"""Shared by the tests of the TCU lowering: emit a graph's files, simulate them, random inputs."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import numpy as np

from oracle import round_by_name
from pefslc.artifacts.sidecar import make_sidecar
from pefslc.diagnostics.errors import Origin
from pefslc.ir.graph import Graph
from pefslc.ir.value import CodeRange, TensorType, Value
from pefslc.numeric.scale import Scale
from pefslc.numeric.staircase import Staircase
from pefslc.targets.protocol import Emission, TargetOptions
from pefslc.targets.tensil.groups.group import Group
from pefslc.targets.tensil.groups.group_program import GroupProgram, Port, StoredTensor
from pefslc.targets.tensil.groups.layout import Layout
from pefslc.targets.tensil.machine.architecture import Architecture, DataType
from pefslc.targets.tensil.target import TensilTarget
from pefslc.targets.tensil.words.steps import ChannelAdd, ChannelMultiply, Multiply, RawStep
from pefslc.targets.tensil.words.word_group import WordGroup
from pefslc.targets.tensil.words.word_program import WordProgram, WordTensor


def emit(graph: Graph, architecture: Architecture, folder: Path, leave_out: str | None = None) -> Emission:
    """Lower and write the files; the architecture goes through a .tarch file, as a user's does."""
    tarch = folder / "a.tarch"
    tarch.write_text(json.dumps(architecture.to_json_dict()))
    emission = TensilTarget(arch=tarch, leave_out=leave_out).lower(graph, TargetOptions())
    for name, content in emission.files.items():
        (folder / name).write_bytes(content)
    return emission


def simulate(graph: Graph, emission: Emission, folder: Path, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    sidecar = make_sidecar(graph, "tensil", "0", "", emission.files, emission.details)
    return TensilTarget().runner(folder, sidecar).run(inputs)


def random_codes(graph: Graph, seed: int, batch: int = 2) -> dict[str, np.ndarray]:
    r = np.random.default_rng(seed)
    return {
        i.name: r.integers(i.value.type.codes.low, i.value.type.codes.high + 1, (batch, *i.value.type.shape[1:]))
        for i in graph.inputs
    }


def group_program(
    groups: list[Group], inputs: dict[str, Layout], outputs: str, ranges: dict[str, tuple[int, int]]
) -> GroupProgram:
    """Groups of tensors named by letters, and what comes in and goes out."""
    layouts = inputs | {group.result: group.layout for group in groups}

    tensors = {name: StoredTensor(name, layout, *ranges[name]) for name, layout in layouts.items()}
    ports = (tuple(_port(tensors[name]) for name in names) for names in (inputs, outputs))
    program = GroupProgram(*ports, (), tensors)
    return program.with_groups(groups, tensors.values())


def word_program(
    groups: list[WordGroup], inputs: dict[str, Layout], outputs: str, ranges: dict[str, tuple[int, int]] | None = None
) -> WordProgram:
    """The same of groups in words, each tensor at exponent 0."""
    layouts = inputs | {group.result: group.layout for group in groups}
    ranges = ranges or dict.fromkeys(layouts, (0, 0))

    tensors = {name: WordTensor(StoredTensor(name, layout, *ranges[name]), 0) for name, layout in layouts.items()}
    ports = (tuple(_port(tensors[name].stored) for name in names) for names in (inputs, outputs))
    return WordProgram(*ports, tuple(groups), tensors, ())


def _port(stored: StoredTensor) -> Port:
    layout = stored.layout
    codes = CodeRange(low=stored.low, high=stored.high, scale=Scale((Fraction(1),)))
    shape = (1, layout.channels, layout.height, layout.width)
    value = Value(stored.name, TensorType(shape=shape, element=codes), Origin(stored.name, "Input"))
    return Port(stored.name, value, stored.name)


def by_rationals(steps: tuple[RawStep, ...], channel: int, word: int, data_type: DataType) -> int:
    """One word through the steps: products rounded as fractions, half to even, everything saturated."""
    for step in steps:
        if isinstance(step, ChannelAdd):
            word += step.words[channel]
        else:
            assert isinstance(step, Multiply | ChannelMultiply)
            factor = step.word if isinstance(step, Multiply) else step.words[channel]
            word = round_by_name(Fraction(word * factor, data_type.one), "ROUND")
        word = max(data_type.min_code, min(word, data_type.max_code))
    return word


def line(low: int, high: int, codes: tuple[int, int], slopes: list[float], offsets: list[float]) -> Staircase:
    """clip(ceil(slope * a + offset)) of each channel, by its thresholds."""
    direction = np.array([1 if s >= 0 else -1 for s in slopes], dtype=np.int64)
    words = np.arange(low, high + 1)
    thresholds = np.empty((len(slopes), codes[1] - codes[0]), dtype=np.int64)
    for c, (slope, offset) in enumerate(zip(slopes, offsets, strict=True)):
        values = np.ceil(slope * words + offset)
        for i, level in enumerate(range(codes[0] + 1, codes[1] + 1)):
            taken = words[values >= level]
            none = high + 1 if direction[c] > 0 else low - 1
            thresholds[c, i] = none if not len(taken) else taken.min() if direction[c] > 0 else taken.max()
    return Staircase(low, high, codes[0], thresholds, direction)
