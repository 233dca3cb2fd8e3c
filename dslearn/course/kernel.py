"""A fresh kernel that cannot reach the network, and the proof that it cannot."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from dslearn._extras import require
from dslearn.course.ledger import LEDGER_VARIABLE

require("nbclient", "course")

from jupyter_client.manager import AsyncKernelManager  # noqa: E402 - only after the extra is known to be there
from nbclient import NotebookClient  # noqa: E402
from nbformat import NotebookNode  # noqa: E402
from nbformat.v4 import new_code_cell  # noqa: E402

METHODS = MappingProxyType(
    {
        "namespace": "a network namespace of its own (no process in it has an interface but loopback)",
        "guard": "a guard inside Python (namespaces are not available here; compiled code is not held)",
    }
)

_OFFLINE = Path(__file__).with_name("offline.py")
_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "ftp_proxy")
# An address reserved for documentation (RFC 5737): nobody is there to be bothered if the block should fail.
_NOWHERE = ("203.0.113.1", 80)

_PROBE = """
def _probe(targets):
    import json, socket
    def attempt(host, port):
        try:
            socket.create_connection((host, port), timeout=2).close()
        except OSError as error:
            return f"{type(error).__name__}: {error}"
        return "reached"
    def look_up(name):
        try:
            socket.getaddrinfo(name, 80)
        except OSError as error:
            return f"{type(error).__name__}: {error}"
        return "reached"
    found = {f"{host}:{port}": attempt(host, port) for host, port in targets}
    found["name look-up"] = look_up("example.org")
    print(json.dumps(found))
_probe(%r)
del _probe
"""

_USAGE = """
def _peak():
    import sys
    try:
        import resource
    except ImportError:
        import psutil
        return psutil.Process().memory_info().peak_wset
    unit = 1 if sys.platform == "darwin" else 1024
    everyone = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return max(resource.getrusage(who).ru_maxrss for who in everyone) * unit
print(_peak())
del _peak
"""


class NetworkOpenError(Exception):
    """The block did not hold: a kernel reached something outside its own machine."""


@dataclass(frozen=True)
class Proof:
    """What a kernel met when it tried to reach out.

    Attributes:
        method: ``"namespace"`` or ``"guard"``.
        attempts: target → ``"reached"`` or the error.
        control: the listener that this process reached and the kernel must not; None on a machine that has
            no address but loopback.
    """

    method: str
    attempts: dict[str, str]
    control: str | None

    def __str__(self) -> str:
        tried = "; ".join(f"{target} {result}" for target, result in self.attempts.items())
        control = (
            f"the listener at {self.control} answered this process and not the kernel"
            if self.control
            else "no control: this machine has no address but loopback"
        )
        return f"network blocked by {METHODS[self.method]}; {control}. From the kernel: {tried}"


@cache
def blocking_method() -> str:
    """Return ``"namespace"`` where the system allows one, else ``"guard"``."""
    tried = subprocess.run([sys.executable, str(_OFFLINE), sys.executable, "-c", ""], capture_output=True, check=False)
    return "namespace" if tried.returncode == 0 else "guard"


class OfflineKernelManager(AsyncKernelManager):
    """Starts this interpreter's own kernel, whatever kernels are installed, without a network."""

    blocked_by = "namespace"

    def format_kernel_cmd(self, extra_arguments: list[str] | None = None) -> list[str]:
        """Return the command line that starts the kernel."""
        kernel = [
            sys.executable,
            "-m",
            "ipykernel_launcher",
            "-f",
            self.connection_file,
            *(extra_arguments or []),
        ]
        return [sys.executable, str(_OFFLINE), *kernel] if self.blocked_by == "namespace" else kernel


@contextmanager
def offline_kernel(
    notebook: NotebookNode, folder: Path, ledger: Path, timeout: int, method: str
) -> Iterator[NotebookClient]:
    """Yield a client whose fresh kernel runs in ``folder``, offline, and keeps its claims in ``ledger``.

    Args:
        notebook: the notebook whose cells will be executed.
        folder: the kernel's working directory.
        ledger: file for predictions and claims made in the kernel.
        timeout: whole seconds a single cell may take.
        method: ``"namespace"`` or ``"guard"``, as told by :func:`blocking_method`.
    """
    with tempfile.TemporaryDirectory(prefix="dsl-") as scratch:
        manager = OfflineKernelManager(connection_file=str(Path(scratch, "k.json")))
        manager.blocked_by = method
        if method == "namespace":
            # A socket in the file system is the one door between two network namespaces.
            manager.transport = "ipc"
        client = NotebookClient(notebook, km=manager, timeout=timeout, record_timing=False, coalesce_streams=True)
        client.owns_km = True
        environment = _environment(Path(scratch), ledger, method)
        log = Path(scratch, "kernel.log")
        try:
            with (
                log.open("wb") as file,
                client.setup_kernel(env=environment, cwd=str(folder), stdout=file, stderr=file),
            ):
                yield client
        except RuntimeError as error:  # the kernel died; it may have said why
            if said := log.read_text(encoding="utf-8", errors="replace").strip():
                error.add_note(said[-1000:])
            raise


def prove_blocked(client: NotebookClient, method: str) -> Proof:
    """Try to reach out from the kernel, first towards a listener that this process does reach.

    Raises:
        NetworkOpenError: the kernel reached something.
    """
    with _listener() as address:
        targets = [_NOWHERE] if address is None else [address, _NOWHERE]
        attempts = json.loads(run_hidden(client, _PROBE % (targets,)))
    proof = Proof(method, attempts, None if address is None else f"{address[0]}:{address[1]}")
    if "reached" in attempts.values():
        raise NetworkOpenError(f"the network is not blocked: {attempts}")
    return proof


def peak_memory(client: NotebookClient) -> float:
    """Return the most memory the kernel or one of its finished children held, in MB."""
    return int(run_hidden(client, _USAGE)) / 1e6


def run_hidden(client: NotebookClient, source: str) -> str:
    """Run ``source`` in the kernel outside the notebook's history and return what it printed.

    Raises:
        nbclient.exceptions.CellExecutionError: it raised.
    """
    cell = new_code_cell(source)
    notebook, client.nb = client.nb, NotebookNode(cells=[cell], metadata={})
    try:
        client.execute_cell(cell, 0, store_history=False)
    finally:
        client.nb = notebook
    return "".join(output.get("text", "") for output in cell.outputs)


def _environment(scratch: Path, ledger: Path, method: str) -> dict[str, str]:
    package_parent = str(Path(__file__).resolve().parents[2])
    python_path = [package_parent, os.environ.get("PYTHONPATH", "")]
    if method == "guard":
        # Every Python process imports sitecustomize first, the kernel's children too.
        shutil.copy(_OFFLINE, scratch / "dslearn_offline.py")
        (scratch / "sitecustomize.py").write_text("import dslearn_offline\ndslearn_offline.guard()\n")
        python_path.insert(0, str(scratch))
    kept = {name: value for name, value in os.environ.items() if name.lower() not in _PROXIES}
    ours = {
        LEDGER_VARIABLE: str(ledger),
        "PYTHONPATH": os.pathsep.join(filter(None, python_path)),
        "PYTHONHASHSEED": "0",
        "IPYTHONDIR": str(scratch / "ipython"),
    }
    return {**kept, **ours}


@contextmanager
def _listener() -> Iterator[tuple[str, int] | None]:
    """Yield an address other than loopback at which this process was reached, or None if it has none."""
    host = _own_address()
    if host is None:
        yield None
        return
    with socket.create_server((host, 0)) as server:
        address: tuple[Any, ...] = server.getsockname()
        socket.create_connection(address[:2], timeout=2).close()  # the positive control
        yield address[0], address[1]


def _own_address() -> str | None:
    # Connecting a datagram socket sends nothing; it makes the system choose the address it would send from.
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        try:
            handle.connect(_NOWHERE)
            host = str(handle.getsockname()[0])
        except OSError:
            return None
    return None if host.startswith("127.") else host
