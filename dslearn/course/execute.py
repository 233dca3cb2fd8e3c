"""Execute chapters from fresh kernels with the network blocked: ``python -m dslearn.course.execute``.

``--check`` (the default) runs them and reports; ``--store`` also writes back the outputs of each chapter that
passed, its time and memory (``book/execution.json``), and the claims it made (``book/claims.json``).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from dslearn._extras import require
from dslearn.course.kernel import (
    NetworkOpenError,
    Proof,
    blocking_method,
    offline_kernel,
    peak_memory,
    prove_blocked,
)
from dslearn.course.ledger import Ledger, LedgerError, project_root, write_atomically
from dslearn.course.normalise import normalise, scrub
from dslearn.course.provenance import library_hash, machine

require("nbclient", "course")

import nbformat  # noqa: E402 - only after the extra is known to be there
from nbclient.exceptions import CellExecutionError, CellTimeoutError  # noqa: E402


@dataclass(frozen=True)
class Budget:
    """What a chapter may cost.

    Attributes:
        seconds: wall-clock time from the first cell to the last.
        megabytes: size of the stored notebook.
        memory: most memory that its kernel may hold, in MB.
    """

    seconds: int | float = 100
    megabytes: int | float = 1
    memory: int | float = 3000

    def __post_init__(self) -> None:
        for name in ("seconds", "megabytes", "memory"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0; got {getattr(self, name)}")


@dataclass(frozen=True)
class Report:
    """What became of one chapter.

    Attributes:
        path: the notebook.
        seconds: wall-clock time of its cells.
        memory: most memory its kernel held, in MB; 0 if the kernel died.
        megabytes: size of the notebook with its new, normalised outputs.
        proof: what the kernel met when it tried to reach out; None if it did not come to that.
        problems: why the chapter failed; empty when it passed.
    """

    path: Path
    seconds: float
    memory: float
    megabytes: float
    proof: Proof | None
    problems: tuple[str, ...]

    def __str__(self) -> str:
        head = f"{'FAILED' if self.problems else 'ok':<7}{self.path.name:<34}"
        numbers = f"{self.seconds:6.1f} s {self.memory:7,.0f} MB {self.megabytes:6.2f} MB stored"
        return "\n".join([head + numbers, *("  " + problem.replace("\n", "\n  ") for problem in self.problems)])


def execute_notebook(
    path: Path, *, store: bool = False, budget: Budget | None = None, method: str | None = None
) -> Report:
    """Run one chapter from a fresh kernel, offline.

    Args:
        path: the notebook.
        store: write back outputs, claims, time and memory if it passes; otherwise nothing is written.
        budget: what it may cost; the default is that of the book.
        method: how to block the network, ``"namespace"`` or ``"guard"``; None takes the strongest there is.

    Raises:
        ValueError: the file is not a notebook.
        LedgerError: the results cannot be stored.
    """
    budget, method = budget or Budget(), method or blocking_method()
    notebook, root = _read(path), project_root(path.resolve().parent)
    with tempfile.TemporaryDirectory(prefix="dsl-") as scratch:
        ledger = Ledger(Path(scratch, "claims.json"))
        seconds, memory, proof, problems = _run(notebook, path, ledger.path, budget, method)
        text = nbformat.writes(normalise(notebook, root)) + "\n"
        megabytes = len(text.encode()) / 1e6
        problems += _over_budget(seconds, memory, megabytes, budget)
        report = Report(path, seconds, memory, megabytes, proof, tuple(problems))
        if store and not problems:
            write_atomically(path, text)
            if root is not None:
                _record(root, report, ledger)
    return report


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return 0 if every chapter passed, 1 if one failed, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m dslearn.course.execute", description=__doc__)
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--check", action="store_true", help="run and report, write nothing (default)")
    mode.add_argument("--store", action="store_true", help="write back outputs, claims, time and memory")
    parser.add_argument("notebooks", nargs="*", type=Path, help="default: every notebook of chapters/")
    given = parser.parse_args(arguments)
    try:
        paths = given.notebooks or _chapters()
        return _execute_all(paths, store=given.store)
    except (ValueError, LedgerError, NetworkOpenError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; chapters already reported are stored, the one under way is untouched", file=sys.stderr)
        return 130


def _execute_all(paths: Sequence[Path], *, store: bool) -> int:
    budget, failed, total = Budget(), 0, 0.0
    for number, path in enumerate(paths):
        report = execute_notebook(path, store=store, budget=budget)
        if number == 0 and report.proof is not None:
            print(f"{str(report.proof)[0].upper()}{str(report.proof)[1:]}", flush=True)
        print(report, flush=True)
        failed += bool(report.problems)
        total += report.seconds
    print(
        f"{len(paths) - failed} of {len(paths)} chapters passed in {total:.0f} s "
        f"(each may take {budget.seconds:.0f} s and {budget.megabytes:g} MB)"
    )
    return 1 if failed else 0


def _run(
    notebook: nbformat.NotebookNode, path: Path, ledger: Path, budget: Budget, method: str
) -> tuple[float, float, Proof | None, list[str]]:
    """Execute the cells; return seconds, peak memory, the proof and the problems met."""
    seconds, memory, proof, cell, start = 0.0, 0.0, None, None, 0.0
    try:
        # A cell that alone outlasts the chapter's budget has failed already.
        with offline_kernel(notebook, path.resolve().parent, ledger, math.ceil(budget.seconds), method) as client:
            proof = prove_blocked(client, method)
            start = time.perf_counter()
            for index, cell in enumerate(notebook.cells):
                client.execute_cell(cell, index)
            seconds = time.perf_counter() - start
            memory = peak_memory(client)
    except (CellExecutionError, CellTimeoutError, RuntimeError) as error:  # RuntimeError: the kernel died
        seconds = seconds or (time.perf_counter() - start if start else 0.0)
        return seconds, memory, proof, [_explain(error, notebook, cell)]
    return seconds, memory, proof, []


def _explain(error: Exception, notebook: nbformat.NotebookNode, cell: nbformat.NotebookNode | None) -> str:
    if cell is None:
        return f"the kernel did not start: {scrub(_with_notes(error))}"
    number = notebook.cells.index(cell) + 1
    if isinstance(error, CellExecutionError):
        raised = [output for output in cell.outputs if output.output_type == "error"]
        shown = "\n".join(raised[-1].traceback) if raised else error
    elif isinstance(error, CellTimeoutError):
        shown = "this cell alone outlasted the chapter's time"
    else:
        shown = f"the kernel died (out of memory?): {_with_notes(error)}"
    return f"cell {number} of {len(notebook.cells)}:\n{_indented(cell.source)}\n{scrub(str(shown)).strip()}"


def _with_notes(error: Exception) -> str:
    return "\n".join([str(error), *getattr(error, "__notes__", [])])


def _indented(source: str) -> str:
    lines = source.splitlines()
    return "\n".join(f"    | {line}" for line in [*lines[:12], *(["…"] if len(lines) > 12 else [])])


def _over_budget(seconds: float, memory: float, megabytes: float, budget: Budget) -> list[str]:
    problems = []
    if seconds > budget.seconds:
        problems.append(f"took {seconds:.1f} s; a chapter may take {budget.seconds:g} s")
    if memory > budget.memory:
        problems.append(f"held {memory:,.0f} MB of memory; a chapter may hold {budget.memory:,.0f} MB")
    if megabytes > budget.megabytes:
        problems.append(f"is {megabytes:.2f} MB with its outputs; a chapter may be {budget.megabytes:g} MB")
    return problems


def _record(root: Path, report: Report, made: Ledger) -> None:
    book = Ledger(root / "book" / "claims.json")
    for claim_id, row in made.read()["claims"].items():
        book.record_claim(claim_id, row)
    place = root / "book" / "execution.json"
    known = json.loads(place.read_text(encoding="utf-8")) if place.exists() else {}
    folder = report.path.resolve().parent.name
    known[report.path.stem if folder == "chapters" else f"{folder}/{report.path.stem}"] = {
        "seconds": round(report.seconds, 1),
        "memory_mb": round(report.memory),
        "stored_mb": round(report.megabytes, 3),
        "network": report.proof.method if report.proof else "",
        "code": code_hash(_read(report.path)),
        "library": library_hash(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "machine": machine(),
    }
    write_atomically(place, json.dumps(known, indent=2, sort_keys=True) + "\n")


def code_hash(notebook: nbformat.NotebookNode) -> str:
    """Twelve hex digits of the SHA-256 over a notebook's code: stored outputs are fresh while it stays the same."""
    code = "\0".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    return hashlib.sha256(code.encode()).hexdigest()[:12]


def _read(path: Path) -> nbformat.NotebookNode:
    try:
        return nbformat.read(path, as_version=4)
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    except (nbformat.reader.NotJSONError, nbformat.ValidationError, AttributeError) as error:
        raise ValueError(f"{path} is not a notebook: {str(error)[:200]}") from error


def _chapters() -> list[Path]:
    root = project_root()
    found = sorted((root / "chapters").glob("*.ipynb")) if root else []
    if not found:
        raise ValueError("no chapters here; run this in a clone, or name the notebooks")
    return found


if __name__ == "__main__":
    sys.exit(main())
