"""A target that interprets what it wrote, and a small model: what the tests of the command line share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from pefslc.analysis.limits import TargetLimits
from pefslc.artifacts.sidecar import Sidecar
from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError
from pefslc.ir.graph import Graph
from pefslc.ir.interpret import run_codes
from pefslc.ir.parse import parse_graph
from pefslc.ir.text import print_graph
from pefslc.targets.options import option
from pefslc.targets.protocol import Emission, OpReport, Stage, TargetOptions

Codes = NDArray[np.int64]


@dataclass(frozen=True)
class Result:
    """How a command ended."""

    status: int
    out: str
    err: str


Cli = Callable[..., Result]


@dataclass(frozen=True)
class FakeRunner:
    graph: Graph

    def run(self, inputs: Mapping[str, Codes]) -> dict[str, Codes]:
        values = run_codes(self.graph, inputs)
        return {o.name: values[o.value.name] for o in self.graph.outputs}


@dataclass
class FakeTarget:
    """Writes the graph as text, and interprets what it reads back. The arch changes what it does."""

    name: ClassVar[str] = "fake"
    summary: ClassVar[str] = "interprets the graph's text"
    stages: ClassVar[tuple[str, ...]] = ("select", "schedule")

    arch: str | None = option(
        None, type=str, metavar="NAME", wanted="a name", accepts=bool, help="a fake architecture: narrow"
    )
    unroll: int = option(1, type=int, metavar="N", accepts=lambda n: n > 0, wanted="a number of copies", help="copies")
    checks: bool = option(True, type=bool, help="leave out the checks")

    def limits(self, _: TargetOptions) -> TargetLimits:
        if self.arch not in (None, "narrow", "fails", "wrong"):
            raise CompileError(Code.UNKNOWN_ARCHITECTURE, f"unknown architecture {self.arch!r}", hint="known: narrow")
        return TargetLimits(8 if self.arch == "narrow" else 32, "the fake accumulator")

    def lower(self, graph: Graph, options: TargetOptions) -> Emission:
        if options.observe is not None:
            options.observe(Stage("select", f"{len(graph.ops)} operations\n"))
        if self.arch == "fails":
            raise CompileError(
                Code.TCU_UNSUPPORTED, "the fake target refuses", at=graph.ops[0].result.origin, hint="take another"
            )
        reports = {op.result.name: OpReport("interpreted", cycles=10) for op in graph.ops}
        if options.observe is not None:
            options.observe(Stage("schedule", f"unrolled {self.unroll} times\n", changed=self.unroll > 1))
        return Emission({f"{graph.name}.fake": print_graph(graph).encode()}, {"arch": self.arch}, reports)

    def runner(self, folder: Path, sidecar: Sidecar) -> FakeRunner:
        graph = parse_graph((folder / f"{sidecar.model}.fake").read_text())
        if sidecar.details["arch"] == "wrong":
            return WrongRunner(graph)
        return FakeRunner(graph)


class WrongRunner(FakeRunner):
    def run(self, inputs: Mapping[str, Codes]) -> dict[str, Codes]:
        results = super().run(inputs)
        for codes in results.values():
            codes.reshape(-1)[-1] += 2
        return results


@dataclass(frozen=True)
class FakeEntryPoint:
    name: str
    value: str
    made: Callable[[], object]

    def load(self) -> Callable[[], object]:
        return self.made


# Microsoft, "Naming Files, Paths, and Namespaces"; the superscripts are digits there.
WINDOWS_DEVICES = {"CON", "PRN", "AUX", "NUL"} | {
    f"{port}{digit}" for port in ("COM", "LPT") for digit in "0123456789¹²³"
}


def can_be_made_on_windows(name: str) -> bool:
    """Whether a file of this name is one there: no device, whatever follows it, nothing that is cut off or refused."""
    stem = name.split(".")[0].rstrip(" ").upper()
    allowed = not any(c in '<>:"/\\|?*' or ord(c) < 32 for c in name)
    return bool(name) and allowed and stem not in WINDOWS_DEVICES and not name.endswith((".", " "))


def quantized_mlp(*, quantized_input: bool = True, weight_bits: int = 5) -> onnx.ModelProto:
    """x [1, 4] -> Quant -> Gemm 4x3 -> Relu -> Quant -> y [1, 3], in Q2.3."""
    weight = (np.arange(12, dtype=np.float32).reshape(3, 4) - 6) / 8
    constants = {"w": weight, "scale": 0.125, "zero": 0.0, "bits": 5.0, "weight_bits": float(weight_bits)}
    domain = "qonnx.custom_op.general"
    attributes = {"domain": domain, "signed": 1, "narrow": 0, "rounding_mode": "ROUND"}
    nodes = [
        helper.make_node(
            "Quant", ["w", "scale", "zero", "weight_bits"], ["wq"], name="/fc/weight_quant/Quant", **attributes
        ),
        helper.make_node("Gemm", ["xq" if quantized_input else "x", "wq"], ["acc"], name="/fc/Gemm", transB=1),
        helper.make_node("Relu", ["acc"], ["pos"], name="/act/Relu"),
        helper.make_node(
            "Quant", ["pos", "scale", "zero", "bits"], ["y"], name="/act/act_quant/Quant", **{**attributes, "signed": 0}
        ),
    ]
    if quantized_input:
        node = helper.make_node(
            "Quant", ["x", "scale", "zero", "bits"], ["xq"], name="/inp/act_quant/Quant", **attributes
        )
        nodes.insert(0, node)
    graph = helper.make_graph(
        nodes,
        "mlp",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3])],
        [numpy_helper.from_array(np.asarray(v, dtype=np.float32), k) for k, v in constants.items()],
    )
    opsets = [helper.make_opsetid("", 13), helper.make_opsetid(domain, 2)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)
