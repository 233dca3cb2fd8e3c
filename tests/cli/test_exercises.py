"""What `dslearn check` and `dslearn progress` print, return and write."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from dslearn.cli import exercises, main
from dslearn.course.exercises import MODULES
from dslearn.course.feedback import Feedback
from dslearn.course.grading import GradingError
from dslearn.course.ledger import LEDGER_VARIABLE
from dslearn.course.progress import Progress, progress, record
from dslearn.course.rubrics import RUBRICS

ROOT = Path(__file__).resolve().parents[2]
CHAPTERS = sorted({number.partition(".")[0] for number in MODULES})
WRONG = Feedback("01.3", "A causal choice", "not yet", "Mask again.", failed="never reads the future")


@pytest.fixture
def clone(tmp_path, monkeypatch):
    (tmp_path / "book").mkdir()
    shutil.copy(ROOT / "book" / "claims.json", tmp_path / "book")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(LEDGER_VARIABLE, str(tmp_path / "work" / "claims.json"))
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


def judging(monkeypatch, *outcomes):
    """Let these be the outcomes of grading."""

    class Read:
        outdated = False

        @classmethod
        def read(cls, root, chapter):
            return cls

    monkeypatch.setattr(exercises, "Notebooks", Read)
    monkeypatch.setattr(exercises, "grade", lambda root, chapter, only: iter(outcomes))


def done(number: str) -> Feedback:
    return Feedback(number, "T", "done", "Well.")


def test_check_shows_each_exercise_and_stores_it(clone, monkeypatch, capsys) -> None:
    points = len(RUBRICS["01.9"].points)
    own = Progress("done", 1, "2026-01-01", "", "", met=2, of=points)
    judging(monkeypatch, (done("01.1"), None), (WRONG, None), (done("01.9"), own))
    assert main(["check", "01"]) == 1
    told = capsys.readouterr().out
    assert "never reads the future: Mask again." in told
    assert f"by you: 2 of {points}" in told
    assert "1 of 2 done, 1 not yet; judged by yourself: 1 of 1" in told
    assert progress()["01.3"].failed == "never reads the future"
    assert progress()["01.9"].met == 2


@pytest.mark.parametrize("state", ["done", "not started"])
def test_done_and_not_started_are_no_failure(clone, monkeypatch, state) -> None:
    judging(monkeypatch, (Feedback("01.1", "T", state, ""), None))
    assert main(["check", "1"]) == 0


def test_what_cannot_be_judged_is_said_without_a_traceback(clone, monkeypatch, capsys) -> None:
    judging(monkeypatch)

    def broken(root, chapter, only):
        raise GradingError("work/01.ipynb is damaged (line 3)")
        yield

    monkeypatch.setattr(exercises, "grade", broken)
    assert main(["check", "01"]) == 1
    assert capsys.readouterr().err == "dslearn: work/01.ipynb is damaged (line 3)\n"
    assert main(["check"]) == 1
    assert capsys.readouterr().out.count("work/01.ipynb is damaged (line 3)") == len(CHAPTERS)


def test_outside_a_clone_it_says_where_to_go(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["check"]) == 1
    assert "inside a clone" in capsys.readouterr().err


@pytest.mark.parametrize("what", ["one", "001", "-1", "01.", "01.3.4", "٠١"])
def test_a_chapter_has_a_number(what, capsys) -> None:
    with pytest.raises(SystemExit):
        main(["check", what])
    assert "such as 01.5" in capsys.readouterr().err or what == "-1"


def test_a_chapter_that_is_not_there_yet_is_said(clone, capsys) -> None:
    assert main(["check", "7"]) == 1
    assert capsys.readouterr().err == f"dslearn: there is no chapter 07 yet; there are {', '.join(CHAPTERS)}\n"


def test_one_exercise_is_judged_alone(clone, monkeypatch, capsys) -> None:
    asked = []
    judging(monkeypatch)
    monkeypatch.setattr(exercises, "grade", lambda root, chapter, only: asked.append((chapter, only)) or iter(()))
    assert main(["check", "1.5"]) == 0
    assert main(["check", "01.05"]) == 0
    assert main(["check", "1"]) == 0
    assert asked == [("01", "01.5"), ("01", "01.5"), ("01", None)]


def test_progress_tells_what_failed_before_any_behaviour(clone, capsys) -> None:
    record(Feedback("01.1", "T", "not yet", "The cell of `multiply_adds` is not Python yet: line 2. Look there."))
    main(["progress"])
    told = capsys.readouterr().out
    assert "is not Python yet: line 2." in told
    assert "Look there" not in told


def test_done_once_and_refused_since_says_so(clone, capsys) -> None:
    record(done("01.3"))
    record(WRONG)
    main(["progress"])
    assert "done, but not as it is now" in capsys.readouterr().out


def test_the_same_outcome_is_one_try(clone) -> None:
    for _ in range(3):
        record(WRONG)
    assert progress()["01.3"].tries == 1
    record(done("01.3"))
    assert progress()["01.3"].tries == 2


def test_progress_is_shown_and_reported(clone, capsys) -> None:
    record(WRONG)
    record(done("01.1"))
    assert main(["progress", "--report", "report.md"]) == 0
    told, report = capsys.readouterr().out, (clone / "report.md").read_text()
    assert "never reads the future" in told
    assert "1 of" in told
    assert "| ✗ | 01.3 A causal choice | not yet | 1 |  |" in report
    assert str(clone) not in report


def test_a_report_that_cannot_be_written_is_said(clone, capsys) -> None:
    (clone / "file").write_text("")
    assert main(["progress", "--report", "file/report.md"]) == 1
    assert "cannot write" in capsys.readouterr().err


def test_a_damaged_ledger_is_kept_and_said(clone, capsys) -> None:
    (clone / "work").mkdir()
    (clone / "work" / "claims.json").write_text("{")
    assert main(["progress"]) == 1
    assert "damaged-1" in capsys.readouterr().err
    assert (clone / "work" / "claims.json.damaged-1").read_text() == "{"
