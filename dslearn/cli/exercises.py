"""``dslearn check`` and ``dslearn progress``: what is done of the exercises, judged anew or as stored."""

from __future__ import annotations

import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from dslearn.cli import CommandError
from dslearn.course.exercises import MODULES, load
from dslearn.course.feedback import Feedback
from dslearn.course.grading import GradingError, Notebooks, grade
from dslearn.course.ledger import LedgerError, project_root, write_atomically
from dslearn.course.progress import Progress, progress, record
from dslearn.course.rubrics import RUBRICS

_STYLES = {"done": "green", "not yet": "yellow", "not started": "dim"}
_MARKS = {"done": "✓", "not yet": "✗", "not started": "·"}


def check(chapter: str | None) -> int:
    """Judge the copies in ``work/``; 1 if a started answer is not right, else 0.

    Raises:
        CommandError: there is nothing to judge.
    """
    root = _root()
    chapters = [chapter] if chapter else sorted({number.partition(".")[0] for number in MODULES})
    judged: list[Feedback] = []
    started = time.monotonic()
    console = Console()
    for name in chapters:
        table = Table("", "exercise", "state", "what to know", title=f"Chapter {name}", title_justify="left")
        try:
            if Notebooks.read(root, name).outdated:
                console.print(
                    f"work/: the exercises of chapter {name} have changed since your copy; judged as they are now."
                )
            with console.status(f"chapter {name}"):
                for feedback, own in grade(root, name):
                    _store(feedback, own, console)
                    judged.append(feedback)
                    table.add_row(*_row(feedback, own), style=_STYLES[feedback.state])
        except GradingError as error:
            if chapter:
                raise CommandError(str(error)) from error
            console.print(f"Chapter {name}: {error}")
            continue
        console.print(table)
    console.print(_summary(judged, time.monotonic() - started))
    return int(any(feedback.state == "not yet" for feedback in judged))


def show_progress(report: str | None) -> int:
    """Print what is stored of the exercises; with ``report`` also write it there as Markdown.

    Raises:
        CommandError: the ledger is damaged, or the report cannot be written.
    """
    try:
        stored = progress()
        if report:
            write_atomically(Path(report), _markdown(stored))
    except LedgerError as error:
        raise CommandError(str(error)) from error
    table = Table("", "exercise", "minutes", "state", "tries", "last check", title="Exercises", title_justify="left")
    for number, title, minutes in _all():
        row = stored.get(number)
        state = _state(row)
        cells = (_MARKS[state], f"{number} {title}", str(minutes), _said(row), str(row.tries if row else 0))
        table.add_row(*cells, row.failed if row else "", style=_STYLES[state])
    console = Console()
    console.print(table)
    console.print(_count(stored))
    if report:
        console.print(f"Written to {report}")
    return 0


def _store(feedback: Feedback, own: Progress | None, console: Console) -> None:
    try:
        record(feedback, met=own.met if own else 0, of=own.of if own else 0)
    except LedgerError as error:
        console.print(f"Your progress could not be stored: {error}")


def _row(feedback: Feedback, own: Progress | None) -> tuple[str, str, str, str]:
    state = f"by you: {own.met} of {own.of}" if own and own.of else feedback.state
    told = "" if feedback.state == "not started" else feedback.message
    detail = f"{feedback.failed}: {told}" if feedback.failed else told
    return _MARKS[feedback.state], f"{feedback.exercise} {feedback.title}", state, detail


def _summary(judged: list[Feedback], seconds: float) -> str:
    checked = [feedback for feedback in judged if feedback.exercise in MODULES]
    counts = {state: sum(feedback.state == state for feedback in checked) for state in _STYLES}
    own = sum(feedback.state == "done" for feedback in judged if feedback.exercise in RUBRICS)
    told = ", ".join(f"{count} {state}" for state, count in counts.items())
    return f"{told}; judged by yourself: {own}. ({seconds:.0f} s)"


def _all() -> list[tuple[str, str, int]]:
    checked = [load(number) for number in MODULES]
    everything = [*checked, *RUBRICS.values()]
    found = [(exercise.id, exercise.title, exercise.minutes) for exercise in everything]
    return sorted(found, key=lambda entry: [int(part) for part in entry[0].split(".")])


def _state(row: Progress | None) -> str:
    return "not started" if row is None else "done" if row.done else row.state


def _said(row: Progress | None) -> str:
    return f"by you: {row.met} of {row.of}" if row and row.of else _state(row)


def _count(stored: dict[str, Progress]) -> str:
    done = [number for number, row in stored.items() if row.done]
    checked, own = (sum(number in kind for number in done) for kind in (MODULES, RUBRICS))
    return f"{checked} of {len(MODULES)} done; judged by yourself: {own} of {len(RUBRICS)}"


def _markdown(stored: dict[str, Progress]) -> str:
    lines = ["# My exercises in dslearn", "", _count(stored) + ".", "", "| | exercise | state | tries | since |"]
    lines.append("|---|---|---|---:|---|")
    for number, title, _ in _all():
        row = stored.get(number)
        since = row.done or "" if row else ""
        lines.append(
            f"| {_MARKS[_state(row)]} | {number} {title} | {_said(row)} | {row.tries if row else 0} | {since} |"
        )
    return "\n".join(lines) + "\n"


def _root() -> Path:
    root = project_root()
    if root is None:
        raise CommandError("there is no course here: run this inside a clone of the repository")
    return root
