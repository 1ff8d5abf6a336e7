"""Names of files that every system takes."""

from __future__ import annotations

import re

__all__ = ["is_file_name", "not_a_device", "safe_file_name"]

_LONGEST_NAME = 100
_REFUSED = re.compile(r'[<>:"/\\|?*]')
_UNSAFE = re.compile(r"[^A-Za-z0-9_.+-]+")

# Windows opens a device where a file has such a name, in any case, whatever follows a dot.
_DEVICE = re.compile(r"(con|prn|aux|nul|(?:com|lpt)[0-9\u00b9\u00b2\u00b3]) *(?=\.|$)", re.IGNORECASE)


def safe_file_name(name: str) -> str:
    """`name` as a file name that every file system takes and no shell misreads; "model" when nothing is left."""
    safe = _UNSAFE.sub("_", name).lstrip(".-+")
    return not_a_device(safe)[:_LONGEST_NAME].rstrip(".") or "model"


def not_a_device(name: str) -> str:
    """`name`, or "con_model.x" for "con.x": a name that is no device of Windows."""
    return _DEVICE.sub(lambda found: f"{found[1]}_model", name, count=1) if _DEVICE.match(name) else name


def is_file_name(name: str) -> bool:
    """Whether it is one on every system: no folder, no device, not hidden, nothing that a terminal would not show."""
    if not name or name[0] == "." or name[-1] in ". " or not name.isprintable():
        return False
    return not _REFUSED.search(name) and not _DEVICE.match(name)
