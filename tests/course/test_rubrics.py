"""Exercises that the learner judges are counted apart, and points that do not exist are refused."""

from __future__ import annotations

import json

import pytest

from dslearn.course import rubric
from dslearn.course.ledger import LEDGER_VARIABLE
from dslearn.course.rubrics import RUBRICS


@pytest.fixture
def ledger(tmp_path, monkeypatch):
    path = tmp_path / "claims.json"
    monkeypatch.setenv(LEDGER_VARIABLE, str(path))
    return path


@pytest.mark.parametrize("number", RUBRICS)
def test_unjudged_it_shows_its_points_and_stores_nothing(number, ledger) -> None:
    feedback = rubric(number, met=...)
    assert feedback.state == "not started"
    assert all(f"{place}. {point}" in feedback.message for place, point in enumerate(RUBRICS[number].points, start=1))
    assert not ledger.exists()
    assert rubric(number) == rubric(number, met=None) == feedback


def test_the_learners_count_is_stored_apart(ledger) -> None:
    feedback = rubric("01.9", met=[3, 1, 1])
    assert "own judgement 2 of" in feedback.message
    row = json.loads(ledger.read_text())["exercises"]["01.9"]
    assert (row["met"], row["of"]) == (2, len(RUBRICS["01.9"].points))


def test_points_left_are_named_and_none_met_is_not_done(ledger) -> None:
    points = RUBRICS["01.9"].points
    told = rubric("01.9", met=[1]).message
    assert f"2. {points[1]}" in told
    assert points[0] not in told
    assert "Left" not in rubric("01.9", met=range(1, len(points) + 1)).message
    assert rubric("01.9", met=[]).state == "not yet"


@pytest.mark.parametrize("met", [3, "13", ["1"], [True], [1.0]])
def test_what_is_no_list_of_numbers_is_refused(met, ledger) -> None:
    with pytest.raises(ValueError, match=r"met takes the numbers of the points that are met, such as \[1, 3\]; got"):
        rubric("01.9", met=met)
    assert not ledger.exists()


@pytest.mark.parametrize("met", [[0], [99], [1, -1]])
def test_points_that_do_not_exist_are_refused(met, ledger) -> None:
    with pytest.raises(ValueError, match=r"the points of 01.9 are 1 to \d; got"):
        rubric("01.9", met=met)


def test_an_unknown_exercise_is_named_with_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"no exercise with a rubric is called '01.99'; did you mean 01.9"):
        rubric("01.99")


def test_progress_that_cannot_be_stored_is_said(tmp_path, monkeypatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(LEDGER_VARIABLE, str(tmp_path / "file" / "claims.json"))
    assert "could not be stored" in repr(rubric("01.9", met=[1]))
