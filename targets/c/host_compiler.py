"""The C compiler of this machine. Loads nothing heavy: `pefslc doctor` asks where NumPy may be missing."""

from __future__ import annotations

import os
import shlex
import shutil

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, quote

__all__ = ["find_compiler"]

_COMPILERS = ("cc", "gcc", "clang")


def find_compiler() -> tuple[str, ...]:
    """The command of a C compiler: $CC, which may have options, else the first that is found. Raises CompileError."""
    chosen = tuple(shlex.split(os.environ.get("CC", "")))
    if chosen and shutil.which(chosen[0]) is None:
        raise CompileError(
            Code.NO_C_COMPILER, f"there is no C compiler {quote(chosen[0])}, which CC names", hint="change or unset CC"
        )
    if chosen:
        return chosen
    for name in _COMPILERS:
        path = shutil.which(name)
        if path is not None:
            return (path,)
    raise CompileError(
        Code.NO_C_COMPILER,
        f"no C compiler found (tried {', '.join(_COMPILERS)})",
        hint="install gcc or clang, for example `apt-get install gcc`",
    )
