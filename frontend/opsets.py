"""The versions of ONNX and of QONNX's domains that a file asks for, and which of them are read."""

from __future__ import annotations

from collections.abc import Iterator

import onnx

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import Problem, quote

__all__ = ["QONNX_DOMAINS", "STANDARD_DOMAINS", "opset_notes", "opset_of", "opset_problems"]

QONNX_DOMAINS = {"onnx.brevitas": (1,), "finn.custom_op.general": (1,), "qonnx.custom_op.general": (1, 2)}
STANDARD_DOMAINS = ("", "ai.onnx")
_OLDEST, _NEWEST = 9, 25
# From 23 to 25, what we read has got new element types, and attributes that say nothing of integers. A file of these
# is read as one of this version, which every supported version of onnx knows.
_UNCHANGED_SINCE = 22


def opset_of(model: onnx.ModelProto) -> int:
    """The version by which the file's operators are read; the newest one where the file's is not supported."""
    declared = _declared(model)
    return min(declared, _UNCHANGED_SINCE) if declared is not None and declared >= _OLDEST else _UNCHANGED_SINCE


def opset_problems(model: onnx.ModelProto) -> Iterator[Problem]:
    """Versions that are not read."""
    declared = _declared(model)
    if declared is None:
        yield Problem(Code.OPSET, "the file imports no ONNX opset", hint="export the model again")
    elif not _OLDEST <= declared <= _NEWEST:
        yield Problem(
            Code.OPSET,
            f"ONNX opset {declared} is not supported",
            hint=f"export with opset_version between {_OLDEST} and {_NEWEST}, for example 13",
        )
    versions = {o.domain: o.version for o in model.opset_import}
    for domain in _known_domains(model):
        if domain in versions and versions[domain] not in QONNX_DOMAINS[domain]:
            yield Problem(
                Code.OPSET,
                f"version {versions[domain]} of domain {quote(domain)} is unknown",
                hint=f"known: {', '.join(map(str, QONNX_DOMAINS[domain]))}",
            )


def opset_notes(model: onnx.ModelProto) -> Iterator[str]:
    """What is taken for granted: torch 1.x and early converters used QONNX's domains without importing them."""
    imported = {o.domain for o in model.opset_import}
    for domain in _known_domains(model):
        if domain not in imported:
            yield f"domain {quote(domain)} is used but not imported by the file: taken as its version 1"


def _declared(model: onnx.ModelProto) -> int | None:
    versions = {o.domain: o.version for o in model.opset_import}
    return next((versions[d] for d in STANDARD_DOMAINS if d in versions), None)


def _known_domains(model: onnx.ModelProto) -> list[str]:
    """QONNX's among the domains of the nodes; others are named with their operators by the importer."""
    return sorted({n.domain for n in model.graph.node} & set(QONNX_DOMAINS))
