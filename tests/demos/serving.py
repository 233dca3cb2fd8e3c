"""A demo as a visitor gets it: the command line's own process, in which no annotation is enforced."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
STOP_SECONDS = 30


@dataclass
class Served:
    """Where it answers, after how many seconds it did so, and what it has printed so far."""

    address: str
    seconds: float
    log: Path
    exit_code: int | None = None

    @property
    def printed(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")


@contextmanager
def served(name: str, folder: Path, environment: Mapping[str, str] | None = None) -> Iterator[Served]:
    """The demo ``name``, served on a free port until the end of the block, then interrupted as by Ctrl-C."""
    port = free_port()
    command = [sys.executable, "-m", "dslearn.cli", "demo", name, "--no-browser", "--port", str(port)]
    log = folder / "printed.txt"
    # A shell's background job ignores interrupts, and so would whatever it starts.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    started = time.monotonic()
    with log.open("wb") as file:
        process = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, **(environment or {})}, stdout=file, stderr=subprocess.STDOUT
        )
    signal.signal(signal.SIGINT, before)
    demo = Served(f"http://127.0.0.1:{port}/", 0.0, log)
    try:
        wait_for(demo.address, process)
        demo.seconds = time.monotonic() - started
        yield demo
    finally:
        process.send_signal(signal.SIGTERM if sys.platform == "win32" else signal.SIGINT)
        demo.exit_code = process.wait(timeout=STOP_SECONDS)


def wait_for(address: str, process: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        try:
            urllib.request.urlopen(address, timeout=10).close()
        except OSError:
            assert process.poll() is None, "the demo ended before it answered"
            time.sleep(0.1)
        else:
            return
    raise AssertionError(f"nothing answers at {address}")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
