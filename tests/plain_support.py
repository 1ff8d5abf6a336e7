"""For tests of plain hosts: small boards, inputs laid out by the description of the layout, a driven program."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from stock_board import Hardware, StockDriver

import pefslc
from builders import ModelBuilder, normal
from pefslc.targets.tensil.machine.architecture import Architecture, load_architecture

__all__ = ["Floats", "board", "compiled", "convolution", "dense", "driven", "on_grid", "padded"]

Floats = NDArray[np.float64]


def board(array_size: int, name: str = "custom_perf") -> Architecture:
    """A small one: memories that a test copies quickly."""
    return replace(load_architecture(name), array_size=array_size, dram0_depth=1 << 13, dram1_depth=1 << 13)


def compiled(path: Path, architecture: Architecture, host: str = "plain", **options: object) -> pefslc.Program:
    tarch = path.parent / "board.tarch"
    tarch.write_text(json.dumps(architecture.to_json_dict()))
    return pefslc.compile(path, target="tensil", arch=tarch, host=host, **options)  # type: ignore[arg-type]


def padded(x: Floats, array_size: int) -> Floats:
    """[C, ...] as the description of Tensil's layout says: vector pixel * Cv + c / A, lane c % A; 0 in lanes left."""
    channels, pixels = x.shape[0], x.reshape(x.shape[0], -1)
    blocks = -(-channels // array_size)
    flat = np.zeros(pixels.shape[1] * blocks * array_size)
    for c in range(channels):
        for pixel in range(pixels.shape[1]):
            flat[(pixel * blocks + c // array_size) * array_size + c % array_size] = pixels[c, pixel]
    return flat


def unpadded(flat: Floats, shape: tuple[int, ...], array_size: int) -> Floats:
    """The inverse of `padded`."""
    channels, pixels = shape[0], int(np.prod(shape[1:]))
    rows = flat.reshape(pixels, -1)
    assert rows.shape[1] == -(-channels // array_size) * array_size
    return rows[:, :channels].T.reshape(shape)


def dense(x: Floats, array_size: int) -> Floats:
    """The numbers of each pixel behind those of the one before, in the order of rows and columns."""
    assert x.size % array_size == 0
    return x.transpose(1, 2, 0).reshape(-1)


def driven(
    program: pefslc.Program,
    folder: Path,
    architecture: Architecture,
    x: dict[str, Floats],
    layout: Callable[[Floats, int], Floats] = padded,
) -> dict[str, Floats]:
    """What host code makes of it that has the model's shapes and the sidecar's factors, row after row."""
    program.save(folder)
    driver = StockDriver(architecture, Hardware(architecture))
    driver.load_model(str(folder / str(program.sidecar.details["tmodel"])))
    details, a = program.emission.details, architecture.array_size
    records = {str(r["name"]): r for end in ("inputs", "outputs") for r in details[end]}  # type: ignore[union-attr]
    found: dict[str, list[Floats]] = {}
    for row in range(len(next(iter(x.values())))):
        results = driver.run({n: layout(v[row] * records[n]["factor"], a) for n, v in x.items()})
        for output in program.graph.outputs:
            shape = output.value.type.shape[1:]
            y = unpadded(results[output.name], shape, a)
            column = (-1, *[1] * (len(shape) - 1))
            factor, offset = (np.reshape(records[output.name][k], column) for k in ("factor", "offset"))
            found.setdefault(output.name, []).append(y * factor + offset)
    return {name: np.stack(rows) for name, rows in found.items()}


def on_grid(shape: tuple[int, ...], seed: int, reach: float = 3.0, rows: int = 2) -> Floats:
    """Multiples of 1/256, some of them ties of coarser grids."""
    r = np.random.default_rng(seed)
    x = r.normal(0, reach / 2, (rows, *shape[1:]))
    fine = np.rint(x * 256) / 256
    return np.where(r.random(x.shape) < 0.3, np.rint(x * 16) / 16, fine)


def convolution(folder: Path, channels: int, outputs: int, size: tuple[int, int], *, act: bool = False) -> Path:
    """input -> Q2.3 -> 3 x 3 convolution (-> ReLU -> UQ2.3): some channels in, some out."""
    m = ModelBuilder()
    x = m.quant(m.input([1, channels, *size], "input"), 0.125, 5)
    y = m.node("Conv", x, m.weight(normal((outputs, channels, 3, 3), 0.4), 0.125, 5), pads=[1, 1, 1, 1])
    m.output(m.quant(m.node("Relu", y), 0.125, 5, signed=0) if act else y)
    return m.save(folder)
