"""Durations in words, for messages. They are rough, since they are estimated from what was measured so far."""

from __future__ import annotations

import time
from collections.abc import Callable

SHORT = 10.0
"""Shorter durations, in seconds, are not worth a message."""


def about(seconds: float) -> str:
    """Return e.g. `about 40 seconds`, `about 3 minutes`, `about 2.5 hours`."""
    if seconds < 55:
        return f"about {max(10, 10 * round(seconds / 10))} seconds"
    minutes = seconds / 60
    if minutes < 90:
        shown = max(1, round(minutes)) if minutes < 20 else 5 * round(minutes / 5)
        return f"about {shown} minute{'s' * (shown > 1)}"
    return f"about {minutes / 60:.1f} hours"


class Pace:
    """Estimates the time left from the last units of work alone: an earlier run may have done the ones before."""

    def __init__(self, total: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._total, self._clock = total, clock
        self._done, self._at = 0, clock()

    def left(self, done: int) -> str:
        """Return e.g. `about 3 minutes left`; empty if it is short, or if nothing was done since the last call."""
        units, seconds = done - self._done, self._clock() - self._at
        self._done, self._at = done, self._at + seconds
        left = seconds / units * (self._total - done) if units > 0 else 0.0
        return f"{about(left)} left" if left >= SHORT else ""
