"""``dslearn book`` says what stands in its way; that it builds is tested with the book itself."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from dslearn.cli import book, main


@pytest.fixture
def course(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(book, "find_course", lambda: tmp_path)
    return tmp_path


def test_warnings_are_a_failure_and_no_traceback(
    course: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(book, "require", lambda module, extra: SimpleNamespace(main=lambda options: 1))
    assert main(["book"]) == 1
    said = capsys.readouterr()
    assert "dslearn: the book is not as it should be" in said.err
    assert "file://" not in said.out


def test_a_built_book_is_shown_only_when_asked(
    course: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    opened: list[str] = []
    monkeypatch.setattr(book, "require", lambda module, extra: SimpleNamespace(main=lambda options: 0))
    monkeypatch.setattr("webbrowser.open", opened.append)
    start = (course / "build" / "book" / "index.html").as_uri()
    assert main(["book"]) == 0
    assert start in capsys.readouterr().out
    assert opened == []
    assert main(["book", "--open"]) == 0
    assert opened == [start]


def test_warnings_count_as_errors_and_every_page_is_read_anew(course: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[str] = []
    monkeypatch.setattr(book, "require", lambda module, extra: SimpleNamespace(main=given.extend))
    assert main(["book"]) == 0
    assert {"-W", "-n", "-E", "--keep-going"} <= set(given)
    assert given[-2:] == [str(course), str(course / "build" / "book")]


def test_missing_sphinx_is_named_with_its_extra(
    course: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "sphinx", None)
    monkeypatch.setitem(sys.modules, "sphinx.cmd", None)
    monkeypatch.setitem(sys.modules, "sphinx.cmd.build", None)
    assert main(["book"]) == 1
    assert 'pip install "dslearn[book]"' in capsys.readouterr().err
