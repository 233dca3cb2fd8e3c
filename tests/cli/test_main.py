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
