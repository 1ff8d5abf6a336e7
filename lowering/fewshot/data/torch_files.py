"""Files of torch, read without executing what they say: tensors, numbers, texts, lists and dicts."""

from __future__ import annotations

import io
import pickle
import warnings
from pathlib import Path
from typing import Any

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, quote
from pefslc.fewshot.data.extra import require_package
from pefslc.files.reading import read_file

__all__ = ["plain_torch", "read_torch"]


def read_torch(path: Path) -> Any:
    """What is in a file that `torch.save` wrote. Raises CompileError."""
    return _content(read_file(path), quote(path))


def plain_torch(content: bytes) -> Any:
    """What `torch.save` wrote; None where that is more than plain data, or damaged, or was written by another."""
    try:
        return _content(content, "the content")
    except CompileError as e:
        if e.problems[0].code not in (Code.UNSAFE_FILE, Code.DATA_FILE):
            raise
        return None


def _content(content: bytes, what: str) -> Any:
    torch = require_package("torch", "torch", f"reading {what}", extra="train")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of old formats, of devices that are not there
            return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as e:
        if "unsupported operand" not in str(e).lower():  # what is no pickle at all; the rest is a name that it refuses
            raise CompileError(
                Code.UNSAFE_FILE,
                f"{what} holds more than tensors, lists and dicts",
                hint="nothing of it was executed; save the tensors alone: torch.save(tensors, path)",
            ) from None
        raise _damaged(what) from None
    except Exception:
        # A damaged file makes torch's reader raise nearly anything.
        raise _damaged(what) from None


def _damaged(what: str) -> CompileError:
    return CompileError(Code.DATA_FILE, f"{what} is no whole file of torch", hint="copy or download it again")
