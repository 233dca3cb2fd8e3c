"""``dslearn doctor``: what this machine has, and one line of remedy for each thing it lacks."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dslearn import __version__

_GIB = 2**30
LEAST_MEMORY = 4 * _GIB
LEAST_DISK = 2 * _GIB
LEARNER_EXTRAS = ("train", "data", "course")
_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome", "msedge")
_BROWSERS_ELSEWHERE = (
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "C:/Program Files/Google/Chrome/Application/chrome.exe",
    "C:/Program Files (x86)/Microsoft/Edge/Application/msedge.exe",
)


@dataclass(frozen=True)
class Finding:
    """One line of the report: with a ``remedy`` it is a lack, which counts where the course needs it."""

    subject: str
    found: str
    remedy: str | None = None
    needed: bool = True

    def __str__(self) -> str:
        mark = " ok " if self.remedy is None else "LACK" if self.needed else "  - "
        line = f"{mark} {self.subject:<10} {self.found}"
        return line if self.remedy is None else f"{line}\n     {'':<10} -> {self.remedy}"


def report() -> int:
    """Print every finding; the exit code is 1 if something that the course needs is missing, else 0."""
    lacks = 0
    for finding in findings():
        print(finding, flush=True)
        lacks += finding.remedy is not None and finding.needed
    print(f"\n{lacks} to mend before the course can run" if lacks else "\nready for the course")
    return int(lacks > 0)


def findings() -> Iterator[Finding]:
    """Look at this machine, one thing after the other."""
    yield Finding("dslearn", f"{__version__} in {Path(__file__).resolve().parents[1]}")
    yield Finding("Python", f"{platform.python_version()} at {sys.executable}")
    yield Finding("system", f"{platform.system()} {platform.release()}, {platform.machine()}")
    yield from _torch()
    yield Finding("cores", str(len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count()))
    yield _memory()
    yield from _extras()
    yield _compiler()
    yield _browser()
    yield _cache()


def find_browser() -> str | None:
    """The path of a Chromium-like browser on this machine, or None."""
    on_path = (shutil.which(name) for name in _BROWSERS)
    elsewhere = (path for path in _BROWSERS_ELSEWHERE if Path(path).is_file())
    return next(filter(None, (*on_path, *elsewhere)), None)


def _torch() -> Iterator[Finding]:
    import torch

    yield Finding("torch", f"{torch.__version__}, {torch.get_num_threads()} threads")
    if torch.cuda.is_available():
        yield Finding("device", f"cuda: {torch.cuda.get_device_name()}")
    else:
        mps = " (mps is there, untried)" if torch.backends.mps.is_available() else ""
        yield Finding("device", f"cpu, which is all the course needs{mps}")


def _memory() -> Finding:
    try:
        import psutil
    except ImportError:
        return Finding("memory", "unknown", 'pip install "dslearn[course]" lets it be read', needed=False)
    memory = psutil.virtual_memory()
    found = f"{memory.total / _GIB:.1f} GiB, {memory.available / _GIB:.1f} free"
    enough = memory.total >= LEAST_MEMORY
    return Finding("memory", found, None if enough else "the chapters want 4 GiB: close what else runs")


def _extras() -> Iterator[Finding]:
    for extra, names in _declared_extras().items():
        missing = [name for name in names if _installed_version(name) is None]
        found = "missing: " + ", ".join(missing) if missing else _with_versions(names)
        remedy = f'pip install "dslearn[{extra}]", or in a clone: pip install -r requirements.lock'
        yield Finding(extra, found, remedy if missing else None, needed=extra in LEARNER_EXTRAS)


def _declared_extras() -> dict[str, list[str]]:
    """The distributions of each extra, as the installed package declares them."""
    extras: dict[str, list[str]] = {}
    for line in importlib.metadata.requires("dslearn") or ():
        parts = re.fullmatch(r"""([\w.-]+)[^;]*;.*\bextra == ['"]([\w-]+)['"].*""", line)
        if parts and parts[1] != "dslearn" and parts[2] != "all":
            extras.setdefault(parts[2], []).append(parts[1])
    return extras


def _installed_version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _with_versions(names: list[str]) -> str:
    return ", ".join(f"{name} {_installed_version(name)}" for name in names)


def _compiler() -> Finding:
    found = next(filter(None, map(shutil.which, (os.environ.get("CXX", ""), "g++", "clang++", "cl"))), None)
    remedy = "only the benchmarks' compiled peer wants a C++ compiler: apt install g++, or xcode-select --install"
    return Finding("compiler", found or "none", None if found else remedy, needed=False)


def _browser() -> Finding:
    found = find_browser()
    remedy = "only the browser tests want Chromium: apt install chromium, or Google Chrome"
    return Finding("browser", found or "none", None if found else remedy, needed=False)


def _cache() -> Finding:
    from dslearn.data import cache_folder

    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            free = shutil.disk_usage(folder).free
    except OSError as error:
        remedy = "set DSLEARN_CACHE to a folder that can be written; without one everything is made anew"
        return Finding("cache", f"{folder} cannot be written: {error.strerror}", remedy)
    found = f"{folder}, {free / _GIB:.1f} GiB free on its disk"
    enough = free >= LEAST_DISK
    return Finding("cache", found, None if enough else "the course wants 2 GiB: free some, or set DSLEARN_CACHE")
