from __future__ import annotations

import re
import socket
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from dslearn._extras import require
from dslearn.cli import demo, main
from dslearn.cli.ports import ADDRESS, check_port
from dslearn.models import checkpoints
from tests.demos.serving import free_port, served

START_SECONDS = 15


@pytest.fixture
def held_port() -> Iterator[int]:
    with socket.socket() as holder:
        holder.bind((ADDRESS, 0))
        holder.listen()
        yield holder.getsockname()[1]


def test_an_unknown_demo_is_told_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["demo", "astrology"])
    assert stop.value.code == 2
    assert "'astrology' (choose from" in (said := capsys.readouterr().err) and "attention" in said


def test_a_held_port_is_named_with_the_next_free_one(held_port: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "attention", "--no-browser", "--port", str(held_port)]) == 1
    said = capsys.readouterr().err
    match = re.search(rf"port {held_port} cannot be used.*: dslearn demo attention --port (\d+)", said)
    assert match, said
    check_port(int(match[1]), "dslearn demo attention")


def test_missing_gradio_is_explained(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("dslearn.demos.serve.require", lambda module, extra: require("nobody_has_" + module, extra))
    assert main(["demo", "attention", "--no-browser", "--port", str(free_port())]) == 1
    assert "This needs the extra 'demos': pip install \"dslearn[demos]\"" in capsys.readouterr().err


def test_a_missing_model_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(demo, "gradio", lambda: None)
    monkeypatch.setattr(checkpoints, "_finished_folder", lambda: tmp_path / "nothing")
    assert main(["demo", "attention", "--no-browser", "--port", str(free_port())]) == 1
    said = capsys.readouterr().err
    assert said.startswith("dslearn: the demo's model cannot be loaded. No model folder 'language'")


def test_a_damaged_model_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "gradio", lambda: None)
    folder = tmp_path / "language"
    folder.mkdir()
    for path in (checkpoints._finished_folder() / "language").iterdir():
        (folder / path.name).write_bytes(path.read_bytes()[: 100_000 if path.suffix == ".safetensors" else None])
    monkeypatch.setattr(checkpoints, "_finished_folder", lambda: tmp_path)
    assert main(["demo", "attention", "--no-browser", "--port", str(free_port())]) == 1
    assert re.search(r"cannot be loaded\. .*model\.safetensors is damaged", capsys.readouterr().err)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C reaches a child process on POSIX only")
def test_it_answers_soon_whatever_the_environment_says_and_ends_at_one_interrupt(tmp_path: Path) -> None:
    meddling = {"GRADIO_SHARE": "True", "GRADIO_SERVER_NAME": "0.0.0.0", "GRADIO_ANALYTICS_ENABLED": "True"}
    meddling |= {"HTTP_PROXY": "http://127.0.0.1:9", "GRADIO_ROOT_PATH": "/elsewhere", "GRADIO_MCP_SERVER": "True"}
    with served("attention", tmp_path, meddling) as demo:
        with urllib.request.urlopen(demo.address) as answer:
            assert "What does sparse attention read?" in answer.read().decode()
        assert listening_addresses(urlsplit(demo.address).port) == {ADDRESS}
    print(f"seconds to the first answer: {demo.seconds:.1f}")
    assert demo.exit_code == 130
    assert demo.address in demo.printed
    assert "Traceback" not in demo.printed
    assert demo.seconds <= START_SECONDS


def listening_addresses(port: int | None) -> set[str]:
    import psutil

    connections = psutil.net_connections("inet")
    return {one.laddr.ip for one in connections if one.status == psutil.CONN_LISTEN and one.laddr.port == port}
