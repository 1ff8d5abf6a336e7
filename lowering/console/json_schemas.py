"""JSON Schemas (draft 2020-12) of what --json prints, by the name of the command. The tests hold real output to them.

A key is always there; null stands for what is not known or does not apply. New keys may come, none changes its meaning.
"""

from __future__ import annotations

from collections.abc import Mapping

from pefslc.console.report_schema import REPORT
from pefslc.console.schema_parts import (
    CLIPPED,
    CODE,
    COSTS,
    COUNT,
    DISTANCE,
    FLOAT_ERROR_KEYS,
    LAYER,
    LAYER_KEYS,
    RANGE,
    RATIONAL,
    SATURATION,
    SHAPE,
    SWITCH,
    TEXT,
    WHOLE,
    Schema,
    described,
    list_of,
    or_null,
    record,
    with_optional,
)

__all__ = ["SCHEMAS"]

_DIALECT = "https://json-schema.org/draft/2020-12/schema"


_PROBLEM_KEYS: Mapping[str, Schema] = {
    "code": described(CODE, "`pefslc explain` with it says more"),
    "title": TEXT,
    "reason": TEXT,
    "node": or_null(TEXT),
    "operator": or_null(TEXT),
    "tensor": or_null(TEXT),
    "shape": or_null(SHAPE),
    "place": or_null(TEXT),
    "help": or_null(TEXT),
}
_PROBLEM = described(record(**_PROBLEM_KEYS), "one fault, and what helps")

_QUANTIZER: Mapping[str, Schema] = {
    "bits": COUNT,
    "signed": SWITCH,
    "narrow": SWITCH,
    "scale": list_of(RATIONAL, "one, or one for each channel; exact"),
    "zero_point": WHOLE,
    "rounding": TEXT,
    "adds_zero_point_last": SWITCH,
}
_INPUT = described(
    with_optional(
        record(
            name=TEXT,
            shape=SHAPE,
            **_QUANTIZER,
        ),
        stages=list_of({"type": "object"}, "what the host computes before it quantizes"),
        channel_axis=WHOLE,
        integers=described(TEXT, "the type of an input that holds codes already"),
    ),
    "an input by its ONNX name: what the host hands over are codes of this quantizer",
)
_OUTPUT = described(
    with_optional(
        record(
            name=TEXT,
            shape=SHAPE,
            low=described(WHOLE, "the least code that can occur"),
            high=WHOLE,
            scale=list_of(RATIONAL, "one, or one for each channel; exact"),
            offset=list_of(RATIONAL),
        ),
        function=described({"type": "object"}, "what the host computes of the values, such as an arg max"),
    ),
    "an output by its ONNX name: value = scale * code + offset",
)

_INSPECTED_LAYER = record(**LAYER_KEYS)
_OUTCOME: Mapping[str, Schema] = {
    "model": described(TEXT, "as given"),
    "target": TEXT,
    "ok": described(SWITCH, "whether there are no problems"),
    "exact": described(
        or_null(SWITCH), "whether the artifacts are proved exact; else they are bounded; null: there are none"
    ),
    "exact_to": described(or_null(TEXT), 'what that means: "the file", or the format by which --fmt changed it'),
    "quantized_to": described(or_null(TEXT), "that format; null for a model that is compiled as it is"),
    "float_model": or_null(DISTANCE),
    "problems": list_of(_PROBLEM),
}

_COMPARISON = record(
    output=TEXT,
    compared=described(TEXT, "the two sources, in words"),
    count=COUNT,
    differing=COUNT,
    first=described(TEXT, "the first element that differs"),
    bounded=described(SWITCH, "differences were predicted by the compile"),
    given=described(SWITCH, "one source is an array of the user's"),
    reason=TEXT,
)
_COMPARED: Mapping[str, Schema] = {"output": TEXT, "compared": TEXT, "count": COUNT}
_ERROR: Schema = {
    "anyOf": [
        record(**_COMPARED, **FLOAT_ERROR_KEYS),
        described(record(**_COMPARED, differing=COUNT), "of indices"),
    ]
}
_VERIFICATION = described(
    record(
        inputs=COUNT,
        equal=described(SWITCH, "no integer differs"),
        as_predicted=described(SWITCH, "every difference was predicted by the compile"),
        comparisons=list_of(_COMPARISON),
        bounded_layers=list_of(record(layer=TEXT, codes=COUNT, differing=COUNT, largest=COUNT)),
        errors=list_of(_ERROR, "of what need not be equal"),
        native_words=or_null(described(record(words=COUNT, outside=COUNT), "of native arithmetic")),
        saturated_inputs=list_of(SATURATION, "beyond the format that the user gave to them"),
        clipped_inputs=list_of(CLIPPED, "beyond the model's own"),
        not_compared=list_of(TEXT, "arrays that are no inputs and no outputs"),
        strangers=list_of(TEXT, "expected arrays that belong to neither model"),
    ),
    "what --verify measured",
)

_VALUE: Schema = {"type": ["boolean", "number", "string", "null"]}
_OPTION = record(
    flag=TEXT,
    name=described(TEXT, "in Python"),
    type={"enum": ["bool", "int", "float", "str"]},
    value=_VALUE,
    default=_VALUE,
    help=TEXT,
    known=or_null(list_of(TEXT, "values that have a name")),
)

_PACKAGE = record(name=TEXT, wanted=TEXT, installed=or_null(TEXT), fits=SWITCH)

# Name -> schema: of a command, of `targets NAME` ("target"), and of --report ("costs").
SCHEMAS: Mapping[str, Schema] = {
    name: {"$schema": _DIALECT, "title": title, **schema}
    for name, title, schema in (
        ("check", "pefslc check MODEL --target T --json", record(**_OUTCOME)),
        (
            "compile",
            "pefslc MODEL --target T --json",
            record(
                **_OUTCOME,
                inputs=or_null(list_of(_INPUT)),
                outputs=or_null(list_of(_OUTPUT)),
                layers=or_null(list_of(LAYER)),
                modelled_cycles=or_null(COUNT),
                notes=or_null(list_of(TEXT)),
                verification=described(or_null(_VERIFICATION), "null without --verify"),
                costs=described(or_null(COSTS), "null without --costs"),
                files=list_of(TEXT, "what was written; nothing where there are problems"),
            ),
        ),
        (
            "inspect",
            "pefslc inspect MODEL --json",
            record(
                model=TEXT,
                inputs=list_of(_INPUT),
                outputs=list_of(_OUTPUT),
                layers=list_of(_INSPECTED_LAYER),
                accumulator=described(
                    or_null(record(target=TEXT, name=TEXT, bits=COUNT, every_sum_fits=SWITCH)),
                    "null without --target",
                ),
            ),
        ),
        (
            "inspect-float",
            "pefslc inspect MODEL --json, of a float model",
            record(
                model=TEXT,
                float={"const": True},
                layers=list_of(
                    record(
                        layer=TEXT,
                        op=TEXT,
                        shape=SHAPE,
                        weight_range=described(or_null(RANGE), "null where there are no weights"),
                        value_range=described(or_null(RANGE), "null without --calibrate"),
                    )
                ),
                formats_that_hold=list_of(TEXT, "of 8 and of 16 bits, every range"),
            ),
        ),
        (
            "run",
            "pefslc run ARTIFACT --inputs X.npz --json",
            record(
                artifact=TEXT,
                target=TEXT,
                outputs=list_of(record(name=TEXT, shape=SHAPE, values={})),
                clipped_inputs=list_of(CLIPPED),
                written=described(or_null(TEXT), "the file of -o"),
            ),
        ),
        (
            "passes",
            "pefslc passes --json",
            record(
                passes=list_of(
                    record(
                        name=TEXT,
                        level={"enum": ["quantized", "integer"]},
                        promise={"enum": ["exact", "bounded", "changes"]},
                        summary=TEXT,
                    ),
                    "in the order in which they run",
                ),
                only_with_formats=list_of(TEXT, "those that run with --fmt or --input-fmt only"),
                installed=list_of(described(record(name=TEXT, value=TEXT), "a plugin")),
            ),
        ),
        (
            "targets",
            "pefslc targets --json",
            record(
                targets=list_of(record(name=TEXT, summary=or_null(TEXT))),
                problems=list_of(described(record(target=TEXT, **_PROBLEM_KEYS), "of an installed target")),
            ),
        ),
        (
            "target",
            "pefslc targets NAME --json",
            record(
                name=TEXT,
                summary=TEXT,
                accumulator=record(name=TEXT, bits=COUNT),
                native_format=or_null(TEXT),
                stages=list_of(TEXT),
                options=list_of(_OPTION),
            ),
        ),
        ("costs", "pefslc MODEL --target T --report FILE.json", COSTS),
        ("report", "pefslc report MODEL --target T --json", REPORT),
        (
            "doctor",
            "pefslc doctor --json",
            record(
                version=TEXT,
                python=TEXT,
                system=TEXT,
                machine=TEXT,
                executable=TEXT,
                packages=list_of(_PACKAGE, "what every command needs"),
                extras=list_of(record(name=TEXT, purpose=TEXT, packages=list_of(_PACKAGE))),
                tools=list_of(record(name=TEXT, purpose=TEXT, path=or_null(TEXT), version=or_null(TEXT))),
            ),
        ),
    )
}
