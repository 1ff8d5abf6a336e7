"""The constants as bytes: the file PREFIX_weights.bin, which compilers need not read.

Arrays of little-endian numbers, each from a multiple of 8 bytes on. The C code holds their length and their CRC-32, the
one of zlib and PNG: what is cut short, damaged or another network's is refused when it is handed over.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from zlib import crc32

from pefslc.targets.c.stages import ConstantArray
from pefslc.targets.c.storage import dtype_of

__all__ = ["ALIGNMENT", "BinaryWeights", "binary_weights"]

ALIGNMENT = 8  # bytes: of the widest type


@dataclass(frozen=True, slots=True)
class BinaryWeights:
    """The file, where each array starts in it, by name, and its CRC-32."""

    content: bytes
    offsets: dict[str, int]
    crc: int

    @property
    def bytes(self) -> int:
        return len(self.content)


def binary_weights(constants: Sequence[ConstantArray]) -> BinaryWeights:
    """The file of these arrays, in their order."""
    file, offsets = bytearray(), dict[str, int]()
    for constant in constants:
        offsets[constant.name] = len(file)
        file += constant.data.astype(dtype_of(constant.type).newbyteorder("<")).tobytes()
        file += bytes(-len(file) % ALIGNMENT)
    return BinaryWeights(bytes(file), offsets, crc32(file))
