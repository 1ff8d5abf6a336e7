"""The card of a quantized backbone: a JSON file beside its .onnx that says what the network is and was trained on."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path

from pefslc.artifacts.sidecar import Json, JsonObject
from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, quote, quote_given
from pefslc.fewshot.sweep.setting import DataSource
from pefslc.files.staging import require_replaceable, write_files

__all__ = ["card_path", "read_card", "require_network_path", "write_network"]

_KIND = "pefslc few-shot backbone card 1"
_HINT = "quantize again, or remove the card and give --mean and --std"


def card_path(network: Path) -> Path:
    """net.json of net.onnx."""
    return network.with_suffix(".json")


def require_network_path(network: Path) -> None:
    """Demand that where a network and its card come nothing is, or an earlier one of each. Raises CompileError."""
    require_replaceable(network, ".onnx file", lambda path: path.suffix == ".onnx")
    require_replaceable(card_path(network), "card of a backbone", _is_card, "give another path with -o")


def write_network(network: Path, model: bytes, content: JsonObject) -> Path:
    """Write a network and its card, bound to it by its SHA-256; returns the card's path. Raises CompileError.

    Both come or none. The network is the last: where it is, its card is there, too.
    """
    require_network_path(network)
    path = card_path(network)
    whole = {"kind": _KIND, **content, "network_sha256": sha256(model).hexdigest()}
    card = json.dumps(whole, indent=1, sort_keys=True).encode() + b"\n"
    write_files(network.parent, {path.name: card, network.name: model})
    return path


def read_card(network: Path) -> JsonObject | None:
    """The card of the file at `network`; None where there is none. Raises CompileError for one of another file,
    and for one that lacks what its readers need, or names what they do not know.
    """
    path = card_path(network)
    if network == path or not path.is_file() or not _is_card(path):
        return None
    content: JsonObject = json.loads(path.read_bytes())
    if content.get("network_sha256") != sha256(network.read_bytes()).hexdigest():
        raise CompileError(
            Code.TRAINED_FILE,
            f"{quote(path)} is the card of another network than {quote(network)} is now",
            hint=_HINT,
        )
    if wrong := _wrong_field(content):
        raise CompileError(
            Code.TRAINED_FILE, f"{quote(path)} is a damaged card, or one of a newer pefslc: {wrong}", hint=_HINT
        )
    return content


def _wrong_field(content: JsonObject) -> str:
    """What is wrong with a field that a reader of cards takes."""
    description, data = content.get("description"), content.get("data")
    for name in ("mean", "std"):
        if not isinstance(description, dict) or not _is_by_colour(description.get(name), positive=name == "std"):
            return f"description has no {name} of three colours"
    if not isinstance(data, dict):
        return "it has no data"
    known = asdict(DataSource())
    for name, value in data.items():
        if name not in known:
            return f"data has {quote(name)}"
        if type(value) is not type(known[name]):
            return f"{name} of data is {quote_given(value)}"
    if not isinstance(content.get("data_sha256"), str):
        return "it has no data_sha256"
    return ""


def _is_by_colour(value: Json, *, positive: bool) -> bool:
    if not isinstance(value, list) or len(value) != 3:
        return False
    return all(type(v) in (int, float) and math.isfinite(v) and (v > 0 or not positive) for v in value)


def _is_card(path: Path) -> bool:
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return False
    return isinstance(content, dict) and content.get("kind") == _KIND
