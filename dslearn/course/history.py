"""The article's story and the dated record, as rows of ``book/timeline.csv``."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from dslearn.course.ledger import project_root

_COLUMNS = ("told_by", "date", "label", "event", "source", "confidence")


@dataclass(frozen=True)
class Entry:
    """Something that happened, or is said to have happened.

    Attributes:
        told_by: ``"article"`` or ``"record"``.
        date: ``YYYY``, ``YYYY-MM`` or ``YYYY-MM-DD``, as exactly as it is known.
        label: a few words for a figure.
        event: the whole of it.
        source: where it can be looked up.
        confidence: ``"primary"`` where the source is the actor's own, else ``"secondary"``; the article's
            entries are a ``"claim"``.
    """

    told_by: str
    date: str
    label: str
    event: str
    source: str
    confidence: str

    @property
    def year(self) -> float:
        """The date as a decimal year: a bare year is its beginning."""
        year, month, day = (*(int(part) for part in self.date.split("-")), 1, 1)[:3]
        start = date(year, 1, 1).toordinal()
        length = date(year + 1, 1, 1).toordinal() - start
        return year + (date(year, month, day).toordinal() - start) / length


def load_timeline(path: Path | None = None) -> list[Entry]:
    """Return the entries in order of date.

    Args:
        path: the table; None takes the one of the clone around the working directory.

    Raises:
        FileNotFoundError: there is no such table; it comes with a clone and not with the installed library.
        ValueError: its columns are not the ones above.
    """
    if path is None:
        path = (project_root() or Path.cwd()) / "book" / "timeline.csv"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there: the timeline comes with a clone of the course")
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != _COLUMNS:
            raise ValueError(f"{path} must have the columns {', '.join(_COLUMNS)}; it has {reader.fieldnames}")
        return sorted((Entry(**row) for row in reader), key=lambda entry: entry.year)
