"""Every check is itself checked: right answers pass however they are written, wrong ones fail with the right words."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from dslearn.course import checking
from dslearn.course.checking import judge
from dslearn.course.exercises import MODULES, load
from tests.course.rejections import all_answers
from tests.course.rejections.__main__ import PAGE, beginning, cell, counts

ANSWERS = all_answers()
pytestmark = pytest.mark.filterwarnings("ignore:reduction")  # what a wrong answer is warned of


def daily(number: int) -> tuple[pytest.MarkDecorator, ...]:
    """Hundreds of answers take minutes: the daily part tries the first four of a check."""
    return () if number < 4 else (pytest.mark.answers,)


RIGHT = [
    pytest.param(answers.exercise, right, id=f"{answers.exercise}-{right.__name__}", marks=daily(number))
    for answers in ANSWERS
    for number, right in enumerate(answers.right)
]
WRONG = [
    pytest.param(answers.exercise, wrong, id=f"{answers.exercise}-{wrong.name}", marks=daily(number))
    for answers in ANSWERS
    for number, wrong in enumerate(answers.wrong)
]


@pytest.mark.parametrize(("exercise", "right"), RIGHT)
def test_right_answers_are_accepted(exercise, right):
    answer, own = right() if isinstance(right, type) else right, 0.0

    def timed(*arguments):
        nonlocal own
        began = time.monotonic()
        try:
            return answer(*arguments)
        finally:
            own += time.monotonic() - began

    started = time.monotonic()
    feedback = judge(load(exercise), timed)
    assert feedback.passed, feedback
    # The answer's own time aside; generous: the bar of one second is measured on a quiet machine.
    assert time.monotonic() - started - own < 10


@pytest.mark.parametrize(("exercise", "right"), [each for each in RIGHT if isinstance(each.values[1], type)])
def test_right_classes_are_accepted_as_they_are(exercise, right):
    assert judge(load(exercise), right).passed


@pytest.mark.parametrize(("exercise", "wrong"), WRONG)
def test_wrong_answers_are_refused_with_the_intended_words(exercise, wrong):
    feedback = judge(load(exercise), wrong.answer)
    assert feedback.state == "not yet", feedback
    assert wrong.says in repr(feedback), feedback
    assert "Traceback" not in repr(feedback)


@pytest.mark.answers
@pytest.mark.parametrize("answers", ANSWERS, ids=lambda answers: answers.exercise)
def test_no_wrong_answer_is_accepted_because_it_is_slow(answers, monkeypatch):
    monkeypatch.setattr(checking, "SECONDS", 0.0)
    states = {wrong.name: judge(load(answers.exercise), wrong.answer).state for wrong in answers.wrong}
    assert [name for name, state in states.items() if state != "not yet"] == []


@pytest.mark.parametrize("answers", ANSWERS, ids=lambda answers: answers.exercise)
def test_there_are_enough_answers(answers):
    assert len(answers.right) >= 2
    assert len(answers.wrong) >= 8
    assert 4 * sum(wrong.first for wrong in answers.wrong) >= len(answers.wrong)
    assert len({wrong.name for wrong in answers.wrong}) == len(answers.wrong)


def test_every_exercise_has_answers():
    assert [answers.exercise for answers in ANSWERS] == list(MODULES)


@pytest.mark.parametrize("exercise", MODULES)
def test_the_reference_itself_is_right(exercise):
    assert judge(load(exercise), load(exercise).right).passed


@pytest.mark.parametrize("answers", ANSWERS, ids=lambda answers: answers.exercise)
def test_mutants_of_the_solution_that_were_accepted_are_explained(answers):
    record = json.loads((Path(__file__).parent / "rejections" / "mutants.json").read_text(encoding="utf-8"))
    assert record[answers.exercise]["mutants"] >= 10
    assert all(survivor["why"] for survivor in record[answers.exercise]["survivors"])


def test_the_books_table_has_each_refusal_with_its_words():
    text = PAGE.read_text(encoding="utf-8")
    table = [line for line in text.partition("## Mutants")[0].splitlines() if line.startswith("| ")]
    lines = [line for line in table if not line.startswith("| | refused |")]
    expected = [(beginning(wrong), cell(wrong.says)) for answers in ANSWERS for wrong in answers.wrong]
    assert counts(ANSWERS) in text, "run: make exercises"
    assert len(lines) == len(expected), "run: make exercises"
    for line, (start, says) in zip(lines, expected, strict=True):
        assert line.startswith(start), "run: make exercises"
        assert says in line, "run: make exercises"


def test_the_books_table_explains_every_mutant_that_survived():
    text = PAGE.read_text(encoding="utf-8")
    record = json.loads((Path(__file__).parent / "rejections" / "mutants.json").read_text(encoding="utf-8"))
    for survivor in (survivor for each in record.values() for survivor in each["survivors"]):
        assert cell(survivor["change"]) in text
        assert survivor["why"] in text
