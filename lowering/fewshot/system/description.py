"""What a compiled few-shot system is: `<name>.fewshot.json`, which names and vouches for every file of its folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import cast

from pefslc.artifacts.sidecar import Json, JsonObject, sidecar_name
from pefslc.artifacts.signed_json import SignedJson
from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, quote
from pefslc.fewshot.head.spec import HeadKind, HeadSpec
from pefslc.files.reading import unreadable
from pefslc.files.replacement import half_replaced

__all__ = ["KIND", "SystemDescription", "load_description"]

KIND = "fewshot"  # <name>.fewshot.json
FORMAT_VERSION = 1

_AGAIN = "build the system again"
_FILE = SignedJson("description_sha256", FORMAT_VERSION, "build", _AGAIN)


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemDescription:
    """One few-shot system.

    name           of the backbone: what its files are named after
    version        of pefslc
    backbone       the file name of the ONNX, and `backbone_sha256` of its content
    codes_sha256   of all that feature codes follow from: the ONNX, the format given to it, and the picture table.
                   States name it: two systems with the same one and the same head learn for each other
    fmt            the format given to the network at its compile, "" for none
    input_fmt      the format in which the host hands over inputs, "" where it applies the network's quantizer
    height, width  of a picture, in pixels
    mean, std      of red, green and blue, in units of img / 255
    table_sha256   of the picture table (`PictureTable.digest`)
    scale          of a feature: value = scale * code
    spec           of the head
    centre         the name of what the head's centre is the mean of
    exact          whether every feature code is the model's own: proved
    architecture   of the Tensil files, "" where there are none
    batch          pictures in a run of the Tensil program
    files          SHA-256 of each file by its name
    """

    name: str
    version: str
    source: str
    backbone: str
    backbone_sha256: str
    codes_sha256: str
    fmt: str
    input_fmt: str
    height: int
    width: int
    mean: tuple[Fraction, ...]
    std: tuple[Fraction, ...]
    table_sha256: str
    scale: Fraction
    spec: HeadSpec
    centre: str
    exact: bool
    architecture: str
    batch: int
    files: Mapping[str, str]

    @property
    def file_name(self) -> str:
        return sidecar_name(self.name, KIND)

    @property
    def engines(self) -> tuple[str, ...]:
        """What runs it: "c", "tensil" where it was built for it, "float"."""
        return ("c", "tensil", "float") if self.architecture else ("c", "float")

    @property
    def ncm(self) -> str:
        """Which nearest class mean, and its centre: an accuracy means nothing without."""
        if self.spec.kind is HeadKind.EUCLID:
            return "integer NCM, Euclidean, centre: none"
        return f"integer NCM, cosine in PEFSL's order, centre: {self.centre}"

    def to_bytes(self) -> bytes:
        """The JSON text; the same system gives the same bytes."""
        spec = self.spec
        content: dict[str, Json] = {
            "format": FORMAT_VERSION,
            "pefslc": self.version,
            "model": self.name,
            "target": KIND,
            "source": self.source,
            "backbone": self.backbone,
            "backbone_sha256": self.backbone_sha256,
            "codes_sha256": self.codes_sha256,
            "fmt": self.fmt,
            "input_fmt": self.input_fmt,
            "exact": self.exact,
            "architecture": self.architecture,
            "batch": self.batch,
            "pictures": {
                "height": self.height,
                "width": self.width,
                "mean": [str(m) for m in self.mean],
                "std": [str(s) for s in self.std],
                "table_sha256": self.table_sha256,
            },
            "features": {
                "dimension": spec.dimension,
                "low": spec.low,
                "high": spec.high,
                "scale": str(self.scale),
                "order": "channels, rows, columns",
            },
            "head": {
                "ncm": self.ncm,
                "kind": spec.kind.value,
                "centre_name": self.centre,
                "centre": list(spec.centre),
                "fraction_bits": spec.fraction_bits,
                "max_shots": spec.max_shots,
                "max_classes": spec.max_classes,
                "max_devices": spec.max_devices,
            },
            "files": dict(sorted(self.files.items())),
        }
        return _FILE.to_bytes(content)


def load_description(folder: Path) -> SystemDescription:
    """The system in a folder, every file of which is as it was built. Raises CompileError."""
    unfinished = half_replaced(folder) if folder.is_dir() else frozenset()
    try:
        path = _path(folder)
        description = _parse(path)
        _FILE.require_files(path, description.files)
    except OSError as e:
        raise unreadable(folder, e) from None
    except CompileError:
        if unfinished:
            raise CompileError(
                Code.ARTIFACT_CHANGED,
                f"the files in {quote(folder)} are half replaced: a build writes them, or was ended while it did",
                hint=f"wait until it has ended, or {_AGAIN}",
            ) from None
        raise
    return description


def _path(folder: Path) -> Path:
    if not folder.exists():
        raise CompileError(
            Code.NOT_A_SYSTEM, f"there is no folder {quote(folder)}", hint="give the folder of a system that was built"
        )
    found = sorted(folder.glob(f"*.{KIND}.json")) if folder.is_dir() else []
    if len(found) == 1:
        return found[0]
    what = "is no few-shot system: it holds no <name>.fewshot.json"
    if found:
        what = f"holds several systems: {', '.join(quote(path.name) for path in found)}"
    raise CompileError(
        Code.NOT_A_SYSTEM,
        f"{quote(folder)} {what}",
        hint="give the folder that `pefslc fewshot build` wrote, one for each system",
    )


def _parse(path: Path) -> SystemDescription:
    try:
        content = _FILE.read(path)
        return _from_json(content)
    except (KeyError, TypeError, ValueError, AttributeError, ZeroDivisionError, RecursionError):
        raise CompileError(
            Code.NOT_A_SYSTEM, f"{quote(path.name)} describes no system of pefslc", hint=_AGAIN
        ) from None


def _from_json(content: JsonObject) -> SystemDescription:
    pictures, features, head = (
        cast("Mapping[str, object]", content[part]) for part in ("pictures", "features", "head")
    )
    spec = HeadSpec(
        kind=HeadKind(str(head["kind"])),
        dimension=_int(features["dimension"]),
        low=_int(features["low"]),
        high=_int(features["high"]),
        centre=tuple(map(_int, cast("list[object]", head["centre"]))),
        fraction_bits=_int(head["fraction_bits"]),
        max_shots=_int(head["max_shots"]),
        max_classes=_int(head["max_classes"]),
        max_devices=_int(head["max_devices"]),
    )
    return SystemDescription(
        name=str(content["model"]),
        version=str(content["pefslc"]),
        source=str(content["source"]),
        backbone=str(content["backbone"]),
        backbone_sha256=str(content["backbone_sha256"]),
        codes_sha256=str(content["codes_sha256"]),
        fmt=str(content["fmt"]),
        input_fmt=str(content["input_fmt"]),
        height=_int(pictures["height"]),
        width=_int(pictures["width"]),
        mean=tuple(Fraction(str(m)) for m in cast("list[object]", pictures["mean"])),
        std=tuple(Fraction(str(s)) for s in cast("list[object]", pictures["std"])),
        table_sha256=str(pictures["table_sha256"]),
        scale=Fraction(str(features["scale"])),
        spec=spec,
        centre=str(head["centre_name"]),
        exact=bool(content["exact"]),
        architecture=str(content["architecture"]),
        batch=_int(content.get("batch", 1)),  # a folder that was built before there were batches
        files={str(name): str(digest) for name, digest in cast("Mapping[str, object]", content["files"]).items()},
    )


def _int(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError("not an integer")
    return value
