"""Exercises made from solutions: ``python -m dslearn.course.workbook``.

Each exercise is written once, in ``solutions/``. Without an option ``exercises/`` is written from it; ``--check``
compares byte for byte and names what is stale.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import sys
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path

from dslearn._extras import require
from dslearn.course.guard import STUB
from dslearn.course.ledger import LedgerError, project_root, write_atomically
from dslearn.course.normalise import normalise
from dslearn.course.workfolder import VERSION

require("nbconvert", "course")

import nbformat  # noqa: E402 - only after the extra is known to be there
from nbconvert.preprocessors import ClearOutputPreprocessor, Preprocessor, TagRemovePreprocessor  # noqa: E402
from nbformat import NotebookNode  # noqa: E402
from nbformat.v4 import new_markdown_cell  # noqa: E402

BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
SHOWN, ANSWER_ONLY = "expected", "solution"  # tags: show this cell's output folded; leave this cell out


_REGION = re.compile(rf"^( *){BEGIN}\n.*?^ *{END}$", re.MULTILINE | re.DOTALL)
_EXPECTED = "<details><summary>Expected output</summary>\n\n```\n{}\n```\n</details>"


class _ShowExpected(Preprocessor):
    """After each cell tagged ``expected``, its stored output, folded."""

    def preprocess(self, nb: NotebookNode, resources: dict) -> tuple[NotebookNode, dict]:
        cells = []
        for cell in nb.cells:
            cells.append(cell)
            if SHOWN in cell.metadata.get("tags", []):
                name = cell.id.rpartition("-")[0]
                cells.append(new_markdown_cell(_EXPECTED.format(_text(cell)), id=f"{name}-expected"))
        nb.cells = cells
        return nb, resources


class _ClearSolutions(Preprocessor):
    """In place of each solution, a line that says that none is there yet."""

    def preprocess_cell(self, cell: NotebookNode, resources: dict, index: int) -> tuple[NotebookNode, dict]:
        if cell.cell_type == "code":
            cell.source = _REGION.sub(rf'\1raise NotImplementedError("{STUB}")', cell.source)
            if BEGIN in cell.source or END in cell.source:
                raise ValueError(f"cell {cell.id}: {BEGIN} and {END} must stand in pairs, on lines of their own")
        return cell, resources


def exercise_of(solution: NotebookNode) -> NotebookNode:
    """The exercise notebook that belongs to a solved one, with a version that follows its text.

    Raises:
        ValueError: a solution's markers do not stand in pairs, or an expected output has not been stored.
    """
    notebook = deepcopy(solution)
    for step in (
        TagRemovePreprocessor(remove_cell_tags={ANSWER_ONLY}),
        _ShowExpected(),
        ClearOutputPreprocessor(),
        _ClearSolutions(),
    ):
        notebook, _ = step.preprocess(notebook, {})
    notebook = normalise(notebook)
    for cell in notebook.cells:
        cell.metadata = NotebookNode()
        if cell.cell_type == "code":
            cell.execution_count = None
    text = "\0".join(f"{cell.id}\0{cell.source}" for cell in notebook.cells)
    notebook.metadata[VERSION] = hashlib.sha256(text.encode()).hexdigest()[:12]
    return notebook


def write(root: Path) -> list[Path]:
    """Write ``exercises/`` from ``solutions/`` under ``root``; the files that changed."""
    changed = stale(root)
    for path in changed:
        solution = root / "solutions" / path.name
        path.unlink() if not solution.exists() else write_atomically(path, _text_of(solution))
    return changed


def stale(root: Path) -> list[Path]:
    """The files of ``exercises/`` that differ from what their solution gives, lack, or have no solution."""
    wanted = {root / "exercises" / path.name: _text_of(path) for path in solutions(root)}
    there = {path: path.read_text(encoding="utf-8") for path in sorted((root / "exercises").glob("*.ipynb"))}
    return [path for path in sorted(wanted.keys() | there.keys()) if wanted.get(path) != there.get(path)]


def solutions(root: Path) -> list[Path]:
    """The solved notebooks, in the order of the chapters.

    Raises:
        ValueError: there are none.
    """
    found = sorted((root / "solutions").glob("*.ipynb"))
    if not found:
        raise ValueError(f"{root / 'solutions'} holds no notebook: without them no exercise can be made or judged")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return 0 if the exercises are written or current, 1 if not."""
    parser = argparse.ArgumentParser(prog="python -m dslearn.course.workbook", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; name what is stale and return 1")
    given = parser.parse_args(arguments)
    root = project_root()
    try:
        if root is None:
            raise ValueError("no solutions here; run this in a clone")
        changed = stale(root) if given.check else write(root)
    except (ValueError, LedgerError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 1
    for path in changed:
        print(f"{'stale' if given.check else 'written'}: {path.relative_to(root).as_posix()}")
    print(f"{len(solutions(root))} notebooks of exercises, {len(changed)} {'stale' if given.check else 'changed'}")
    return 1 if given.check and changed else 0


def _text_of(solution: Path) -> str:
    return nbformat.writes(exercise_of(nbformat.read(solution, as_version=4))) + "\n"


def _text(cell: NotebookNode) -> str:
    shown = [output.get("text") or output.get("data", {}).get("text/plain", "") for output in cell.outputs]
    if not any(shown):
        raise ValueError(f"cell {cell.id} shows nothing yet: run the solutions first (make exercises)")
    return "\n".join(text.strip("\n") for text in shown)


if __name__ == "__main__":
    sys.exit(main())
