"""Solutions under nbval; exercises, as they are shipped, unfinished in exactly their stubs and broken nowhere."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from dslearn.course.exercises import MODULES
from dslearn.course.ledger import LEDGER_VARIABLE
from dslearn.course.rubrics import RUBRICS

ROOT = Path(__file__).resolve().parents[2]
SOLUTIONS, EXERCISES = (sorted((ROOT / folder).glob("*.ipynb")) for folder in ("solutions", "exercises"))

pytestmark = [pytest.mark.notebook, pytest.mark.slow]


def nbval(path: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    (folder / "pytest.ini").write_text("[pytest]\n")
    options = ["-q", "-c", "pytest.ini", "-p", "no:cacheprovider", "--nbval", "--nbval-current-env"]
    return subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(path)], cwd=folder, capture_output=True, text=True
    )


@pytest.fixture
def scratch(tmp_path, monkeypatch):
    monkeypatch.setenv(LEDGER_VARIABLE, str(tmp_path / "claims.json"))
    return tmp_path


@pytest.mark.parametrize("path", SOLUTIONS, ids=lambda path: path.stem)
def test_every_output_of_a_solution_comes_again(path, scratch) -> None:
    done = nbval(path, scratch)
    assert done.returncode == 0, done.stdout[-3000:]


def test_nbval_would_notice(scratch) -> None:
    notebook = nbformat.read(SOLUTIONS[0], as_version=4)
    check = next(cell for cell in notebook.cells if cell.id == "00-1-check")
    check.outputs[0].data["text/plain"] = check.outputs[0].data["text/plain"].replace("done", "nearly")
    nbformat.write(notebook, scratch / "changed.ipynb")
    done = nbval(scratch / "changed.ipynb", scratch)
    assert done.returncode == 1
    assert "nearly" in done.stdout


@pytest.mark.parametrize("path", EXERCISES, ids=lambda path: path.stem)
def test_as_shipped_every_exercise_is_not_started_and_nothing_fails(path, scratch) -> None:
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=60, kernel_name="python3").execute(cwd=str(scratch))
    said = {cell.id: cell.outputs for cell in notebook.cells if cell.cell_type == "code"}
    assert not [output for outputs in said.values() for output in outputs if output.output_type == "error"]
    own = [number for number in [*MODULES, *RUBRICS] if number.startswith(path.stem[:2])]
    for number in own:
        cell = f"{number.replace('.', '-')}-{'answer' if number in RUBRICS else 'check'}"
        assert f"{number} " in said[cell][0].data["text/plain"]
        assert ": not started" in said[cell][0].data["text/plain"]
