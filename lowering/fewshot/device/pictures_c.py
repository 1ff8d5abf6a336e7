"""Camera frames to the codes of the network's input as C99: a table of 256 entries a colour, and a loop."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from textwrap import wrap

import numpy as np
from numpy.typing import NDArray

from pefslc.targets.c.naming import comment_text, model_prefix
from pefslc.targets.c.stages import literal
from pefslc.targets.c.storage import INT32
from pefslc.targets.templates import templates_in
from pefslc.version import __version__

__all__ = ["emit_pictures_c"]

_WIDTH = 110


def emit_pictures_c(
    name: str,
    codes: NDArray[np.int64],
    size: tuple[int, int],
    types: tuple[str, str],
    normalization: tuple[Sequence[str], Sequence[str]],
) -> dict[str, bytes]:
    """`<prefix>_pictures.h` and `<prefix>_pictures.c`, file name -> content.

    name           of the network, any text
    codes          [3, 256], of each byte of red, green and blue
    size           (height, width) of the network's input in pixels
    types          C types of the network's input and of its features, as "int8_t"; the first holds every code
    normalization  mean and std as texts, of each colour, for the comment
    """
    prefix = model_prefix(name)
    mean, std = normalization
    context = {
        "name": comment_text(name),
        "version": __version__,
        "prefix": prefix,
        "height": size[0],
        "width": size[1],
        "input_type": types[0],
        "feature_type": types[1],
        "mean": comment_text(", ".join(mean)),
        "std": comment_text(", ".join(std)),
        "rows": [
            "\n        ".join(wrap(", ".join(literal(code, INT32) for code in row), _WIDTH)) for row in codes.tolist()
        ],
    }
    environment = templates_in(Path(__file__).parent, of_blocks=True)
    return {
        f"{prefix}_pictures.{suffix}": environment.get_template(f"pictures.{suffix}.j2").render(context).encode()
        for suffix in ("h", "c")
    }


def _lines(literals: Sequence[str]) -> str:
    """The lines of an initializer."""
    return "\n        ".join(wrap(", ".join(literals), _WIDTH))
