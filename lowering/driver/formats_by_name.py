"""--formats meets a model: which entry speaks of which place, and what no entry, or no place, is there for."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from pefslc.analysis.limits import TargetLimits
from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, Problem, quote
from pefslc.diagnostics.progress import Progress
from pefslc.driver.format_file import Entry, NamedFormats, Rounding, place
from pefslc.driver.format_slots import Role, Slot, format_slots, node_names
from pefslc.files.arrays import Arrays
from pefslc.ir.graph import Graph
from pefslc.numeric.choose_format import AutoFormat, Calibration
from pefslc.numeric.format import FixedPoint
from pefslc.passes.calibrate import CalibratedFormats
from pefslc.passes.check_format import has_formats, is_float
from pefslc.passes.fit_given_formats import GivenFormats
from pefslc.passes.given_format import GivenFormat
from pefslc.passes.input_formats import InputFormats, format_of_input

__all__ = ["FormatsByName", "with_native_arithmetic"]

_LISTED = 5


@dataclass(frozen=True, slots=True, eq=False)
class FormatsByName:
    """What --formats says, and what --fmt says of all that it does not name.

    data, method, progress  for what data chooses
    """

    named: NamedFormats
    fmt: FixedPoint | AutoFormat | None = None
    data: Arrays | None = None
    method: Calibration = Calibration.MSE
    progress: Progress | None = None

    def of_model(self, graph: Graph, input_fmt: InputFormats = None, *, whole: bool = True) -> GivenFormats:
        """The formats of the graph of a model as imported. Raises CompileError with every fault.

        whole  False where parts of the model could not be imported: an entry may be for one of them
        """
        slots = format_slots(graph)
        found = _Matches(self.named, self.fmt)
        given = {slot: match for slot in slots if (match := found.of(slot)) is not None}
        if whole:
            problems = [*found.unused(graph, slots), *_twice(self.named, slots, input_fmt)]
            if is_float(graph):
                named_inputs = {i.name for i in graph.inputs if format_of_input(input_fmt, i.name) is not None}
                problems += self._without(s for s in slots if s not in given and s.input not in named_inputs)
            if problems:
                raise CompileError.of(problems)
        if not is_float(graph):
            for match in given.values():
                if isinstance(match.fmt, AutoFormat):
                    raise has_formats(graph, f"{match.where} = {match.fmt}", match.where)
            return GivenFormats(
                asserted={s.key: g for s, g in given.items() if s.has is not None},
                filled={s.input: g.fmt for s, g in given.items() if s.has is None and isinstance(g.fmt, FixedPoint)},
            )
        activations, weights = (
            {s.key: g for s, g in given.items() if s.role is role} for role in (Role.ACTIVATIONS, Role.WEIGHTS)
        )
        balanced = frozenset(
            s.key
            for s, g in given.items()
            if s.role is Role.WEIGHTS and _rounding(found.rounding(s), g.fmt) is Rounding.BALANCED
        )
        return GivenFormats(activations, weights, balanced, data=self._chooser(given))

    def _without(self, slots: Iterator[Slot]) -> Iterator[Problem]:
        """Places of a float model that nothing gives a format to."""
        for slot in slots:
            name = quote(slot.tensors[0] if slot.tensors else slot.key)
            yield Problem(
                Code.FORMATS,
                f"nothing gives {'the weights' if slot.role is Role.WEIGHTS else 'tensor'} {name} a format",
                slot.origins[0] if slot.origins else self.named.source,
                f'the table [model] is for whatever no other names: {slot.role.value} = "auto:8"; or --fmt',
            )

    def _chooser(self, given: Mapping[Slot, GivenFormat]) -> CalibratedFormats | None:
        widths = [(g.fmt, g.where) for g in given.values() if isinstance(g.fmt, AutoFormat)]
        if not widths:
            return None
        if self.data is None:
            fmt, where = widths[0]
            raise CompileError(
                Code.CALIBRATION,
                f"{where} = {fmt} chooses formats from data, and there is none",
                at=self.named.source,
                hint="--calibrate data.npz, with inputs as the model will see them; or name the format",
            )
        most = max(fmt.bits for fmt, _ in widths)
        return CalibratedFormats(AutoFormat(most), self.data, self.method, self.progress)


def _rounding(said: Rounding | None, fmt: FixedPoint | AutoFormat) -> Rounding:
    return said or (Rounding.NEAREST if isinstance(fmt, AutoFormat) else Rounding.BALANCED)


@dataclass(slots=True)
class _Matches:
    """Entries that speak of a slot: of its tensor, of its layers, of their kinds, of the model; the first one counts.

    used  (table, name, key) of all that speak of some slot
    """

    named: NamedFormats
    fmt: FixedPoint | AutoFormat | None
    used: set[tuple[str, str, str]] = field(default_factory=set)

    def of(self, slot: Slot) -> GivenFormat | None:
        key = slot.role.value
        found: list[GivenFormat] = []
        for tensor in slot.tensors:
            if tensor in self.named.tensors:
                self.used.add(("tensors", tensor, ""))
                found.append(GivenFormat(self.named.tensors[tensor], True, place("tensors", tensor)))
        for table, entry in self._entries(slot, key):
            fmt = entry.weights if slot.role is Role.WEIGHTS else entry.activations
            if fmt is not None:
                found.append(GivenFormat(fmt, table == "layers", f"{entry.where}.{key}"))
        if self.fmt is not None:
            found.append(GivenFormat(self.fmt, False, "--fmt"))
        return found[0] if found else None

    def rounding(self, slot: Slot) -> Rounding | None:
        found = [e.rounding for _, e in self._entries(slot, "rounding") if e.rounding is not None]
        return found[0] if found else None

    def _entries(self, slot: Slot, key: str) -> Iterator[tuple[str, Entry]]:
        """The entries of a slot, first the one that says most."""
        by_name = [(n, self.named.layers[n]) for o in slot.origins for n in node_names(o) if n in self.named.layers]
        by_kind = [(o.op_type, self.named.kinds[o.op_type]) for o in slot.origins if o.op_type in self.named.kinds]
        for table, entries in (("layers", by_name), ("kinds", by_kind), ("model", [("", self.named.model)])):
            for name, entry in entries:
                self.used.add((table, name, key))
                yield table, entry

    def unused(self, graph: Graph, slots: Sequence[Slot]) -> Iterator[Problem]:
        """What the entries name and the model does not have."""
        weights = [s for s in slots if s.role is Role.WEIGHTS]
        if is_float(graph):
            for slot in weights:
                self.rounding(slot)
        tensors = [t for s in slots for t in s.tensors]
        nodes = dict.fromkeys(n for op in graph.ops for n in node_names(op.result.origin))
        kinds = dict.fromkeys(o.op_type for s in slots for o in s.origins)
        for tensor in self.named.tensors:
            if ("tensors", tensor, "") not in self.used:
                yield self._unknown(place("tensors", tensor), "the model stores no such tensor", tensor, tensors)
        for table, entries, known in (("layers", self.named.layers, nodes), ("kinds", self.named.kinds, kinds)):
            for name, entry in entries.items():
                if name not in known:
                    what = "such layer" if table == "layers" else "layer of this kind that has a format"
                    yield self._unknown(entry.where, f"the model has no {what}", name, list(known))
                else:
                    yield from self._of_no_slot(table, name, entry, quantized=not is_float(graph))

    def _of_no_slot(self, table: str, name: str, entry: Entry, *, quantized: bool) -> Iterator[Problem]:
        for key, said in (("weights", entry.weights), ("activations", entry.activations), ("rounding", entry.rounding)):
            if said is None or (table, name, key) in self.used:
                continue
            reason, hint = "it has no weights with a format", "name the layer that reads the weights"
            if key == "activations":
                reason = "its result has no format: it is a sum, or holds the codes of another tensor"
                hint = "name the layer that stores it; `pefslc formats MODEL` lists what has a format"
            elif key == "rounding" and quantized:
                reason, hint = "the weights of a quantized model are rounded already", "leave rounding out"
            yield Problem(Code.FORMATS, f"{entry.where}.{key} is for nothing: {reason}", self.named.source, hint)

    def _unknown(self, where: str, what: str, name: str, known: Sequence[str]) -> Problem:
        close = difflib.get_close_matches(name, known, n=1)
        listed = ", ".join(map(quote, list(dict.fromkeys(known))[:_LISTED]))
        more = "" if len(set(known)) <= _LISTED else " and others, which `pefslc formats MODEL` lists"
        hint = f"did you mean {quote(close[0])}?" if close else f"known: {listed}{more}"
        return Problem(Code.FORMATS, f"{where} is for nothing: {what}", self.named.source, hint)


def _twice(named: NamedFormats, slots: Sequence[Slot], input_fmt: InputFormats) -> Iterator[Problem]:
    """Inputs of which --input-fmt and the file speak by name."""
    for slot in slots:
        if slot.input in named.tensors and format_of_input(input_fmt, slot.input) is not None:
            yield Problem(
                Code.FORMATS,
                f"input {quote(slot.input)} has a format by --input-fmt and one by --formats",
                named.source,
                "leave one of them out",
            )


def with_native_arithmetic(error: CompileError, limits: TargetLimits) -> CompileError:
    """The refusal of a float model whose sums do not fit: why --fmt with the format of the words is not refused so."""
    native, last = limits.native_format, error.problems[-1]
    if native is None or last.code is not Code.ACCUMULATOR_OVERFLOW:
        return error
    why = f"--formats never means native arithmetic, which has one format for all words: for that, --fmt {native} alone"
    return CompileError.of([*error.problems[:-1], replace(last, hint=f"{last.hint}\n{why}")])
