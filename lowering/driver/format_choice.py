"""Which formats a compile gives a model: one that is named, some that are named, or what data say."""

from __future__ import annotations

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, quote
from pefslc.diagnostics.progress import Progress
from pefslc.driver.compile_options import check_requantize
from pefslc.driver.format_file import FormatsLike, named_formats
from pefslc.driver.formats_by_name import FormatsByName
from pefslc.files.arrays import Arrays
from pefslc.numeric.choose_format import AutoFormat, Calibration
from pefslc.numeric.format import FixedPoint
from pefslc.passes.calibrate import CalibratedFormats

__all__ = ["choose_formats"]


def choose_formats(
    fmt: FixedPoint | AutoFormat | None,
    formats: FormatsLike | None,
    data: Arrays | None,
    method: str | Calibration,
    progress: Progress | None,
    requantize: bool,
) -> FixedPoint | CalibratedFormats | FormatsByName | None:
    """What `fmt`, `formats` and the data for calibration mean together. Raises CompileError where they do not fit."""
    known = [m.value for m in Calibration]
    if not isinstance(method, Calibration) and method not in known:
        raise CompileError(
            Code.CALIBRATION, f"there is no calibration {quote(str(method))}", hint=f"one of {', '.join(known)}"
        )
    check_requantize(requantize, fmt, formats)
    if formats is not None:
        return FormatsByName(named_formats(formats), fmt, data, Calibration(method), progress)
    if not isinstance(fmt, AutoFormat):
        return fmt
    if data is None:
        raise CompileError(
            Code.CALIBRATION,
            f"--fmt {fmt} chooses formats from data, and there is none",
            hint="--calibrate data.npz, with inputs as the model will see them; or name the format: --fmt Q3.4",
        )
    return CalibratedFormats(fmt, data, Calibration(method), progress)
