"""Options belong to their target: a target declares them, Python and the command line name them, others are refused."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass, fields, make_dataclass
from pathlib import Path
from typing import Any

import pytest
from cli_support import Cli, FakeEntryPoint, FakeTarget

import pefslc as api
from pefslc.console.group import commands
from pefslc.console.target_command import TargetCommand
from pefslc.driver import target_registry as registry
from pefslc.driver.user_target import RESERVED
from pefslc.targets.c.options import COptions
from pefslc.targets.options import option, options_of
from pefslc.targets.tensil.options import TensilOptions

EXAMPLE = Path(__file__).parents[2] / "examples" / "cnn_bnfold_q2_3.onnx"


def refusal(make: Callable[[], object]) -> str:
    with pytest.raises(api.CompileError) as caught:
        make()
    assert {p.code for p in caught.value.problems} == {api.Code.WRONG_OPTION}
    return str(caught.value)


def test_a_target_is_a_value_that_carries_its_options() -> None:
    assert api.TensilTarget(arch="custom_perf", clock_mhz=100) == api.TensilTarget(clock_mhz=100, arch="custom_perf")
    assert api.TensilTarget() != api.TensilTarget(arch="custom_perf")
    assert hash(api.CTarget(caller_arena=True)) == hash(api.CTarget(caller_arena=True))
    assert repr(api.CTarget(caller_arena=True)) == (
        "CTarget(caller_arena=True, cpu='generic', memory='fast', weights='text', pack=False, steps=None, threads=1, "
        "emit_main=False, dispatch=False, cmake=False, arduino=False)"
    )
    with pytest.raises(AttributeError):
        api.CTarget().caller_arena = True  # type: ignore[misc]


@pytest.mark.parametrize("clock", [10**400, -(10**400), 0, 5e-324, float("inf"), float("nan")])
def test_a_clock_that_gives_no_times_is_refused(clock: float) -> None:
    assert "clock_mhz (--clock-mhz) is " in refusal(lambda: api.TensilTarget(clock_mhz=clock))


def test_names_of_rewrites_are_a_text() -> None:
    assert "not names of rewrites" in refusal(lambda: api.TensilTarget(leave_out=Path("pack-inputs")))  # type: ignore[arg-type]


def test_keywords_and_a_configured_target_compile_to_the_same_bytes() -> None:
    by_keyword = api.compile(EXAMPLE, target="c", caller_arena=True)
    by_value = api.compile(EXAMPLE, target=api.CTarget(caller_arena=True))
    assert by_keyword.emission.files == by_value.emission.files
    assert by_keyword.emission.files != api.compile(EXAMPLE, target="c").emission.files
    assert by_keyword.target == by_value.target == api.CTarget(caller_arena=True)


def test_keywords_change_a_target_that_is_an_object(model: Path) -> None:
    program = api.compile(model, target=FakeTarget(arch="narrow", unroll=2), unroll=3, allow_overflow=True)
    assert program.sidecar.details["arch"] == "narrow"
    assert program.target.inner.unroll == 3  # type: ignore[attr-defined]


def test_an_option_of_another_target_is_refused_with_the_options_that_there_are(model: Path) -> None:
    assert refusal(lambda: api.compile(model, target="c", arch="pynqz1")) == (
        "error[PEF0902]: arch (--arch) is an option of target 'tensil', not of 'c'\n"
        "  help: options of c: caller_arena (--caller-arena), cpu (--cpu), memory (--memory), weights (--weights), "
        "pack (--pack), steps (--steps), threads (--threads), emit_main (--emit-main), dispatch (--dispatch), "
        "cmake (--cmake), arduino (--arduino)"
    )
    assert "unroll (--unroll) is an option of target 'fake', not of 'tensil'" in refusal(
        lambda: api.compile(model, target="tensil", unroll=2)
    )


def test_an_option_that_no_target_has_is_refused_with_what_was_meant(model: Path) -> None:
    text = refusal(lambda: api.compile(model, target="fake", calibrat=model, unrol=1))
    assert (
        "target 'fake' has no option 'calibrat'\n  help: did you mean calibrate? options of fake: arch (--arch)" in text
    )
    assert "target 'fake' has no option 'unrol'\n  help: did you mean unroll? options of fake: " in text
    of_the_shell = refusal(lambda: api.compile(model, target="fake", plugin="prune.py"))
    assert "no option 'plugin'\n  help: did you mean plugins? " in of_the_shell, "not the word that is refused"


def test_none_for_an_option_of_another_target_says_nothing(model: Path) -> None:
    assert api.compile(model, target="c", arch=None, clock_mhz=None).exact
    assert "has no option 'archh'" in refusal(lambda: api.compile(model, target="c", archh=None))


@pytest.mark.parametrize("value", ["no", "", 0, 1, None, [True]], ids=repr)
def test_a_switch_of_a_target_is_true_or_false(model: Path, value: Any) -> None:
    wanted = "caller_arena (--caller-arena) is '"
    assert wanted in refusal(lambda: api.CTarget(caller_arena=value))
    assert wanted in refusal(lambda: api.compile(model, target="c", caller_arena=value))


@pytest.mark.parametrize("value", [True, "2", 1.5, 0, -1, None, float("nan")], ids=repr)
def test_an_option_of_a_target_of_the_users_is_checked(model: Path, value: Any) -> None:
    for make in (
        lambda: api.compile(model, target="fake", unroll=value),
        lambda: api.compile(model, target=FakeTarget(unroll=value)),
    ):
        assert "unroll (--unroll) is " in refusal(make)


def test_every_wrong_option_is_told(model: Path) -> None:
    text = refusal(lambda: api.compile(model, target="fake", unroll=0, arch=5))
    assert "arch (--arch) is '5', not a name" in text
    assert "unroll (--unroll) is 0, not a number of copies" in text


DECLARED: list[tuple[Callable[[], object], str]] = [
    (lambda: option(1, type=list, help="x"), "not one of bool, int, float, str"),
    (lambda: option(None, type=bool, help="x"), "the default of a switch is None"),
    (lambda: option("a", type=int, help="x"), "the default of an option is 'a', not a whole number"),
    (lambda: option(0, type=int, help="x", accepts=bool), "the default of an option is 0"),
    (lambda: option(1, type=int, help="x", accepts=bool), "accepts some values only says which"),
    (lambda: option(0, type=int, help=""), "help is not empty"),
]


@pytest.mark.parametrize(("declare", "message"), DECLARED, ids=[m for _, m in DECLARED])
def test_a_declaration_that_is_none_is_its_authors_fault(declare: Callable[[], object], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        declare()


def test_an_option_must_not_have_a_name_that_every_compile_uses(model: Path) -> None:
    @dataclass
    class Own(FakeTarget):
        fmt: str = option("", type=str, help="a format of its own")

    Own.name = "own"
    with pytest.raises(api.CompileError, match="option 'fmt' has a name that every compile uses") as caught:
        api.compile(model, target=Own())
    assert caught.value.problems[0].code is api.Code.TARGET_FAILED


@pytest.mark.parametrize("name", ["DSP", "_x", "\u00fcn\u00ef", "a" * 41])
def test_the_name_of_an_option_is_one_that_a_command_line_can_bear(model: Path, name: str) -> None:
    own = make_dataclass("Own", [(name, int, option(1, type=int, help="a number"))], bases=(FakeTarget,))
    with pytest.raises(api.CompileError, match=f"option '{name}' is not named with lower-case letters"):
        api.compile(model, target=own())  # type: ignore[call-overload]


def test_two_options_have_two_flags(model: Path) -> None:
    @dataclass
    class Own(FakeTarget):
        x: bool = option(True, type=bool, help="x")
        no_x: bool = option(False, type=bool, help="not x")

    with pytest.raises(api.CompileError, match="two options have the flag --no-x"):
        api.compile(model, target=Own())


def test_every_name_of_a_compile_is_reserved() -> None:
    keywords = {p.name for p in inspect.signature(api.compile).parameters.values() if p.kind is not p.VAR_KEYWORD}
    flags = {
        text.lstrip("-").replace("-", "_")
        for command in commands.commands.values()
        if isinstance(command, TargetCommand)
        for parameter in command.params
        for text in (parameter.name or "", *parameter.opts)
        if not (text.startswith("-") and len(text) == 2)
    }
    assert keywords | flags <= RESERVED
    assert not RESERVED & {o.name for declared in (COptions, TensilOptions) for o in options_of(declared)}


@pytest.mark.parametrize("declared", [COptions, TensilOptions])
def test_every_field_of_a_target_of_ours_is_an_option(declared: type) -> None:
    assert [o.name for o in options_of(declared)] == [f.name for f in fields(declared)]


# The command line.


def test_the_help_shows_each_targets_options_under_its_name(pefslc: Cli) -> None:
    for arguments in (["--help"], ["check", "--help"], ["inspect", "--help"]):
        shown = pefslc(*arguments).out
        c, tensil, fake = (shown.index(f"Options of --target {name}:") for name in ("c", "tensil", "fake"))
        assert shown.index("Options:") < c < shown.index("--caller-arena") < tensil < shown.index("--clock-mhz MHZ")
        assert fake < shown.index("--unroll N") < shown.index("--no-checks")
        assert "--arch NAME|FILE" in shown[tensil:fake]
        assert "--arch NAME " in shown[fake:]


def test_an_option_of_an_installed_target_is_read(pefslc: Cli, model: Path, tmp_path: Path) -> None:
    arguments = (model, "--target", "fake", "-o", tmp_path / "a", "--print-ir-after", "schedule")
    assert "unrolled 3 times" in pefslc(*arguments, "--unroll", "3").out
    assert "unrolled 1 times" in pefslc(*arguments, "--no-checks").out
    assert pefslc("check", model, "--target", "fake", "--unroll", "3").status == 0


def test_a_switch_that_is_on_is_switched_off(
    pefslc: Cli, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    limits = FakeTarget.limits
    monkeypatch.setattr(FakeTarget, "limits", lambda self, options: seen.append(self.checks) or limits(self, options))
    for switches in ([], ["--no-checks"]):
        assert pefslc(model, "--target", "fake", "-o", tmp_path / "a", *switches).status == 0
    assert dict.fromkeys(seen) == {True: None, False: None}


@pytest.mark.parametrize("command", [[], ["check"], ["inspect"]])
@pytest.mark.parametrize(
    ("target", "given", "message"),
    [
        ("c", ["--arch", "pynqz1"], "arch (--arch) is an option of target 'tensil', not of 'c'"),
        ("tensil", ["--caller-arena"], "caller_arena (--caller-arena) is an option of target 'c', not of 'tensil'"),
        ("c", ["--unroll", "2"], "unroll (--unroll) is an option of target 'fake', not of 'c'"),
        ("fake", ["--clock-mhz", "5"], "clock_mhz (--clock-mhz) is an option of target 'tensil', not of 'fake'"),
        ("fake", ["--unroll", "x"], "--unroll is 'x', not a number of copies"),
        ("tensil", ["--clock-mhz", "x"], "--clock-mhz is 'x', not a frequency in MHz"),
        ("tensil", ["--clock-mhz", "-5"], "clock_mhz (--clock-mhz) is -5.0, not a frequency in MHz"),
        ("fake", ["--unrol", "2"], "no option '--unrol'"),
    ],
)
def test_a_wrong_option_is_a_usage_error(
    pefslc: Cli, model: Path, command: list[str], target: str, given: list[str], message: str
) -> None:
    result = pefslc(*command, model, "--target", target, *given)
    assert result.status == 2
    assert message in result.err


def test_an_option_of_a_target_needs_a_target(pefslc: Cli, model: Path) -> None:
    assert pefslc("inspect", model, "--arch", "pynqz1").err.startswith("error: --arch needs --target")
    result = pefslc("targets", "--caller-arena")
    assert (result.status, result.err.splitlines()[0]) == (2, "error: --caller-arena needs the name of a target")


def test_a_value_where_another_target_has_a_switch_is_left_to_python(
    pefslc: Cli, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @dataclass
    class Own(FakeTarget):
        caller_arena: str = option("", type=str, help="whose")

    Own.name = "own"
    monkeypatch.setattr(registry, "entry_points", lambda **_: (FakeEntryPoint("own", "tests:Own", Own),))
    result = pefslc(model, "--target", "own", "--caller-arena")
    assert result.status == 2
    assert "--caller-arena takes a value here, but another target's --caller-arena does not" in result.err
    assert api.compile(model, target="own", caller_arena="me").exact


def test_a_target_that_cannot_be_loaded_spoils_no_help(pefslc: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> object:
        raise SystemExit

    monkeypatch.setattr(registry, "entry_points", lambda **_: (FakeEntryPoint("bad", "tests:bad", broken),))
    result = pefslc("--help")
    assert result.status == 0
    assert "--caller-arena" in result.out


def test_an_installed_target_is_not_loaded_for_an_option_of_ours(
    pefslc: Cli, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = []
    entry = FakeEntryPoint("slow", "tests:slow", lambda: loaded.append(1))
    monkeypatch.setattr(registry, "entry_points", lambda **_: (entry,))
    assert pefslc(model, "--target", "c", "--caller-arena", "-o", tmp_path / "a").status == 0
    assert pefslc(model, "--target", "c", "--arch", "pynqz1").status == 2
    assert not loaded


def test_one_target_is_shown_with_its_options_and_limits(pefslc: Cli) -> None:
    shown = pefslc("targets", "tensil").out
    assert "sums of 16 bits: the TCU with FP16BP8; wider ones are made of several words, exactly, where" in shown
    assert "32 bits: the TCU with FP32BP16" in shown or "16 bits: the TCU with FP16BP8" in shown
    assert "--arch NAME|FILE      arch=None " in shown
    assert "--arch: cmoda7, custom_perf, pynqz1, ultra96v2, zcu104, zcu104_uram" in shown
    assert "arch='custom_perf'" in pefslc("targets", "tensil", "--arch", "custom_perf").out
    assert re.search("--caller-arena +caller_arena=False +the caller supplies", pefslc("targets", "c").out)
    assert "stages, for --print-ir-after and --dump-dir: select, schedule" in pefslc("targets", "fake").out
    assert "unknown target 'fpga'" in pefslc("targets", "fpga").err
