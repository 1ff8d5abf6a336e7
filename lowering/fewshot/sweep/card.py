"""The card of a quantized backbone: a JSON file beside its .onnx that says what the network is and was trained on."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path

from pefslc.artifacts.sidecar import JsonObject
from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, quote
from pefslc.files.staging import require_replaceable, write_file

__all__ = ["card_path", "read_card", "require_card_path", "write_card"]

_KIND = "pefslc few-shot backbone card 1"


def card_path(network: Path) -> Path:
    """net.json of net.onnx."""
    return network.with_suffix(".json")


def require_card_path(network: Path) -> None:
    """Demand that where the card comes nothing is, or an earlier card. Raises CompileError."""
    require_replaceable(card_path(network), "card of a backbone", _is_card, "give another path with -o")


def write_card(network: Path, content: JsonObject) -> Path:
    """Write the card of the file at `network`, bound to it by its SHA-256; returns its path. Raises CompileError."""
    require_card_path(network)
    path = card_path(network)
    whole = {"kind": _KIND, **content, "network_sha256": sha256(network.read_bytes()).hexdigest()}
    write_file(path, json.dumps(whole, indent=1, sort_keys=True).encode() + b"\n")
    return path


def read_card(network: Path) -> JsonObject | None:
    """The card of the file at `network`; None where there is none. Raises CompileError for one of another file."""
    path = card_path(network)
    if not path.is_file() or not _is_card(path):
        return None
    content: JsonObject = json.loads(path.read_bytes())
    if content.get("network_sha256") != sha256(network.read_bytes()).hexdigest():
        raise CompileError(
            Code.TRAINED_FILE,
            f"{quote(path)} is the card of another network than {quote(network)} is now",
            hint="quantize again, or remove the card and give --mean and --std",
        )
    return content


def _is_card(path: Path) -> bool:
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return False
    return isinstance(content, dict) and content.get("kind") == _KIND
