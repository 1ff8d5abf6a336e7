"""Formats by name, as --formats reads them from TOML: of the model, of kinds of layers, of layers, of tensors.

[model]                                  # whatever nothing below names
weights = "auto:8"
activations = "Q4.8"
[kinds.Gemm]                             # by the ONNX operator
weights = "Q1.7"
[layers]                                 # by the ONNX node
"/b1/conv/Conv" = { weights = "Q2.5", rounding = "nearest", activations = "UQ3.5" }
[tensors]                                # by the ONNX tensor
"input" = "UQ0.8"
"""

from __future__ import annotations

import difflib
import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import TypeAlias

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, Problem, quote, quote_given
from pefslc.driver.compile_options import parse_format
from pefslc.files.reading import read_file
from pefslc.numeric.choose_format import AutoFormat
from pefslc.numeric.format import FixedPoint

__all__ = ["Entry", "FormatTable", "FormatsLike", "NamedFormats", "Rounding", "named_formats", "place", "toml_text"]

FormatsLike: TypeAlias = str | Path | Mapping[str, object]
FormatTable: TypeAlias = dict[str, dict[str, object]]

_TABLES = ("model", "kinds", "layers", "tensors")
_KEYS = ("weights", "activations", "rounding")
_EXAMPLE = 'for example [model] with weights = "auto:8"; `pefslc explain formats-by-name` has all of it'


class Rounding(Enum):
    """How the weights of a float model go onto their grid."""

    NEAREST = "nearest"  # each to its nearest code; what auto does
    BALANCED = "balanced"  # those that are nearly halfway so that the errors of a kernel cancel; what --fmt Qm.n does


@dataclass(frozen=True, slots=True)
class Entry:
    """What a table says. None: nothing of that.

    where  for messages: layers."/b1/conv/Conv"
    """

    where: str = ""
    weights: FixedPoint | AutoFormat | None = None
    activations: FixedPoint | AutoFormat | None = None
    rounding: Rounding | None = None


@dataclass(frozen=True, slots=True)
class NamedFormats:
    """A file of formats: entries by the names that they have in the file; what is more specific comes later here.

    source  the path of the file, or "formats"
    """

    source: str = "formats"
    model: Entry = Entry()
    kinds: Mapping[str, Entry] = field(default_factory=dict)
    layers: Mapping[str, Entry] = field(default_factory=dict)
    tensors: Mapping[str, FixedPoint | AutoFormat] = field(default_factory=dict)


def named_formats(given: FormatsLike) -> NamedFormats:
    """The formats of a TOML file, or of the same tables as dictionaries. Raises CompileError with every fault."""
    if not isinstance(given, str | Path | Mapping):
        raise CompileError(
            Code.FORMATS,
            f"formats is {quote_given(given)}, no file and no dictionary",
            hint=f"a .toml file; {_EXAMPLE}",
        )
    tables = given if isinstance(given, Mapping) else _read(Path(given))
    reader = _Reader("formats" if isinstance(given, Mapping) else str(given))
    found = reader.read(tables)
    if reader.problems:
        raise CompileError.of(reader.problems)
    return found


def _read(path: Path) -> Mapping[str, object]:
    try:
        return tomllib.loads(read_file(path).decode("utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise CompileError(
            Code.FORMATS,
            f"{quote(path)} is no TOML: {e}",
            hint='a name with dots or slashes is quoted: "/b1/conv/Conv"',
        ) from None


class _Reader:
    def __init__(self, source: str) -> None:
        self.source = source
        self.problems: list[Problem] = []

    def read(self, tables: Mapping[str, object]) -> NamedFormats:
        self._known(tables, _TABLES, "table", "")
        model = self._table(tables, "model")
        return NamedFormats(
            self.source,
            self._entry(model, "model"),
            {name: self._entry(entry, place("kinds", name)) for name, entry in self._tables(tables, "kinds")},
            {name: self._entry(entry, place("layers", name)) for name, entry in self._tables(tables, "layers")},
            {
                name: fmt
                for name, text in self._table(tables, "tensors").items()
                if (fmt := self._format(text, place("tensors", name))) is not None
            },
        )

    def _entry(self, table: Mapping[str, object], where: str) -> Entry:
        self._known(table, _KEYS, "key", where)
        said = [key for key in _KEYS if key in table]
        if not said and where != "model":
            self._refuse(f"{where} says nothing", f"it takes {', '.join(_KEYS)}")
        weights, activations = (
            self._format(table[key], f"{where}.{key}") if key in table else None for key in ("weights", "activations")
        )
        return Entry(
            where, weights, activations, self._rounding(table["rounding"], where) if "rounding" in said else None
        )

    def _rounding(self, value: object, where: str) -> Rounding | None:
        known = [r.value for r in Rounding]
        if value in known:
            return Rounding(value)
        self._refuse(f"{where}.rounding is {quote_given(value)}", f"one of {', '.join(known)}")
        return None

    def _format(self, value: object, where: str) -> FixedPoint | AutoFormat | None:
        if not isinstance(value, str | FixedPoint | AutoFormat):
            self._refuse(f"{where} is {quote_given(value)}, no format", 'for example "Q2.3" or "auto:8"')
            return None
        try:
            return parse_format(value)
        except CompileError as e:
            (problem,) = e.problems
            self.problems.append(replace(problem, message=f"{where}: {problem.message}", at=self.source))
            return None

    def _tables(self, tables: Mapping[str, object], name: str) -> Iterator[tuple[str, Mapping[str, object]]]:
        for key, entry in self._table(tables, name).items():
            if isinstance(entry, Mapping):
                yield key, entry
            else:
                self._refuse(
                    f"{place(name, key)} is {quote_given(entry)}, no table",
                    f"what has the format, weights or activations: {place(name, key)} = "
                    f'{{ weights = "{entry if isinstance(entry, str) else "Q2.3"}" }}',
                )

    def _table(self, tables: Mapping[str, object], name: str) -> Mapping[str, object]:
        table = tables.get(name, {})
        if isinstance(table, Mapping):
            return table
        self._refuse(f"{name} is {quote_given(table)}, no table", _EXAMPLE)
        return {}

    def _known(self, table: Mapping[str, object], known: Sequence[str], what: str, where: str) -> None:
        for key in table:
            if key not in known:
                close = difflib.get_close_matches(str(key), known, n=1)
                meant = f"did you mean {close[0]}? " if close else ""
                of = f" of {where}" if where else ""
                self._refuse(f"unknown {what}{of}: {quote_given(key)}", f"{meant}known: {', '.join(known)}")

    def _refuse(self, message: str, hint: str) -> None:
        self.problems.append(Problem(Code.FORMATS, message, self.source, hint))


def place(table: str, name: object) -> str:
    """Where an entry stands, as it may be written: layers."/b1/conv/Conv"."""
    return f"{table}.{_key(str(name))}"


def _key(text: str) -> str:
    """A key of TOML, quoted where it must be."""
    bare = bool(text) and all(c.isascii() and (c.isalnum() or c in "-_") for c in text)
    return text if bare else _string(text)


def _string(text: str) -> str:
    """A basic string of TOML: that of JSON, whose one difference is DEL."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007F")


def toml_text(tables: Mapping[str, Mapping[str, object]], comments: Sequence[str] = ()) -> str:
    """Tables of strings, or of tables of strings, as a file: a line for each entry."""
    lines = [f"# {comment}" for comment in comments]
    for table, entries in tables.items():
        if entries:
            lines += ["", f"[{_key(table)}]"] if lines else [f"[{_key(table)}]"]
            lines += [f"{_key(name)} = {_value(value)}" for name, value in entries.items()]
    return "\n".join([*lines, ""])


def _value(value: object) -> str:
    if isinstance(value, Mapping):
        return f"{{ {', '.join(f'{_key(k)} = {_value(v)}' for k, v in value.items())} }}"
    return _string(str(value))
