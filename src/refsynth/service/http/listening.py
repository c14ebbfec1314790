"""The listening socket that all workers share. It can be closed without losing a connection."""

from __future__ import annotations

import contextlib
import ctypes
import socket
import struct

from refsynth.core.errors import RefsynthError

BACKLOG = 2048
"""Connections that the kernel queues for us."""

_ATTACH_FILTER = 26  # Linux's SO_ATTACH_FILTER; Python has no name for it
# Classic BPF, (code, jump if true, jump if false, value): drop segments with SYN (byte 13 of the header), keep all others.
_NO_SYN = ((0x30, 0, 0, 13), (0x45, 0, 1, 0x02), (0x06, 0, 0, 0), (0x06, 0, 0, 0x40000))


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket.

    Raises:
        RefsynthError: the address is not available.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise RefsynthError(
            f"{host} port {port}: {error.strerror}",
            remedy="choose another port with --port, or end the process that listens there",
        ) from error


def refuse_new(listener: socket.socket) -> None:
    """Let no client start a connection any more. Handshakes under way finish, and waiting connections can still be accepted.

    Otherwise a connection could arrive between the last `accept` and `close`, and its request would be lost: 3 of 8,000 in 30
    ends of busy servers, and none with this filter (design note 007). A client that is refused now retries after a second, as
    TCP does, and finds the port closed.
    """
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in _NO_SYN))
    with contextlib.suppress(OSError):  # in a sandbox without socket filters, a gap of some microseconds stays
        listener.setsockopt(socket.SOL_SOCKET, _ATTACH_FILTER, struct.pack("HP", len(_NO_SYN), ctypes.addressof(program)))


def accept_waiting(listener: socket.socket) -> list[socket.socket]:
    """Return the connections that wait. The listener must be non-blocking."""
    connections: list[socket.socket] = []
    with contextlib.suppress(BlockingIOError):
        while True:
            connection, _ = listener.accept()
            connection.setblocking(False)
            connections.append(connection)
    return connections
