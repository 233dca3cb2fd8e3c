"""The one address that servers of the command line use, and whether a port of it is free."""

from __future__ import annotations

import os
import socket

from dslearn.cli import CommandError

ADDRESS = "127.0.0.1"


def check_port(port: int, command: str) -> None:
    """Raise ``CommandError``, naming the next free port for ``command``, if ``port`` is in use."""
    if not _is_free(port):
        following = next((other for other in range(port + 1, 65_536) if _is_free(other)), None)
        remedy = f"; the next free one is {following}: {command} --port {following}" if following else ""
        raise CommandError(f"port {port} cannot be used, something else holds it{remedy}")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        if os.name == "posix":  # as the server itself binds; on Windows the option would share a used port
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((ADDRESS, port))
        except OSError:
            return False
        return True
