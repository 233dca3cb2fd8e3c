"""Chapters are executed offline: the block blocks, and a chapter that fails or costs too much fails."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from dslearn.course.execute import Budget, execute_notebook, main
from dslearn.course.kernel import NetworkOpenError, blocking_method, offline_kernel, prove_blocked
from dslearn.course.ledger import Ledger
from dslearn.course.offline import _is_local

pytestmark = pytest.mark.notebook

OFFLINE = Path(__file__).resolve().parents[2] / "dslearn" / "course" / "offline.py"
METHODS = [
    pytest.param(
        "namespace", marks=pytest.mark.skipif(blocking_method() != "namespace", reason="no network namespaces here")
    ),
    "guard",
]


def write(path: Path, *cells: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(new_notebook(cells=[new_markdown_cell("# T"), *map(new_code_cell, cells)]), path)
    return path


def outputs(path: Path) -> str:
    cells = nbformat.read(path, as_version=4).cells
    return "".join(output.get("text", "") for cell in cells if cell.cell_type == "code" for output in cell.outputs)


def own_address() -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        try:
            handle.connect(("203.0.113.1", 80))
        except OSError:
            pytest.skip("this machine has no address but loopback")
        return handle.getsockname()[0]


REACH = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=3).close()"


@pytest.mark.skipif(blocking_method() != "namespace", reason="no network namespaces here")
def test_the_namespace_is_what_makes_the_listener_unreachable() -> None:
    with socket.create_server((own_address(), 0)) as server:
        host, port = server.getsockname()[:2]
        command = [sys.executable, "-c", REACH, host, str(port)]
        assert subprocess.run(command).returncode == 0, "the control must reach the listener"
        blocked = subprocess.run([sys.executable, str(OFFLINE), *command], capture_output=True, text=True)
    assert blocked.returncode == 1
    assert "Network is unreachable" in blocked.stderr


@pytest.mark.skipif(blocking_method() != "namespace", reason="no network namespaces here")
def test_loopback_works_inside_the_namespace() -> None:
    source = (
        "import socket; server = socket.create_server(('127.0.0.1', 0)); "
        "socket.create_connection(server.getsockname(), timeout=3).close(); print(socket.if_nameindex())"
    )
    done = subprocess.run([sys.executable, str(OFFLINE), sys.executable, "-c", source], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [name for _, name in eval(done.stdout, {"__builtins__": {}})] == ["lo"]  # noqa: S307 - our own output


def test_a_kernel_without_the_block_is_found_out(tmp_path: Path) -> None:
    """The positive control of the whole: the same probe, in a kernel that nothing holds back, must raise."""
    own_address()
    with (
        offline_kernel(new_notebook(), tmp_path, tmp_path / "l.json", 60, "none") as client,
        pytest.raises(NetworkOpenError, match=r"not blocked: .*reached"),
    ):
        prove_blocked(client, "none")


@pytest.mark.parametrize("method", METHODS)
def test_a_chapter_cannot_reach_out_and_neither_can_its_children(tmp_path: Path, method: str) -> None:
    with socket.create_server((own_address(), 0)) as server:
        host, port = server.getsockname()[:2]
        socket.create_connection((host, port), timeout=3).close()
        path = write(
            tmp_path / "reach.ipynb",
            f"import subprocess, sys\nchild = subprocess.run([sys.executable, '-c', {REACH!r}, {host!r}, '{port}'])\n"
            "print('child', child.returncode)",
            f"import socket\ntry:\n    socket.create_connection(({host!r}, {port}), timeout=3)\n    print('reached')\n"
            "except OSError as error:\n    print('held', type(error).__name__)",
        )
        report = execute_notebook(path, store=True, method=method)
    assert not report.problems, report
    assert "child 1" in outputs(path)
    assert "held" in outputs(path)
    assert report.proof is not None
    assert report.proof.control is not None
    assert report.proof.control.startswith(host)
    assert all("Error" in result or "error" in result for result in report.proof.attempts.values())
    assert "network blocked by" in str(report.proof)


@pytest.mark.parametrize(
    ("address", "local"),
    [
        (("127.0.0.1", 80), True),
        (("::1", 80, 0, 0), True),
        ("localhost", True),
        ("/run/socket", True),
        (None, True),
        (b"127.0.0.1", True),
        (("10.0.0.1", 80), False),
        (("fe80::1%eth0", 80, 0, 0), False),
        ("example.org", False),
        (("example.org", 80), False),
    ],
)
def test_the_guard_knows_what_is_local(address: object, local: bool) -> None:
    assert _is_local(address) is local


def test_an_error_is_reported_with_its_cell_and_traceback(tmp_path: Path) -> None:
    path = write(tmp_path / "error.ipynb", "x = 0", "def divide():\n    return 1 / x\ndivide()", "print('never')")
    before = path.read_bytes()
    report = execute_notebook(path, store=True)
    (problem,) = report.problems
    assert "cell 3 of 4" in problem
    assert "| def divide():" in problem
    assert "ZeroDivisionError: division by zero" in problem
    assert "\x1b" not in problem
    assert path.read_bytes() == before


def test_a_kernel_that_dies_is_reported(tmp_path: Path) -> None:
    report = execute_notebook(write(tmp_path / "dies.ipynb", "import os; os._exit(1)"))
    assert "the kernel died" in report.problems[0]


def test_a_chapter_over_its_time_fails_and_is_not_stored(tmp_path: Path) -> None:
    path = write(tmp_path / "slow.ipynb", "import time", "time.sleep(.4)", "time.sleep(.4)")
    before = path.read_bytes()
    report = execute_notebook(path, store=True, budget=Budget(seconds=0.6))
    assert "may take 0.6 s" in report.problems[0]
    assert path.read_bytes() == before


def test_a_cell_that_never_ends_is_stopped(tmp_path: Path) -> None:
    report = execute_notebook(write(tmp_path / "stuck.ipynb", "while True: pass"), budget=Budget(seconds=1))
    assert "alone outlasted" in report.problems[0]


def test_a_kernel_that_cannot_start_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = "import sys; sys.exit('no such luck')"
    monkeypatch.setattr(
        "dslearn.course.kernel.OfflineKernelManager.format_kernel_cmd",
        lambda self, extra_arguments=None: [sys.executable, "-c", broken],
    )
    report = execute_notebook(write(tmp_path / "t.ipynb", "1"))
    assert "the kernel did not start" in report.problems[0]
    assert "no such luck" in report.problems[0]


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT to another process")
def test_ctrl_c_stops_the_kernel_and_leaves_the_chapter(tmp_path: Path) -> None:
    path = write(
        tmp_path / "long.ipynb",
        "import os, pathlib, time\npathlib.Path('pid').write_text(str(os.getpid()))\ntime.sleep(60)",
    )
    before = path.read_bytes()
    running = subprocess.Popen(
        [sys.executable, "-m", "dslearn.course.execute", "--store", str(path)],
        cwd=OFFLINE.parents[2],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509 - no threads yet
    )
    pid = tmp_path / "pid"
    while not (pid.exists() and pid.read_text()):
        assert running.poll() is None
        time.sleep(0.1)
    running.send_signal(signal.SIGINT)
    assert "stopped" in running.communicate(timeout=30)[1]
    assert running.returncode == 130
    assert path.read_bytes() == before
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


def test_a_chapter_over_its_size_fails_and_is_not_stored(tmp_path: Path) -> None:
    path = write(tmp_path / "large.ipynb", "print('x' * 20_000)")
    report = execute_notebook(path, store=True, budget=Budget(megabytes=0.01))
    assert "may be 0.01 MB" in report.problems[0]
    assert outputs(path) == ""


def test_a_chapter_over_its_memory_fails_and_is_not_stored(tmp_path: Path) -> None:
    path = write(tmp_path / "hungry.ipynb", "print(len(bytearray(300_000_000)))")
    report = execute_notebook(path, store=True, budget=Budget(memory=200))
    assert "may hold 200 MB" in report.problems[0]
    assert outputs(path) == ""


@pytest.mark.parametrize("budget", [{"seconds": 0}, {"megabytes": -1.0}, {"memory": 0}])
def test_a_budget_is_positive(budget: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be above 0"):
        Budget(**budget)


def clone(tmp_path: Path) -> Path:
    (tmp_path / "book").mkdir()
    (tmp_path / "book" / "claims.json").write_text('{"schema": 1, "claims": {}, "predictions": {}}')
    return write(
        tmp_path / "chapters" / "00_t.ipynb",
        "from dslearn.course import claim, predict, verdict\npredict('dsa-speed', 3)",
        "claim('dsa-speed', 2, '×', verdict='not reproduced')\nprint(verdict('dsa-speed'))",
    )


def test_check_writes_nothing_at_all(tmp_path: Path) -> None:
    path = clone(tmp_path)
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    assert not execute_notebook(path).problems
    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == before


def test_store_writes_outputs_claims_time_and_memory(tmp_path: Path) -> None:
    path = clone(tmp_path)
    report = execute_notebook(path, store=True)
    assert not report.problems, report
    assert "3×, which is 1× too high" in outputs(path)
    book = Ledger(tmp_path / "book" / "claims.json").read()
    assert book["claims"]["dsa-speed"]["measured"] == 2.0
    assert book["predictions"] == {}, "a prediction is the reader's, never the book's"
    assert not (tmp_path / "work").exists()
    kept = json.loads((tmp_path / "book" / "execution.json").read_text())["00_t"]
    assert kept["seconds"] == round(report.seconds, 1)
    assert kept["memory_mb"] > 20
    assert kept["network"] == blocking_method()


def test_storing_twice_gives_the_same_notebook(tmp_path: Path) -> None:
    path = clone(tmp_path)
    execute_notebook(path, store=True)
    once = path.read_bytes()
    execute_notebook(path, store=True)
    assert path.read_bytes() == once


def test_the_command_line_returns_what_happened(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = write(tmp_path / "good.ipynb", "1"), write(tmp_path / "bad.ipynb", "1 / 0")
    assert main(["--check", str(good)]) == 0
    assert main([str(good), str(bad)]) == 1
    told = capsys.readouterr().out
    assert "Network blocked by" in told
    assert "FAILED bad.ipynb" in told
    assert "1 of 2 chapters passed" in told


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("absent.ipynb", None, "cannot read"),
        ("x.ipynb", "not json", "is not a notebook"),
        ("y.ipynb", "{}", "is not a"),
    ],
)
def test_what_is_not_a_notebook_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: str | None, message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    assert main([str(tmp_path / name)]) == 1
    assert message in capsys.readouterr().err
