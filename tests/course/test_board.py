"""The board of exercises: what is stored, in order, and again when asked."""

from __future__ import annotations

import pytest

from dslearn.course import progress_board
from dslearn.course.board import lines
from dslearn.course.exercises import MODULES
from dslearn.course.feedback import Feedback
from dslearn.course.ledger import LEDGER_VARIABLE
from dslearn.course.progress import progress, record
from dslearn.course.rubrics import RUBRICS

WRONG = Feedback("01.3", "A causal choice", "not yet", "Mask again.", failed="never reads the <future>")


@pytest.fixture
def ledger(tmp_path, monkeypatch):
    monkeypatch.setenv(LEDGER_VARIABLE, str(tmp_path / "claims.json"))
    return tmp_path / "claims.json"


def test_every_exercise_stands_on_it_once_and_in_order(ledger) -> None:
    numbers = [line.number for line in lines(progress())]
    assert sorted(numbers) == sorted([*MODULES, *RUBRICS]) and len(set(numbers)) == len(numbers)
    assert numbers.index("01.9") < numbers.index("01.10")
    assert {line.state for line in lines(progress())} == {"not started"}


def test_it_looks_again_when_asked(ledger) -> None:
    board = progress_board()
    assert board.board["told"].startswith("0 of ")
    record(WRONG)
    record(Feedback("01.1", "T", "done", "Well."))
    board._handle_custom_msg({"kind": "look again"}, [])
    assert board.board["told"].startswith("1 of ")
    row = next(row for row in board.board["rows"] if row[1].startswith("01.3"))
    assert (row[0], row[3], row[5]) == ("✗", "not yet", "never reads the <future>")


def test_without_a_kernel_the_table_stays_and_words_stay_words(ledger) -> None:
    record(WRONG)
    data, _ = progress_board()._repr_mimebundle_()
    assert "never reads the &lt;future&gt;" in data["text/html"]
    assert data["text/plain"].startswith("0 of ")


def test_a_damaged_ledger_is_told_not_raised(ledger) -> None:
    ledger.write_text("{", encoding="utf-8")
    board = progress_board().board
    assert "damaged" in board["told"] and board["rows"] == []
