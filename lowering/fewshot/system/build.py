"""From a quantized network to a few-shot system in a folder: pictures to codes, backbone, head, description."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, InternalError, Problem, quote, quote_given
from pefslc.diagnostics.progress import Progress
from pefslc.driver.compiler import compile as compile_network
from pefslc.driver.program import Program
from pefslc.fewshot.device.board_python import emit_board_python
from pefslc.fewshot.device.head_c import emit_head_c
from pefslc.fewshot.device.head_python import emit_head_python
from pefslc.fewshot.device.pictures_c import emit_pictures_c
from pefslc.fewshot.episodes.centre import BASE_MEAN, FRACTION_BITS, IntegerCentre
from pefslc.fewshot.head.spec import HeadKind, HeadSpec
from pefslc.fewshot.system.backbone import Backbone
from pefslc.fewshot.system.description import KIND, SystemDescription
from pefslc.fewshot.system.pictures import Number, PictureTable, by_colour, fit_picture
from pefslc.files.paths import ModelPath, as_path
from pefslc.files.staging import publish
from pefslc.targets.c.runner import CRunner
from pefslc.targets.c.storage import narrowest
from pefslc.targets.c.target import CTarget
from pefslc.targets.tensil.machine.architecture import load_architecture
from pefslc.targets.tensil.native.native_words import native_format
from pefslc.version import __version__

__all__ = ["build_system"]

Codes = NDArray[np.int64]
Pictures = NDArray[np.uint8] | Sequence[NDArray[np.uint8]]

_ROWS = 64  # pictures at once: bounds the memory


def build_system(
    backbone: ModelPath,
    folder: ModelPath,
    *,
    mean: Sequence[Number] | Number,
    std: Sequence[Number] | Number,
    centre: IntegerCentre | Codes | None = None,
    centre_pictures: Pictures | None = None,
    centre_name: str = BASE_MEAN,
    kind: str | HeadKind = HeadKind.COSINE,
    fraction_bits: int = FRACTION_BITS,
    max_shots: int = 4095,
    max_classes: int = 64,
    max_devices: int = 16,
    fmt: str | None = None,
    input_fmt: str | None = None,
    arch: str | None = None,
    batch: int = 1,
    require_exact: bool = True,
    progress: Progress | None = None,
) -> SystemDescription:
    """Compile a backbone and a head into a folder, all of it or nothing. `FewShotSystem.open` opens it.

    backbone         an ONNX file: input [1, 3, H, W], one output, the features, with one scale for all of them. They
                     are taken in the order of their ONNX shape
    folder           made when it is not there; an earlier system of the same network is replaced
    mean, std        what the network was trained with, in units of img / 255: one number, or one a colour; texts and
                     floats are the decimals that they show
    centre           cosine: what is subtracted from features: an `IntegerCentre`, or feature codes [N, dimension] whose
                     mean it is
    centre_pictures  uint8 [N, h, w, 3] instead, or a list of [h, w, 3]: the mean of their feature codes. With neither,
                     nothing is subtracted
    centre_name      of what the centre is the mean of
    kind             "cosine" (PEFSL's order) or "euclid", which needs no centre
    fraction_bits    of the centre
    max_shots, max_classes, max_devices  what a state may hold: they bound the widths of the head's numbers
    fmt              given to the network's compile, for one whose input is not quantized
    input_fmt        "Q8.8": the input is (img / 255 - mean) / std rounded to that, and the network's input quantizer
                     runs on the device: a host that knows nothing of the quantizer can run the program, one pixel a
                     vector. It is another system: where that rounding crosses a step, codes are others
    arch             a Tensil board, such as "pynqz1": its program and the Python modules for the board, too
    batch            pictures in a run of the board's program. The C takes one: it would run them one after the other
    require_exact    refuse a network whose feature codes would be within a bound only
    progress         called with (done, total, what)

    Raises CompileError, with nothing written.
    """
    source = as_path(backbone, Code.NOT_A_MODEL, "the path of a backbone", "the path of an ONNX file")
    target_folder = as_path(folder, Code.CANNOT_WRITE, "the path of a folder", 'for example "build/"')
    head_kind = _kind(kind)
    if batch != 1 and arch is None:
        raise CompileError(
            Code.WRONG_OPTION,
            f"a batch of {batch} for a system that has no board: the C runs pictures one after the other",
            hint="leave out the batch; or name the board whose program takes it: --arch pynqz1, or arch='pynqz1'",
        )
    shared = {"fmt": fmt, "input_fmt": input_fmt, "require_exact": require_exact, "progress": progress}
    # The caller's arena: two systems may use one compiled library in two threads.
    try:
        in_c = compile_network(source, target=CTarget(caller_arena=True), batch=1, **shared)  # type: ignore[arg-type]
    except CompileError as e:
        raise CompileError.of(_for_a_system(problem) for problem in e.problems) from None
    _refuse_another_system(target_folder, f"{in_c.name}.{KIND}.json")  # before minutes of work
    ends = Backbone.of(in_c.sidecar)
    table = PictureTable.of(ends.quantizer, mean, std)
    on_board = None
    if arch is not None:
        on_board = compile_network(source, target="tensil", arch=arch, batch=batch, **shared)  # type: ignore[arg-type]
        if Backbone.of(on_board.sidecar) != ends:
            raise InternalError("the Tensil program has other ends than the C program")
        if input_fmt is not None:
            _require_plain_words(on_board, arch, input_fmt)
    wanted = _Centre(head_kind, centre, centre_pictures, centre_name, fraction_bits)
    found = wanted.of(ends, table, in_c, progress)
    limits = {"max_shots": max_shots, "max_classes": max_classes, "max_devices": max_devices}
    spec = (
        HeadSpec.euclid(ends.dimension, ends.low, ends.high, **limits)
        if found is None
        else HeadSpec.cosine(ends.low, ends.high, found.codes, fraction_bits=found.fraction_bits, **limits)
    )
    network = source.read_bytes()
    if sha256(network).hexdigest() != in_c.sidecar.source_sha256:
        raise CompileError(Code.UNREADABLE_FILE, "the backbone's file changed while it was compiled", hint="try again")
    identity = _identity(in_c.sidecar.source_sha256, (fmt or "", input_fmt or ""), table, ends)
    exact = in_c.exact and (on_board is None or on_board.exact)
    means, stds = by_colour(mean, "mean"), by_colour(std, "std")
    files = {
        f"{in_c.name}.onnx": network,
        **_program_files(in_c),
        **(_program_files(on_board) if on_board else {}),
        **emit_pictures_c(
            in_c.name, table.codes, (ends.height, ends.width), _c_types(in_c, ends),
            ([str(m) for m in means], [str(s) for s in stds]),
        ),
        **emit_head_c(in_c.name, spec, identity),
        **emit_head_python(in_c.name, spec, identity),
    }  # fmt: skip
    if on_board is not None:
        tmodel = str(on_board.sidecar.details["tmodel"])
        size = (ends.height, ends.width)
        files.update(emit_board_python(in_c.name, table.codes, size, (ends.input, ends.output), tmodel))
    description = SystemDescription(
        name=in_c.name,
        version=__version__,
        source=source.name,
        backbone=f"{in_c.name}.onnx",
        backbone_sha256=in_c.sidecar.source_sha256,
        codes_sha256=identity,
        fmt=fmt or "",
        input_fmt=input_fmt or "",
        height=ends.height,
        width=ends.width,
        mean=means,
        std=stds,
        table_sha256=table.digest,
        scale=ends.scale,
        spec=spec,
        centre="none" if found is None else str(found),
        exact=exact,
        architecture=arch or "",
        batch=batch,
        files={name: sha256(content).hexdigest() for name, content in files.items()},
    )
    _refuse_another_system(target_folder, description.file_name)
    publish(target_folder, files, (description.file_name, description.to_bytes()))
    return description


def _for_a_system(problem: Problem) -> Problem:
    """The compiler offers to change formats; a system has those that its centre and accuracy were measured in."""
    if problem.code is not Code.FORMAT_CONTRADICTED or problem.hint is None:
        return problem
    return replace(problem, hint="leave out --fmt: the formats that the backbone was trained in are then taken")


@dataclass(frozen=True, slots=True)
class _Centre:
    """What is subtracted from features, as the caller says it."""

    kind: HeadKind
    given: IntegerCentre | Codes | None
    pictures: Pictures | None
    name: str
    fraction_bits: int

    def of(
        self, ends: Backbone, table: PictureTable, program: Program, progress: Progress | None
    ) -> IntegerCentre | None:
        """None for Euclid. Raises CompileError."""
        if self.given is not None and self.pictures is not None:
            raise CompileError(
                Code.WRONG_OPTION, "both a centre and pictures whose mean it is", hint="give one of the two"
            )
        if self.kind is HeadKind.EUCLID:
            if self.given is None and self.pictures is None:
                return None
            raise CompileError(
                Code.WRONG_OPTION, "a centre for squared distances, which do not have one", hint='or kind="cosine"'
            )
        if isinstance(self.given, IntegerCentre):
            found = self.given
        elif self.given is not None:
            found = IntegerCentre.mean(self.given, self.name, self.fraction_bits)
        elif self.pictures is not None:
            codes = _codes_of(self.pictures, ends, table, program, progress)
            found = IntegerCentre.mean(codes, self.name, self.fraction_bits)
        else:
            found = IntegerCentre.none(ends.dimension)
        if len(found.codes) != ends.dimension:
            raise CompileError(
                Code.FEATURES,
                f"the centre has {len(found.codes)} numbers, the backbone {ends.dimension} features",
                hint="give feature codes of this backbone, or pictures: centre_pictures",
            )
        return found


def _codes_of(
    pictures: Pictures, ends: Backbone, table: PictureTable, program: Program, progress: Progress | None
) -> Codes:
    """Feature codes [N, dimension], by the compiled C."""
    parts = []
    with TemporaryDirectory(prefix="pefslc-") as temporary:
        program.save(temporary)
        runner = CRunner(Path(temporary), program.sidecar)
        for start in range(0, len(pictures), _ROWS):
            if progress is not None:
                progress(start, len(pictures), "features of the centre")
            fitted = np.stack([fit_picture(p, ends.height, ends.width) for p in pictures[start : start + _ROWS]])
            parts.append(ends.features(runner, table(fitted)))
    return np.concatenate(parts or [np.zeros((0, ends.dimension), dtype=np.int64)])


def _require_plain_words(program: Program, arch: str, input_fmt: str) -> None:
    """Demand that the host may write one pixel a vector, its words the numbers themselves. Raises CompileError."""
    records = program.emission.details["inputs"]
    assert isinstance(records, Sequence)
    (record,) = records
    assert isinstance(record, Mapping)
    native = str(native_format(load_architecture(arch).data_type))
    placed = (record["lane_offsets"], record["exponent"], record.get("finer", 1))
    if "moves" in record:
        raise CompileError(
            Code.WRONG_OPTION,
            "the backbone moves its input before its first layer",
            hint="export it with the input [1, channels, rows, columns] that the first layer reads",
        )
    if input_fmt != native or placed != ([0, 0], 0, 1):
        raise CompileError(
            Code.WRONG_OPTION,
            f"the program would not read its input as plain numbers in {input_fmt}",
            hint=f"input_fmt={native!r} is the format of the board's words",
        )


def _program_files(program: Program) -> Mapping[str, bytes]:
    return {**program.emission.files, program.sidecar.file_name: program.sidecar.to_bytes()}


def _c_types(program: Program, ends: Backbone) -> tuple[str, str]:
    """The C types of the input and of the features; the head's is that of the features."""
    arguments = program.emission.details["arguments"]
    assert isinstance(arguments, Sequence)
    types = {str(a["direction"]): str(a["type"]) for a in arguments if isinstance(a, Mapping)}
    if types["output"] != str(narrowest(ends.low, ends.high)):
        raise InternalError(f"features are {types['output']} in C, and the head takes another type")
    return types["input"], types["output"]


def _identity(network: str, formats: tuple[str, str], table: PictureTable, ends: Backbone) -> str:
    """SHA-256 of everything that feature codes follow from."""
    parts = {
        "onnx": network,
        "formats": formats,
        "table": table.digest,
        "size": [ends.height, ends.width],
        "scale": str(ends.scale),
    }
    return sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _refuse_another_system(folder: Path, file_name: str) -> None:
    """A folder is one system's: with two of them it would be none."""
    others = [path.name for path in sorted(folder.glob(f"*.{KIND}.json")) if path.name != file_name]
    if others:
        raise CompileError(
            Code.IN_THE_WAY,
            f"{quote(folder)} holds another few-shot system: {quote(others[0])}",
            hint="choose another folder (-o)",
        )


def _kind(kind: str | HeadKind) -> HeadKind:
    try:
        return HeadKind(kind)
    except ValueError:
        known = ", ".join(k.value for k in HeadKind)
        raise CompileError(
            Code.WRONG_OPTION, f"there is no head of kind {quote_given(kind)}", hint=f"one of {known}"
        ) from None
