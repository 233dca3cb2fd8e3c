"""The file in which predictions and measurements are kept.

Two ledgers exist. A reader's own is ``work/claims.json``, outside version control. The book's is
``book/claims.json``; only ``python -m dslearn.course.execute --store`` and ``benchmarks --record`` write it,
by naming it: ``Ledger(path)``. A chapter never names a path, because the reader and the executor run the same
text; the executor therefore points ``DSLEARN_LEDGER`` at a file of its own and copies the rows afterwards.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

LEDGER_VARIABLE = "DSLEARN_LEDGER"
_SCHEMA = 1
_PARTS = ("claims", "predictions", "exercises")
_LOCK_SECONDS = 20.0

Content = dict[str, Any]


class LedgerError(RuntimeError):
    """A ledger that cannot be read or written; the message says what was done and what to do."""


class Ledger:
    """A JSON file of claims, predictions and exercises by id; every change is locked, checked and atomic.

    Args:
        path: the file; it and its folder are made at the first write.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    def __repr__(self) -> str:
        return f"Ledger({str(self.path)!r})"

    def claim(self, claim_id: str) -> Content | None:
        """Return the recorded row of ``claim_id``, or None.

        Raises:
            LedgerError: the file is damaged (it is set aside, under a new name) or cannot be read.
        """
        return self.read()["claims"].get(claim_id)

    def prediction(self, claim_id: str) -> Content | None:
        """Return what the reader committed to for ``claim_id``, or None."""
        return self.read()["predictions"].get(claim_id)

    def record_claim(self, claim_id: str, row: Content) -> None:
        """Replace the row of ``claim_id``."""
        self._change(lambda content: content["claims"].__setitem__(claim_id, row))

    def exercises(self) -> Content:
        """Return what became of each exercise, by id."""
        return self.read()["exercises"]

    def record_exercise(self, exercise_id: str, change: Callable[[Content | None], Content]) -> None:
        """Replace the row of ``exercise_id`` by ``change(row)``; the row is None at the first time."""
        self._change(lambda content: _replace(content["exercises"], exercise_id, change))

    def record_prediction(self, claim_id: str, row: Content) -> None:
        """Replace the prediction of ``claim_id``."""
        self._change(lambda content: content["predictions"].__setitem__(claim_id, row))

    def read(self) -> Content:
        """Return the whole file; an absent one reads as empty.

        Raises:
            LedgerError: the file is damaged (it is set aside, under a new name) or cannot be read.
        """
        try:
            text = self.path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return {"schema": _SCHEMA, **{part: {} for part in _PARTS}}
        except UnicodeDecodeError as error:
            raise self._set_aside(f"it is not text ({error.reason})") from error
        except OSError as error:
            raise LedgerError(f"cannot read the ledger {self.path}: {error.strerror}") from error
        try:
            content = json.loads(text)
        except json.JSONDecodeError as error:
            raise self._set_aside(f"line {error.lineno}: {error.msg}") from error
        if problem := _problem(content):
            raise self._set_aside(problem)
        return {part: {} for part in _PARTS} | content

    def _change(self, change: Callable[[Content], None]) -> None:
        with self._locked():
            content = self.read()
            change(content)
            text = json.dumps(content, indent=2, ensure_ascii=False, sort_keys=True)
            write_atomically(self.path, text + "\n")

    @contextmanager
    def _locked(self) -> Iterator[None]:
        # Imported here because reading needs no lock.
        from filelock import FileLock, Timeout

        lock = FileLock(self.path.with_name(f".{self.path.name}.lock"), timeout=_LOCK_SECONDS)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except Timeout as error:
            raise LedgerError(
                f"the ledger {self.path} has been locked for {_LOCK_SECONDS:.0f} s: is another run still on?"
            ) from error
        except OSError as error:
            raise _unwritable(self.path, error) from error
        try:
            yield
        finally:
            lock.release()

    def _set_aside(self, problem: str) -> LedgerError:
        number = 1
        while (kept := self.path.with_name(f"{self.path.name}.damaged-{number}")).exists():
            number += 1
        try:
            self.path.replace(kept)
        except OSError as error:
            return LedgerError(f"{self.path} is damaged ({problem}) and cannot be moved: {error.strerror}")
        return LedgerError(
            f"the ledger {self.path} is damaged ({problem}). It was kept as {kept.name}; "
            "run the cell again to start a new one, or repair that file and rename it back."
        )


def write_atomically(path: Path, text: str) -> None:
    """Write ``text`` so that a reader of ``path`` sees the old file or the new one, never a part.

    Raises:
        LedgerError: the folder cannot be written to or the disk is full; the old file is untouched.
    """
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        temporary = Path(name)
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
        temporary.chmod(path.stat().st_mode & 0o777 if path.exists() else 0o644)
        temporary.replace(path)
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def project_root(start: Path | None = None) -> Path | None:
    """Return the nearest folder from ``start`` upwards with a ``book/claims.json``; None outside a clone."""
    start = (start or Path.cwd()).resolve()
    return next((path for path in (start, *start.parents) if (path / "book" / "claims.json").is_file()), None)


def reader_ledger() -> Ledger:
    """Return the ledger of this run: ``$DSLEARN_LEDGER``, else ``work/claims.json`` in the clone or here."""
    if named := os.environ.get(LEDGER_VARIABLE):
        return Ledger(named)
    return Ledger((project_root() or Path.cwd()) / "work" / "claims.json")


def book_ledger() -> Ledger | None:
    """Return the book's ledger, to be read; None outside a clone."""
    root = project_root()
    return Ledger(root / "book" / "claims.json") if root else None


def _replace(rows: Content, key: str, change: Callable[[Content | None], Content]) -> None:
    rows[key] = change(rows.get(key))


def _problem(content: object) -> str | None:
    if not isinstance(content, dict) or content.get("schema") != _SCHEMA:
        return f"it is not a ledger of schema {_SCHEMA}"
    for part in _PARTS:
        rows = content.get(part, {} if part == "exercises" else None)  # files of the first version have none
        if not isinstance(rows, dict) or not all(isinstance(row, dict) for row in rows.values()):
            return f"its part {part!r} is not a table of rows"
    return None


def _unwritable(path: Path, error: OSError) -> LedgerError:
    return LedgerError(
        f"cannot write {path}: {error.strerror or error}. Nothing was changed. Give that folder write "
        f"permission and space, or set {LEDGER_VARIABLE} to a file that can be written."
    )
