"""The learner's folder ``work/``: exercises are copied there once, and never written over."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dslearn.course.ledger import write_atomically

VERSION = "dslearn-exercises"  # key of a notebook's metadata: the exercises that it was made from


@dataclass(frozen=True)
class Offer:
    """What became of one notebook of exercises.

    Attributes:
        path: the copy in ``work/``, or the new exercises beside it.
        kind: ``"copied"``, ``"kept"`` as it is, or ``"beside"``: the exercises have changed and lie beside it.
    """

    path: Path
    kind: Literal["copied", "kept", "beside"]

    def __str__(self) -> str:
        return {
            "copied": f"work/{self.path.name}: yours to write in",
            "kept": f"work/{self.path.name}: kept as you left it",
            "beside": f"work/{self.path.name}: the exercises have changed; yours is kept, the new ones lie beside it",
        }[self.kind]


def offer_exercises(root: Path) -> list[Offer]:
    """Copy the exercises of a clone to its ``work/``, where they are not yet.

    Raises:
        LedgerError: ``work/`` cannot be written to.
    """
    return [
        _offer(exercise, root / "work" / exercise.name) for exercise in sorted((root / "exercises").glob("*.ipynb"))
    ]


def _offer(exercise: Path, own: Path) -> Offer:
    text = exercise.read_text(encoding="utf-8")
    if not own.exists():
        write_atomically(own, text)
        return Offer(own, "copied")
    if _version(own) in (_version(exercise), None):  # a damaged copy is the learner's, too
        return Offer(own, "kept")
    beside = own.with_name(f"{own.stem}.new-{_version(exercise)}.ipynb")
    if beside.exists():
        return Offer(own, "kept")
    write_atomically(beside, text)
    return Offer(beside, "beside")


def _version(notebook: Path) -> str | None:
    try:
        return json.loads(notebook.read_text(encoding="utf-8"))["metadata"].get(VERSION, "")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
