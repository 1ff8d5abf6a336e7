"""What is said of a file that cannot be read, and what of one that may be meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError
from pefslc.files.reading import read_file, unreadable


def said(path: Path) -> tuple[Code, str, str | None]:
    with pytest.raises(CompileError) as caught:
        read_file(path)
    problem = caught.value.problems[0]
    return problem.code, problem.message, problem.hint


def test_a_name_like_it_is_offered(tmp_path: Path) -> None:
    (tmp_path / "desk.state").write_text("x")
    wrong = tmp_path / "dsk.state"
    expected = Code.NO_SUCH_FILE, f"no such file: '{wrong}'", f"did you mean '{tmp_path / 'desk.state'}'?"
    assert said(wrong) == expected
    assert said(tmp_path / "unlike")[2] == "look at the path"


def test_what_is_offered_is_of_the_same_kind_and_really_alike(tmp_path: Path) -> None:
    """One letter of three, a common suffix, and a folder where a file is wanted are no likeness."""
    for name in ("ka4.png", "both.state"):
        (tmp_path / name).write_text("x")
    (tmp_path / "desks").mkdir()
    for name in ("ka9.png", "nosuch.state", "desk"):
        assert said(tmp_path / name)[2] == "look at the path", name
    missing = FileNotFoundError(2, "No such file or directory", str(tmp_path / "desk"))
    (problem,) = unreadable(tmp_path / "desk", missing, "folder").problems
    assert problem.hint == f"did you mean '{tmp_path / 'desks'}'?"


def test_a_link_that_leads_nowhere_is_said_to_do_so(tmp_path: Path) -> None:
    (tmp_path / "link.png").symlink_to("nowhere.png")
    assert said(tmp_path / "link.png")[2] == "it is a link to 'nowhere.png', which is not there"


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "none"
    assert said(folder / "x")[2] == f"there is no folder '{folder}'"


def test_what_is_no_file_cannot_be_read(tmp_path: Path) -> None:
    code, message, hint = said(tmp_path)
    assert (code, hint) == (Code.UNREADABLE_FILE, "look at the path and its permissions")
    assert message.startswith(f"cannot read '{tmp_path}': ")


def test_the_file_that_the_system_names_is_the_one_meant(tmp_path: Path) -> None:
    def message(path: Path) -> str:
        error = FileNotFoundError(2, "No such file or directory", str(path))
        return unreadable(tmp_path, error, "folder").problems[0].message

    assert message(tmp_path) == f"no such folder: '{tmp_path}'"
    assert message(tmp_path / "a.json") == f"no such file: '{tmp_path / 'a.json'}'"
