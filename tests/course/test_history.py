"""The dated record: every row has a source, and dates are as exact as they are known."""

from __future__ import annotations

from pathlib import Path

import pytest

from dslearn.course.history import Entry, load_timeline

TABLE = Path(__file__).resolve().parents[2] / "book" / "timeline.csv"


def test_every_entry_is_sourced_and_in_order() -> None:
    entries = load_timeline(TABLE)
    assert {entry.told_by for entry in entries} == {"article", "record"}
    assert [entry.year for entry in entries] == sorted(entry.year for entry in entries)
    for entry in entries:
        assert entry.source
        assert entry.event
        assert entry.confidence in {"primary", "secondary"} or entry.told_by == "article"


@pytest.mark.parametrize(
    ("date", "year"), [("2018", 2018.0), ("2024-07", 2024 + 182 / 366), ("2023-12-31", 2023 + 364 / 365)]
)
def test_dates_become_decimal_years(date: str, year: float) -> None:
    assert Entry("record", date, "", "", "", "primary").year == pytest.approx(year)


def test_a_missing_table_and_a_wrong_one_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"timeline\.csv is not there: the timeline comes with a clone"):
        load_timeline()
    (tmp_path / "t.csv").write_text("date,event\n2018,x\n")
    with pytest.raises(ValueError, match="must have the columns told_by, date"):
        load_timeline(tmp_path / "t.csv")
