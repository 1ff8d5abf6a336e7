"""The checked export: a Brevitas network becomes a QONNX file that is proven to compute what torch computes."""

from __future__ import annotations

import inspect
import os
import warnings
from collections.abc import Sequence
from copy import deepcopy
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeAlias

import brevitas.config
import numpy as np
import onnx
import torch
from brevitas.export import export_qonnx
from numpy.typing import NDArray
from torch import Tensor, nn

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, Problem, quote, quote_given
from pefslc.files.paths import as_path
from pefslc.files.staging import require_replaceable, write_file
from pefslc.frontend import import_model
from pefslc.train.comparing import compare_with_file
from pefslc.train.network import copy_of, one_line, require_network, run
from pefslc.train.pinning import activation_quantizers, as_float64, pin

__all__ = ["Examples", "export"]

# Text: where the API is described, torch may be a stand-in, without `|`.
Examples: TypeAlias = "Tensor | NDArray[np.generic] | Sequence[Tensor | NDArray[np.generic]]"

_OPSET = 20  # the newest that the TorchScript exporter writes and pefslc reads


def export(
    model: nn.Module,
    example: Examples,
    path: str | os.PathLike[str] | None = None,
    *,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
) -> onnx.ModelProto:
    """The QONNX model of a Brevitas network for one row of input, also written to `path`. `model` is not changed.

    example       input [N, ...], or a sequence of them: rows on which the file must compute what the network does
    input_names   by default the names of forward's parameters
    output_names  by default "output", or "output_0", "output_1"...

    The file is evaluated in float64 and compared with the network, run by torch in float64, on the rows of `example`
    and on random rows of the input's grid: equal where all scales are powers of two, else to six digits. Raises
    CompileError, which names the first layer that differs, or says why the network cannot be exported. At `path`, an
    earlier .onnx file is replaced, and no other.
    """
    require_network(model)
    file_path = (
        None if path is None else as_path(path, Code.CANNOT_WRITE, "the path of a file", 'for example "net.onnx"')
    )
    if file_path is not None:
        require_replaceable(file_path, ".onnx file", lambda p: p.suffix == ".onnx")
    inputs = _tensors(example)
    _check(model)
    # In float32, and of the original: this is what was trained.
    trained = copy_of(model).eval()
    pinned = pin(trained, inputs)
    expected, frozen = run(trained, inputs), run(pinned, inputs)
    if not all(torch.isfinite(t).all() for t in expected):
        raise CompileError(
            Code.NOT_EXPORTABLE, "the network computes NaN or infinity on the example", hint="training diverged?"
        )
    if any(not torch.equal(a, b) for a, b in zip(expected, frozen, strict=True)):
        raise CompileError(
            Code.NOT_CONSTANT,
            "with the scales of this run held constant, the network computes something else",
            hint="in eval mode nothing may be random, and a quantizer has one scale: give each call its own layer",
        )
    inputs_named = _names("input_names", input_names, _input_names(model, len(inputs)))
    outputs_named = _names("output_names", output_names, _output_names(len(expected)))
    if both := [name for name in inputs_named if name in outputs_named]:
        raise CompileError(
            Code.NOT_EXPORTABLE,
            f"an input and an output are named {quote(both[0])}",
            hint="give input_names or output_names to the export",
        )
    proto = _export(pinned, inputs, inputs_named, outputs_named)
    content = proto.SerializeToString(deterministic=True)
    with TemporaryDirectory(prefix="pefslc-") as folder:
        file = Path(folder) / "model.onnx"
        file.write_bytes(content)
        graph = import_model(file)
    if unused := [name for name in inputs_named if name not in {i.name for i in graph.inputs}]:
        raise CompileError.of(
            Problem(Code.UNUSED_INPUT, f"input {quote(name)} is read by nothing", hint="leave it out of forward")
            for name in unused
        )
    compare_with_file(as_float64(pinned), inputs, graph)
    if file_path is not None:
        write_file(file_path, content)
    return proto


def _tensors(example: Examples) -> tuple[Tensor, ...]:
    try:
        parts = (example,) if isinstance(example, Tensor | np.ndarray) else tuple(example)
        given = tuple(torch.as_tensor(part).detach().cpu() for part in parts)
    except (TypeError, ValueError, RuntimeError) as e:
        raise CompileError(
            Code.EXAMPLE, f"the example is no tensor: {one_line(e)}", hint="a tensor [N, ...], or a tuple of them"
        ) from None
    if any(t.is_complex() for t in given):
        raise CompileError(Code.EXAMPLE, "the example holds complex numbers", hint="give real ones")
    inputs = tuple(t.float() for t in given)
    if not inputs or any(t.ndim == 0 or not len(t) for t in inputs) or len({len(t) for t in inputs}) != 1:
        shapes = ", ".join(str(list(t.shape)) for t in inputs)
        raise CompileError(
            Code.EXAMPLE, f"the example has shapes {shapes or 'of nothing'}", hint="every input has N >= 1 rows"
        )
    if not all(torch.isfinite(t).all() for t in inputs):
        raise CompileError(
            Code.EXAMPLE, "the example holds NaN or infinity", hint="give rows as the network will see them"
        )
    return inputs


def _check(model: nn.Module) -> None:
    """Raise CompileError for what would export to another network without a word, and for what torch cannot export."""
    if isinstance(model, torch.jit.ScriptModule):
        raise CompileError(
            Code.NETWORK_TYPE, "the network is TorchScript", hint="give the nn.Module that it was made from"
        )
    if brevitas.config.JIT_ENABLED:
        raise CompileError(
            Code.NETWORK_TYPE, "Brevitas is compiled by TorchScript", hint="unset BREVITAS_JIT, here and in training"
        )
    problems = [
        Problem(
            Code.NETWORK_TYPE,
            f"the parameters are {dtype}, not float32",
            hint="model.float(), then look at its accuracy again",
        )
        for dtype in sorted({str(p.dtype) for p in model.parameters() if p.is_floating_point()} - {"torch.float32"})
    ]
    problems += [
        Problem(Code.NETWORK_TYPE, f"parameter {quote(name)} is on {p.device}", hint="model.cpu()")
        for name, p in model.named_parameters()
        if p.device.type != "cpu"
    ][:1]
    problems += [
        Problem(
            Code.NOT_CALIBRATED,
            "the activation quantizer is not calibrated: its scale is the one it was made with",
            at=quote(name),
            hint="train, or run data through the network in brevitas.graph.calibrate.calibration_mode",
        )
        for name, proxy in activation_quantizers(model)
        if any(_is_unused(m) for m in proxy.modules())
    ]
    if problems:
        raise CompileError.of(problems)


def _is_unused(module: nn.Module) -> bool:
    """Whether the module collects statistics and has seen none: Brevitas counts the batches, but not over a reload."""
    started = getattr(module, "running_stats", None)
    return getattr(module, "counter", None) == 0 and (started is None or bool((started == 1).all()))


def _input_names(model: nn.Module, count: int) -> list[str]:
    parameters = [
        p.name
        for p in inspect.signature(model.forward).parameters.values()
        if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    if len(parameters) >= count:
        return parameters[:count]
    return [f"input_{i}" for i in range(count)]


def _output_names(count: int) -> list[str]:
    return ["output"] if count == 1 else [f"output_{i}" for i in range(count)]


def _names(what: str, given: Sequence[str] | None, default: list[str]) -> list[str]:
    """The names as given, or the default ones. Raises CompileError for another number of them, and for no names."""
    if given is None:
        return default
    names = list(given) if isinstance(given, Sequence) and not isinstance(given, str) else []
    wrong = [name for name in names if not (isinstance(name, str) and name and name.isprintable())]
    if wrong or len(names) != len(default) or len(set(names)) != len(names):
        count = "one name" if len(default) == 1 else f"{len(default)} different names"
        raise CompileError(
            Code.NOT_EXPORTABLE,
            f"{what} is {quote_given(given)}, not a list of {count}",
            hint=f"for example {what}={default}",
        )
    return names


def _export(
    model: nn.Module, inputs: Sequence[Tensor], input_names: list[str], output_names: list[str]
) -> onnx.ModelProto:
    torch._C._jit_set_onnx_log_enabled(False)  # of an export that fails it would print the whole graph
    given = tuple(t[:1] for t in inputs)
    options = {
        "dynamo": False,  # the other exporter writes source paths into the file, and names of no meaning
        "opset_version": _OPSET,
        "keep_initializers_as_inputs": False,  # weights are no inputs
        "training": torch.onnx.TrainingMode.PRESERVE,  # eval mode, but no float32 folding of BatchNorm
        "input_names": input_names,
        "output_names": output_names,
    }
    model = deepcopy(model)  # an export that fails leaves its network in export mode
    proto: onnx.ModelProto
    try:
        with warnings.catch_warnings():
            # Its advice is for networks in training mode; PRESERVE leaves ours in eval mode.
            warnings.filterwarnings("ignore", "It is recommended that constant folding be turned off")
            if any(type(m).__module__.startswith("brevitas.") for m in model.modules()):
                proto = export_qonnx(model, args=given, **options)
            else:  # Brevitas would name its domain, and torch print that nothing in the file is of it
                file = BytesIO()
                torch.onnx.export(model, given, file, **options)
                proto = onnx.load_model_from_string(file.getvalue())
    except Exception as e:  # torch and Brevitas name no exceptions of their own
        raise CompileError(
            Code.NOT_EXPORTABLE,
            f"Brevitas cannot export the network: {one_line(e)}",
            hint="`pefslc explain operators` lists what compiles",
        ) from e
    _strip(proto)
    return proto


def _strip(proto: onnx.ModelProto) -> None:
    """Remove what says where and by whose source the file was made."""
    proto.doc_string = proto.graph.doc_string = ""
    for entry in (proto, proto.graph, *proto.graph.node, *proto.graph.initializer, *proto.graph.value_info):
        del entry.metadata_props[:]
    for node in proto.graph.node:
        node.doc_string = ""
