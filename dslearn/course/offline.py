"""Run a command without a network. Standard library only, because it runs by path, before anything else:

    python dslearn/course/offline.py COMMAND [ARGUMENT ...]

On Linux it moves into a network namespace of its own, in which only the loopback interface exists, and
replaces itself by the command: no library, whatever language it is written in, can reach out. Where there are
no namespaces, ``guard`` refuses connections inside Python; that is weaker, and the executor's report says so.
"""

from __future__ import annotations

import ctypes
import errno
import ipaddress
import os
import socket
import struct
import sys
from pathlib import Path

_NEW_USER, _NEW_NETWORK = 0x10000000, 0x40000000  # CLONE_NEWUSER, CLONE_NEWNET of <linux/sched.h>
_GET_FLAGS, _SET_FLAGS, _UP = 0x8913, 0x8914, 0x1  # SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP
_WATCHED = {"socket.connect": 1, "socket.sendto": 1, "socket.sendmsg": 1, "socket.getaddrinfo": 0}


def enter_namespace() -> None:
    """Move this process into a network namespace that has a loopback interface and nothing else.

    Raises:
        OSError: the system has no namespaces, or does not allow them.
    """
    if not sys.platform.startswith("linux"):
        raise OSError(errno.ENOSYS, "network namespaces exist on Linux only")
    user, group = os.getuid(), os.getgid()
    if user == 0:
        _unshare(_NEW_NETWORK)
    else:
        _unshare(_NEW_USER | _NEW_NETWORK)
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    _raise_loopback()


def guard() -> None:
    """Make every connection from Python code to anywhere but this machine's loopback fail, for good."""
    sys.addaudithook(_refuse)


def _refuse(event: str, arguments: tuple[object, ...]) -> None:
    if event in _WATCHED and not _is_local(arguments[_WATCHED[event]]):
        raise ConnectionRefusedError(f"the network is blocked while a chapter runs: {event} {arguments[-1]!r}")


def _is_local(address: object) -> bool:
    # A tuple is (host, port, …); text is the host of a look-up, or the path of a Unix socket.
    host = address[0] if isinstance(address, tuple) else address
    host = os.fsdecode(host) if isinstance(host, bytes) else host
    if not isinstance(host, str) or host in ("", "localhost") or host[0] in "/.\0":
        return True
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False


def _unshare(flags: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(flags) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"unshare: {os.strerror(code)}")


def _raise_loopback() -> None:
    import fcntl  # Linux only, as is the caller

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        request = struct.pack("16sh", b"lo", 0)
        flags = struct.unpack("16sh", fcntl.ioctl(handle, _GET_FLAGS, request))[1]
        fcntl.ioctl(handle, _SET_FLAGS, struct.pack("16sh", b"lo", flags | _UP))


if __name__ == "__main__":
    try:
        enter_namespace()
        os.execvp(sys.argv[1], sys.argv[1:])
    except OSError as failure:
        sys.exit(f"offline: {failure}")
