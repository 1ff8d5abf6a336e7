"""Makes the eight-bit twin of a network with narrower quantizers: NAME_w8a8.onnx, and NAME_w8a8.npz with its arrays.

usage: python benchmarks/eight_bits.py FOLDER NETWORK.onnx ...

Every Quant node of fewer than 8 bits gets 8, and a scale that is as much finer: weights and activations keep their
range. Biases, of 8 bits or more, stay as they are. Sums need 17 to 20 bits then. The inputs are those of the network's
own .npz; the expected outputs are what the interpreter of pefslc makes of them, in integers.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

import pefslc

__all__ = ["name_of", "write_eight_bits"]

BITS = 8


def name_of(network: str) -> str:
    """The twin's file name without its ending."""
    return f"{network}_w8a8"


def write_eight_bits(folder: Path, network: Path) -> Path:
    """Write the twin and its arrays; the same network gives the same bytes. Returns the path of the .onnx."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name_of(network.stem)}.onnx"
    path.write_bytes(widened(onnx.load(network)).SerializeToString(deterministic=True))
    if network.with_suffix(".npz").is_file():
        with np.load(network.with_suffix(".npz")) as arrays:
            x = arrays["x"]
        (y,) = pefslc.load(path).run(x.astype(np.float64)).values()
        np.savez(path.with_suffix(".npz"), x=x, y_ref64=y)
    return path


def widened(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with at least eight bits in each quantizer."""
    graph = model.graph
    values = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
    values |= {n.output[0]: numpy_helper.to_array(n.attribute[0].t) for n in graph.node if n.op_type == "Constant"}
    added: dict[str, onnx.TensorProto] = {}
    for node in graph.node:
        if node.op_type != "Quant" or (bits := int(values[node.input[3]])) >= BITS:
            continue
        scale = values[node.input[1]] * np.float32(2.0 ** (bits - BITS))
        names = f"{node.input[1]}_for_{BITS}_bits_of_{bits}", f"bits_are_{BITS}"
        for name, array in zip(names, (scale, np.float32(BITS)), strict=True):
            added.setdefault(name, numpy_helper.from_array(np.asarray(array, dtype=np.float32), name))
        node.input[1], node.input[3] = names
    graph.initializer.extend(added.values())
    return model


def main(arguments: list[str]) -> None:
    """Write the twins that were asked for."""
    if len(arguments) < 2:
        sys.exit(__doc__)
    for network in arguments[1:]:
        print(write_eight_bits(Path(arguments[0]), Path(network)))


if __name__ == "__main__":
    main(sys.argv[1:])
