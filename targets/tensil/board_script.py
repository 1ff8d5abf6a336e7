"""`<name>_run.py`: what is typed on a board. Overlay, driver, load_model, the self-test, the time of a run."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

from pefslc.targets.self_test import SelfTest, source_of_input_codes
from pefslc.targets.templates import templates_in
from pefslc.targets.tensil.cost.clock import clock_of
from pefslc.targets.tensil.host_io import board_script_name, host_io_module
from pefslc.targets.tensil.machine.boards import published_design
from pefslc.targets.tensil.probes import REACH, constants_probe, probes_of
from pefslc.targets.tensil.program.tmodel import TensilProgram

__all__ = ["board_script_source"]

_CODES_IN_LINE = 16
_BYTES_IN_LINE = 48


def board_script_source(
    name: str,
    files: Mapping[str, bytes],
    test: SelfTest,
    program: TensilProgram,
    architecture_name: str,
    cycles: int,
    clock_mhz: float | None = None,
    batch: int = 1,
) -> str:
    """The text of the script.

    files    what it needs beside it: the .tmodel, what that names, and the host module
    program  that the .tmodel describes
    cycles   modelled, of one run, which is of `batch` pictures
    """
    arch = Path(architecture_name).stem
    architecture = program.architecture
    constants = constants_probe(architecture, sum(len(block.vectors) for block in program.constants))
    design, clock = published_design(architecture_name), clock_of(architecture_name, clock_mhz)
    return (
        templates_in(Path(__file__).parent)
        .get_template("board_script.py.j2")
        .render(
            name=name,
            script=board_script_name(name),
            io=host_io_module(name),
            model=next(file for file in files if file.endswith(".tmodel")),
            hashes={file: sha256(content).hexdigest() for file, content in sorted(files.items())},
            arch=arch,
            bitstream=None if design is None else design.bitstream,
            source="" if design is None else design.source,
            cycles=cycles,
            frames="1e3" if batch == 1 else f"{batch}e3",
            mhz=None if clock is None else clock.mhz,
            seed=test.seed,
            halvings=test.halvings,
            input_codes=source_of_input_codes(),
            probes=[
                {
                    "part": probe.part,
                    "code": _hex(probe.code),
                    "vectors": probe.vectors,
                    "first": probe.first,
                    "expected": _lines(probe.expected.reshape(-1).tolist()),
                }
                for probe in probes_of(architecture)
            ],
            reach=REACH,
            constants_code=_hex(constants[0]),
            constants=constants[1],
            expected={output: _lines(codes.reshape(-1).tolist()) for output, codes in test.outputs.items()},
        )
    )


def _hex(code: bytes) -> list[str]:
    """The bytes in lines of hexadecimal digits."""
    return [code[i : i + _BYTES_IN_LINE].hex() for i in range(0, len(code), _BYTES_IN_LINE)]


def _lines(codes: list[int]) -> list[str]:
    return [", ".join(map(str, codes[i : i + _CODES_IN_LINE])) for i in range(0, len(codes), _CODES_IN_LINE)]
