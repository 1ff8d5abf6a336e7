"""Targets that are not part of pefslc: their faults are theirs - named, with the place - and never exact by silence."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_support import Cli, Codes, FakeEntryPoint, FakeRunner, FakeTarget

import pefslc as api
from pefslc import Code
from pefslc.analysis.limits import TargetLimits
from pefslc.artifacts.costs import Costs, PartCost
from pefslc.artifacts.sidecar import Sidecar
from pefslc.driver import target_registry as registry
from pefslc.ir.graph import Graph
from pefslc.ir.integer import Requantize
from pefslc.targets.c.target import CTarget
from pefslc.targets.protocol import Emission, OpReport, Stage, TargetOptions

THIS_FILE = str(Path(__file__))


class Own(FakeTarget):
    """The fake target under a name that is not taken."""

    name = "own"


class Emits(Own):
    """Changes what it emits."""

    def __init__(self, change: Callable[[Emission], Any]) -> None:
        self.change = change

    def lower(self, graph: Graph, options: TargetOptions) -> Emission:
        return self.change(super().lower(graph, options))  # type: ignore[no-any-return]


class Limits(Own):
    def __init__(self, given: Any) -> None:
        self.given = given

    def limits(self, _: TargetOptions) -> TargetLimits:
        return self.given  # type: ignore[no-any-return]


class Runs(Own):
    """Its runner returns what `change` makes of the outputs."""

    def __init__(self, change: Callable[[dict[str, Codes]], Any]) -> None:
        self.change = change

    def runner(self, folder: Path, sidecar: Sidecar) -> FakeRunner:
        right, change = super().runner(folder, sidecar), self.change

        class Changed(FakeRunner):
            def run(self, inputs: Mapping[str, Codes]) -> dict[str, Codes]:
                return change(right.run(inputs))  # type: ignore[no-any-return]

        return Changed(right.graph)


class Fails(Own):
    def __init__(self, method: str) -> None:
        self.method = method

    def __getattribute__(self, name: str) -> Any:
        if name not in ("method", "__dict__", "__class__") and name == object.__getattribute__(self, "method"):
            return lambda *_: 1 // 0
        return super().__getattribute__(name)


def raises(*_: object) -> Any:
    raise KeyError("lost")


def returns(value: object) -> Callable[..., Any]:
    return lambda *_, **__: value


def one_report(field: str, value: object) -> Callable[[Emission], Emission]:
    def change(e: Emission) -> Emission:
        (name, report), *others = e.ops.items()
        return replace(e, ops={name: replace(report, **{field: value}), **dict(others)})  # type: ignore[arg-type]

    return change


class Reports(Own):
    """Reports this as a stage."""

    def __init__(self, stage: Any) -> None:
        self.stage = stage

    def lower(self, graph: Graph, options: TargetOptions) -> Emission:
        if options.observe is not None:
            options.observe(self.stage)
        return super().lower(graph, options)


class Stages(Own):
    def __init__(self, given: Any) -> None:
        self.stages = given  # type: ignore[misc]


class WithoutOption(Own):
    """Cannot tell one of its options."""

    unroll = property(raises)  # type: ignore[assignment]

    def __init__(self) -> None:
        pass


FAULTS: list[tuple[FakeTarget, str]] = [
    (WithoutOption(), "target 'own' failed in its options: KeyError: 'lost'"),
    (Reports("select"), "it reports str, not a Stage"),
    (Reports(Stage("../tile", "")), "it reports a stage '../tile', which is not one of its `stages`"),
    (Reports(Stage(["select"], "")), "it reports a stage '['select']', which is not one of its `stages`"),  # type: ignore[arg-type]
    (Reports(Stage("select", b"")), "the stage 'select' has fields of wrong types"),  # type: ignore[arg-type]
    (Reports(Stage("select", "", 1)), "the stage 'select' has fields of wrong types"),  # type: ignore[arg-type]
    (Stages(["select"]), "stages are not a tuple of names"),
    (Stages(("../select",)), "stages are not a tuple of names"),
    (Fails("stages"), "stages are not a tuple of names"),
    (Emits(lambda e: replace(e, costs=lambda: Costs(parts=(), footprint=7))), "costs have the footprint '7', not a"),
    (Emits(lambda e: replace(e, costs=lambda: Costs(parts=(), clock_mhz=0))), "costs have the clock '0', not a freq"),
    (Fails("limits"), "target 'own' failed in limits: ZeroDivisionError: "),
    (Fails("lower"), "target 'own' failed in lower: ZeroDivisionError: "),
    (Fails("runner"), "target 'own' failed in runner: ZeroDivisionError: "),
    (Runs(raises), "target 'own' failed in run: KeyError: 'lost'"),
    (Limits(None), "limits returned NoneType, not a TargetLimits"),
    (Limits(TargetLimits("x", 3)), "bits is 'x', not a number of bits; accumulator_name is '3', not a string"),  # type: ignore[arg-type]
    (Limits(TargetLimits(0, "DSP")), "accumulator_bits is '0', not a number of bits"),
    (Limits(TargetLimits(True, "DSP")), "accumulator_bits is 'True', not a number of bits"),
    (Limits(TargetLimits(16, "DSP", native_weights=8)), "native_weights is '8', not a FixedPoint"),  # type: ignore[arg-type]
    (Limits(TargetLimits(16, "DSP", "Q8.8")), "native_format is 'Q8.8', not a FixedPoint"),  # type: ignore[arg-type]
    (Emits(returns(None)), "lower returned NoneType, not an Emission"),
    (Emits(lambda e: replace(e, files=[b""])), "files is a list, not a dict of bytes by file name"),
    (Emits(lambda e: replace(e, files={"../evil.txt": b""})), "'../evil.txt' is not the name of a file in the folder"),
    (Emits(lambda e: replace(e, files={"/evil.txt": b""})), "'/evil.txt' is not the name of a file in the folder"),
    (Emits(lambda e: replace(e, files={"..": b""})), "'..' is not the name of a file in the folder"),
    (Emits(lambda e: replace(e, files={"a\0b": b""})), "is not the name of a file in the folder"),
    (Emits(lambda e: replace(e, files={3: b""})), "'3' is not the name of a file in the folder"),
    (Emits(lambda e: replace(e, files={"mlp.own.json": b""})), "file 'mlp.own.json' is the sidecar, which the driver"),
    (Emits(lambda e: replace(e, files={"a.txt": "text"})), "file 'a.txt' holds str, not bytes"),
    (Emits(lambda e: replace(e, details=None)), "details is a NoneType, not a dict"),
    (Emits(lambda e: replace(e, details={"a": {1, 2}})), "details are not JSON: Object of type set is not"),
    (Emits(lambda e: replace(e, details={"a": float("nan")})), "details are not JSON: Out of range float"),
    (Emits(lambda e: replace(e, details={1: "a"})), "the keys of details are not strings"),
    (Emits(lambda e: replace(e, ops=[])), "ops is a list, not a dict of OpReport"),
    (Emits(lambda e: replace(e, ops={**e.ops, "lost": OpReport("")})), "ops has a report on 'lost', which is no"),
    (Emits(lambda e: replace(e, ops=dict.fromkeys(e.ops, True))), "ops has bool for "),
    (Emits(one_report("exact", "no")), "has fields of wrong types: OpReport("),
    (Emits(one_report("cycles", 1.5)), "has fields of wrong types: OpReport("),
    (Emits(lambda e: replace(e, notes="fast")), "notes are not a tuple of strings"),
    (Emits(lambda e: replace(e, cycles="many")), "cycles are 'many', not a number"),
    (Emits(lambda e: replace(e, costs=3)), "costs is '3', not a function"),
    (Emits(lambda e: replace(e, computed="a graph")), "computed is 'a graph', not a Graph"),
    (Emits(lambda e: replace(e, costs=lambda: None)), "costs returned NoneType, not a Costs"),
    (Emits(lambda e: replace(e, costs=raises)), "target 'own' failed in costs: KeyError: 'lost'"),
    (Emits(lambda e: replace(e, costs=lambda: Costs(parts=(PartCost(ops=("lost",)),)))), "costs name 'lost', which"),
    (Runs(returns(None)), "run returned NoneType, not a dict of arrays by output name"),
    (Runs(returns({})), "run returned no output 'y'"),
    (Runs(lambda results: dict.fromkeys(results)), "run returned output 'y' as object [], not as integers [8, 3]"),
    (Runs(lambda r: {n: [[1], [1, 2]] for n in r}), "target 'own' failed in run: ValueError: "),
    (Runs(lambda r: {n: a + 0.5 for n, a in r.items()}), "output 'y' as float64 [8, 3], not as integers [8, 3]"),
    (Runs(lambda r: {n: a[:1] for n, a in r.items()}), "output 'y' as int64 [1, 3], not as integers [8, 3]"),
]  # fmt: skip


@pytest.mark.parametrize(("target", "message"), FAULTS, ids=[m for _, m in FAULTS])
def test_a_fault_of_a_target_is_named_as_its_own(model: Path, inputs: Path, target: FakeTarget, message: str) -> None:
    def use() -> None:
        program = api.compile(model, target=target, observe_target=lambda _: None)
        assert program.costs is None
        program.verify(inputs)

    with pytest.raises(api.CompileError) as caught:
        use()
    problem = caught.value.problems[0]
    assert problem.code is Code.TARGET_FAILED
    assert message in problem.message
    assert str(problem.at).partition(":")[0] == THIS_FILE
    assert str(problem.hint).startswith("the target is not part of pefslc: correct it")


def test_a_fault_of_who_watches_is_not_the_targets(model: Path) -> None:
    with pytest.raises(KeyError, match="lost"):
        api.compile(model, target=Own(), observe_target=raises)


def test_the_line_of_the_fault_is_named(model: Path) -> None:
    with pytest.raises(api.CompileError) as caught:
        api.compile(model, target=Fails("lower"))
    line = next(n for n, text in enumerate(Path(__file__).read_text().splitlines(), 1) if "lambda *_: 1 // 0" in text)
    assert caught.value.problems[0].at == f"{THIS_FILE}:{line}"
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_integers_of_any_width_are_output_codes(model: Path, inputs: Path) -> None:
    narrow = api.compile(model, target=Runs(lambda results: {n: a.astype(np.uint8) for n, a in results.items()}))
    assert narrow.verify(inputs).equal


@pytest.mark.parametrize("name", [3, None, "", "C", "a/../b", "a.b", "my target", "3d", "a" * 41, "ä"])
def test_a_name_that_files_cannot_bear_is_refused(model: Path, name: object) -> None:
    target = Own()
    target.name = name  # type: ignore[misc]
    with pytest.raises(api.CompileError, match="a target is named") as caught:
        api.compile(model, target=target)
    assert caught.value.problems[0].code is Code.PLUGIN_UNUSABLE


@pytest.mark.parametrize("name", ["c", "tensil", "fake"])
def test_the_name_of_another_target_is_refused(model: Path, name: str) -> None:
    target = Own()
    target.name = name  # type: ignore[misc]
    with pytest.raises(api.CompileError, match=f"the target is named '{name}', and so is another one"):
        api.compile(model, target=target)


def test_an_installed_target_and_one_of_ours_may_be_given_as_objects(model: Path) -> None:
    assert api.compile(model, target=FakeTarget()).target.name == "fake"
    assert api.compile(model, target=CTarget()).exact
    again = api.compile(model, target=api.compile(model, target=Own()).target)
    assert again.target.name == "own"


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (Own, "target 'fake' calls itself 'own'"),
        (object, "target 'fake' is no target: it has no name, no limits, no lower, no runner"),
        (raises, "target 'fake' cannot be loaded: KeyError: 'lost'"),
    ],
)
def test_an_installed_target_that_is_none(
    pefslc: Cli, model: Path, monkeypatch: pytest.MonkeyPatch, made: Callable[[], object], message: str
) -> None:
    entry = FakeEntryPoint("fake", "package:Target", made)
    monkeypatch.setattr(registry, "entry_points", returns((entry,)))
    result = pefslc(model, "--target", "fake")
    assert f"error[PEF0904]: {message}\n  at:   package:Target\n  help: correct or remove" in result.err


@pytest.mark.parametrize("method", ["limits", "lower"])
def test_an_installed_target_that_fails_is_no_fault_of_ours(
    pefslc: Cli, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    monkeypatch.setattr(FakeTarget, method, raises)
    result = pefslc(model, "--target", "fake", "-o", tmp_path / "a")
    assert result.status == 1
    assert f"error[PEF0909]: target 'fake' failed in {method}: KeyError: 'lost'\n  at:   " in result.err
    assert not (tmp_path / "a").exists()


def test_a_name_or_summary_that_cannot_be_read(pefslc: Cli, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeTarget, "summary", property(raises))
    assert "error[PEF0909]: target 'fake' failed in summary: KeyError: 'lost'" in pefslc("targets").out
    monkeypatch.setattr(FakeTarget, "name", property(raises))
    for target in (FakeTarget(), "fake"):
        with pytest.raises(api.CompileError, match="target FakeTarget failed: KeyError: 'lost'"):
            api.compile(model, target=target)


def silent_on(*wanted: type) -> Own:
    """Reports on everything but operations of these types."""

    class Silent(Own):
        def lower(self, graph: Graph, options: TargetOptions) -> Emission:
            emission = super().lower(graph, options)
            silent = {op.result.name for op in graph.ops if isinstance(op, wanted)}
            return replace(emission, ops={n: r for n, r in emission.ops.items() if n not in silent})

    return Silent()


def test_a_layer_of_which_the_target_says_nothing_is_not_exact(model: Path, inputs: Path) -> None:
    assert api.compile(model, target=silent_on()).exact
    for target in (silent_on(object), silent_on(Requantize)):
        program = api.compile(model, target=target)
        assert not program.exact
        assert [row.exact for row in program.layers] == [False]
        assert program.sidecar.details["exact"] is False
        assert program.verify(inputs).equal
        with pytest.raises(api.CompileError, match="target 'own' does not say that this is exact") as caught:
            api.compile(model, target=target, require_exact=True)
        assert {p.code for p in caught.value.problems} == {Code.NOT_EXACT}


def test_require_exact_names_the_layers_that_a_target_calls_bounded(model: Path) -> None:
    target = Emits(lambda e: replace(e, ops={n: replace(r, exact=False) for n, r in e.ops.items()}))
    with pytest.raises(api.CompileError, match="target 'own' is not exact"):
        api.compile(model, target=target, require_exact=True)
