"""The sidecar <name>.<target>.json: everything that a user of the artifacts must know, and `pefslc run` reads.

Scales and offsets are exact: strings "numerator/denominator". The last key holds the SHA-256 of everything before it:
a changed sidecar is never read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from pefslc.artifacts.signed_json import Json, JsonObject, SignedJson
from pefslc.artifacts.stage_json import stages_from, stages_json
from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, quote
from pefslc.files.reading import unreadable
from pefslc.geometry.shapes import Shape
from pefslc.ir.interface import OutputMap
from pefslc.ir.output_function import OutputFunction, OutputFunctionKind
from pefslc.numeric.format import Quantization
from pefslc.numeric.quantizer import Quantizer
from pefslc.numeric.rounding import RoundingMode
from pefslc.numeric.scale import Scale
from pefslc.numeric.stages import Stage

if TYPE_CHECKING:  # with its operations it takes as long to load as numpy, and a sidecar is read without it
    from pefslc.ir.graph import Graph

__all__ = [
    "InputRecord",
    "Json",
    "JsonObject",
    "OutputRecord",
    "Sidecar",
    "interface_json",
    "load_sidecar",
    "make_sidecar",
    "sidecar_name",
]

FORMAT_VERSION = 2

_AGAIN = "compile the model again"
_FILE = SignedJson("sidecar_sha256", FORMAT_VERSION, "compile", _AGAIN)


def sidecar_name(model: str, target: str) -> str:
    """The file that describes a model compiled for a target."""
    return f"{model}.{target}.json"


@dataclass(frozen=True, slots=True)
class InputRecord:
    """An input: its ONNX name and shape, and what the host applies; see `ir.interface.GraphInput`."""

    name: str
    shape: Shape
    quantizer: Quantizer
    stages: tuple[Stage, ...] = ()
    channel_axis: int = 1
    integers: str = ""


@dataclass(frozen=True, slots=True)
class OutputRecord:
    """An output: its ONNX name, the shape and the range of its codes, the map from codes to values, and what follows.

    function  that the host applies to the values, where the model ends with one
    """

    name: str
    shape: Shape
    low: int
    high: int
    map: OutputMap
    function: OutputFunction | None = None


@dataclass(frozen=True, slots=True)
class Sidecar:
    """One compiled model for one target. `files` holds the SHA-256 of each artifact, `source` the model file's name.

    source_data_sha256  of what the model has in files beside it, in the order of its tensors; "" for nothing
    """

    model: str
    target: str
    version: str
    source_sha256: str
    files: Mapping[str, str]
    inputs: tuple[InputRecord, ...]
    outputs: tuple[OutputRecord, ...]
    details: JsonObject = field(default_factory=dict)
    layers: tuple[JsonObject, ...] = ()
    source: str = ""
    source_data_sha256: str = ""

    @property
    def file_name(self) -> str:
        return sidecar_name(self.model, self.target)

    def to_bytes(self) -> bytes:
        """The JSON text; the same sidecar gives the same bytes."""
        content: JsonObject = {
            "format": FORMAT_VERSION,
            "pefslc": self.version,
            "model": self.model,
            "target": self.target,
            "source": self.source,
            "source_sha256": self.source_sha256,
            **({"source_data_sha256": self.source_data_sha256} if self.source_data_sha256 else {}),
            "files": dict(sorted(self.files.items())),
            "inputs": [_input_json(i) for i in self.inputs],
            "outputs": [_output_json(o) for o in self.outputs],
            "details": self.details,
            "layers": list(self.layers),
        }
        return _FILE.to_bytes(content)


def make_sidecar(
    graph: Graph,
    target: str,
    version: str,
    source_sha256: str,
    files: Mapping[str, bytes],
    details: JsonObject,
    layers: tuple[JsonObject, ...] = (),
    source_name: str = "",
    source_data_sha256: str = "",
) -> Sidecar:
    """The sidecar of an integer graph and the files that a target made of it.

    source_sha256  of the model file's content
    source_name  its name, without the folder
    source_data_sha256  of what it has in files beside it; "" for nothing
    """
    hashes = {name: sha256(content).hexdigest() for name, content in files.items()}
    return Sidecar(
        graph.name,
        target,
        version,
        source_sha256,
        hashes,
        _input_records(graph),
        _output_records(graph),
        details,
        layers,
        source_name,
        source_data_sha256,
    )


def interface_json(graph: Graph) -> tuple[list[Json], list[Json]]:
    """The inputs and the outputs of an integer graph, as a sidecar describes them."""
    return [_input_json(i) for i in _input_records(graph)], [_output_json(o) for o in _output_records(graph)]


def _input_records(graph: Graph) -> tuple[InputRecord, ...]:
    inputs = []
    for i in graph.inputs:
        assert i.quantizer is not None
        inputs.append(InputRecord(i.name, i.value.type.shape, i.quantizer, i.stages, i.channel_axis, i.integers))
    return tuple(inputs)


def _output_records(graph: Graph) -> tuple[OutputRecord, ...]:
    outputs = []
    for o in graph.outputs:
        assert o.map is not None
        codes = o.value.type.codes
        outputs.append(OutputRecord(o.name, o.value.type.shape, codes.low, codes.high, o.map, o.function))
    return tuple(outputs)


def load_sidecar(path: Path) -> Sidecar:
    """Read a sidecar and check that it and its files, beside it, are as written. Raises CompileError."""
    try:
        sidecar = _parse(path)
        _FILE.require_files(path, sidecar.files)
    except OSError as e:
        raise unreadable(path, e) from None
    return sidecar


def _parse(path: Path) -> Sidecar:
    try:
        content = _FILE.read(path)
        return Sidecar(
            content["model"],
            content["target"],
            content["pefslc"],
            content["source_sha256"],
            content["files"],
            tuple(_input_from(i) for i in content["inputs"]),
            tuple(_output_from(o) for o in content["outputs"]),
            content["details"],
            tuple(content["layers"]),
            content["source"],
            str(content.get("source_data_sha256", "")),
        )
    except (KeyError, TypeError, ValueError, AttributeError, ZeroDivisionError, RecursionError):
        raise CompileError(
            Code.NOT_AN_ARTIFACT, f"{quote(path.name)} is not a sidecar of pefslc", hint=_AGAIN
        ) from None


def _quantizer_json(quantizer: Quantizer) -> JsonObject:
    q = quantizer.quantization
    return {
        "bits": q.bits,
        "signed": q.signed,
        "narrow": q.narrow,
        "scale": [str(s) for s in q.scale.steps],
        "zero_point": q.zero_point,
        "rounding": quantizer.rounding.value,
        "adds_zero_point_last": quantizer.adds_zero_point_last,
    }


def _input_json(record: InputRecord) -> JsonObject:
    content: JsonObject = {
        "name": record.name,
        "shape": list(record.shape),
        **_quantizer_json(record.quantizer),
    }
    if record.stages:
        content = {**content, "stages": stages_json(record.stages)}
    if record.channel_axis != 1:
        content = {**content, "channel_axis": record.channel_axis}
    return {**content, "integers": record.integers} if record.integers else content


def _quantizer_from(content: Mapping[str, object]) -> Quantizer:
    scale = Scale.of(Fraction(str(s)) for s in _list(content["scale"]))
    quantization = Quantization(
        bits=_int(content["bits"]),
        signed=bool(content["signed"]),
        narrow=bool(content["narrow"]),
        scale=scale,
        zero_point=_int(content["zero_point"]),
    )
    return Quantizer(quantization, RoundingMode(content["rounding"]), bool(content["adds_zero_point_last"]))


def _input_from(content: Mapping[str, object]) -> InputRecord:
    return InputRecord(
        str(content["name"]),
        tuple(_int(s) for s in _list(content["shape"])),
        _quantizer_from(content),
        stages_from(content.get("stages", [])),
        _int(content.get("channel_axis", 1)),
        str(content.get("integers", "")),
    )


def _output_json(record: OutputRecord) -> JsonObject:
    function = {} if record.function is None else {"function": _function_json(record.function)}
    return {
        "name": record.name,
        "shape": list(record.shape),
        "low": record.low,
        "high": record.high,
        "scale": [str(s) for s in record.map.scale],
        "offset": [str(s) for s in record.map.offset],
        **function,
    }


def _function_json(function: OutputFunction) -> JsonObject:
    return {
        "kind": function.kind.value,
        "axis": function.axis,
        "keepdims": function.keepdims,
        "last": function.last,
        **({} if function.quantizer is None else {"quantizer": _quantizer_json(function.quantizer)}),
        **({"as_codes": True} if function.as_codes else {}),
    }


def _function_from(content: object) -> OutputFunction | None:
    if content is None:
        return None
    if not isinstance(content, dict):
        raise TypeError("not a function")
    kind = OutputFunctionKind(content["kind"])
    quantizer = _quantizer_from(content["quantizer"]) if "quantizer" in content else None
    as_codes = bool(content.get("as_codes", False))
    return OutputFunction(
        kind, _int(content["axis"]), bool(content["keepdims"]), bool(content["last"]), quantizer, as_codes
    )


def _output_from(content: Mapping[str, object]) -> OutputRecord:
    return OutputRecord(
        str(content["name"]),
        tuple(_int(s) for s in _list(content["shape"])),
        _int(content["low"]),
        _int(content["high"]),
        OutputMap(
            tuple(Fraction(str(s)) for s in _list(content["scale"])),
            tuple(Fraction(str(s)) for s in _list(content["offset"])),
        ),
        _function_from(content.get("function")),
    )


def _int(value: object) -> int:
    if not isinstance(value, int):
        raise TypeError("not an integer")
    return value


def _list(value: object) -> list[object]:
    if not isinstance(value, list):
        raise TypeError("not a list")
    return value
