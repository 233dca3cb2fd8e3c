"""Timing in turns, no conclusion where bands overlap, and what a recorded benchmark says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dslearn.course import measure
from dslearn.course.measure import Band, compare, stored_rows, time_interleaved


def test_work_is_run_in_turns_after_one_unmeasured_run_each() -> None:
    order: list[str] = []
    samples = time_interleaved({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, repeats=9)
    rounds = ["".join(order[at : at + 2]) for at in range(0, len(order), 2)]
    assert rounds[0] == "ab"
    assert set(rounds[1:]) == {"ab", "ba"}  # nobody always follows the same one
    assert {name: len(times) for name, times in samples.items()} == {"a": 9, "b": 9}
    assert all(time >= 0 for times in samples.values() for time in times)


def test_times_are_milliseconds(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 0.5, 2.0, 2.25])
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    assert time_interleaved({"a": lambda: None}, repeats=2) == {"a": [500.0, 250.0]}


@pytest.mark.parametrize(("works", "repeats"), [({}, 9), ({"a": print}, 0)])
def test_nothing_to_time_is_refused(works, repeats: int) -> None:
    with pytest.raises(ValueError, match="at least one piece of work and repeats ≥ 1"):
        time_interleaved(works, repeats=repeats)


def test_bands_apart_give_a_conclusion() -> None:
    told = compare({"old": [10.0, 11.0, 12.0], "new": [4.0, 5.5, 6.0]})
    assert "bands are apart: time is lower for new, 50% of the other" in told


@pytest.mark.parametrize("new", [[9.0, 9.5, 10.0], [1.0, 2.0, 30.0], [10.5, 11.0, 11.5]])
def test_overlapping_bands_give_none(new: list[float]) -> None:
    told = compare({"old": [10.0, 11.0, 12.0], "new": new})
    assert "The bands overlap: no conclusion about time." in told
    assert "lower" not in told


def test_compare_takes_two() -> None:
    with pytest.raises(ValueError, match="two names; got 3: a, b, c"):
        compare({"a": [1.0], "b": [1.0], "c": [1.0]})


def test_a_band_is_median_and_extremes() -> None:
    assert Band.of([3.0, 1.0, 8.0]) == Band(3.0, 1.0, 8.0)
    with pytest.raises(ValueError, match="at least one sample"):
        Band.of([])


def test_recorded_rows_are_told_by_their_beginnings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "project_root", lambda: tmp_path)
    assert stored_rows("moe", "text") == "No benchmark is recorded here yet; the live run above stands alone."
    rows = [
        {"id": "text-use", "value": 0.93456, "unit": "", "baseline": "three seeds"},
        {"id": "text-lost", "value": None, "unit": "%", "baseline": "not measured"},
        {"id": "speed", "value": 2.0, "unit": "×", "baseline": "a peer"},
    ]
    record = {"date": "2026-11-27T10:00:00Z", "machine": {"processor": "An engine"}, "rows": rows}
    path = tmp_path / "book" / "benchmarks" / "moe.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(record), encoding="utf-8")
    title, *told = stored_rows("moe", "text", "loads").splitlines()
    assert title == "Recorded on 2026-11-27, An engine:"
    assert [line.split() for line in told] == [["text-use", "0.935", "three", "seeds"]]
