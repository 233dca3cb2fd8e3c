"""What a learner wrote in work/ is never written over."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from dslearn.course.ledger import LedgerError
from dslearn.course.workfolder import offer_exercises

ROOT = Path(__file__).resolve().parents[2]
NAME = "01_sparse_attention.ipynb"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "exercises").mkdir()
    shutil.copy(ROOT / "exercises" / NAME, tmp_path / "exercises")
    return tmp_path


def kinds(root: Path) -> list[str]:
    return [offer.kind for offer in offer_exercises(root)]


def dirty(root: Path) -> bytes:
    """A learner's notebook with an answer in it, its bytes."""
    path = root / "work" / NAME
    path.write_text(path.read_text().replace("your code here", "mine"))
    return path.read_bytes()


def new_exercises(root: Path) -> None:
    path = root / "exercises" / NAME
    notebook = json.loads(path.read_text())
    notebook["metadata"]["dslearn-exercises"] = "0123456789ab"
    path.write_text(json.dumps(notebook))


def test_exercises_are_copied_once(root: Path) -> None:
    assert kinds(root) == ["copied"]
    assert (root / "work" / NAME).read_bytes() == (root / "exercises" / NAME).read_bytes()
    mine = dirty(root)
    assert kinds(root) == ["kept"]
    assert (root / "work" / NAME).read_bytes() == mine


def test_changed_exercises_are_offered_beside(root: Path) -> None:
    offer_exercises(root)
    mine = dirty(root)
    new_exercises(root)
    assert kinds(root) == ["beside"]
    assert (root / "work" / NAME).read_bytes() == mine
    beside = root / "work" / "01_sparse_attention.new-0123456789ab.ipynb"
    assert beside.read_bytes() == (root / "exercises" / NAME).read_bytes()
    beside.write_text("mine, too")
    assert kinds(root) == ["kept"]
    assert beside.read_text() == "mine, too"


@pytest.mark.parametrize("damaged", ["", "{", "[]", '{"metadata": []}'])
def test_a_damaged_copy_is_the_learners_too(root: Path, damaged: str) -> None:
    offer_exercises(root)
    (root / "work" / NAME).write_text(damaged)
    new_exercises(root)
    assert kinds(root) == ["kept"]
    assert (root / "work" / NAME).read_text() == damaged


def test_a_folder_that_cannot_be_written_to_is_named(root: Path) -> None:
    (root / "work").write_text("a file where the folder should be")
    with pytest.raises(LedgerError, match="cannot write"):
        offer_exercises(root)
