"""Whether the fields of an operation have the types that its class declares: told where it is built, not where a later
pass trips over it. A type checker says the same of code that it sees; the code of a notebook it does not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import numpy as np

__all__ = ["check_fields", "checked_array"]

_ADVICE = {
    "IntArray": "IntArray(array)",
    "RealArray": "RealArray(array)",
    "Fraction": "Fraction(number)",
    "int": "int(number)",
    "tuple": "tuple(list)",
}
_Check = Callable[[object], bool]
_Checks = tuple[tuple[str, object, _Check], ...]  # of each field: its name, what it declares, whether a content is that
_KNOWN: dict[type, _Checks] = {}


def check_fields(made: object) -> None:
    """Raise TypeError for the first field of a dataclass whose content has another type than it declares."""
    kind = type(made)
    checks = _KNOWN.get(kind)
    if checks is None:
        checks = _KNOWN[kind] = _checks(kind)
    for name, hint, is_sound in checks:
        content = getattr(made, name)
        if not is_sound(content):
            raise TypeError(f"{kind.__name__}.{name} is {_given(content)}, not {_wanted(hint)}{_advice(hint, content)}")


def checked_array(holder: str, data: object, dtype: type[np.generic]) -> np.ndarray[Any, Any]:
    """The array; of a numpy scalar, which arithmetic on an array without axes gives, too. Raises TypeError."""
    if isinstance(data, np.generic):
        data = np.asarray(data)
    if not isinstance(data, np.ndarray):
        raise TypeError(
            f"{holder} holds an array, not {_given(data)}: {holder}(np.array(..., dtype=np.{dtype.__name__}))"
        )
    if data.dtype != dtype:
        raise TypeError(
            f"{holder} holds {dtype.__name__}, not {data.dtype}: {holder}(array.astype(np.{dtype.__name__}))"
        )
    return data


def _checks(kind: type) -> _Checks:
    try:
        hints = get_type_hints(kind)
    except NameError:  # a class of the user's whose annotations name what its module does not have
        return ()
    return tuple((f.name, hints[f.name], _check(hints[f.name])) for f in fields(kind))


def _check(hint: object) -> _Check:
    if get_origin(hint) is tuple:
        inner = _check(get_args(hint)[0])
        return lambda content: isinstance(content, tuple) and all(map(inner, content))
    if isinstance(hint, UnionType) or get_origin(hint) is Union:
        checks = [_check(part) for part in get_args(hint)]
        return lambda content: any(check(content) for check in checks)
    if isinstance(hint, type):
        return lambda content: isinstance(content, hint)
    return lambda _: True


def _given(content: object) -> str:
    if isinstance(content, np.ndarray):
        return f"a numpy array of {content.dtype}"
    if isinstance(content, tuple | list):
        inside = ", ".join(dict.fromkeys(type(part).__name__ for part in content))
        return f"a {type(content).__name__} of {inside}" if content else f"an empty {type(content).__name__}"
    if content is None:
        return "None"
    shown = str(content) if isinstance(content, np.generic) else repr(content)
    return f"{type(content).__name__} {shown if len(shown) <= 60 else f'{shown[:57]}...'}"


def _wanted(hint: object) -> str:
    if get_origin(hint) is tuple:
        return f"a tuple of {_wanted(get_args(hint)[0])}"
    if isinstance(hint, UnionType) or get_origin(hint) is Union:
        return " or ".join(map(_wanted, get_args(hint)))
    return "None" if hint is NoneType else getattr(hint, "__name__", str(hint))


def _advice(hint: object, content: object) -> str:
    """How the content becomes what is wanted, where that is plain."""
    wanted = [a for a in (get_args(hint) if isinstance(hint, UnionType) else (hint,)) if a is not NoneType]
    name = "tuple" if get_origin(wanted[0]) is tuple else getattr(wanted[0], "__name__", "")
    fits = {
        "IntArray": isinstance(content, np.ndarray),
        "RealArray": isinstance(content, np.ndarray),
        "Fraction": isinstance(content, int | float),
        "int": isinstance(content, np.integer),
        "tuple": isinstance(content, list),
    }
    return f": {_ADVICE[name]}" if fits.get(name) else ""
