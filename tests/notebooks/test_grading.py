"""A learner's notebook is judged rightly whatever has become of its cells."""

from __future__ import annotations

import os
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
import psutil
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from dslearn.course import grading
from dslearn.course.grading import GradingError, Notebooks, grade
from dslearn.course.ledger import LEDGER_VARIABLE
from dslearn.course.workbook import exercise_of, write

ROOT = Path(__file__).resolve().parents[2]
NAME = "01_sparse_attention.ipynb"

pytestmark = pytest.mark.notebook

RIGHT = """\
def top_blocks(scores, top_k, block_size):
    chosen = torch.full((len(scores), top_k), -1)
    for token, row in enumerate(scores.tolist()):
        own = token // block_size
        best = sorted(range(own), key=lambda block: -row[block])[: top_k - 1]
        chosen[token, : 1 + len(best)] = torch.tensor([own, *best])
    return chosen
"""
WRONG = RIGHT.replace("-row[block]", "row[block]")
BY_HELPER = RIGHT.replace("token // block_size", "my_block(token, size=block_size)")
HELPER = "from math import floor\n\ndef my_block(token, size):\n    return floor(token / size)\n"

FORK = """\
import os, time
if not os.fork():
    os.setsid()
    print(os.getpid(), file=open("child", "w"), flush=True)
    time.sleep(600)
"""


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A clone with one exercise, and a learner's fresh copy of it."""
    return clone(tmp_path, monkeypatch, "01-3")


@pytest.fixture
def design(tmp_path, monkeypatch):
    """A clone with one exercise that its learner judges."""
    return clone(tmp_path, monkeypatch, "01-9")


def clone(tmp_path, monkeypatch, number):
    (tmp_path / "book").mkdir()
    shutil.copy(ROOT / "book" / "claims.json", tmp_path / "book")
    (tmp_path / "solutions").mkdir()
    solution = nbformat.read(ROOT / "solutions" / NAME, as_version=4)
    solution.cells = [cell for cell in solution.cells if cell.id == "imports" or cell.id.startswith(f"{number}-")]
    nbformat.write(solution, tmp_path / "solutions" / NAME)
    write(tmp_path)
    shutil.copytree(tmp_path / "exercises", tmp_path / "work")
    monkeypatch.setenv(LEDGER_VARIABLE, str(tmp_path / "work" / "claims.json"))
    return tmp_path


def change(root, edit):
    """Let ``edit(cells by id, all cells)`` change the learner's notebook; what it returns are the new cells."""
    path = root / "work" / NAME
    notebook = nbformat.read(path, as_version=4)
    by_id = {cell.id: cell for cell in notebook.cells}
    notebook.cells = edit(by_id, notebook.cells) or notebook.cells
    nbformat.write(notebook, path)


def answer(root, source):
    change(root, lambda by_id, _: by_id["01-3-answer"].update(source=source))


def judged(root):
    ((feedback, own),) = grade(root, "01")
    assert own is None
    return feedback


def test_a_right_answer_is_done_and_a_stub_not_started(root):
    assert judged(root).state == "not started"
    answer(root, RIGHT)
    assert judged(root).state == "done"


def test_a_wrong_answer_is_told_what_is_wrong_however_its_notebook_looks(root):
    def edit(by_id, cells):
        by_id["01-3-answer"].source = WRONG
        by_id["01-3-check"].source = 'print("01.3: done")'
        by_id["01-3-check"].outputs = [nbformat.v4.new_output("stream", text="✓ 01.3 A causal choice: done\n")]
        by_id["01-3-check"].metadata.tags = ["nbval-ignore-output"]
        cells.append(new_code_cell("def check(*_):\n    return 'done'"))

    change(root, edit)
    feedback = judged(root)
    assert feedback.state == "not yet"
    assert "*lowest* scores" in feedback.message
    assert feedback.failed == "takes the best past blocks, best first"


def deleted(by_id, cells):
    return [cell for cell in cells if cell.id != "01-3-check"]


def renamed(by_id, cells):
    for number, cell in enumerate(cells):
        cell.id = f"cell{number}"


def backwards(by_id, cells):
    return cells[::-1]


def with_a_stub_below(by_id, cells):
    return [*cells, new_code_cell(by_id["01-3-answer"].source.partition("chosen")[0] + "raise NotImplementedError")]


def with_an_earlier_try_above(by_id, cells):
    return [new_code_cell(WRONG), *cells]


def with_a_killer_elsewhere(by_id, cells):
    return [new_code_cell("import os\nos._exit(1)"), *cells, new_code_cell("while True:\n    pass")]


def with_text_and_pictures(by_id, cells):
    return [new_markdown_cell("# mine"), *cells, new_code_cell("%matplotlib inline\n!true\ntop_blocks?")]


def timed(by_id, cells):
    by_id["01-3-answer"].source = "%%time\n" + by_id["01-3-answer"].source


KEPT = [deleted, renamed, backwards, timed, with_an_earlier_try_above, with_a_killer_elsewhere, with_text_and_pictures]


@pytest.mark.parametrize("edit", KEPT)
def test_a_right_answer_stays_right(root, edit):
    answer(root, RIGHT)
    change(root, edit)
    assert judged(root).state == "done"


def test_a_copy_of_the_cell_as_it_was_handed_out_does_not_count(root):
    change(root, lambda by_id, cells: [*cells, new_code_cell(by_id["01-3-answer"].source)])
    answer(root, RIGHT)
    assert judged(root).state == "done"


def test_of_two_answers_the_last_counts(root):
    answer(root, RIGHT)
    change(root, lambda _, cells: [*cells, new_code_cell(WRONG)])
    assert judged(root).state == "not yet"


def test_what_the_answer_needs_comes_with_it_from_wherever_it_stands(root):
    answer(root, BY_HELPER)
    assert "my_block" in judged(root).message
    change(root, lambda _, cells: [*cells, new_code_cell(HELPER)])
    assert judged(root).state == "done"


def test_a_cell_that_is_not_python(root):
    answer(root, "def top_blocks(scores, top_k, block_size:\n    return 3")
    feedback = judged(root)
    assert feedback.state == "not yet"
    assert re.search(r"not Python yet: .*line 1", feedback.message)


def test_a_misspelt_name_is_asked_after(root):
    answer(root, RIGHT.replace("top_blocks", "top_block"))
    feedback = judged(root)
    assert feedback.state == "not started"
    assert "Is `top_block` meant to be it?" in feedback.message


def test_a_rubric_counts_once_there_is_an_answer(design):
    judge = 'rubric("01.9", met=[1, 3])'
    change(design, lambda by_id, _: by_id["01-9-answer"].update(source=judge))
    ((feedback, own),) = grade(design, "01")
    assert (feedback.state, own) == ("not started", None)
    change(design, lambda by_id, _: by_id["01-9-text"].update(source="Blocks of 64."))
    ((feedback, own),) = grade(design, "01")
    assert feedback.state == "done"
    assert own.met == 2


def test_an_answer_that_was_deleted(root):
    change(root, lambda _, cells: [cell for cell in cells if cell.id != "01-3-answer"])
    feedback = judged(root)
    assert feedback.state == "not started"
    assert "exercises/" in feedback.message


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("import os; os._exit(1)", "ends Python"),
        ("while True: pass", "had not ended"),
        ("while True: print('x' * 10_000)", "printed here than anybody can read"),
        ("raise ValueError('mine')", "ValueError: mine"),
    ],
)
def test_cells_that_end_python_or_never_end_or_flood(root, monkeypatch, line, says):
    if says == "had not ended":  # the others end by themselves, on a slow machine perhaps later
        monkeypatch.setattr(grading, "CELL_SECONDS", 4)
    answer(root, f"{RIGHT}\n{line}")
    feedback = judged(root)
    assert feedback.state == "not yet"
    assert says in feedback.message


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_nothing_is_left_of_a_cell_that_forks(root):
    answer(root, FORK + RIGHT)
    judged(root)
    assert not psutil.pid_exists(int((root / "work" / "child").read_text()))


def test_a_damaged_notebook_is_named_and_left_alone(root):
    path = root / "work" / NAME
    path.write_text(path.read_text()[:500])
    with pytest.raises(GradingError, match=r"work/01_sparse_attention.ipynb is damaged .*ipynb_checkpoints"):
        judged(root)
    assert len(path.read_text()) == 500


def test_a_notebook_of_another_course(root):
    nbformat.write(new_notebook(cells=[new_code_cell("print(1)")]), root / "work" / NAME)
    with pytest.raises(GradingError, match="another course"):
        judged(root)


def test_an_older_version_is_judged_as_things_are_now(root):
    path = root / "work" / NAME
    path.write_text(path.read_text().replace(nbformat.read(path, 4).metadata["dslearn-exercises"], "000000000000"))
    answer(root, RIGHT)
    assert Notebooks.read(root, "01").outdated
    assert judged(root).state == "done"


@pytest.mark.parametrize(("folder", "says"), [("solutions", "git checkout solutions"), ("work", "dslearn lab")])
def test_a_missing_notebook_comes_with_its_remedy(root, folder, says):
    (root / folder / NAME).unlink()
    with pytest.raises(GradingError, match=says):
        judged(root)


def test_two_checks_at_once(root):
    answer(root, RIGHT)
    with ThreadPoolExecutor(2) as pool:
        assert [feedback.state for feedback in pool.map(judged, [root, root])] == ["done", "done"]


def test_a_solution_that_gives_other_output_fails(root):
    """The reference counts: an answer passes by giving what the solution's check gave, and only so."""
    path = root / "solutions" / NAME
    path.write_text(path.read_text().replace("causal as a choice", "causal as an afterthought"))
    answer(root, RIGHT)
    feedback = judged(root)
    assert feedback.state == "not yet"
    assert "of different versions" in feedback.message


def test_the_exercise_is_what_the_solution_gives(root):
    solution = nbformat.read(root / "solutions" / NAME, as_version=4)
    assert "SOLUTION" not in nbformat.writes(exercise_of(solution))
