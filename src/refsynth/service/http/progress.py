"""Measure how long a process has been silent by its own clock, which stands while the process is ready to run but has no core.

On a busy machine a healthy process is late, and killing it makes the machine busier. Linux counts the time that each thread waits
for a core; a process that hangs, spins or is stopped does not wait for one.
"""

from __future__ import annotations

import time
from pathlib import Path

SLOWEST = 10.0
"""Waiting for a core excuses silence for up to this many times the limit. A process that is slower still is useless."""


class Silence:
    """The time since the last message of a process."""

    def __init__(self, process: int) -> None:
        self._process, self._started = process, time.monotonic()
        self._before = _waited(process)

    def over(self, limit: float) -> bool:
        """Tell whether the silence has lasted `limit` seconds of the process's own time."""
        passed = time.monotonic() - self._started
        if passed < limit:
            return False
        # The sum over threads: they also wait for each other, such as for the interpreter's lock, and in turn for a core.
        waited = sum(after - self._before.get(thread, 0.0) for thread, after in _waited(self._process).items())
        return passed - waited >= limit or passed >= SLOWEST * limit


def _waited(process: int) -> dict[str, float]:
    """Return the seconds that each thread has waited for a core; empty if the system does not tell."""
    seconds = {}
    try:
        for thread in Path(f"/proc/{process}/task").iterdir():
            seconds[thread.name] = int((thread / "schedstat").read_text().split()[1]) / 1e9
    except (OSError, IndexError, ValueError):  # the process has ended, or this kernel has no such counters
        pass
    return seconds
