"""The ledger loses nothing: locked, atomic, and clear about what it cannot read or write."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dslearn.course import Ledger, LedgerError
from dslearn.course.ledger import LEDGER_VARIABLE, project_root, reader_ledger, write_atomically


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "work" / "claims.json")


def test_an_absent_ledger_reads_as_empty_and_is_made_by_the_first_write(ledger: Ledger) -> None:
    assert ledger.claim("dsa-speed") is None
    assert not ledger.path.exists()
    ledger.record_claim("dsa-speed", {"measured": 2.0})
    assert ledger.claim("dsa-speed") == {"measured": 2.0}


def test_a_row_replaces_its_own_id_only(ledger: Ledger) -> None:
    ledger.record_claim("a", {"measured": 1.0})
    ledger.record_claim("b", {"measured": 2.0})
    ledger.record_prediction("a", {"value": 7.0})
    ledger.record_claim("a", {"measured": 3.0})
    assert ledger.read()["claims"] == {"a": {"measured": 3.0}, "b": {"measured": 2.0}}
    assert ledger.prediction("a") == {"value": 7.0}


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b'{"schema": 1, "claims": {', "line 1"),
        (b"[]", "not a ledger of schema 1"),
        (b'{"schema": 2, "claims": {}, "predictions": {}}', "not a ledger of schema 1"),
        (b'{"schema": 1, "claims": {"a": 3}, "predictions": {}}', "part 'claims'"),
        (b'{"schema": 1, "claims": {}}', "part 'predictions'"),
        (b"\xff\xfe\x00", "not text"),
    ],
)
def test_a_damaged_file_is_named_and_kept_aside(ledger: Ledger, content: bytes, problem: str) -> None:
    ledger.path.parent.mkdir()
    ledger.path.write_bytes(content)
    with pytest.raises(LedgerError, match=f"{problem}.*kept as claims.json.damaged-1"):
        ledger.record_claim("a", {"measured": 1.0})
    assert ledger.path.with_name("claims.json.damaged-1").read_bytes() == content
    ledger.record_claim("a", {"measured": 1.0})
    assert ledger.claim("a") == {"measured": 1.0}


def test_a_second_damage_does_not_overwrite_the_first(ledger: Ledger) -> None:
    ledger.path.parent.mkdir()
    for text in ("first", "second"):
        ledger.path.write_text(text)
        with pytest.raises(LedgerError):
            ledger.read()
    kept = sorted(path.read_text() for path in ledger.path.parent.glob("*.damaged-*"))
    assert kept == ["first", "second"]


def test_a_place_that_cannot_be_written_is_told_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(LedgerError, match=f"cannot write .*Nothing was changed.*{LEDGER_VARIABLE}"):
        Ledger(tmp_path / "file" / "claims.json").record_claim("a", {})


def test_a_full_disk_leaves_the_old_file_and_no_rubbish(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger.record_claim("a", {"measured": 1.0})
    before = ledger.path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(LedgerError, match="No space left on device"):
        ledger.record_claim("a", {"measured": 2.0})
    assert ledger.path.read_bytes() == before
    assert {path.name for path in ledger.path.parent.iterdir()} <= {"claims.json", ".claims.json.lock"}


def test_two_processes_at_once_lose_no_row(ledger: Ledger) -> None:
    script = (
        "import sys; from dslearn.course.ledger import Ledger\n"
        "for i in range(20): Ledger(sys.argv[1]).record_claim(f'{sys.argv[2]}{i}', {'measured': i})"
    )
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-c", script, str(ledger.path)]
    running = [subprocess.Popen([*command, name], cwd=root) for name in ("left", "right")]
    assert [process.wait(timeout=60) for process in running] == [0, 0]
    assert len(ledger.read()["claims"]) == 40


def test_a_file_keeps_its_permissions(tmp_path: Path) -> None:
    path = tmp_path / "notebook.ipynb"
    path.write_text("old")
    path.chmod(0o640)
    write_atomically(path, "new")
    assert path.read_text() == "new"
    assert os.name == "nt" or path.stat().st_mode & 0o777 == 0o640


def test_the_readers_ledger_stands_in_the_clone_or_where_the_variable_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(LEDGER_VARIABLE, raising=False)
    (tmp_path / "book").mkdir()
    (tmp_path / "book" / "claims.json").write_text(json.dumps({"schema": 1, "claims": {}, "predictions": {}}))
    (tmp_path / "chapters").mkdir()
    monkeypatch.chdir(tmp_path / "chapters")
    assert project_root() == tmp_path
    assert reader_ledger().path == tmp_path / "work" / "claims.json"
    monkeypatch.setenv(LEDGER_VARIABLE, str(tmp_path / "elsewhere.json"))
    assert reader_ledger().path == tmp_path / "elsewhere.json"
