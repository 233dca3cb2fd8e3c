"""Exercises are what their solutions give: nothing leaks, nothing is stale, every stub is a stub."""

from __future__ import annotations

import re
from copy import deepcopy
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from dslearn.course.checking import judge
from dslearn.course.exercises import MODULES, load
from dslearn.course.rubrics import RUBRICS
from dslearn.course.workbook import VERSION, exercise_of, main, stale, write

ROOT = Path(__file__).resolve().parents[2]
SOLUTIONS = sorted((ROOT / "solutions").glob("*.ipynb"))
REGION = re.compile(r"### BEGIN SOLUTION\n(.*?)### END SOLUTION", re.DOTALL)


def cells(folder: str) -> dict[str, nbformat.NotebookNode]:
    paths = sorted((ROOT / folder).glob("*.ipynb"))
    return {cell.id: cell for path in paths for cell in nbformat.read(path, as_version=4).cells}


SOLVED, HANDED_OUT = cells("solutions"), cells("exercises")


def slug(number: str) -> str:
    return number.replace(".", "-")


def defined(source: str, name: str) -> object:
    names: dict[str, object] = {}
    exec(SOLVED["imports"].source, names)
    exec(source, names)
    return names[name]


def test_the_exercises_are_what_the_solutions_give() -> None:
    assert stale(ROOT) == [], "run: make exercises"


def test_no_line_of_a_solution_is_handed_out() -> None:
    text = "\n".join(cell.source for cell in HANDED_OUT.values() if cell.cell_type == "code")
    regions = [region for cell in SOLVED.values() for region in REGION.findall(cell.source)]
    assert len(regions) == len(MODULES)
    lines = {line.strip() for region in regions for line in region.splitlines()}
    assert not [line for line in lines if len(line) > 12 and line in text]
    assert "SOLUTION" not in text


@pytest.mark.parametrize("number", MODULES)
def test_each_stub_is_not_started_and_each_solution_done(number: str) -> None:
    exercise, name = load(number), f"{slug(number)}-answer"
    assert judge(exercise, defined(HANDED_OUT[name].source, exercise.function)).state == "not started"
    assert judge(exercise, defined(SOLVED[name].source, exercise.function)).passed


@pytest.mark.parametrize("number", [*MODULES, *RUBRICS])
def test_each_exercise_says_its_title_time_and_difficulty_and_has_hints(number: str) -> None:
    exercise = RUBRICS[number] if number in RUBRICS else load(number)
    task = HANDED_OUT[f"{slug(number)}-task"].source
    difficulty = "●" * exercise.difficulty + "○" * (3 - exercise.difficulty)
    assert task.startswith(f"## {number} · {exercise.title}\n\n*{exercise.minutes} minutes · {difficulty}*\n")
    if number in MODULES:
        assert len(re.findall(r"<details><summary>Hint \d", task)) >= 3
        assert HANDED_OUT[f"{slug(number)}-show"].source == f'show("{number}", {exercise.function})'
        assert HANDED_OUT[f"{slug(number)}-check"].source == f'check("{number}", {exercise.function})'
        assert "Expected output" in HANDED_OUT[f"{slug(number)}-expected"].source
    else:
        assert f"{slug(number)}-sample" in SOLVED
        assert f"{slug(number)}-sample" not in HANDED_OUT


def test_there_are_as_many_exercises_as_the_course_promises() -> None:
    for chapter in ("01",):
        assert sum(number.startswith(chapter) for number in [*MODULES, *RUBRICS]) >= 7


@pytest.fixture
def solution() -> nbformat.NotebookNode:
    body = "def f(x):\n    ### BEGIN SOLUTION\n    y = x + 1\n    return y\n    ### END SOLUTION\n"
    shown = new_code_cell("f(1)", id="t-show", metadata={"tags": ["expected"]})
    shown.outputs = [new_output("execute_result", data={"text/plain": "2"}, execution_count=2)]
    sample = new_markdown_cell("Mine.", id="t-sample", metadata={"tags": ["solution"]})
    return new_notebook(cells=[new_code_cell(body, id="t-answer"), shown, sample])


def test_solutions_become_stubs_outputs_are_folded_and_sample_answers_left_out(solution) -> None:
    before = deepcopy(solution)
    made = exercise_of(solution)
    assert solution == before
    assert [cell.id for cell in made.cells] == ["t-answer", "t-show", "t-expected"]
    assert made.cells[0].source == 'def f(x):\n    raise NotImplementedError("your code here")\n'
    assert not made.cells[1].outputs
    assert made.cells[1].execution_count is None
    assert "```\n2\n```" in made.cells[2].source


def test_the_version_follows_the_text_and_not_the_outputs(solution) -> None:
    version = exercise_of(solution).metadata[VERSION]
    solution.cells[0].outputs = [new_output("stream", text="x")]
    assert exercise_of(solution).metadata[VERSION] == version
    solution.cells[0].source += "\n# more"
    assert exercise_of(solution).metadata[VERSION] != version


@pytest.mark.parametrize("source", ["### BEGIN SOLUTION\nx = 1", "x = 1\n### END SOLUTION", "y  ### BEGIN SOLUTION"])
def test_half_a_marker_is_refused(solution, source: str) -> None:
    solution.cells[0].source = source
    with pytest.raises(ValueError, match=r"t-answer: .* in pairs"):
        exercise_of(solution)


def test_a_solution_that_was_not_run_is_refused(solution) -> None:
    solution.cells[1].outputs = []
    with pytest.raises(ValueError, match="t-show shows nothing yet"):
        exercise_of(solution)


def test_what_is_stale_is_named_and_written(solution, tmp_path, monkeypatch, capsys) -> None:
    (tmp_path / "book").mkdir()
    (tmp_path / "book" / "claims.json").write_text("{}")
    (tmp_path / "solutions").mkdir()
    nbformat.write(solution, tmp_path / "solutions" / "01_t.ipynb")
    monkeypatch.chdir(tmp_path)
    assert main(["--check"]) == 1
    assert "stale: exercises/01_t.ipynb" in capsys.readouterr().out
    assert main([]) == 0
    assert main(["--check"]) == 0
    (tmp_path / "exercises" / "02_left.ipynb").write_text("{}")
    assert [path.name for path in write(tmp_path)] == ["02_left.ipynb"]
    assert not (tmp_path / "exercises" / "02_left.ipynb").exists()


def test_without_solutions_nothing_can_be_made(tmp_path, monkeypatch, capsys) -> None:
    (tmp_path / "book").mkdir()
    (tmp_path / "book" / "claims.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    assert main([]) == 1
    assert "holds no notebook" in capsys.readouterr().err
