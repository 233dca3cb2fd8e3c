"""``check("01.3", top_blocks)``: what a learner runs under an exercise."""

from __future__ import annotations

import dataclasses
from typing import Any

from dslearn.course.exercises import load
from dslearn.course.feedback import Feedback
from dslearn.course.guard import copy_of
from dslearn.course.ledger import LedgerError


def check(exercise_id: str, answer: object) -> Feedback:
    """Try an answer to an exercise and say what it does.

    Args:
        exercise_id: such as ``"01.3"``.
        answer: the function; or a module, or a class that is made without arguments, of any layout.

    Returns:
        What to show; the outcome is also written to the reader's ledger.

    Raises:
        ValueError: there is no such exercise.
    """
    from dslearn.course.checking import judge
    from dslearn.course.progress import record

    feedback = judge(load(exercise_id), answer)
    try:
        record(feedback)
    except LedgerError as error:
        return dataclasses.replace(feedback, note=f"Your progress could not be stored: {error}")
    return feedback


def show(exercise_id: str, answer: object) -> object:
    """Call an answer with the example of the exercise and show what it returns, without judging it.

    Raises:
        ValueError: there is no such exercise.
    """
    from dslearn.course.checking import attempt

    return attempt(load(exercise_id), answer)


def example(exercise_id: str) -> tuple[Any, ...]:
    """The arguments of the example that the exercise shows.

    Raises:
        ValueError: there is no such exercise.
    """
    exercise = load(exercise_id)
    return tuple(copy_of(exercise.build(*exercise.shown)))
