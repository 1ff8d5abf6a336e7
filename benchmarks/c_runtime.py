"""ONNX Runtime beside the emitted C: the same network, one thread, from codes to codes."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
from c_models import Network, on_codes
from onnx import TensorProto, helper

if TYPE_CHECKING:
    import onnxruntime

__all__ = ["RuntimeNetwork", "call_overhead", "in_float", "is_installed", "quantized"]

_ON_CODES = ("QLinear", "QGemm", "Transpose", "Flatten", "Reshape")
_ZERO_POINT = 128  # of tensors below zero, in the QDQ spelling


def is_installed() -> bool:
    """Whether there is an onnxruntime."""
    try:
        import onnxruntime  # noqa: F401
    except ImportError:
        return False
    return True


class RuntimeNetwork:
    """A session with its input and output bound, so that a call copies nothing."""

    def __init__(self, model: onnx.ModelProto, folder: Path) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3  # it warns of the file that is asked for here
        optimized = folder / "optimized.onnx"
        options.optimized_model_filepath = str(optimized)
        self._session: onnxruntime.InferenceSession = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        self.operators = Counter(node.op_type for node in onnx.load(optimized, load_external_data=False).graph.node)
        self._x, self._y = self._session.get_inputs()[0], self._session.get_outputs()[0]
        self._value = onnxruntime.OrtValue.ortvalue_from_numpy

    @property
    def in_float(self) -> list[str]:
        """The operators that ONNX Runtime did not fuse into one on codes."""
        return sorted(op for op in self.operators if not op.startswith(_ON_CODES))

    def bind(self, x: np.ndarray) -> None:
        """What `seconds` runs on."""
        self._binding = self._session.io_binding()
        self._binding.bind_ortvalue_input(self._x.name, self._value(x))
        (y,) = self._session.run(None, {self._x.name: x})
        self._binding.bind_ortvalue_output(self._y.name, self._value(y))

    def seconds(self, calls: int) -> float:
        """Processor time of this thread, which does all the work, for that many calls."""
        run, binding = self._session.run_with_iobinding, self._binding
        start = time.thread_time()
        for _ in range(calls):
            run(binding)
        return time.thread_time() - start

    def differing(self, network: Network, signed_output: bool) -> int:
        """How many codes are not the exact ones, on all images."""
        x = uint8_codes(network.x, network.x_scale, _ZERO_POINT)
        y = uint8_codes(network.y, network.y_scale, _ZERO_POINT * signed_output)
        found = [self._session.run(None, {self._x.name: x[i : i + 1]})[0] for i in range(len(x))]
        return int((np.concatenate(found) != y).sum())


def uint8_codes(values: np.ndarray, scale: float, zero_point: int) -> np.ndarray:
    return (np.rint(values / scale) + zero_point).astype(np.uint8)


def quantized(network: Network, folder: Path) -> tuple[RuntimeNetwork, int]:
    """A QDQ network on codes, bound to the first image; how many of its codes are wrong."""
    session = RuntimeNetwork(on_codes(network.model), folder)
    session.bind(uint8_codes(network.x[:1], network.x_scale, _ZERO_POINT))
    return session, session.differing(network, signed_output=bool((network.y < 0).any()))


def in_float(network: Network, folder: Path) -> RuntimeNetwork:
    """A network of the spelling FLOAT, bound to the first image."""
    session = RuntimeNetwork(network.model, folder)
    session.bind(network.x[:1].astype(np.float32))
    return session


def call_overhead(folder: Path) -> RuntimeNetwork:
    """One number, handed through: what a call costs."""
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "empty", ends[:1], ends[1:])
    session = RuntimeNetwork(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), folder
    )
    session.bind(np.zeros(1, np.float32))
    return session


def version() -> str:
    """Of the onnxruntime that is installed."""
    if not is_installed():
        return "not installed"
    import onnxruntime

    return str(onnxruntime.__version__)
