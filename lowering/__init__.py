"""pefslc: what was trained is what runs.

import pefslc
program = pefslc.compile("model.onnx", target="c", fmt="Q2.3")
program.save("build/")
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from pefslc.version import __version__

if TYPE_CHECKING:
    from pefslc.analysis.limits import TargetLimits
    from pefslc.diagnostics.error_codes import Code
    from pefslc.diagnostics.errors import CompileError, InternalError, Origin, Problem
    from pefslc.driver.compiler import compile, load
    from pefslc.driver.program import Program
    from pefslc.ir.graph import Graph, Level
    from pefslc.numeric.choose_format import AutoFormat, Calibration
    from pefslc.numeric.format import FixedPoint
    from pefslc.passes.manager import Exactness, Pass, PassRecord
    from pefslc.targets.c.target import CTarget
    from pefslc.targets.options import option
    from pefslc.targets.protocol import Emission, OpReport, Runner, Stage, Target, TargetOptions
    from pefslc.targets.tensil.target import TensilTarget
    from pefslc.verification.outcome import Verification

__all__ = [
    "AutoFormat", "CTarget", "Calibration", "Code", "CompileError", "Emission", "Exactness", "FixedPoint", "Graph",
    "InternalError", "Level", "OpReport", "Origin", "Pass", "PassRecord", "Problem", "Program", "Runner", "Stage",
    "Target", "TargetLimits", "TargetOptions", "TensilTarget", "Verification", "__version__", "compile", "load",
    "option",
]  # fmt: skip

# Module -> the public names that it defines.
_HOMES = {
    "pefslc.analysis.limits": ("TargetLimits",),
    "pefslc.diagnostics.error_codes": ("Code",),
    "pefslc.diagnostics.errors": ("CompileError", "InternalError", "Origin", "Problem"),
    "pefslc.driver.compiler": ("compile", "load"),
    "pefslc.driver.program": ("Program",),
    "pefslc.ir.graph": ("Graph", "Level"),
    "pefslc.numeric.choose_format": ("AutoFormat", "Calibration"),
    "pefslc.numeric.format": ("FixedPoint",),
    "pefslc.passes.manager": ("Exactness", "Pass", "PassRecord"),
    "pefslc.targets.c.target": ("CTarget",),
    "pefslc.targets.options": ("option",),
    "pefslc.targets.protocol": ("Emission", "OpReport", "Runner", "Stage", "Target", "TargetOptions"),
    "pefslc.targets.tensil.target": ("TensilTarget",),
    "pefslc.verification.outcome": ("Verification",),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> object:
    """The public names, loaded at first use: `pefslc --help` must not pay for numpy and onnx."""
    if name not in _HOME:
        raise AttributeError(f"module 'pefslc' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
