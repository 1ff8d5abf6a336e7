"""The few-shot system on a board as one Python module beside `<name>_io` and `<name>_head`: numpy only, Python 3.6."""

from __future__ import annotations

from pathlib import Path
from textwrap import wrap

import numpy as np
from numpy.typing import NDArray

from pefslc.fewshot.device.head_python import head_module
from pefslc.targets.templates import templates_in
from pefslc.targets.tensil.host_io import host_io_module
from pefslc.version import __version__

__all__ = ["board_module", "emit_board_python"]

_WIDTH = 108


def board_module(name: str) -> str:
    """The module's name for a model: `<name>_fewshot`, beside `<name>_io` and `<name>_head`."""
    return f"{host_io_module(name).removesuffix('_io')}_fewshot"


def emit_board_python(
    name: str, codes: NDArray[np.int64], size: tuple[int, int], ends: tuple[str, str], tmodel: str
) -> dict[str, bytes]:
    """`<module>.py`, file name -> content.

    name    of the network, any text
    codes   [3, 256], of each byte of red, green and blue
    size    (height, width) of the network's input in pixels
    ends    the ONNX names of the input and of the output
    tmodel  the name of the .tmodel file
    """
    text = (
        templates_in(Path(__file__).parent)
        .get_template("board.py.j2")
        .render(
            name=name,
            module=board_module(name),
            io=host_io_module(name),
            head=head_module(name),
            version=__version__,
            height=size[0],
            width=size[1],
            input=ends[0],
            output=ends[1],
            tmodel=tmodel,
            rows=["\n        ".join(wrap(f"{', '.join(map(str, row))},", _WIDTH)) for row in codes.tolist()],
        )
    )
    return {f"{board_module(name)}.py": text.encode()}
