"""Servers as processes of their own: started, watched through their log, and ended. Nothing else is touched."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

from refsynth.core.errors import RefsynthError

START = 120.0
"""Seconds for a server to come up."""
END = 60.0
"""Seconds for it to go."""
LOOPBACK = "127.0.0.1"
SERVE = ("-m", "refsynth", "serve")
MEDDLED = ("-P", str(Path(__file__).with_name("meddled.py")))
"""Serves with workers whose model certain texts break. A program of its own, which knows nothing of this package."""


@dataclass
class Target:
    """A running server. `log` is what it wrote to stderr, `state` its folder."""

    process: subprocess.Popen[bytes]
    url: str
    log: Path
    state: Path

    def workers(self) -> list[Any]:
        """Return its worker processes, as psutil knows them."""
        return list(psutil.Process(self.process.pid).children())

    def events(self, name: str) -> list[dict[str, Any]]:
        """Return the lines of its log with this event."""
        wanted = f'"event": "{name}"'
        with self.log.open(encoding="utf-8", errors="replace") as stream:
            return [json.loads(line) for line in stream if wanted in line and line.endswith("\n")]

    def metrics(self, *, key: str | None = None) -> dict[str, float]:
        """Return what /metrics says, by name with labels."""
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        lines = httpx.get(self.url + "/metrics", headers=headers, timeout=30).text.splitlines()
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if not line.startswith("#"))}


@contextmanager
def apart() -> Iterator[frozenset[int]]:
    """Keep this thread, and so the clients, on one core until the block ends, and yield those that a server may have."""
    cores = frozenset(os.sched_getaffinity(0))
    own = frozenset({min(cores)})
    os.sched_setaffinity(0, own)
    try:
        yield cores - own or cores
    finally:
        os.sched_setaffinity(0, cores)


@contextmanager
def serving(
    bundle: Path, folder: Path, *options: object, program: Sequence[str] = SERVE, cores: frozenset[int] | None = None
) -> Iterator[Target]:
    """Serve a bundle until the block ends.

    Args:
        bundle: what is served.
        folder: for its log and state; made if it is not there.
        options: of the command line.
        program: what Python runs, `refsynth serve` or what takes its options.
        cores: what it may run on; None is whatever this process may.

    Raises:
        RefsynthError: it does not come up.
    """
    folder.mkdir(parents=True, exist_ok=True)
    state = folder / "state"
    command = [sys.executable, *program, str(bundle), "--port", "0", "--state", str(state), *map(str, options)]
    log = folder / "server.log"
    log.unlink(missing_ok=True)
    with started(command, log, cores=cores) as process:
        target = Target(process, "", log, state)
        if (
            not eventually(lambda: bool(target.events("serving")) or process.poll() is not None, START)
            or process.poll() is not None
        ):
            raise RefsynthError("the server did not come up", remedy=f"its log is {log}")
        target.url = f"http://{LOOPBACK}:{target.events('serving')[0]['port']}"
        yield target


@contextmanager
def started(
    command: Sequence[str], log: Path, *, environment: Mapping[str, str] | None = None, cores: frozenset[int] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command, its output in a file, until the block ends; then end it with what it started."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=stream, env={**os.environ, **(environment or {})})
    if cores is not None:
        os.sched_setaffinity(process.pid, cores)  # it has one thread yet, and what it starts inherits this
    try:
        yield process
    finally:
        end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process and its children: asked first, then killed."""
    try:
        family = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        family = []
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(END)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    for child in family:
        if child.is_running():  # psutil compares the start time too: an id that was given again is not ours
            child.kill()


def free_port() -> int:
    """Return a port of the loopback interface that nobody listens on now."""
    with socket.create_server((LOOPBACK, 0)) as listener:
        return int(listener.getsockname()[1])


def eventually(condition: Callable[[], bool], seconds: float, *, pause: float = 0.02) -> bool:
    """Wait for a condition; return whether it came true in time."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if condition():
            return True
        time.sleep(pause)
    return False
