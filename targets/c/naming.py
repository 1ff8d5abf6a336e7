"""C names from ONNX and file names, which may be anything."""

from __future__ import annotations

import re
from hashlib import sha256

from pefslc.files.file_names import not_a_device

__all__ = ["Names", "comment_text", "identifier", "model_prefix", "weights_file"]

_LONGEST = 40
_LONGEST_COMMENT = 100
_OURS = re.compile(r"arena$|arrays$|working_memory$|row$|step(\d|$)|dot_|mem|str|pefslc|.*_t$")
_OF_A_MODEL = re.compile(r"(\d+_.*|arena|arrays|constants|run|set_weights|step)$")  # behind its prefix

# C99 and C++20 keywords and alternative tokens: the header is read by both.
_KEYWORDS = frozenset(
    """alignas alignof and and_eq asm auto bitand bitor bool break case catch char char8_t char16_t char32_t
    class co_await co_return co_yield compl concept const const_cast consteval constexpr constinit continue
    decltype default delete do double dynamic_cast else enum explicit export extern false float for friend goto
    if inline int long mutable namespace new noexcept not not_eq nullptr operator or or_eq private protected
    public register reinterpret_cast requires restrict return short signed sizeof static static_assert
    static_cast struct switch template this thread_local throw true try typedef typeid typename union unsigned
    using virtual void volatile wchar_t while xor xor_eq main near far unix linux i386""".split()  # noqa: SIM905  # a list of words reads better as text
)

# <name>.h must not hide a header of the system from `cc -I.`.
_SYSTEM_HEADERS = frozenset(
    """assert complex ctype errno fenv float inttypes iso646 limits locale malloc math memory new poll pthread setjmp
    signal stdalign stdarg stdatomic stdbool stddef stdint stdio stdlib stdnoreturn string strings tgmath threads time
    uchar unistd values wchar wctype""".split()  # noqa: SIM905
)


def identifier(name: str, fallback: str) -> str:
    """A C identifier for `name`: ASCII, at most 40 characters, no keyword, not reserved.

    Letters, digits and underscores stay. A name that loses more than its separators gets eight digits of its hash, so
    that two names do not become one.
    """
    cleaned = "".join(c if c.isascii() and c.isalnum() else "_" for c in name[: 4 * _LONGEST]).strip("_")
    lossy = len(cleaned) > _LONGEST or len(name) > 4 * _LONGEST or any(not (c.isalnum() or c in "_-. /:") for c in name)
    if not cleaned:
        cleaned, lossy = fallback, bool(name)
    if cleaned[0].isdigit():
        cleaned = f"{fallback}_{cleaned}"
    if lossy or not name.isascii():
        cleaned = f"{cleaned[: _LONGEST - 9]}_{sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"
    cleaned = cleaned[:_LONGEST]
    return f"{cleaned}_" if cleaned in _KEYWORDS else cleaned


def model_prefix(name: str) -> str:
    """The prefix of everything that a model's C files define, and the stem of their names."""
    prefix = not_a_device(identifier(name, "model"))
    # A model named x_weights would write a file of model x; x_head.c and x_pictures.c are of its few-shot system.
    # What keeps FIXED.h from being read twice would keep FIXED_fixed.h, that of each model, from being read.
    ours = ("_", "_weights", "_values", "_fixed", "_head", "_pictures")
    reserved = prefix.lower() in (*_SYSTEM_HEADERS, "fixed") or prefix.lower().endswith(ours)
    return f"{prefix.rstrip('_')}_model" if reserved else prefix


def weights_file(prefix: str) -> str:
    """The file of the constants, where they are no C text."""
    return f"{prefix}_weights.bin"


def comment_text(text: str) -> str:
    """`text` for the inside of a C comment: one line of ASCII that neither ends it, nests, nor forms a trigraph."""
    printable = "".join(
        c if c.isascii() and c.isprintable() and c not in "\\*?" else "." for c in text[:_LONGEST_COMMENT]
    )
    return printable if len(text) <= _LONGEST_COMMENT else f"{printable}..."


class Names:
    """Parameter names of one function, unique whatever the case, in the order in which they are asked for.

    Lower case, because macros are not; none that the emitted source uses itself.

    prefix  of the model
    """

    def __init__(self, prefix: str) -> None:
        self._prefix = f"{prefix}_"
        self._taken: set[str] = set()

    def unique(self, name: str, fallback: str) -> str:
        """`identifier(name)` in lower case, numbered from the second on."""
        base = identifier(name, fallback).lower()
        of_model = base.startswith(self._prefix) and _OF_A_MODEL.match(base.removeprefix(self._prefix))
        if base in _KEYWORDS or _OURS.match(base) or of_model:
            base = f"{fallback}_{base}"
        found = base
        count = 1
        while found in self._taken:
            count += 1
            found = f"{base}_{count}"
        self._taken.add(found)
        return found
