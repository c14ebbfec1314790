"""How long a process has been silent by its own clock: time in which it was ready to run and got no core is not its own.

On a busy machine a sound process is late, and to kill it makes the machine busier. Linux counts the time that each thread waits
for a core; a process that hangs, spins or is stopped does not wait for one.
"""

from __future__ import annotations

import time
from pathlib import Path

SLOWEST = 10.0
"""A process that claims to wait for a core is believed for this many times the limit: then it is too slow to be of use."""


class Silence:
    """Since when a process has said nothing."""

    def __init__(self, process: int) -> None:
        self._process, self._begun = process, time.monotonic()
        self._before = _waited(process)

    def over(self, limit: float) -> bool:
        """Tell whether it has lasted for so many seconds of the process's own time."""
        passed = time.monotonic() - self._begun
        if passed < limit:
            return False
        # The sum: threads wait for each other too, for the interpreter's lock say, and then one after another for a core.
        waited = sum(after - self._before.get(thread, 0.0) for thread, after in _waited(self._process).items())
        return passed - waited >= limit or passed >= SLOWEST * limit


def _waited(process: int) -> dict[str, float]:
    """Return the seconds that each thread has waited for a core; nothing where the system does not say."""
    found = {}
    try:
        for thread in Path(f"/proc/{process}/task").iterdir():
            found[thread.name] = int((thread / "schedstat").read_text().split()[1]) / 1e9
    except (OSError, IndexError, ValueError):  # it ended, or this kernel keeps no such figures
        return found
    return found
