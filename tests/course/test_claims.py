"""Predictions, claims and verdicts: what is recorded, what is refused, and what the sentence says."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from dslearn.course import VERDICTS, Ledger, claim, predict, statements, verdict
from dslearn.course.claims import figures, from_row, quantity
from dslearn.course.ledger import LEDGER_VARIABLE
from dslearn.course.provenance import library_hash

BOOK = Path(__file__).resolve().parents[2] / "book" / "claims.json"


@pytest.fixture(autouse=True)
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    """A reader's ledger of the test's own, outside any clone."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(LEDGER_VARIABLE, str(tmp_path / "claims.json"))
    return Ledger(tmp_path / "claims.json")


def test_every_statement_is_whole_and_in_the_order_of_the_chapters() -> None:
    rows = list(statements().values())
    assert len(rows) == 32
    assert [row.chapter for row in rows] == sorted(row.chapter for row in rows)
    for row in rows:
        assert row.says
        assert row.known
        assert row.sources
        assert not row.says.endswith("."), row.id
        assert not row.known.endswith("."), row.id


def test_the_book_has_one_row_for_each_statement_and_each_holds() -> None:
    rows = json.loads(BOOK.read_text(encoding="utf-8"))["claims"]
    assert set(rows) == set(statements())
    for claim_id, row in rows.items():
        assert from_row(row).id == claim_id
        assert (row["measured"] is None) <= (row["verdict"] in ("not yet measured", "published elsewhere"))
        assert (row["verdict"] == "not yet measured") <= (row["measured"] is None)


def test_a_claim_records_the_number_and_where_it_comes_from(ledger: Ledger) -> None:
    claim("dsa-speed", 4.25, "×", baseline="dense", verdict="reproduced", spread=(4, 5), seeds=[0, 1])
    row = ledger.claim("dsa-speed")
    assert row is not None
    assert (row["measured"], row["unit"], row["spread"], row["seeds"]) == (4.25, "×", [4.0, 5.0], [0, 1])
    assert row["library"] == library_hash()
    assert row["versions"]["torch"]
    assert row["machine"]["cores"] >= 1
    assert row["date"].endswith("Z")


def test_several_values_are_recorded_as_median_and_spread() -> None:
    row = claim("dsa-speed", [5.0, 3.0, 4.5], "×", verdict="reproduced", seeds=[0, 1, 2])
    assert (row.measured, row.spread) == (4.5, (3.0, 5.0))
    assert row.value() == "4.50× (3 to 5 over 3 seeds)"


def test_a_named_ledger_is_written_instead_of_the_readers(tmp_path: Path, ledger: Ledger) -> None:
    book = Ledger(tmp_path / "book.json")
    claim("dsa-speed", 2, "×", verdict="not reproduced", ledger=book)
    assert book.claim("dsa-speed") is not None
    assert ledger.claim("dsa-speed") is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"claim_id": "dsa-sped"}, "'dsa-sped'; did you mean dsa-speed"),
        ({"claim_id": "zzz"}, "no claim is called 'zzz'; the ids are history-2018"),
        ({"verdict": "proved"}, "verdict must be one of reproduced, .*; got 'proved'"),
        ({"measured": float("nan")}, "must be a finite number; got nan"),
        ({"measured": True}, "must be a finite number; got True"),
        ({"measured": []}, "at least one value"),
        ({"measured": None}, "'reproduced' needs a measured value"),
        ({"verdict": "not yet measured"}, "a measured value .* cannot have the verdict 'not yet measured'"),
        ({"spread": (3, 4)}, r"spread must be \(low, high\) around 2"),
        ({"measured": [1, 2], "spread": (1, 2)}, "not both"),
    ],
)
def test_a_wrong_claim_is_refused_and_nothing_is_written(
    ledger: Ledger, arguments: dict[str, object], message: str
) -> None:
    given = {"claim_id": "dsa-speed", "measured": 2.0, "unit": "×", "verdict": "reproduced", **arguments}
    with pytest.raises(ValueError, match=message):
        claim(**given)  # type: ignore[arg-type]
    assert not ledger.path.exists()


def test_published_elsewhere_needs_no_measurement() -> None:
    assert claim("dsa-speed", None, verdict="published elsewhere").value() == "nothing measured here"


def test_a_prediction_is_kept_and_checked(ledger: Ledger) -> None:
    predict("dsa-speed", 3)
    made = ledger.prediction("dsa-speed")
    assert made is not None
    assert made["value"] == 3.0
    with pytest.raises(ValueError, match="the prediction must be a finite number; got inf"):
        predict("dsa-speed", float("inf"))
    with pytest.raises(ValueError, match="no claim is called"):
        predict("nothing", 3)


@pytest.mark.parametrize(
    ("guess", "told"),
    [(3.0, "3×, which is 1.20× too low"), (9, "9×, which is 4.80× too high"), (4.4, "and that is what came out")],
)
def test_the_verdict_compares_with_the_prediction(guess: float, told: str) -> None:
    predict("dsa-speed", guess)
    claim("dsa-speed", 4.2, "×", baseline="dense SDPA", verdict="reproduced", spread=(4, 4.5), note="At 8,192 tokens")
    shown = verdict("dsa-speed")
    for text in (repr(shown), shown._repr_markdown_()):
        assert told in text
        assert "Verdict on" in text
        assert "4.20× (4 to 4.50), against dense SDPA. At 8,192 tokens." in text
        assert statements()["dsa-speed"].says in text
        assert "arXiv:2512.02556" in text


def test_a_verdict_without_a_measurement_says_so() -> None:
    predict("dsa-speed", 3)
    assert verdict("dsa-speed").word == "not yet measured"
    assert "nothing to compare it with yet" in repr(verdict("dsa-speed"))
    assert "Measured here" not in repr(verdict("dsa-speed"))


def test_the_readers_row_stands_before_the_books(tmp_path: Path) -> None:
    book = Ledger(tmp_path / "book" / "claims.json")
    row = claim("dsa-speed", 9, "×", verdict="reproduced", ledger=book)
    assert verdict("dsa-speed").row == row
    mine = claim("dsa-speed", 2, "×", verdict="not reproduced")
    assert verdict("dsa-speed").row == mine


def test_a_readers_run_inside_a_clone_writes_its_own_ledger_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(LEDGER_VARIABLE)
    shutil.copytree(BOOK.parent, tmp_path / "book", ignore=shutil.ignore_patterns(".*"))
    (tmp_path / "chapters").mkdir()
    monkeypatch.chdir(tmp_path / "chapters")
    before = files(tmp_path)
    predict("dsa-speed", 3)
    claim("dsa-speed", 9, "×", verdict="reproduced")
    assert verdict("dsa-speed").row == from_row(json.loads(files(tmp_path)["work/claims.json"])["claims"]["dsa-speed"])
    after = files(tmp_path)
    assert {name: after[name] for name in before} == before
    assert after.keys() - before.keys() <= {"work/claims.json", "work/.claims.json.lock"}


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_every_verdict_can_be_shown() -> None:
    row = claim("dsa-speed", 2, "×", verdict="reproduced")
    for word in VERDICTS[:-1]:
        assert replace(row, verdict=word).verdict == word


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (3, "3"), (12345, "12,345"), (0.01234, "0.0123"), (1.0 / 3, "0.333"), (123.456, "123"), (-2.5, "-2.50")],
)
def test_numbers_are_shown_with_three_figures(value: float, text: str) -> None:
    assert figures(value) == text


def test_a_unit_stands_where_it_is_read() -> None:
    assert quantity(2.5, "×") == "2.50×"
    assert quantity(3, "ms") == "3 ms"
