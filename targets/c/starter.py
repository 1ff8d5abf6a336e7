"""What makes a first program of the emitted network: main.c with a golden vector, and what builds it - a Makefile for
this machine and for Cortex-M, a CMake library, an Arduino library.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from numpy.typing import NDArray

from pefslc.ir.graph import Graph
from pefslc.ir.interpret import run_codes
from pefslc.targets.c.emit import TEMPLATES, Emitted
from pefslc.targets.c.interface import Interface
from pefslc.targets.c.options import BINARY, COptions
from pefslc.targets.c.stages import ConstantArray
from pefslc.targets.c.storage import INT32, CType
from pefslc.targets.c.weights_text import weights_text
from pefslc.targets.self_test import DrawnInput, make_self_test
from pefslc.targets.templates import templates_in

__all__ = ["starter_files"]

Codes = NDArray[np.int64]

_EPOCH = (1980, 1, 1, 0, 0, 0)  # of all files in a zip: the same input gives the same bytes
_PLAIN_FILE = 0o100644 << 16


@dataclass(frozen=True, slots=True)
class _Compared:
    """An array found_<name>, and prefix_golden_<name> that it is compared with."""

    name: str
    size: str
    elements: int


def starter_files(graph: Graph, interface: Interface, options: COptions, emitted: Emitted) -> dict[str, bytes]:
    """File name -> content, as `options` ask for; nothing where they do not.

    emitted  the network's own files
    """
    if not (options.has_test or options.cmake):
        return {}
    prefix = interface.prefix
    compared = [_Compared(a.name, f"{prefix}_{a.name.upper()}_SIZE", a.elements) for a in interface.outputs]
    compared += [_Compared(f"{f.argument}_ARG_MAX", str(f.results), f.results) for f in interface.arg_maxes]
    context = {
        **emitted.context,
        "compared": compared,
        "handed": [f"{prefix}_golden_{a.name}" if a.is_input else f"found_{a.name}" for a in interface.arguments],
        "with_main": options.emit_main,
        "dispatch": options.dispatch,
        "cortex_m": options.cpu if options.cpu.startswith("cortex-m") else "cortex-m4",
    }

    def rendered(template: str) -> bytes:
        return templates_in(TEMPLATES, of_blocks=True).get_template(template).render(context).encode()

    files: dict[str, bytes] = {}
    golden = b""
    if options.has_test:
        arrays = _golden_vector(graph, interface)
        golden = weights_text(rendered("golden.h.j2").decode(), arrays, "", "static const") + b"\n#endif\n"
    if options.emit_main:
        files["main.c"] = rendered("main.c.j2")
        files[f"{prefix}_golden.h"] = golden
        files["Makefile"] = rendered("makefile.j2")
        files[f"{prefix}_cortex_m.c"] = rendered("cortex_m.c.j2")
        files[f"{prefix}_cortex_m.ld"] = rendered("cortex_m.ld.j2")
        if options.weights == BINARY:
            files[f"{prefix}_incbin.S"] = rendered("incbin.s.j2")
    if options.cmake:
        files["CMakeLists.txt"] = rendered("cmakelists.j2")
    if options.arduino:
        sketch = f"examples/{prefix}_test/{prefix}_test.ino"
        library = {
            "library.properties": rendered("arduino.properties.j2"),
            **{f"src/{name}": content for name, content in emitted.files.items()},
            sketch: rendered("arduino.ino.j2"),
            f"examples/{prefix}_test/{prefix}_golden.h": golden,
        }
        files[f"{prefix}_arduino.zip"] = _zip({f"{prefix}/{name}": content for name, content in library.items()})
    return files


def _golden_vector(graph: Graph, interface: Interface) -> list[ConstantArray]:
    """Codes of the inputs, those of the outputs, and the indices of each ArgMax; row-major as the C has them."""
    ranges = [DrawnInput(a.onnx_name, a.tensor.shape, a.tensor.low, a.tensor.high) for a in interface.inputs]

    def compute(inputs: Mapping[str, Codes]) -> Mapping[str, Codes]:
        values = run_codes(graph, inputs)
        return {o.name: values[o.value.name] for o in graph.outputs}

    test = make_self_test(ranges, compute)

    def array(name: str, kind: CType, codes: NDArray[np.integer], what: str) -> ConstantArray:
        return ConstantArray(f"{interface.prefix}_golden_{name}", kind, codes.reshape(-1), what)

    found = [
        array(a.name, a.tensor.type, (test.inputs if a.is_input else test.outputs)[a.onnx_name], a.onnx_name)
        for a in interface.arguments
    ]
    functions = {f.onnx_name: f for f in interface.arg_maxes}
    for output in graph.outputs:
        if output.name in functions:
            assert output.function is not None
            assert output.map is not None
            index = output.function.of_codes(test.outputs[output.name], output.map.scale, output.map.offset)
            assert index is not None
            name = f"{functions[output.name].argument}_ARG_MAX"
            found.append(array(name, INT32, index.astype(np.int64), output.name))
    return found


def _zip(files: Mapping[str, bytes]) -> bytes:
    """An archive of these files, not compressed: versions of zlib differ in their bytes."""
    content = BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_STORED) as archive:
        for name, data in files.items():
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.create_system = 3  # Unix, on every system
            entry.external_attr = _PLAIN_FILE
            archive.writestr(entry, data)
    return content.getvalue()
