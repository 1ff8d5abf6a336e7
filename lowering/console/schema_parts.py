"""What the JSON Schemas of several commands are made of: types, and the objects that more than one command prints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

__all__ = [
    "CLIPPED",
    "CODE",
    "COSTS",
    "COST_ROW",
    "COUNT",
    "DEVIATIONS",
    "DISTANCE",
    "FLOAT_ERROR_KEYS",
    "LAYER",
    "LAYER_KEYS",
    "NUMBER",
    "RANGE",
    "RATIONAL",
    "SATURATION",
    "SHAPE",
    "SHARE",
    "SWITCH",
    "TEXT",
    "WHOLE",
    "Schema",
    "described",
    "list_of",
    "map_of",
    "or_null",
    "record",
    "with_optional",
]

Schema: TypeAlias = Mapping[str, object]


def described(schema: Schema, text: str) -> Schema:
    return {**schema, "description": text}


def record(**keys: Schema) -> Schema:
    """An object that has these keys and no others."""
    return {"type": "object", "properties": keys, "required": list(keys), "additionalProperties": False}


def with_optional(schema: Schema, **keys: Schema) -> Schema:
    """An object that may have these keys, too."""
    properties = schema["properties"]
    assert isinstance(properties, Mapping)
    return {**schema, "properties": {**properties, **keys}}


def list_of(items: Schema, text: str = "") -> Schema:
    return {**({"description": text} if text else {}), "type": "array", "items": items}


def map_of(values: Schema) -> Schema:
    return {"type": "object", "additionalProperties": values}


def or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


TEXT: Schema = {"type": "string"}
SWITCH: Schema = {"type": "boolean"}
WHOLE: Schema = {"type": "integer"}
COUNT: Schema = {"type": "integer", "minimum": 0}
NUMBER: Schema = {"type": "number"}
SHARE: Schema = {"type": "number", "minimum": 0, "maximum": 1}
SHAPE = list_of(COUNT)
RATIONAL: Schema = {"type": "string", "pattern": "^-?[0-9]+(/[0-9]+)?$"}
CODE: Schema = {"type": "string", "pattern": "^PEF[0-9]{4}$"}

DEVIATIONS = with_optional(
    record(
        differing=COUNT,
        codes=COUNT,
        largest=COUNT,
        channels=map_of(TEXT),
    ),
    searched=list_of(COUNT),
)
LAYER_KEYS: Mapping[str, Schema] = {
    "layer": TEXT,
    "op": TEXT,
    "shape": SHAPE,
    "input": described(TEXT, "the format: Qm.n, or the width"),
    "weight": TEXT,
    "output": TEXT,
    "accumulator_bits": or_null(COUNT),
    "available_bits": or_null(COUNT),
    "macs": COUNT,
}
LAYER = with_optional(
    record(
        **LAYER_KEYS,
        exact=SWITCH,
        cycles=described(or_null(COUNT), "modelled"),
        implementation=TEXT,
    ),
    deviations=list_of(DEVIATIONS),
)

SATURATION = record(
    tensor=TEXT,
    format=TEXT,
    saturated=described(SHARE, "share of the values"),
    power_lost=or_null(SHARE),
    range=list_of(or_null(NUMBER)),
    held=list_of(or_null(NUMBER)),
)
RANGE = {**list_of(or_null(NUMBER)), "minItems": 2, "maxItems": 2}
CLIPPED = record(
    input=TEXT,
    clipped=described(SHARE, "share of the values"),
    range=RANGE,
    format=TEXT,
    held=described(or_null(RANGE), "null where the host computes before it quantizes, or scales per channel"),
)
FLOAT_ERROR_KEYS: Mapping[str, Schema] = {
    "largest_error": or_null(NUMBER),
    "rms_error": or_null(NUMBER),
    "largest_value": or_null(NUMBER),
    "worst": described(TEXT, "where the largest error is"),
}
DISTANCE = described(
    record(
        rows=COUNT,
        outputs=map_of(record(**FLOAT_ERROR_KEYS)),
        saturated=list_of(SATURATION),
    ),
    "how far the integers are off the float model, measured",
)

COST_ROW = record(
    layer=TEXT,
    nodes=list_of(TEXT),
    macs=COUNT,
    useful_macs=COUNT,
    modelled_cycles=or_null(COUNT),
    modelled_cycles_by_kind=map_of(COUNT),
    modelled_milliseconds=or_null(NUMBER),
    share_of_array_peak=or_null(NUMBER),
    bytes=map_of(COUNT),
    peaks=map_of(COUNT),
    instructions=or_null(COUNT),
)
_FOOTPRINT = record(
    ram_bytes_without_stack=COUNT,
    ram_parts=map_of(COUNT),
    constant_bytes=COUNT,
    compiled=or_null(
        described(
            record(
                command=TEXT,
                code_bytes=COUNT,
                flash_bytes=described(COUNT, "with the constants"),
                stack_bytes=or_null(COUNT),
                ram_bytes=or_null(described(COUNT, "with the stack")),
            ),
            "by a C compiler of this machine",
        )
    ),
)
COSTS = described(
    record(
        model=TEXT,
        target=TEXT,
        arch=or_null(TEXT),
        clock_mhz=or_null(NUMBER),
        peak_macs_per_cycle=or_null(NUMBER),
        memories=list_of(record(name=TEXT, unit=TEXT, available=COUNT)),
        footprint=or_null(described(_FOOTPRINT, "of a program in C")),
        layers=list_of(COST_ROW),
        total=COST_ROW,
    ),
    "what --costs prints, and --report writes",
)
