from __future__ import annotations

import subprocess
import sys

import pytest

from dslearn.cli import main


def test_help_answers_without_torch() -> None:
    code = (
        "import sys, dslearn.cli\n"
        "try: dslearn.cli.main(['--help'])\n"
        "finally: print('torch' in sys.modules, 'jupyterlab' in sys.modules)"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "lab" in printed and "doctor" in printed
    assert printed.splitlines()[-1] == "False False"


@pytest.mark.parametrize("arguments", [[], ["fly"]])
def test_without_a_known_command_the_known_ones_are_shown(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert "COMMAND" in capsys.readouterr().err


@pytest.mark.parametrize("port", ["0", "65536", "-1", "eight"])
def test_a_port_out_of_range_is_named(port: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["lab", f"--port={port}"])
    assert f"a port is a number from 1 to 65535, not '{port}'" in capsys.readouterr().err


def test_interruption_is_an_exit_code_and_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("dslearn.cli.doctor.report", interrupted)
    assert main(["doctor"]) == 130


def test_training_is_handed_its_folder_and_last_phase(monkeypatch: pytest.MonkeyPatch) -> None:
    from dslearn.training import recipes

    asked = {}
    monkeypatch.setattr(recipes, "train_language", lambda folder, until: asked.update(folder=folder, until=until))
    assert main(["train", "language", "--folder", "here", "--until", "dense"]) == 0
    assert asked == {"folder": "here", "until": "dense"}


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (KeyboardInterrupt(), 130, "the same command goes on from here"),
        (OSError(28, "No space left on device"), 1, "dslearn: [Errno 28] No space left on device"),
        (ValueError("until must name a phase"), 1, "dslearn: until must name a phase"),
    ],
)
def test_training_that_stops_says_why(
    error: BaseException,
    code: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from dslearn.training import recipes

    def stopped(folder: str, until: str | None) -> None:
        raise error

    monkeypatch.setattr(recipes, "train_language", stopped)
    assert main(["train", "language"]) == code
    assert said in capsys.readouterr().err
