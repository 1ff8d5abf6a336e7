"""The constants as C text: the file PREFIX_weights.c, of up to hundreds of megabytes.

Most constants are 8-bit weights: their texts stand in a table, and whole lines are looked up in it at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from io import BytesIO

import numpy as np
from numpy.typing import NDArray

from pefslc.targets.c.stages import ConstantArray
from pefslc.targets.c.storage import CType

__all__ = ["weights_text"]

Integers = NDArray[np.integer]

_PER_LINE = 24
_LINES_AT_ONCE = 1 << 13
_LARGEST_TABLE = 1 << 16  # texts
_BETWEEN, _NEXT_LINE = ", ", ",\n    "


def weights_text(heading: str, constants: Sequence[ConstantArray], nothing: str, kind: str) -> bytes:
    """The file: `heading`, then each array's definition; `nothing` instead of them where there are none.

    kind  what stands before an array's type
    """
    file = BytesIO()  # its content is handed out without a copy
    file.write(heading.encode())
    for constant in constants:
        file.write(f"{kind} {constant.type} {constant.name}[{constant.data.size}] = {{\n    ".encode())
        file.writelines(_numbers(constant.data.reshape(-1), constant.type))
        file.write(b"\n};\n")
    if not constants:
        file.write(nothing.encode())
    return file.getvalue()


def _numbers(flat: Integers, kind: CType) -> Iterator[bytes]:
    """The initializer: numbers in lines of 24."""
    whole = (len(flat) - 1) // _PER_LINE * _PER_LINE  # but for the last line, each ends with a comma
    lines = flat[:whole].reshape(-1, _PER_LINE)
    low, high = int(flat.min(initial=0)), int(flat.max(initial=0))
    if high - low < min(_LARGEST_TABLE, len(flat) // 2):
        values = [_text(value, kind) for value in range(low, high + 1)]
        inside, last = (np.array([text + end for text in values], dtype=np.bytes_) for end in (_BETWEEN, _NEXT_LINE))
        for first in range(0, len(lines), _LINES_AT_ONCE):
            index = lines[first : first + _LINES_AT_ONCE].astype(np.intp) - low
            parts = inside[index[:, :-1]], last[index[:, -1:]]
            padded = np.concatenate([part.view(np.uint8).reshape(len(index), -1) for part in parts], axis=1)
            yield padded.tobytes().translate(None, b"\0")  # NumPy fills texts up to one length
    else:
        # A line's numbers at a time are objects: a table of thresholds may have millions.
        for line in lines:
            yield (_BETWEEN.join(_text(value, kind) for value in line.tolist()) + _NEXT_LINE).encode()
    yield _BETWEEN.join(_text(value, kind) for value in flat[whole:].tolist()).encode()


def _text(value: int, kind: CType) -> str:
    """A constant of that type: the lowest number of a type is no literal, and a long one needs its type."""
    if kind.bits >= 32 and value == -(1 << (kind.bits - 1)):
        return f"INT{kind.bits}_MIN"
    return f"INT64_C({value})" if kind.bits == 64 else str(value)
