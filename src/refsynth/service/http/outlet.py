"""Write log lines from a thread with a bounded queue, so that no request and no signal waits for the reader of the log.

A pipe that nobody reads, a reader that is gone and a full disk cost lines, never answers. Lost lines are counted, and the next
line that gets through is followed by one with their number.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import select
import threading
import time

CAPACITY = 10_000
"""Lines that may wait; some megabytes."""
LAST = 1.0
"""Seconds to write waiting lines when the process ends."""


class Outlet(logging.Handler):
    """Writes formatted records to a descriptor."""

    def __init__(self, descriptor: int, *, capacity: int = CAPACITY) -> None:
        """Start the thread.

        Args:
            descriptor: where to write; it stays open.
            capacity: lines that may wait.
        """
        super().__init__()
        self._refused = self._lost = self._reported = 0  # `emit` changes the first, the thread the other two
        self._descriptor = descriptor
        self._lines: queue.Queue[bytes | None] = queue.Queue(capacity)
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Take a record; never waits, never raises."""
        try:
            self._lines.put_nowait(self.format(record).encode("utf-8", "backslashreplace") + b"\n")
        except Exception:  # noqa: BLE001 - the queue is full, or a field cannot be formatted; the caller's work goes on
            self._refused += 1

    @property
    def dropped(self) -> int:
        """Lines lost so far."""
        return self._refused + self._lost

    def close(self) -> None:
        """Write waiting lines, for at most a second."""
        until = time.monotonic() + LAST
        while self._thread.is_alive() and time.monotonic() < until:
            try:
                self._lines.put(None, timeout=0.05)
            except queue.Full:
                continue
            self._thread.join(max(0.0, until - time.monotonic()))
        super().close()

    def _run(self) -> None:
        while (line := self._lines.get()) is not None:
            if not self._write(line):
                self._lost += 1
            elif self.dropped > self._reported:
                self._report_dropped()

    def _report_dropped(self) -> None:
        dropped = self.dropped
        fields = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "level": "warning",
            "event": "log lines dropped",
            "pid": os.getpid(),
            "lines": dropped - self._reported,
        }
        if self._write(json.dumps(fields).encode() + b"\n"):
            self._reported = dropped

    def _write(self, line: bytes) -> bool:
        """Write a line, however long it takes; return whether it got through."""
        while line:
            try:
                line = line[os.write(self._descriptor, line) :]
            except BlockingIOError:  # another process made the pipe non-blocking
                select.select([], [self._descriptor], [], 1.0)
            except OSError:  # nobody reads, or the disk is full
                return False
        return True
