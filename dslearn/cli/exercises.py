"""``dslearn check`` and ``dslearn progress``: what is done of the exercises, judged anew or as stored."""

from __future__ import annotations

import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from dslearn.cli import CommandError
from dslearn.course.board import MARKS, count, lines
from dslearn.course.exercises import MODULES
from dslearn.course.feedback import Feedback
from dslearn.course.grading import GradingError, Notebooks, grade
from dslearn.course.ledger import LedgerError, project_root, write_atomically
from dslearn.course.progress import Progress, progress, record
from dslearn.course.rubrics import RUBRICS

_STYLES = {"done": "green", "not yet": "yellow", "not started": "dim"}


def check(what: str | None) -> int:
    """Judge the copies in ``work/``: of all chapters, of one, ``"01"``, or one exercise, ``"01.5"``.

    Returns:
        1 if a started answer is not right, or a chapter cannot be judged; else 0.

    Raises:
        CommandError: there is nothing to judge.
    """
    root = _root()
    there = sorted({number.partition(".")[0] for number in MODULES})
    chapters = [what.partition(".")[0]] if what else there
    if not {*chapters} <= {*there}:
        raise CommandError(f"there is no chapter {chapters[0]} yet; there are {', '.join(there)}")
    judged: list[Feedback] = []
    started = time.monotonic()
    console = Console()
    problems = 0
    for name in chapters:
        console.print(f"Chapter {name}: your cells run, one exercise after the other …")
        try:
            judged += _judge_chapter(root, name, console, only=what if what != name else None)
        except GradingError as error:
            if what:
                raise CommandError(str(error)) from error
            console.print(f"{error}\n")
            problems += 1
    console.print(_summary(judged, time.monotonic() - started))
    return int(problems > 0 or any(feedback.state == "not yet" for feedback in judged))


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
    table = Table("", "exercise", "minutes", "state", "tries", "failed last at")
    for line in lines(stored):
        cells = (MARKS[line.state], f"{line.number} {line.title}", str(line.minutes), line.said, str(line.tries))
        table.add_row(*cells, line.failed_at, style=_STYLES[line.state])
    console = Console()
    console.print(table)
    console.print(count(stored))
    if report:
        console.print(f"Written to {report}")
    return 0


def _judge_chapter(root: Path, name: str, console: Console, *, only: str | None) -> list[Feedback]:
    """Judge, store and show the exercises of a chapter."""
    if Notebooks.read(root, name).outdated:
        console.print("The exercises have changed since your copy in work/ was made; it is judged as they are now.")
    table = Table("", "exercise", "state", "what to know")
    judged: list[Feedback] = []
    with console.status(f"chapter {name}"):
        for feedback, own in grade(root, name, only=only):
            _store(feedback, own, console)
            judged.append(feedback)
            table.add_row(*_row(feedback, own), style=_STYLES[feedback.state])
    console.print(table)
    return judged


def _store(feedback: Feedback, own: Progress | None, console: Console) -> None:
    try:
        record(feedback, met=own.met if own else 0, of=own.of if own else 0)
    except LedgerError as error:
        console.print(f"Your progress could not be stored: {error}")


def _row(feedback: Feedback, own: Progress | None) -> tuple[str, str, str, str]:
    state = f"by you: {own.met} of {own.of}" if own and own.of else feedback.state
    detail = f"{feedback.failed}: {feedback.message}" if feedback.failed else feedback.message
    return MARKS[feedback.state], f"{feedback.exercise} {feedback.title}", state, detail


def _summary(judged: list[Feedback], seconds: float) -> str:
    checked, own = ([feedback.state for feedback in judged if feedback.exercise in kind] for kind in (MODULES, RUBRICS))
    told = [f"{checked.count('done')} of {len(checked)} done"] if checked else []
    told += [f"{checked.count(state)} {state}" for state in ("not yet", "not started") if state in checked]
    parts = [", ".join(told), f"judged by yourself: {own.count('done')} of {len(own)}" if own else ""]
    return f"{'; '.join(filter(None, parts))} ({seconds:.0f} s)"


def _markdown(stored: dict[str, Progress]) -> str:
    table = ["| | exercise | state | tries | done on |", "|---|---|---|---:|---|"]
    for line in lines(stored):
        marked = f"{MARKS[line.state]} | {line.number} {line.title}"
        table.append(f"| {marked} | {line.said} | {line.tries} | {line.done} |")
    return "\n".join(["# My exercises in dslearn", "", f"{count(stored)}.", "", *table]) + "\n"


def _root() -> Path:
    root = project_root()
    if root is None:
        raise CommandError("there is no course here: run this inside a clone of the repository")
    return root
