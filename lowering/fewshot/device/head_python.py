"""The classifier as one Python module that needs numpy only: for a board's old Python (3.6, numpy 1.16)."""

from __future__ import annotations

import json
from pathlib import Path
from textwrap import wrap

from pefslc.fewshot.head.spec import HeadKind, HeadSpec
from pefslc.fewshot.head.state import NAME_BYTES, HeadState
from pefslc.fewshot.head.state_file import header_bytes
from pefslc.targets.templates import templates_in
from pefslc.targets.tensil.host_io import host_io_module
from pefslc.version import __version__

__all__ = ["emit_head_python", "head_module"]

_WIDTH = 112


def head_module(name: str) -> str:
    """The module's name for a model: `<name>_head`, beside `<name>_io`."""
    return f"{host_io_module(name).removesuffix('_io')}_head"


def emit_head_python(name: str, spec: HeadSpec, backbone: str) -> dict[str, bytes]:
    """`<module>.py`, file name -> content. Its states are those of `state_file` and of the emitted C.

    name      of the network, any text
    backbone  SHA-256 of the compiled backbone, 64 hexadecimal digits: states of others are refused

    Raises CompileError for another `backbone`.
    """
    header = header_bytes(HeadState.new(spec, backbone, 0), 0, 0, 0)
    text = (
        templates_in(Path(__file__).parent)
        .get_template("head.py.j2")
        .render(
            name=name,
            module=head_module(name),
            version=__version__,
            spec=spec,
            cosine=spec.kind is HeadKind.COSINE,
            name_bytes=NAME_BYTES,
            centre=spec.centre_codes.tolist(),
            header_lines=wrap(header.hex(), _WIDTH),
            numbers=_numbers,
        )
    )
    return {f"{head_module(name)}.py": text.encode()}


def _numbers(values: list[int]) -> str:
    """The lines of a list."""
    return "\n    ".join(wrap(f"{json.dumps(values)[1:-1]},", _WIDTH))
