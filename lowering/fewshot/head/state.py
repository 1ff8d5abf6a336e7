"""What a device has learned and whose it is: a classifier, its backbone, the devices that saw the shots, names."""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass, field

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, quote, quote_given
from pefslc.fewshot.head.classifier import Classifier
from pefslc.fewshot.head.spec import MOST_ID, HeadSpec

__all__ = ["NAME_BYTES", "HeadState", "id_of_name", "require_same"]

NAME_BYTES = 32  # of a class' name in UTF-8: a field of fixed size, which C keeps without understanding it

_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)


def id_of_name(name: str) -> int:
    """The class id that a name stands for where nobody gives one: the CRC-32 of its UTF-8.

    Devices that never met then call "mug" by the same id, and merge. Two names of one id are refused (`rename`).
    """
    return zlib.crc32(name.encode("utf-8", "surrogatepass"))


@dataclass(slots=True, kw_only=True)
class HeadState:
    """A classifier that can be saved and merged. `HeadState.new` makes an empty one.

    backbone    SHA-256 of the backbone, 64 hexadecimal digits: codes of another one mean something else
    classifier  what was learned
    devices     ids in 0 to 2^32 - 1 of the devices whose shots it holds, ascending
    names       of classes that have one, never ""
    """

    backbone: str
    classifier: Classifier
    devices: tuple[int, ...]
    names: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not _SHA256.fullmatch(self.backbone):
            raise CompileError(
                Code.STATE_FOREIGN,
                f"{quote_given(self.backbone)} names no backbone",
                hint="give the SHA-256 of the compiled backbone, as 64 hexadecimal digits",
            )
        for device in self.devices:
            if isinstance(device, bool) or not isinstance(device, int) or not 0 <= device <= MOST_ID:
                raise CompileError(
                    Code.HEAD_CLASS, f"{quote_given(device)} is no device id", hint=f"an integer in 0 to {MOST_ID}"
                )

    @classmethod
    def new(cls, spec: HeadSpec, backbone: str, device: int) -> HeadState:
        """An empty state of one device. Each device needs an id of its own, or its shots cannot be merged."""
        return cls(backbone=backbone, classifier=Classifier(spec), devices=(device,))

    @property
    def spec(self) -> HeadSpec:
        return self.classifier.spec

    def name(self, class_id: int) -> str:
        """The name of a class, "" where it has none. Raises CompileError where there is no such class."""
        self.classifier.shots(class_id)
        return self.names.get(class_id, "")

    def find(self, name: str) -> int | None:
        """The lowest class id of that name."""
        return min((c for c in self.classifier.classes if self.names.get(c) == name), default=None)

    def rename(self, class_id: int, name: str) -> None:
        """Name a class that is there; "" takes its name away. Raises CompileError for a name that no file holds, and
        for that of another class.
        """
        self.classifier.shots(class_id)
        check_name(name)
        taken = self.find(name) if name else None
        if taken not in (None, class_id):
            raise CompileError(
                Code.HEAD_NAME, f"{quote(name)} is the name of class {taken} already", hint="take another name"
            )
        self.names.pop(class_id, None)
        if name:
            self.names[class_id] = name

    def forget_class(self, class_id: int) -> None:
        """Take a class out, with its shots and its name. Raises CompileError where it is not there."""
        self.classifier.forget_class(class_id)
        self.names.pop(class_id, None)

    def merge(self, other: HeadState, *, ours: str = "", theirs: str = "") -> None:
        """Add what other devices learned. In whatever order states are merged, the result is the same, byte for byte.

        ours, theirs  where the two states are from, for messages: "'desk.state'"

        Raises CompileError, and changes nothing, where backbone or spec differ, a device's shots are in both, a class
        has two names, or there would be too many devices, classes or shots.
        """
        require_same(other, self.spec, self.backbone, f"the state in {theirs}" if theirs else "the state to be merged")
        twice = sorted(set(self.devices) & set(other.devices))
        if twice:
            raise CompileError(
                Code.MERGED_TWICE,
                f"the shots of device {', '.join(map(str, twice))} are in "
                f"{f'{ours} and in {theirs}' if ours and theirs else 'both states'}",
                hint="merge each device once, into a state that never saw it; devices need ids of their own",
            )
        if len(self.devices) + len(other.devices) > self.spec.max_devices:
            raise CompileError(
                Code.HEAD_FULL,
                f"{len(self.devices) + len(other.devices)} devices are too many for {self.spec.max_devices}",
                hint="compile the classifier with a larger max_devices",
            )
        for class_id in other.classifier.classes:
            name, other_name = self.names.get(class_id), other.names.get(class_id)
            if name is not None and other_name is not None and name != other_name:
                raise CompileError(
                    Code.HEAD_NAME,
                    f"class {class_id} is {quote(name)} {f'in {ours}' if ours else 'here'} and {quote(other_name)} "
                    f"{f'in {theirs}' if theirs else 'there'}",
                    hint="give one of them another id, or rename it",
                )
        self.classifier.merge(other.classifier, names={**other.names, **self.names})
        self.names = {**other.names, **self.names}
        self.devices = tuple(sorted((*self.devices, *other.devices)))


def check_name(name: str) -> None:
    """Demand a name that a state file holds. Raises CompileError."""
    hint = f"at most {NAME_BYTES} bytes of UTF-8, printable"
    if not isinstance(name, str) or not name.isprintable():
        raise CompileError(Code.HEAD_NAME, f"{quote_given(name)} cannot be the name of a class", hint=hint)
    size = len(name.encode())  # what is printable has no half of a surrogate pair
    if size > NAME_BYTES:
        raise CompileError(Code.HEAD_NAME, f"the name {quote(name)} has {size} bytes", hint=hint)


def require_same(state: HeadState, spec: HeadSpec | None, backbone: str | None, what: str) -> None:
    """Demand that `state` is of this spec and backbone, where they are given. Raises CompileError.

    what  "the state in 'x.state'"
    """
    if backbone is not None and state.backbone != backbone:
        raise CompileError(
            Code.STATE_FOREIGN,
            f"{what} belongs to another backbone or normalization: {state.backbone[:12]}..., not {backbone[:12]}...",
            hint="codes of two backbones cannot be compared: enrol the shots again",
        )
    if spec is None or state.spec == spec:
        return
    for name in ("kind", "dimension", "low", "high", "fraction_bits", "max_shots", "max_classes", "max_devices"):
        theirs, ours = getattr(state.spec, name), getattr(spec, name)
        if theirs != ours:
            difference = f"{name} = {theirs}, not {ours}"
            break
    else:
        difference = "another centre"
    raise CompileError(
        Code.STATE_FOREIGN, f"{what} belongs to another classifier: {difference}", hint="enrol the shots again"
    )
