"""What is given to `compile` as a model: an ONNX file, or a torch network, which is exported first."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, quote, quote_given
from pefslc.files.file_names import safe_file_name
from pefslc.files.paths import ModelPath, as_path

if TYPE_CHECKING:
    from torch.nn import Module

    from pefslc.train.export import Examples

__all__ = ["as_file"]


@contextmanager
def as_file(model: ModelPath | Module, example: Examples | None) -> Iterator[Path]:
    """The ONNX file of `model`; of a network, a temporary one with the name of its class. Raises CompileError."""
    if isinstance(model, str | os.PathLike):
        if example is not None:
            raise CompileError(
                Code.EXAMPLE,
                f"an example is for a torch network, not for a file like {quote(str(model))}",
                hint="leave it out",
            )
        yield as_path(model, Code.NOT_A_MODEL, "the path of a model", "the path of an ONNX file")
        return
    torch = sys.modules.get("torch")  # who has a network has imported it; nobody else shall wait for it
    if torch is None or not isinstance(model, torch.nn.Module):
        raise CompileError(
            Code.NOT_A_MODEL,
            f"{quote_given(model)} is not a model",
            hint="the path of an ONNX file, or a torch network",
        )
    if example is None:
        raise CompileError(
            Code.EXAMPLE,
            f"the torch network {type(model).__name__} is given without an example of its input",
            hint="pefslc.compile(network, example=x, ...), x of shape [N, ...]",
        )
    from pefslc.train.export import export

    with TemporaryDirectory(prefix="pefslc-") as folder:
        path = Path(folder) / f"{safe_file_name(type(model).__name__.lower())}.onnx"
        export(model, example, path)
        yield path
