from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from dslearn._extras import require
from dslearn.cli import CommandError, lab, main


@pytest.fixture
def course(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a first chapter, and we stand in it."""
    chapter = tmp_path / lab.FIRST_CHAPTER
    chapter.parent.mkdir()
    chapter.write_text('{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}')
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def held_port() -> Iterator[int]:
    with socket.socket() as holder:
        holder.bind((lab.ADDRESS, 0))
        holder.listen()
        yield holder.getsockname()[1]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((lab.ADDRESS, 0))
        return probe.getsockname()[1]


def test_a_held_port_is_named_with_the_next_free_one(
    course: Path, held_port: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["lab", "--no-browser", "--port", str(held_port)]) == 1
    said = capsys.readouterr().err
    match = re.search(rf"port {held_port} cannot be used.*: dslearn lab --port (\d+)", said)
    assert match, said
    offered = int(match[1])
    assert offered > held_port
    lab.check_port(offered, "dslearn lab")


def test_missing_chapters_are_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(lab, "__file__", str(tmp_path / "site-packages" / "dslearn" / "cli" / "lab.py"))
    with pytest.raises(CommandError, match=r"not part of the wheel: clone the repository") as error:
        lab.find_course()
    assert str(tmp_path) in str(error.value)


def test_missing_jupyterlab_is_explained(
    course: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(lab, "require", lambda module, extra: require("nobody_has_" + module, extra))
    assert main(["lab"]) == 1
    assert "This needs the extra 'course': pip install \"dslearn[course]\"" in capsys.readouterr().err


def test_the_server_listens_on_this_machine_only_and_asks_nobody() -> None:
    arguments = lab.server_arguments(Path("here"), port=9, page="/lab", token="t", browser=False)
    assert "--ServerApp.ip=127.0.0.1" in arguments
    assert "--ServerApp.open_browser=False" in arguments
    assert "--LabApp.news_url=None" in arguments


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C reaches a child process on POSIX only")
def test_lab_prints_its_address_serves_it_and_ends_at_one_interrupt(course: Path) -> None:
    port = free_port()
    command = [sys.executable, "-m", "dslearn.cli", "lab", "--no-browser", "--port", str(port)]
    # A shell's background job ignores interrupts, and so would whatever it starts.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(command, cwd=course, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    signal.signal(signal.SIGINT, before)
    try:
        address = printed_address(process)
        assert address.startswith(f"http://127.0.0.1:{port}/lab/tree/chapters/00_start_here.ipynb?token=")
        assert "JupyterLab" in fetched(address)
    finally:
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "Traceback" not in rest


def printed_address(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return next(line.strip() for line in process.stdout if "http://" in line)


def fetched(address: str) -> str:
    for _ in range(300):
        try:
            with urllib.request.urlopen(address, timeout=10) as answer:
                return answer.read().decode()
        except OSError:
            time.sleep(0.1)
    raise AssertionError(f"no answer from {address}")
