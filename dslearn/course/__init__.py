"""What turns the library into a course: predictions, the ledger of claims, readiness, offline chapters."""

from __future__ import annotations

from dslearn.course.board import progress_board
from dslearn.course.checks import check, example, show
from dslearn.course.claims import VERDICTS, Measurement, Prediction, Statement, claim, predict, statements
from dslearn.course.ledger import Ledger, LedgerError, project_root
from dslearn.course.rubrics import Rubric, rubric
from dslearn.course.verdicts import Verdict, verdict

__all__ = [
    "VERDICTS",
    "Ledger",
    "LedgerError",
    "Measurement",
    "Prediction",
    "Rubric",
    "Statement",
    "Verdict",
    "check",
    "claim",
    "example",
    "predict",
    "progress_board",
    "project_root",
    "rubric",
    "show",
    "statements",
    "verdict",
]
