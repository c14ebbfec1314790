"""Listening sockets that are closed while others connect: connections that were made and that nobody accepted.

Run as a program with ports, it connects to each without pause until it is refused, and prints how often it was let in.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence

from refsynth.service.http.listening import accept_waiting, listen, refuse_new

LOOPBACK = "127.0.0.1"
SOCKETS = 20
OPEN = 1.0
"""Seconds before the first socket is closed."""
SETTLE = 0.2
"""Seconds for handshakes to end, as in a worker."""


def lost(*, filtered: bool) -> int:
    """Close sockets as a worker does, with the packet filter or without it, and return the connections that were lost."""
    listeners = [listen(LOOPBACK, 0) for _ in range(SOCKETS)]
    for listener in listeners:
        listener.setblocking(False)
    ports = [str(listener.getsockname()[1]) for listener in listeners]
    client = subprocess.Popen([sys.executable, "-m", "benchmarks.serve.closing", *ports], stdout=subprocess.PIPE)
    accepted = _accept(listeners, OPEN)
    for listener in listeners:
        if filtered:
            refuse_new(listener)
    accepted += _accept(listeners, SETTLE)
    for listener in listeners:
        last = accept_waiting(listener)
        listener.close()  # at once, as a worker does: what is done in between is time in which to lose some
        accepted += _ended(last)
    said, _ = client.communicate()
    return int(said) - accepted


def _accept(listeners: Sequence[socket.socket], seconds: float) -> int:
    until, found = time.monotonic() + seconds, 0
    while time.monotonic() < until:
        found += sum(_ended(accept_waiting(listener)) for listener in listeners)
        time.sleep(0.001)
    return found


def _ended(connections: Sequence[socket.socket]) -> int:
    for connection in connections:
        connection.close()
    return len(connections)


def _connect(port: int, made: list[int]) -> None:
    while True:
        try:
            socket.create_connection((LOOPBACK, port), 10).close()
        except OSError:
            return
        made.append(port)


if __name__ == "__main__":
    connected: list[int] = []
    threads = [threading.Thread(target=_connect, args=(int(port), connected)) for port in sys.argv[1:]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sys.stdout.write(str(len(connected)))
