"""What a learner has done: stored after every check, shown as a table, told in a report."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from dslearn.course.feedback import Feedback, State
from dslearn.course.ledger import Ledger, reader_ledger


@dataclass(frozen=True)
class Progress:
    """How far one exercise is.

    Attributes:
        state: of the last try.
        tries: checks of a started answer; one that finds what the last one found is not counted again.
        done: the day of the first right answer; None before it.
        failed: the behaviour that did not hold at the last try; empty otherwise.
        message: what the last check said.
        met, of: points of a rubric that the learner finds met; 0 of 0 where a check judges.
    """

    state: State
    tries: int
    done: str | None
    failed: str
    message: str
    met: int = 0
    of: int = 0


def record(feedback: Feedback, *, met: int = 0, of: int = 0, ledger: Ledger | None = None) -> None:
    """Store the outcome of a check or of a rubric; a right answer stays counted as done.

    Raises:
        LedgerError: the reader's ledger is damaged or cannot be written.
    """
    today = datetime.now(UTC).strftime("%Y-%m-%d")

    def change(row: dict[str, Any] | None) -> dict[str, Any]:
        before = Progress(**row) if row else Progress("not started", 0, None, "", "")
        is_new = (before.state, before.failed, before.message) != (feedback.state, feedback.failed, feedback.message)
        now = Progress(
            state=feedback.state,
            tries=before.tries + (is_new and feedback.state != "not started"),
            done=before.done or (today if feedback.passed else None),
            failed=feedback.failed,
            message=feedback.message,
            met=met,
            of=of,
        )
        return asdict(now)

    (ledger or reader_ledger()).record_exercise(feedback.exercise, change)


def progress(*, ledger: Ledger | None = None) -> dict[str, Progress]:
    """What is stored, by exercise id.

    Raises:
        LedgerError: the reader's ledger is damaged.
    """
    rows = (ledger or reader_ledger()).exercises()
    return {exercise_id: Progress(**row) for exercise_id, row in rows.items()}
