"""A command with an end: after its time, or when it is done, nothing that it started is left."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from dslearn._extras import require

require("psutil", "course")

import psutil  # noqa: E402 - only after the extra is known to be there

_LOOK = 0.2  # seconds between looks at what has been started
_GONE = 5  # seconds that the system may take to remove what was killed


def run_and_clean_up(
    command: Sequence[str], environment: Mapping[str, str], *, folder: Path, seconds: int | float
) -> bool:
    """Run ``command`` quietly in ``folder``; whether it ended by itself within ``seconds``.

    Everything that descends from it is ended, also what has cut itself loose from its parent meanwhile.
    """
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    started: dict[int, psutil.Process] = {}
    end = time.monotonic() + seconds
    try:
        while time.monotonic() < end:
            _note_descendants(process.pid, started)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_LOOK)
                return True
        return False
    finally:
        _note_descendants(process.pid, started)
        _end(process, started)


def _note_descendants(pid: int, started: dict[int, psutil.Process]) -> None:
    for root in [pid, *started]:
        with contextlib.suppress(psutil.Error):
            started.update({child.pid: child for child in psutil.Process(root).children(recursive=True)})


def _end(process: subprocess.Popen[bytes], started: Mapping[int, psutil.Process]) -> None:
    process.kill()
    process.wait()
    for child in started.values():
        with contextlib.suppress(psutil.Error):  # psutil compares start times: a reused number is left alone
            child.kill()
    psutil.wait_procs(list(started.values()), timeout=_GONE)
