from __future__ import annotations

from pathlib import Path

import pytest

from dslearn.cli import doctor, main


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DSLEARN_CACHE", str(tmp_path / "cache"))


def test_a_ready_machine_is_called_ready(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    said = capsys.readouterr().out
    assert said.endswith("ready for the course\n")
    for subject in ("Python", "torch", "device", "cores", "memory", "train", "compiler", "browser", "cache"):
        assert f" {subject} " in said


def test_every_missing_extra_is_named_with_its_remedy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    installed = doctor._installed_version
    monkeypatch.setattr(doctor, "_installed_version", lambda n: None if n == "lightning" else installed(n))
    assert main(["doctor"]) == 1
    said = capsys.readouterr().out
    assert "LACK train" in said and "missing: lightning" in said
    assert '-> pip install "dslearn[train]"' in said
    # course needs what train needs
    assert "2 to mend before the course can run" in said


def test_what_the_course_can_do_without_is_no_lack(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor.shutil, "which", lambda name: None)
    monkeypatch.setattr(doctor, "_BROWSERS_ELSEWHERE", ())
    assert main(["doctor"]) == 0
    said = capsys.readouterr().out
    assert "apt install chromium" in said and "apt install g++" in said


def test_an_unwritable_cache_is_a_lack_with_a_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("DSLEARN_CACHE", str(tmp_path / "file" / "cache"))
    assert main(["doctor"]) == 1
    assert "cannot be written" in (said := capsys.readouterr().out)
    assert "set DSLEARN_CACHE to a folder that can be written" in said


@pytest.mark.parametrize(("limit", "remedy"), [("LEAST_MEMORY", "close what else runs"), ("LEAST_DISK", "free some")])
def test_too_little_room_is_a_lack(
    limit: str, remedy: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, limit, 2**60)
    assert main(["doctor"]) == 1
    assert remedy in capsys.readouterr().out
