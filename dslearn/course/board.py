"""Every exercise with what is stored of it: for the command line, for a report, and as a board in JupyterLab."""

from __future__ import annotations

import re
from dataclasses import dataclass

from dslearn.course.exercises import MODULES, load
from dslearn.course.feedback import State
from dslearn.course.ledger import LedgerError
from dslearn.course.progress import Progress, progress
from dslearn.course.rubrics import RUBRICS
from dslearn.widgets import ProgressBoard

MARKS: dict[State, str] = {"done": "✓", "not yet": "✗", "not started": "·"}


@dataclass(frozen=True)
class Line:
    """One exercise on the board.

    Attributes:
        state: done once it was right, whatever came later.
        said: the state in words.
        failed_at: the behaviour at which the last try failed; empty otherwise.
        done: the day of the first right answer; empty before it.
    """

    number: str
    title: str
    minutes: int
    state: State
    said: str
    tries: int
    failed_at: str
    done: str

    @classmethod
    def of(cls, number: str, title: str, minutes: int, row: Progress | None) -> Line:
        if row is None:
            return cls(number, title, minutes, "not started", "not started", 0, "", "")
        state = "done" if row.done else row.state
        return cls(number, title, minutes, state, _said(row, state), row.tries, _failed_at(row), row.done or "")


def lines(stored: dict[str, Progress]) -> list[Line]:
    """A line for every exercise, in order."""
    everything = [*map(load, MODULES), *RUBRICS.values()]
    in_order = sorted(everything, key=lambda exercise: [int(part) for part in exercise.id.split(".")])
    return [Line.of(each.id, each.title, each.minutes, stored.get(each.id)) for each in in_order]


def count(stored: dict[str, Progress]) -> str:
    """How many are done, what a check judges and what the learner judges counted apart."""
    done = [number for number, row in stored.items() if row.done]
    checked, own = (sum(number in kind for number in done) for kind in (MODULES, RUBRICS))
    return f"{checked} of {len(MODULES)} done; judged by yourself: {own} of {len(RUBRICS)}"


def progress_board() -> ProgressBoard:
    """A widget with every exercise and what is stored of it; its button looks again."""
    return ProgressBoard(_look)


def _look() -> tuple[str, list[tuple[str, str, int, str, int, str]]]:
    try:
        stored = progress()
    except LedgerError as error:
        return str(error), []
    rows = [
        (MARKS[line.state], f"{line.number} {line.title}", line.minutes, line.said, line.tries, line.failed_at)
        for line in lines(stored)
    ]
    return f"{count(stored)}.", rows


def _said(row: Progress, state: State) -> str:
    if row.of:
        return f"by you: {row.met} of {row.of}"
    return "done, but not as it is now" if row.done and row.state == "not yet" else state


def _failed_at(row: Progress) -> str:
    """The behaviour that failed; what came before any behaviour, in its first sentence."""
    if row.state != "not yet":
        return ""
    return row.failed or re.split(r"(?<=[.?!]) ", row.message)[0]
