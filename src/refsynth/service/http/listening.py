"""The listening socket that all workers share, and how it is closed without losing a connection."""

from __future__ import annotations

import contextlib
import ctypes
import socket
import struct

from refsynth.core.errors import RefsynthError

BACKLOG = 2048
"""Connections that the kernel holds for us."""

_ATTACH_FILTER = 26  # SO_ATTACH_FILTER of Linux, which Python does not name
# Classic BPF, (code, jump if true, jump if false, value): drop segments with SYN, byte 13 of the header, and keep all others.
_NO_SYN = ((0x30, 0, 0, 13), (0x45, 0, 1, 0x02), (0x06, 0, 0, 0), (0x06, 0, 0, 0x40000))


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket.

    Raises:
        RefsynthError: the address cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise RefsynthError(
            f"{host} port {port}: {error.strerror}", remedy="choose another with --port, or end what listens there"
        ) from error


def refuse_new(listener: socket.socket) -> None:
    """Let nobody begin a connection any more; handshakes under way end, and what waits can still be accepted.

    Between a last `accept` and `close` a connection could slip in, and its request would be lost with it: 3 of 8,000 over 30
    ends of busy servers, and none with this filter (design note 007). Whoever is refused now tries again after a second, by
    TCP's own rules, and finds the port closed.
    """
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in _NO_SYN))
    with contextlib.suppress(OSError):  # a sandbox without filters: the gap of some microseconds stays
        listener.setsockopt(socket.SOL_SOCKET, _ATTACH_FILTER, struct.pack("HP", len(_NO_SYN), ctypes.addressof(program)))


def accept_waiting(listener: socket.socket) -> list[socket.socket]:
    """Return the connections that wait; the listener must not block."""
    found: list[socket.socket] = []
    with contextlib.suppress(BlockingIOError):
        while True:
            connection, _ = listener.accept()
            connection.setblocking(False)
            found.append(connection)
    return found
