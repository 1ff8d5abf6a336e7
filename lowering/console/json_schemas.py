"""JSON Schemas (draft 2020-12) of what --json prints, by the name of the command. The tests hold real output to them.

A key is always there; null stands for what is not known or does not apply. New keys may come, none changes its meaning.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["SCHEMAS"]

_Schema = Mapping[str, object]

_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def _described(schema: _Schema, text: str) -> _Schema:
    return {**schema, "description": text}


def _object(**keys: _Schema) -> _Schema:
    """An object that has these keys and no others."""
    return {"type": "object", "properties": keys, "required": list(keys), "additionalProperties": False}


def _with_optional(schema: _Schema, **keys: _Schema) -> _Schema:
    """An object that may have these keys, too."""
    properties = schema["properties"]
    assert isinstance(properties, Mapping)
    return {**schema, "properties": {**properties, **keys}}


def _list(items: _Schema, text: str = "") -> _Schema:
    return {**({"description": text} if text else {}), "type": "array", "items": items}


def _map(values: _Schema) -> _Schema:
    return {"type": "object", "additionalProperties": values}


def _or_null(schema: _Schema) -> _Schema:
    return {"anyOf": [schema, {"type": "null"}]}


_TEXT: _Schema = {"type": "string"}
_SWITCH: _Schema = {"type": "boolean"}
_WHOLE: _Schema = {"type": "integer"}
_COUNT: _Schema = {"type": "integer", "minimum": 0}
_NUMBER: _Schema = {"type": "number"}
_SHARE: _Schema = {"type": "number", "minimum": 0, "maximum": 1}
_SHAPE = _list(_COUNT)
_RATIONAL: _Schema = {"type": "string", "pattern": "^-?[0-9]+(/[0-9]+)?$"}
_CODE: _Schema = {"type": "string", "pattern": "^PEF[0-9]{4}$"}

_PROBLEM_KEYS: Mapping[str, _Schema] = {
    "code": _described(_CODE, "`pefslc explain` with it says more"),
    "title": _TEXT,
    "reason": _TEXT,
    "node": _or_null(_TEXT),
    "operator": _or_null(_TEXT),
    "tensor": _or_null(_TEXT),
    "shape": _or_null(_SHAPE),
    "place": _or_null(_TEXT),
    "help": _or_null(_TEXT),
}
_PROBLEM = _described(_object(**_PROBLEM_KEYS), "one fault, and what helps")

_QUANTIZER: Mapping[str, _Schema] = {
    "bits": _COUNT,
    "signed": _SWITCH,
    "narrow": _SWITCH,
    "scale": _list(_RATIONAL, "one, or one for each channel; exact"),
    "zero_point": _WHOLE,
    "rounding": _TEXT,
    "adds_zero_point_last": _SWITCH,
}
_INPUT = _described(
    _with_optional(
        _object(
            name=_TEXT,
            shape=_SHAPE,
            **_QUANTIZER,
        ),
        stages=_list({"type": "object"}, "what the host computes before it quantizes"),
        channel_axis=_WHOLE,
        integers=_described(_TEXT, "the type of an input that holds codes already"),
    ),
    "an input by its ONNX name: what the host hands over are codes of this quantizer",
)
_OUTPUT = _described(
    _with_optional(
        _object(
            name=_TEXT,
            shape=_SHAPE,
            low=_described(_WHOLE, "the least code that can occur"),
            high=_WHOLE,
            scale=_list(_RATIONAL, "one, or one for each channel; exact"),
            offset=_list(_RATIONAL),
        ),
        function=_described({"type": "object"}, "what the host computes of the values, such as an arg max"),
    ),
    "an output by its ONNX name: value = scale * code + offset",
)

_DEVIATIONS = _with_optional(
    _object(
        differing=_COUNT,
        codes=_COUNT,
        largest=_COUNT,
        channels=_map(_TEXT),
    ),
    searched=_list(_COUNT),
)
_LAYER_KEYS: Mapping[str, _Schema] = {
    "layer": _TEXT,
    "op": _TEXT,
    "shape": _SHAPE,
    "input": _described(_TEXT, "the format: Qm.n, or the width"),
    "weight": _TEXT,
    "output": _TEXT,
    "accumulator_bits": _or_null(_COUNT),
    "available_bits": _or_null(_COUNT),
    "macs": _COUNT,
}
_INSPECTED_LAYER = _object(**_LAYER_KEYS)
_LAYER = _with_optional(
    _object(
        **_LAYER_KEYS,
        exact=_SWITCH,
        cycles=_described(_or_null(_COUNT), "modelled"),
        implementation=_TEXT,
    ),
    deviations=_list(_DEVIATIONS),
)

_SATURATION = _object(
    tensor=_TEXT,
    format=_TEXT,
    saturated=_described(_SHARE, "share of the values"),
    power_lost=_or_null(_SHARE),
    range=_list(_or_null(_NUMBER)),
    held=_list(_or_null(_NUMBER)),
)
_RANGE = {**_list(_or_null(_NUMBER)), "minItems": 2, "maxItems": 2}
_CLIPPED = _object(
    input=_TEXT,
    clipped=_described(_SHARE, "share of the values"),
    range=_RANGE,
    format=_TEXT,
    held=_described(_or_null(_RANGE), "null where the host computes before it quantizes, or scales per channel"),
)
_FLOAT_ERROR_KEYS: Mapping[str, _Schema] = {
    "largest_error": _or_null(_NUMBER),
    "rms_error": _or_null(_NUMBER),
    "largest_value": _or_null(_NUMBER),
    "worst": _described(_TEXT, "where the largest error is"),
}
_DISTANCE = _described(
    _object(
        rows=_COUNT,
        outputs=_map(_object(**_FLOAT_ERROR_KEYS)),
        saturated=_list(_SATURATION),
    ),
    "how far the integers are off the float model, measured",
)

_OUTCOME: Mapping[str, _Schema] = {
    "model": _described(_TEXT, "as given"),
    "target": _TEXT,
    "ok": _described(_SWITCH, "whether there are no problems"),
    "exact": _described(
        _or_null(_SWITCH), "whether the artifacts are proved exact; else they are bounded; null: there are none"
    ),
    "exact_to": _described(_or_null(_TEXT), 'what that means: "the file", or the format by which --fmt changed it'),
    "quantized_to": _described(_or_null(_TEXT), "that format; null for a model that is compiled as it is"),
    "float_model": _or_null(_DISTANCE),
    "problems": _list(_PROBLEM),
}

_COMPARISON = _object(
    output=_TEXT,
    compared=_described(_TEXT, "the two sources, in words"),
    count=_COUNT,
    differing=_COUNT,
    first=_described(_TEXT, "the first element that differs"),
    bounded=_described(_SWITCH, "differences were predicted by the compile"),
    given=_described(_SWITCH, "one source is an array of the user's"),
    reason=_TEXT,
)
_COMPARED: Mapping[str, _Schema] = {"output": _TEXT, "compared": _TEXT, "count": _COUNT}
_ERROR: _Schema = {
    "anyOf": [
        _object(**_COMPARED, **_FLOAT_ERROR_KEYS),
        _described(_object(**_COMPARED, differing=_COUNT), "of indices"),
    ]
}
_VERIFICATION = _described(
    _object(
        inputs=_COUNT,
        equal=_described(_SWITCH, "no integer differs"),
        as_predicted=_described(_SWITCH, "every difference was predicted by the compile"),
        comparisons=_list(_COMPARISON),
        bounded_layers=_list(_object(layer=_TEXT, codes=_COUNT, differing=_COUNT, largest=_COUNT)),
        errors=_list(_ERROR, "of what need not be equal"),
        native_words=_or_null(_described(_object(words=_COUNT, outside=_COUNT), "of native arithmetic")),
        saturated_inputs=_list(_SATURATION, "beyond the format that the user gave to them"),
        clipped_inputs=_list(_CLIPPED, "beyond the model's own"),
        not_compared=_list(_TEXT, "arrays that are no inputs and no outputs"),
        strangers=_list(_TEXT, "expected arrays that belong to neither model"),
    ),
    "what --verify measured",
)

_COST_ROW = _object(
    layer=_TEXT,
    nodes=_list(_TEXT),
    macs=_COUNT,
    useful_macs=_COUNT,
    modelled_cycles=_or_null(_COUNT),
    modelled_cycles_by_kind=_map(_COUNT),
    modelled_milliseconds=_or_null(_NUMBER),
    share_of_array_peak=_or_null(_NUMBER),
    bytes=_map(_COUNT),
    peaks=_map(_COUNT),
    instructions=_or_null(_COUNT),
)
_FOOTPRINT = _object(
    ram_bytes_without_stack=_COUNT,
    ram_parts=_map(_COUNT),
    constant_bytes=_COUNT,
    compiled=_or_null(
        _described(
            _object(
                command=_TEXT,
                code_bytes=_COUNT,
                flash_bytes=_described(_COUNT, "with the constants"),
                stack_bytes=_or_null(_COUNT),
                ram_bytes=_or_null(_described(_COUNT, "with the stack")),
            ),
            "by a C compiler of this machine",
        )
    ),
)
_COSTS = _described(
    _object(
        model=_TEXT,
        target=_TEXT,
        arch=_or_null(_TEXT),
        clock_mhz=_or_null(_NUMBER),
        peak_macs_per_cycle=_or_null(_NUMBER),
        memories=_list(_object(name=_TEXT, unit=_TEXT, available=_COUNT)),
        footprint=_or_null(_described(_FOOTPRINT, "of a program in C")),
        layers=_list(_COST_ROW),
        total=_COST_ROW,
    ),
    "what --costs prints, and --report writes",
)

_VALUE: _Schema = {"type": ["boolean", "number", "string", "null"]}
_OPTION = _object(
    flag=_TEXT,
    name=_described(_TEXT, "in Python"),
    type={"enum": ["bool", "int", "float", "str"]},
    value=_VALUE,
    default=_VALUE,
    help=_TEXT,
    known=_or_null(_list(_TEXT, "values that have a name")),
)

# Name -> schema: of a command, of `targets NAME` ("target"), and of --report ("costs").
SCHEMAS: Mapping[str, _Schema] = {
    name: {"$schema": _DIALECT, "title": title, **schema}
    for name, title, schema in (
        ("check", "pefslc check MODEL --target T --json", _object(**_OUTCOME)),
        (
            "compile",
            "pefslc MODEL --target T --json",
            _object(
                **_OUTCOME,
                inputs=_or_null(_list(_INPUT)),
                outputs=_or_null(_list(_OUTPUT)),
                layers=_or_null(_list(_LAYER)),
                modelled_cycles=_or_null(_COUNT),
                notes=_or_null(_list(_TEXT)),
                verification=_described(_or_null(_VERIFICATION), "null without --verify"),
                costs=_described(_or_null(_COSTS), "null without --costs"),
                files=_list(_TEXT, "what was written; nothing where there are problems"),
            ),
        ),
        (
            "inspect",
            "pefslc inspect MODEL --json",
            _object(
                model=_TEXT,
                inputs=_list(_INPUT),
                outputs=_list(_OUTPUT),
                layers=_list(_INSPECTED_LAYER),
                accumulator=_described(
                    _or_null(_object(target=_TEXT, name=_TEXT, bits=_COUNT, every_sum_fits=_SWITCH)),
                    "null without --target",
                ),
            ),
        ),
        (
            "inspect-float",
            "pefslc inspect MODEL --json, of a float model",
            _object(
                model=_TEXT,
                float={"const": True},
                layers=_list(
                    _object(
                        layer=_TEXT,
                        op=_TEXT,
                        shape=_SHAPE,
                        weight_range=_described(_or_null(_RANGE), "null where there are no weights"),
                        value_range=_described(_or_null(_RANGE), "null without --calibrate"),
                    )
                ),
                formats_that_hold=_list(_TEXT, "of 8 and of 16 bits, every range"),
            ),
        ),
        (
            "run",
            "pefslc run ARTIFACT --inputs X.npz --json",
            _object(
                artifact=_TEXT,
                target=_TEXT,
                outputs=_list(_object(name=_TEXT, shape=_SHAPE, values={})),
                clipped_inputs=_list(_CLIPPED),
                written=_described(_or_null(_TEXT), "the file of -o"),
            ),
        ),
        (
            "passes",
            "pefslc passes --json",
            _object(
                passes=_list(
                    _object(
                        name=_TEXT,
                        level={"enum": ["quantized", "integer"]},
                        promise={"enum": ["exact", "bounded", "changes"]},
                        summary=_TEXT,
                    ),
                    "in the order in which they run",
                ),
                only_with_formats=_list(_TEXT, "those that run with --fmt or --input-fmt only"),
                installed=_list(_described(_object(name=_TEXT, value=_TEXT), "a plugin")),
            ),
        ),
        (
            "targets",
            "pefslc targets --json",
            _object(
                targets=_list(_object(name=_TEXT, summary=_or_null(_TEXT))),
                problems=_list(_described(_object(target=_TEXT, **_PROBLEM_KEYS), "of an installed target")),
            ),
        ),
        (
            "target",
            "pefslc targets NAME --json",
            _object(
                name=_TEXT,
                summary=_TEXT,
                accumulator=_object(name=_TEXT, bits=_COUNT),
                native_format=_or_null(_TEXT),
                stages=_list(_TEXT),
                options=_list(_OPTION),
            ),
        ),
        ("costs", "pefslc MODEL --target T --report FILE.json", _COSTS),
    )
}
