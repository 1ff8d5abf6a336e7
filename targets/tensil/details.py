"""What the sidecar says of a TCU program under `details`.

tmodel, run         names of files: the model for the driver, the script that tests the board
architecture        the .tarch that the program is for
axi_bytes           the width of the board's bus, which no .tarch holds
inputs, outputs     how each lies in DRAM0 (`HostTensor.to_json`); for a plain host, what it multiplies by and adds
                    (`plain_details`)
host                "plain" or "dense": host code without `<name>_io.py` may run the program; else it is not there
cycles              modelled: `total` of a run, and of these `outside_layers`, what serves no layer
native_arithmetic   the format of the words, where a float model runs in them; else none of these three is there
native_words        the words that the layers' sums have
native_layers       by layer (`NativeReport.to_json`)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pefslc.artifacts.sidecar import Json, JsonObject
from pefslc.ir.graph import Graph
from pefslc.targets.protocol import OpReport
from pefslc.targets.tensil.host_io import HostTensor, board_script_name
from pefslc.targets.tensil.lowered_network import LoweredNetwork
from pefslc.targets.tensil.machine.architecture import Architecture, DataType
from pefslc.targets.tensil.native.native_words import native_format
from pefslc.targets.tensil.plain_host import plain_details

__all__ = ["cycle_details", "native_details", "program_details"]


def program_details(
    model: Graph,
    architecture: Architecture,
    ends: tuple[Sequence[HostTensor], Sequence[HostTensor]],
    tmodel: str,
    host: str,
) -> JsonObject:
    """The files, the machine, the inputs and outputs.

    ends  inputs, outputs
    host  as --host says it
    """
    plain = host != "module"

    def records(tensors: Sequence[HostTensor]) -> list[JsonObject]:
        return [{**t.to_json(), **(plain_details(model, t) if plain else {})} for t in tensors]

    return {
        "tmodel": tmodel,
        "run": board_script_name(model.name),
        "architecture": architecture.to_json_dict(),
        "axi_bytes": architecture.axi_bytes,
        "inputs": records(ends[0]),
        "outputs": records(ends[1]),
        **({"host": host} if plain else {}),
    }


def cycle_details(total: int, ops: Iterable[OpReport]) -> JsonObject:
    """What loads constants and moves outputs serves no layer: with it, the layers' cycles are the total."""
    return {"cycles": {"total": total, "outside_layers": total - sum(op.cycles or 0 for op in ops)}}


def native_details(lowered: LoweredNetwork, data_type: DataType) -> JsonObject:
    """Nothing of a program that computes codes."""
    if lowered.program.native is None:
        return {}
    found: dict[str, Json] = {
        "native_arithmetic": str(native_format(data_type)),
        "native_words": str(lowered.program.native),
    }
    return found if lowered.native is None else {**found, "native_layers": lowered.native.to_json()}
