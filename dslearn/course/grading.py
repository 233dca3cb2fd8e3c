"""``dslearn check``: the learner's cells on the solutions' checks, judged by nbval, one exercise at a time.

Each exercise gets a notebook and a kernel of its own: the solution's imports, the cells of the learner's notebook that
define the answer (and what these need), and the solution's check cell with its stored output. So neither an edited
check nor a saved output can pass, and a cell that ends Python costs its own exercise only. All of these cells must run.
"""

from __future__ import annotations

import difflib
import os
import re
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dslearn._extras import require
from dslearn.course.exercises import MODULES, load
from dslearn.course.feedback import Feedback
from dslearn.course.ledger import LEDGER_VARIABLE, Ledger
from dslearn.course.progress import Progress, progress
from dslearn.course.rubrics import RUBRICS, Rubric

require("nbformat", "course")

import nbformat  # noqa: E402 - only after the extra is known to be there
from nbformat import NotebookNode  # noqa: E402
from nbformat.v4 import new_code_cell, new_notebook  # noqa: E402

from dslearn.course.processes import run_and_clean_up  # noqa: E402
from dslearn.course.slices import Piece, names_bound, needed, pieces  # noqa: E402
from dslearn.course.workbook import VERSION, exercise_of  # noqa: E402

CELL_SECONDS = 20
EXERCISE_SECONDS = 90

_STALE = (
    "The check gave another output than the solutions hold: library and solutions are of different versions. "
    "`git status` tells what was changed; `make setup` installs what is here."
)
_CHECKED = "nbval-check-output"
_COLOURS = re.compile(r"(#x1B|\x1b)\[[0-9;]*m")
_RAISED = re.compile(r"^(\w*(?:Error|Exception|Exit|Interrupt|Iteration)): ?(.*)$", re.MULTILINE)


class GradingError(Exception):
    """Nothing can be judged: what is missing or broken, and what to do."""


@dataclass(frozen=True)
class Notebooks:
    """One chapter's exercises: how they are solved, how they were handed out, what the learner made of them."""

    chapter: str
    solution: NotebookNode
    exercise: NotebookNode
    work: NotebookNode
    folder: Path

    @classmethod
    def read(cls, root: Path, chapter: str) -> Notebooks:
        """The notebooks of a chapter, ``"01"``.

        Raises:
            GradingError: one of them is missing or broken, or the learner's is of another course.
        """
        solution = _one(
            root / "solutions", chapter, "It comes with the course: restore it with `git checkout solutions`."
        )
        work = root / "work" / solution.name
        if not work.exists():
            raise GradingError(
                f"there is no {work.relative_to(root)} yet: `dslearn lab` puts a copy of the exercises there"
            )
        solved, own = _read(solution, root), _read(work, root)
        found = cls(chapter, solved, exercise_of(solved), own, work.parent)
        if not {cell.get("id") for cell in own.cells} & {cell.id for cell in solved.cells} and not found._any_answer():
            raise GradingError(
                f"{work.relative_to(root)} holds none of the exercises of chapter {chapter}: is it a notebook of "
                "another course? Rename it, and `dslearn lab` puts the exercises there"
            )
        return found

    @property
    def outdated(self) -> bool:
        """Whether the exercises have changed since the learner's copy was made."""
        return self.work.metadata.get(VERSION) != self.exercise.metadata[VERSION]

    @property
    def ids(self) -> list[str]:
        """The exercises that the solutions hold, in order."""
        there = {cell.id for cell in self.solution.cells}
        return [number for number in sorted([*MODULES, *RUBRICS], key=_in_order) if f"{_slug(number)}-answer" in there]

    def _any_answer(self) -> bool:
        bound = {name for piece in pieces(self.work) for name in piece.binds}
        return any(load(number).function in bound for number in self.ids if number in MODULES)


def grade(root: Path, chapter: str, *, only: str | None = None) -> Iterator[tuple[Feedback, Progress | None]]:
    """Judge the exercises of a chapter one by one, or ``only`` one of them, ``"01.5"``.

    Yields:
        what to say, and for a rubric the learner's own count.

    Raises:
        GradingError: there is nothing to judge, or a notebook is broken.
    """
    notebooks = Notebooks.read(root, chapter)
    if only and only not in notebooks.ids:
        raise GradingError(f"there is no exercise {only}; there are {', '.join(notebooks.ids)}")
    for number in notebooks.ids if only is None else [only]:
        yield _by_rubric(notebooks, RUBRICS[number]) if number in RUBRICS else (_by_check(notebooks, number), None)


def _by_check(notebooks: Notebooks, number: str) -> Feedback:
    exercise = load(number)
    cells, problem = _answer(notebooks, number)
    if problem is not None:
        return problem
    check = _cell(notebooks.solution, f"{_slug(number)}-check")
    outcome = _judge([*_opening(notebooks), *cells, _check_cell(check)], notebooks.folder)
    row = outcome.progress.get(number)
    if outcome.passed and row is not None:
        return Feedback(number, exercise.title, "done", row.message)
    if row is not None and row.state != "done":
        return Feedback(number, exercise.title, row.state, row.message, failed=row.failed)
    return Feedback(number, exercise.title, "not yet", outcome.trouble or _STALE)


def _by_rubric(notebooks: Notebooks, rubric: Rubric) -> tuple[Feedback, Progress | None]:
    """The learner's own rubric cell, run; once there is an answer to be judged."""
    text = _cell(notebooks.solution, f"{_slug(rubric.id)}-text").source
    if any(cell.source == text for cell in notebooks.work.cells):
        return Feedback(rubric.id, rubric.title, "not started", ""), None
    call = re.compile(rf"rubric\(\s*[\"']{re.escape(rubric.id)}[\"']")
    own = [cell for cell in notebooks.work.cells if cell.cell_type == "code" and call.search(cell.source)]
    if not own:
        return Feedback(rubric.id, rubric.title, "not started", "The cell with its rubric is gone."), None
    outcome = _judge([*_opening(notebooks), new_code_cell(own[-1].source)], notebooks.folder)
    row = outcome.progress.get(rubric.id)
    if row is None:
        state = "not started" if outcome.passed else "not yet"
        return Feedback(rubric.id, rubric.title, state, "" if outcome.passed else outcome.trouble), None
    return Feedback(rubric.id, rubric.title, row.state, row.message), row


def _answer(notebooks: Notebooks, number: str) -> tuple[list[NotebookNode], Feedback | None]:
    """The learner's cells for an exercise; or why there are none."""
    title, name = load(number).title, load(number).function
    solved = _cell(notebooks.solution, f"{_slug(number)}-answer")
    handed_out = {cell.source for cell in notebooks.exercise.cells if cell.cell_type == "code"}
    own = pieces(notebooks.work)
    found = needed(own, names_bound(solved.source), stubs=handed_out)
    if any(name in piece.binds and piece.source in handed_out for piece in found):
        return [], Feedback(number, title, "not started", "")
    if any(name in piece.binds for piece in found):
        return [new_code_cell(piece.source) for piece in found], None
    broken = next((piece for piece in own if piece.error and _mentions(piece, name)), None)
    if broken is not None:
        return [], Feedback(number, title, "not yet", f"The cell of `{name}` is not Python yet: {broken.error}.")
    near = difflib.get_close_matches(name, {bound for piece in own for bound in piece.binds}, n=1, cutoff=0.8)
    remedy = f"Is `{near[0]}` meant to be it?" if near else "The cell as it was handed out is in exercises/."
    return [], Feedback(number, title, "not started", f"No cell defines `{name}`. {remedy}")


@dataclass(frozen=True)
class _Outcome:
    passed: bool
    trouble: str
    progress: dict[str, Progress]


def _judge(cells: list[NotebookNode], folder: Path) -> _Outcome:
    """Let nbval run a notebook of these cells."""
    with tempfile.TemporaryDirectory(prefix="dslearn-check-") as scratch:
        place = Path(scratch)
        nbformat.write(new_notebook(cells=cells), place / "judged.ipynb")
        (place / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
        environment = {**os.environ, LEDGER_VARIABLE: str(place / "claims.json"), "PYTHONHASHSEED": "0"}
        ended = run_and_clean_up(_command(place), environment, folder=place, seconds=EXERCISE_SECONDS)
        if not ended:
            return _Outcome(False, f"Your cells had not ended after {EXERCISE_SECONDS} seconds.", {})
        made = progress(ledger=Ledger(place / "claims.json"))
        passed, trouble = _verdict(place / "report.xml", len(cells))
        return _Outcome(passed, trouble, made)


def _command(place: Path) -> list[str]:
    options = ["-q", "-c", "pytest.ini", "--rootdir", ".", "-p", "no:cacheprovider", "--junitxml", "report.xml"]
    nbval = ["--nbval-lax", "--nbval-current-env", "--nbval-cell-timeout", str(CELL_SECONDS)]
    return [sys.executable, "-m", "pytest", *options, *nbval, str(place / "judged.ipynb")]


def _verdict(report: Path, count: int) -> tuple[bool, str]:
    """Whether all cells passed; and what the first failing one met."""
    if not report.exists():
        return False, "Nothing came back from the run: is there memory left on this machine?"
    cases = list(ElementTree.parse(report).iter("testcase"))
    troubles = [node for case in cases for node in case if node.tag in ("failure", "error", "skipped")]
    passed = len(cases) == count and not troubles
    return passed, "" if passed else _told(_COLOURS.sub("", troubles[0].text or "") if troubles else "")


def _told(failure: str) -> str:
    if "Failed to interrupt kernel" in failure or "Kernel died" in failure:
        return "A cell ends Python itself, or cannot be interrupted: is there an exit in it, or too much memory?"
    if "Timeout of" in failure or "KeyboardInterrupt" in failure:
        return f"A cell had not ended after {CELL_SECONDS} seconds: does a loop never end?"
    raised = _RAISED.findall(failure)
    if raised:
        name, message = raised[-1]
        return f"A cell raises {name}: {message.strip().rstrip('.')}." if message.strip() else f"A cell raises {name}."
    return ""


def _opening(notebooks: Notebooks) -> list[NotebookNode]:
    """The solution's imports, and a limit to what cells may print, in the learner's folder."""
    begin = f"from dslearn.course.guard import begin\nbegin({str(notebooks.folder.resolve())!r})"
    return [new_code_cell(begin), new_code_cell(_cell(notebooks.solution, "imports").source)]


def _check_cell(check: NotebookNode) -> NotebookNode:
    source = f"from dslearn.course import check\n{check.source}"
    return new_code_cell(
        source, outputs=check.outputs, execution_count=check.execution_count, metadata={"tags": [_CHECKED]}
    )


def _cell(notebook: NotebookNode, cell_id: str) -> NotebookNode:
    found = next((cell for cell in notebook.cells if cell.id == cell_id), None)
    if found is None:
        raise GradingError(f"the solutions have no cell {cell_id!r}: restore them with `git checkout solutions`")
    return found


def _mentions(piece: Piece, name: str) -> bool:
    return re.search(rf"\b(def|class)\s+{re.escape(name)}\b|\b{re.escape(name)}\s*=", piece.source) is not None


def _one(folder: Path, chapter: str, remedy: str) -> Path:
    found = sorted(folder.glob(f"{chapter}_*.ipynb"))
    if not found:
        raise GradingError(f"{folder.name}/ has no notebook of chapter {chapter}. {remedy}")
    return found[0]


def _read(path: Path, root: Path) -> NotebookNode:
    name = path.relative_to(root).as_posix()
    try:
        return nbformat.read(path, as_version=4)
    except OSError as error:
        raise GradingError(f"{name} cannot be read: {error.strerror}") from error
    except Exception as error:  # whatever nbformat meets in a damaged file
        raise GradingError(
            f"{name} is damaged ({_first_line(error)}), and nothing in it was touched. JupyterLab keeps the last saved "
            f"version in {path.parent.name}/.ipynb_checkpoints; or rename it, and `dslearn lab` puts a fresh copy there"
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:120]


def _slug(number: str) -> str:
    return number.replace(".", "-")


def _in_order(number: str) -> tuple[int, ...]:
    return tuple(int(part) for part in number.split("."))
